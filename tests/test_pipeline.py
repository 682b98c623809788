"The whole pipeline in a temporary clone on a reduced protocol: what reruns, what does not, and what comes out."
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import ROOT, copy_of_repository

BIN = Path(sys.executable).parent


class Clone:
    "A copy of the repository with commands that run in it, on its own package."

    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | dict(PYTHONPATH=str(folder), PATH=f"{BIN}:{os.environ['PATH']}", GIT_AUTHOR_NAME="t", GIT_AUTHOR_EMAIL="t@example.org", GIT_COMMITTER_NAME="t", GIT_COMMITTER_EMAIL="t@example.org")

    def run(self, *words, fails=False):
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert fails or done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def repro(self, *words, fails=False):
        "Run `dvc repro`; gives the stages that ran."
        done = self.run("dvc", "repro", *words, fails=fails)
        self.last = done
        return re.findall(r"Running stage '(.+?)'", done.stdout)

    def commit(self, message):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def back(self):
        "Everything as it was committed, the outputs of stages with it: from DVC's cache, so that nothing has to run."
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout", "-q", "--force", "dvc.yaml", "data.dvc")

    def edit(self, path, old, new):
        path = self.folder / path
        text = path.read_text()
        assert old in text, f"{old!r} is not in {path}"
        path.write_text(text.replace(old, new, 1))

    def contents(self, *patterns):
        return {str(p.relative_to(self.folder)): p.read_bytes() for pattern in patterns for p in sorted(self.folder.glob(pattern)) if p.is_file()}


RESULTS = ("metrics/demo/*.json", "metrics/selected.json", "reports/demo/**/*.ipynb", "dvc.lock", "configs/demo/**/*.yaml")


