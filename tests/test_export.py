"merhan/ is a fresh export of nbs/, notebooks are clean, generated files are what generates them."

import filecmp
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, copy_of_repository

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    "A copy of the repository, exported and cleaned anew."
    copy = copy_of_repository(tmp_path_factory.mktemp("export"))
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run([BIN / command], cwd=copy, check=True, capture_output=True)
    return copy


def test_package_equals_fresh_export(fresh):
    for path in sorted((fresh / "merhan").glob("*.py")):
        assert filecmp.cmp(path, ROOT / "merhan" / path.name, shallow=False), (
            f"{path.name} is not what the notebooks export: make export"
        )
    assert {p.name for p in (fresh / "merhan").glob("*.py")} == {p.name for p in (ROOT / "merhan").glob("*.py")}


def test_notebooks_are_clean(fresh):
    for path in sorted((fresh / "nbs").rglob("*.ipynb")):
        assert filecmp.cmp(path, ROOT / path.relative_to(fresh), shallow=False), (
            f"{path.name} is not clean: make export"
        )


def test_stages_keep_their_parameters_cell():
    for path in (ROOT / "nbs/pipeline").glob("*.ipynb"):
        tags = [c["metadata"].get("tags") for c in json.loads(path.read_text())["cells"]]
        assert ["parameters"] in tags, f"{path.name} has lost the tag of its parameters cell"


def test_stages_define_nothing():
    import ast

    from merhan.pins import notebook_code

    for path in (ROOT / "nbs/pipeline").glob("*.ipynb"):
        defined = [
            n for n in ast.walk(ast.parse(notebook_code(path))) if isinstance(n, (ast.FunctionDef, ast.ClassDef))
        ]
        assert not defined, f"{path.name} defines {defined[0].name}; it belongs in a library notebook"


def test_pipelines_are_what_the_table_says():
    from merhan.params import DEMO, known_corpora, read_params
    from merhan.pipeline import JOINT, dead_stages, joint_text, pipeline_file, pipeline_text

    assert pipeline_file(JOINT).read_text() == joint_text(read_params(DEMO)[JOINT]), "pipelines/transfer: make export"
    for corpus in known_corpora():
        assert pipeline_file(corpus).read_text() == pipeline_text(corpus), f"{pipeline_file(corpus)}: make export"
        assert not dead_stages(corpus), f"the lock of {corpus} keeps stages that are gone: make export"


def test_readme_equals_its_notebook():
    from merhan.site import readme_text

    assert (ROOT / "README.md").read_text() == readme_text(), "README.md: make readme"


def test_no_path_of_a_machine():
    "Nothing tracked names a folder of the machine that made it."
    found = subprocess.run(
        [
            "git",
            "grep",
            "-lIE",
            "/(home|root|Users|work|tmp)/[a-z]",
            "--",
            ":!requirements.lock",
            ":!tests",
            ":!.dvcstore",
            ":!nbs/corpus/sentences.yaml",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert not found, found
