# make first-look · make repro · make verdicts · make check · make test · make test-all · make export · make lessons · make costs · make lab · make site
SHELL := /bin/bash
QUICK := $(addprefix tests/test_,export.py layers.py reading.py params.py padding.py specification.py)
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export NUMBA_NUM_THREADS := 1
.DEFAULT_GOAL := help
.PHONY: help install data first-look costs repro verdicts check test test-all export lessons lab site pdf readme corpus lock clean

help:            ## show what can be made
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' Makefile | sed -E 's/:[^#]*##/ — /'

.venv/installed: requirements.lock setup.py settings.ini
	@command -v $(PYTHON) >/dev/null || { echo "merhan needs Python 3.11, 3.12 or 3.13; name it with make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	python -c "import librosa.effects, librosa.util.utils, librosa.core.pitch, librosa.core.audio, librosa.sequence" # what it compiles at import is compiled here, once, by one process
	touch $@

.venv/models: .venv/installed dvc.lock pipelines/emodb_goemotions/dvc.lock
	merhan mend
	dvc pull --quiet work/demo/package work/emodb_goemotions/package
	touch $@

install: .venv/models  ## a .venv with every version of requirements.lock, and the packed models

data: install    ## the bundled corpus, from the store beside it
	merhan mend
	dvc pull --quiet data.dvc

first-look: data ## the baseline alone on the bundled corpus, from recordings to its paper (some minutes)
	dvc repro pipelines/first_look/dvc.yaml
	merhan site

repro: data      ## regenerate every result, then render the papers (the whole grid of strategies)
	dvc repro
	merhan site
	-merhan confirm

verdicts: data   ## scores, verdicts and their papers anew from the stored predictions of every run: nothing is trained
	dvc pull --quiet --allow-missing dvc.yaml
	dvc repro --single-item --force evaluate simulation ablation report attention

export: install  ## notebooks to merhan/ and pipelines/
	nbdev_export
	nbdev_clean
	merhan pipelines

lessons: install ## run the library notebooks, and write their outputs into them
	merhan lessons

check: data      ## the quick part of the tests: export, clean, lint, fast tests (below 3 minutes)
	ruff check merhan tests
	ruff check --select F nbs/pipeline
	pytest -q -n 2 $(QUICK)

test: data       ## what has to hold: export, lessons, tests, the whole pipeline in a temporary clone
	ruff check merhan tests
	ruff check --select F nbs/pipeline
	pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not heavy" tests

test-all: data   ## what takes longer beside it: everything computed twice, real voices, compilers
	pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m heavy tests

costs: install   ## measure time and memory of every strategy, one fresh process after another (leave the machine alone meanwhile)
	merhan costs

lab: install     ## JupyterLab
	jupyter lab nbs

site: install    ## papers as pages: reports/site/index.html
	merhan site

pdf: site        ## papers as PDF beside their pages (needs Chromium)
	merhan pdf

readme: install  ## README.md from nbs/index.ipynb
	merhan readme

corpus: install  ## the bundled corpus anew into scratch/demo, and its page (needs flite, espeak-ng)
	python -c "from merhan.stages import run_stage; run_stage('nbs/corpus/demo_corpus.ipynb', 'reports/corpus/demo_corpus.ipynb', dict(out='scratch/demo'))"

lock: install    ## resolve requirements.lock anew from settings.ini
	merhan requirements | uv pip compile --quiet --generate-hashes --python-version 3.11 --no-header --no-annotate -o requirements.lock -

clean:           ## remove what was computed; the environment and the corpus stay
	rm -rf work scratch reports/site