FEW = ("baseline", "audio_only", "text_only", "contextual_text", "gated_fusion")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    "A clone with a reduced protocol, reproduced once and committed."
    made = Clone(copy_of_repository(tmp_path_factory.mktemp("clone")))
    made.run("dvc", "pull", "data.dvc")
    made.run("git", "rm", "-rq", "--ignore-unmatch", *(f"{kind}/{corpus}" for kind in ("reports", "metrics", "configs") for corpus in ("demo", "emodb_goemotions")))  # of more strategies than are run here
    params = yaml.safe_load((made.folder / "params.yaml").read_text())
    params["protocol"].update(seeds=1, baseline_seeds=1)
    params["baseline"]["loop"]["by_epoch"]["epochs"] = 2
    params["baseline"]["model"]["merhan"]["hidden_dim"] = 16
    params["strategies"] = {name: params["strategies"][name] for name in FEW}
    params["stacks"] = dict(whatever_helped=dict(why="they may add up", source="ours", helped=["fusion"]))
    params["simple"] = ["baseline", "whatever_helped"]
    (made.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    own = made.folder / "pipelines/emodb_goemotions/params.yaml"
    own.write_text(own.read_text().split("# Chosen on validation sessions")[0] + "only: [baseline, audio_only, text_only]\n")  # the reduced protocol's size, not this corpus's own
    made.run("merhan", "pipelines")
    ran = made.repro()
    assert {"train@baseline", "train@gated_fusion", "train@contextual_text", "select", "simple", "train_stack@whatever_helped", "evaluate", "pages", "report"} <= set(ran)
    made.commit("reduced")
    return made


def test_second_repro_does_nothing(clone):
    started = time.perf_counter()
    assert clone.repro() == []
    assert time.perf_counter() - started < 20
    assert "up to date" in clone.run("dvc", "status", "dvc.yaml").stdout


def test_it_comes_out_byte_equal(clone):
    "Everything recomputed from nothing but the corpus: scratch, work, caches of results and reports gone."
    before = clone.contents(*RESULTS)
    clone.run("rm", "-rf", "scratch", "work", "reports/demo", "metrics/demo", "metrics/selected.json", "configs/demo")
    clone.repro("--force")
    after = clone.contents(*RESULTS)
    assert before.keys() == after.keys() and len(before) > 15
    different = [name for name in before if before[name] != after[name]]
    assert not different, different


def test_prose_comments_and_docstrings_retrain_nothing(clone):
    clone.edit("nbs/pipeline/train.ipynb", "Each line is one trial.", "Every line is a trial.")
    clone.edit("merhan/step.py", '"One forward, one backward, one update."', '"Forward, backward, update."')
    clone.edit("merhan/attention.py", "    scores = query", "    # a comment\n    scores = query")
    clone.edit("params.yaml", "the voice alone reaches", "a voice alone reaches")
    before = clone.contents("work/demo/features/*/frames.f32", "work/demo/single/weights/**/*.safetensors")
    ran = clone.repro()
    assert ran and not [s for s in ran if s.startswith(("train", "simple"))], ran
    assert clone.contents("work/demo/features/*/frames.f32", "work/demo/single/weights/**/*.safetensors") == before
    clone.back()


def test_code_retrains_what_reaches_it(clone):
    "A helper retrains those that reach it; a component that nobody uses retrains nothing."
    clone.edit("merhan/fusion.py", "gate = torch.sigmoid(", "gate = torch.sigmoid(1.0 * ")
    with open(clone.folder / "merhan/losses.py", "a") as file:
        file.write("\n@loss\ndef unused(scale:float=1.):\n    return lambda logits, batch: scale * logits.mean()\n")
    ran = clone.repro("select")
    assert [s for s in ran if s.startswith("train")] == ["train@gated_fusion"], ran
    clone.back()


def test_a_changed_feature_and_a_corrected_label_are_noticed(clone):
    "An edit of a feature component makes its product anew; another label for one turn retrains, though no file of features changed."
    clone.edit("merhan/features.py", "stacked(transform(wave).T.contiguous(), stack)", "stacked(1.0001 * transform(wave).T.contiguous(), stack)")
    ran = clone.repro("resolve")
    assert {"features", "resolve"} <= set(ran), ran
    clone.back()
    before = (clone.folder / "configs/demo/single/baseline.yaml").read_text()
    path = clone.folder / "data/demo/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    original = path.read_text()
    label = re.search(r"\t(ang|hap|exc|sad|neu)\t", original)[1]
    path.chmod(0o644)
    path.write_text(original.replace(f"\t{label}\t", "\tsad\t" if label != "sad" else "\tang\t", 1))
    clone.run("dvc", "commit", "-q", "-f", "data.dvc")
    ran = clone.repro("resolve")
    assert {"prepare", "resolve"} <= set(ran) and (clone.folder / "configs/demo/single/baseline.yaml").read_text() != before
    clone.back()
    assert clone.repro() == []


def test_one_parameter_trains_with_that_value(clone):
    clone.run("dvc", "exp", "run", "-S", "baseline.optimizer.adamw.lr=0.003", "evaluate")
    card = json.loads(next((clone.folder / "work/demo/single/weights/baseline").glob("*.json")).read_text())
    assert card["config"]["optimizer"]["adamw"]["lr"] == 0.003
    assert "lr: 0.003" in (clone.folder / "configs/demo/single/baseline.yaml").read_text()
    assert "unweighted_accuracy" in clone.run("dvc", "metrics", "diff").stdout
    trials = len(list((clone.folder / "scratch").glob("*/result")))
    clone.run("git", "checkout", "-q", ".")
    assert "train@baseline" in clone.repro("train@baseline")
    assert len(list((clone.folder / "scratch").glob("*/result"))) == trials, "going back trains nothing: the trials are still there"
    assert "lr: 0.002" in (clone.folder / "configs/demo/single/baseline.yaml").read_text()
    clone.back()


def test_selected_compares_without_training(clone):
    done = clone.run("dvc", "exp", "run", "-S", "strategy=gated_fusion", "selected")
    assert re.findall(r"Running stage '(.+?)'", done.stdout) == ["selected"]
    assert "unweighted_accuracy" in clone.run("dvc", "metrics", "diff").stdout
    clone.back()
    wrong = clone.run("dvc", "exp", "run", "-S", "strategy=gated_fusoin", "selected", fails=True)
    assert wrong.returncode != 0 and "no metrics of 'gated_fusoin'" in wrong.stdout + wrong.stderr
    clone.back()


@pytest.mark.parametrize("old, new, message", [
    ("gated: {}", "gatde: {}", "strategy 'gated_fusion': slot 'fusion' has no component 'gatde'; choose from"),
    ("by: corpus", "by: turn", "choose from corpus, speaker, utterance"),
    ("- fusion", "- fusoin", "stack 'whatever_helped' names 'fusoin'"),
])
def test_a_mistake_fails_before_anything_runs(clone, old, new, message):
    clone.edit("params.yaml", old, new)
    assert clone.repro(fails=True) == ["pins"], "the first stage finds it"
    assert message in clone.last.stdout + clone.last.stderr
    clone.back()


def test_a_failed_notebook_stays_where_the_message_says(clone):
    clone.edit("nbs/pipeline/report.ipynb", "paper()", "paper(); 1 / 0")
    assert clone.repro(fails=True)
    message = clone.last.stdout + clone.last.stderr
    assert "ZeroDivisionError" in message
    partial = clone.folder / re.search(r"is in (\S+\.ipynb)", message)[1]
    assert "ZeroDivisionError" in partial.read_text()
    clone.back()


def test_a_silent_default_is_an_error(clone):
    "Without the tag of its parameters cell a stage refuses to run, instead of running every strategy as the baseline."
    path = clone.folder / "nbs/pipeline/train.ipynb"
    original = path.read_text()
    path.write_text(original.replace('"parameters"', '"forgotten"'))
    done = clone.run("merhan", "run", "train", "--corpus", "demo", "--strategy", "text_only", fails=True)
    assert done.returncode != 0 and "no cell tagged `parameters`" in done.stderr
    path.write_text(original)


def test_predictions_keep_the_contract(clone):
    table = pd.read_parquet(clone.folder / "work/demo/single/predictions/baseline.parquet")
    assert list(table.columns) == ["utterance", "speaker", "session", "fold", "seed", "label", "predicted", "p_ang", "p_hap", "p_neu", "p_sad"]
    metrics = json.loads((clone.folder / "metrics/demo/text_only.json").read_text())
    for name in ("weighted_accuracy", "unweighted_accuracy", "weighted_f1", "macro_f1", "calibration_error", "brier", "log_loss"):
        assert set(metrics[name]) == {"mean", "low", "high"} and set(metrics["against_baseline"][name]) == {"difference", "low", "high"}
    assert set(metrics["per_class"]["ang"]) == {"precision", "recall", "f1", "support"}
    assert not (clone.folder / "metrics/demo/contextual_text.json").exists() and len(pd.read_parquet(clone.folder / "work/demo/single/predictions/contextual_text.parquet")) == 0
    assert "needs the weights of roberta-large" in (clone.folder / "reports/demo/train/contextual_text.ipynb").read_text()
    assert {p.stem for p in (clone.folder / "metrics/demo").glob("*_whatever_helped.json")} == {f"{model}_whatever_helped" for model in ("late_fusion", "audio_svm", "text_regression")}
    stack = yaml.safe_load((clone.folder / "configs/demo/stacks/whatever_helped.yaml").read_text())
    assert set(stack["folds"]) == set("12345") and all(set(f["members"]) <= {"gated_fusion"} for f in stack["folds"].values())


def test_predict_and_site(clone):
    wav = next((clone.folder / "data/demo").rglob("*.ogg"))
    done = clone.run("merhan", "predict", str(wav), "--text", "I can't wait!", "--attention", "attention.svg")
    assert len(re.findall(r"^(ang|hap|neu|sad) +[\d.]+%", done.stdout, re.M)) == 4 and (clone.folder / "attention.svg").stat().st_size > 1000
    clone.run("merhan", "site")
    pages = sorted((clone.folder / "reports/site").glob("*.html"))
    assert len(pages) > 8
    for page in pages:
        text = page.read_text()
        assert "<script" not in text and not re.search(r'(src|href)="https?://', text), page.name
        for target in re.findall(r'href="([^"#:]+\.html)"', text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    (clone.folder / "attention.svg").unlink()


def test_papers_are_small_and_of_this_place_only(clone):
    for path in (clone.folder / "reports").rglob("*.ipynb"):
        assert path.stat().st_size < 500_000, f"{path.name} has {path.stat().st_size} bytes"
        text = path.read_text()
        assert str(clone.folder) not in text and str(ROOT) not in text, path.name
        for cell in nbformat.reads(text, 4).cells:
            assert not [o for o in cell.get("outputs", []) if o.output_type == "error" or o.get("name") == "stderr"], path.name


@pytest.mark.skipif(not (ROOT / "corpora/emodb_goemotions/manifest.csv").exists(), reason="corpora/emodb_goemotions is not linked here")
def test_another_corpus_beside_it(clone):
    "The pipeline of real voices and real sentences runs beside the bundled one, and leaves that one valid."
    (clone.folder / "corpora").symlink_to((ROOT / "corpora").resolve())
    ran = clone.repro("pipelines/emodb_goemotions/dvc.yaml")
    assert [s for s in ran if s.endswith("report")]
    metrics = json.loads((clone.folder / "metrics/emodb_goemotions/baseline.json").read_text())
    assert metrics["per_class"]["ang"]["support"] == 127 and sum(c["support"] for c in metrics["per_class"].values()) == 339
    assert clone.repro() == [] and clone.repro("pipelines/emodb_goemotions/dvc.yaml") == []
