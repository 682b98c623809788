"What the whole pipeline makes in a temporary clone on a reduced protocol: the same bytes again, tables, papers, plots."

import json
import re
import shutil
import zipfile

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import ROOT, Clone

RESULTS = (
    "metrics/demo/*.json",
    "metrics/selected.json",
    "plots/*.csv",
    "reports/demo/**/*.ipynb",
    "dvc.lock",
    "configs/demo/**/*.yaml",
)
PAGES = (
    "prepare",
    "evaluate",
    "pages",
    "model",
    "report",
    "simulation",
    "inflation",
    "ablation",
    "attention",
    "audit",
    "research",
    "architecture",
    "framework",
    "optimisation",
    "cards",
)


@pytest.mark.heavy
def test_it_comes_out_byte_equal(clone):
    "Everything recomputed from nothing but the corpus: scratch, work, caches of results and reports gone."
    before = clone.contents(*RESULTS)
    clone.run("rm", "-rf", "scratch", "work", "reports/demo", "metrics/demo", "metrics/selected.json", "configs/demo")
    clone.repro("--force")
    after = clone.contents(*RESULTS)
    assert before.keys() == after.keys() and len(before) > 25
    different = [name for name in before if before[name] != after[name]]
    assert not different, different


def test_predictions_keep_the_contract(clone):
    table = pd.read_parquet(clone.folder / "work/demo/single/predictions/baseline.parquet")
    assert list(table.columns) == [
        "utterance",
        "speaker",
        "session",
        "fold",
        "seed",
        "label",
        "predicted",
        "p_ang",
        "p_hap",
        "p_neu",
        "p_sad",
    ]
    metrics = json.loads((clone.folder / "metrics/demo/text_only.json").read_text())
    for name in (
        "weighted_accuracy",
        "unweighted_accuracy",
        "weighted_f1",
        "macro_f1",
        "calibration_error",
        "brier",
        "log_loss",
    ):
        assert set(metrics[name]) == {"mean", "low", "high"} and set(metrics["against_baseline"][name]) >= {
            "difference",
            "low",
            "high",
        }
    tested = metrics["against_baseline"]["unweighted_accuracy"]
    assert (
        0 <= tested["p"] <= tested["p_corrected"] <= 1
        and tested["family"] == "modality"
        and tested["verdict"]
        in ("helps", "hurts", "helps here", "hurts here", "equivalent", "undecided", "not converged")
    )
    assert set(metrics["per_class"]["ang"]) == {"precision", "recall", "f1", "support"}
    assert (
        not (clone.folder / "metrics/demo/contextual_text.json").exists()
        and len(pd.read_parquet(clone.folder / "work/demo/single/predictions/contextual_text.parquet")) == 0
    )
    assert (
        "needs the weights of roberta-large"
        in (clone.folder / "reports/demo/train/contextual_text.ipynb").read_text()
    )
    assert {p.stem for p in (clone.folder / "metrics/demo").glob("*_whatever_helped.json")} == {
        f"{model}_whatever_helped" for model in ("late_fusion", "audio_svm", "text_regression")
    }
    stack = yaml.safe_load((clone.folder / "configs/demo/stacks/whatever_helped.yaml").read_text())
    assert set(stack["folds"]) == set("12345") and all(
        set(f["members"]) <= {"gated_fusion"} for f in stack["folds"].values()
    )


def test_verdicts_come_from_stored_predictions(clone, tmp_path):
    "Who clones the repository with its data store computes every score anew, without features, weights or training."
    clone.run("dvc", "push", "-q")
    clone.run("git", "clone", "-q", ".", tmp_path / "fresh")
    shutil.copytree(clone.folder / ".dvcstore", tmp_path / "fresh/.dvcstore", dirs_exist_ok=True)
    fresh = Clone(tmp_path / "fresh")
    fresh.run("dvc", "pull", "-q", "--allow-missing", "dvc.yaml", "data.dvc")
    assert not (fresh.folder / "work/demo/features").exists()
    assert not (fresh.folder / "work/demo/single/weights/baseline").exists()
    assert len(list((fresh.folder / "work/demo/released/baseline").glob("*.safetensors"))) == 5
    made = "metrics/demo/*", "metrics/demo.csv", "reports/demo/attention.ipynb"
    fresh.run("rm", "-r", "metrics/demo", *made[1:])
    fresh.repro("--single-item", "--force", "evaluate", "attention")
    assert fresh.contents(*made) == clone.contents(*made)
    assert fresh.repro("--allow-missing", "--dry", "evaluate") == []


def test_predictions_of_others_are_scored(clone, tmp_path):
    "Every turn once, or the first that is wrong by name; a bundle is checked, and its metric computed again."
    table = pd.read_parquet(clone.folder / "work/demo/single/predictions/baseline.parquet")
    own = table[table.seed == 0][["utterance", "predicted", *(c for c in table if c.startswith("p_"))]]
    first = own.utterance.iloc[0]
    files = dict(
        own=own.sample(frac=1, random_state=0),
        missing=own.iloc[1:],
        doubled=pd.concat([own, own.iloc[:1]]),
        unknown=own.assign(utterance=own.utterance.replace(first, "nobody")),
    )
    for name, rows in files.items():
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    own.sample(frac=1, random_state=1).to_parquet(tmp_path / "own.parquet")
    for name in ("own.csv", "own.parquet"):
        told = json.loads(clone.run("merhan", "score", str(tmp_path / name), "--json").stdout)
        truth = table[table.seed == 0]
        assert abs(told["scores"]["weighted_accuracy"]["mean"] - 100 * (truth.label == truth.predicted).mean()) < 1e-3
        assert set(told["against"]) == {"baseline", "late_fusion"}
    for name, said in dict(missing=first, doubled=first, unknown="nobody").items():
        wrong = clone.run("merhan", "score", str(tmp_path / f"{name}.csv"), fails=True)
        assert wrong.returncode == 1 and repr(said) in wrong.stderr and "Traceback" not in wrong.stderr
    bundle = tmp_path / "demo.zip"
    clone.run("merhan", "bundle", "--to", str(bundle))
    with zipfile.ZipFile(bundle) as packed:
        assert not any(path.endswith((".ogg", ".wav", ".txt")) for path in packed.namelist())
    assert "False" not in clone.run("merhan", "score", str(bundle)).stdout
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    damaged = clone.run("merhan", "score", str(bundle), fails=True)
    assert damaged.returncode == 1 and "Traceback" not in damaged.stderr


def test_trained_networks_are_packed(clone, tmp_path):
    wav = next((clone.folder / "data/demo").rglob("*.ogg"))
    words = "package", "--strategy", "gated_fusion", "--as", "ensemble", "--to", str(tmp_path / "packed")
    card = clone.run("merhan", *words).stdout
    assert "What it must not be used for" in card and "no sets are known" in card
    asked = "predict", str(wav), "--text", "I can't wait!", "--json"
    by_package = json.loads(clone.run("merhan", *asked, "--model", str(tmp_path / "packed")).stdout)
    trained = "--corpus", "demo", "--strategy", "gated_fusion"
    by_weights = json.loads(clone.run("merhan", *asked, *trained).stdout)
    assert by_package[0]["probability"] == by_weights[0]["probability"]


def test_predict_and_site(clone):
    wav = next((clone.folder / "data/demo").rglob("*.ogg"))
    asked = "predict", str(wav), "--text", "I can't wait!", "--corpus", "demo", "--attention", "attention.svg"
    done = clone.run("merhan", *asked)
    assert (
        len(re.findall(r"^(ang|hap|neu|sad) +[\d.]+%", done.stdout, re.M)) == 4
        and (clone.folder / "attention.svg").stat().st_size > 1000
    )
    clone.run("merhan", "site")
    pages = sorted((clone.folder / "reports/site").glob("*.html"))
    assert len(pages) > 8
    for page in pages:
        text = page.read_text()
        assert "<script" not in text, page.name
        outside = re.findall(r"""<(\w+)[^>]*(?:src|href)="https?://([^/"]+)""", text)  # nothing loads; works are linked
        assert set(outside) <= {("a", "doi.org"), ("a", "aclanthology.org"), ("a", "archives.ismir.net")}, page.name
        for target in re.findall(r'href="([^"#:]+\.html)"', text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    (clone.folder / "attention.svg").unlink()


def test_papers_are_small_and_of_this_place_only(clone, tmp_path_factory):
    "No page names the folder where it was made: the clone was made in another one."
    for path in (clone.folder / "reports").rglob("*.ipynb"):
        assert path.stat().st_size < 500_000, f"{path.name} has {path.stat().st_size} bytes"
        text = path.read_text()
        assert str(tmp_path_factory.getbasetemp().parent) not in text and str(ROOT) not in text, path.name
        for cell in nbformat.reads(text, 4).cells:
            assert not [
                o for o in cell.get("outputs", []) if o.output_type == "error" or o.get("name") == "stderr"
            ], path.name


def test_reports_come_back(clone):
    "Every page and every paper, deleted, is made again byte for byte by its own stage alone."
    before = clone.contents("reports/demo/**/*.ipynb")
    clone.run("rm", "-rf", "reports")
    ran = clone.repro("-f", "-s", *PAGES)
    assert set(ran) == set(PAGES)
    after = clone.contents("reports/demo/**/*.ipynb")
    assert len(after) > 15 and not [name for name in after if after[name] != before[name]]
    missing = {name.split("/")[2].removesuffix(".ipynb") for name in before.keys() - after.keys()}
    records = {"averages", "train", "features", "resolve", "select", "simple", "leaks", "probe", "release", "tried"}
    assert missing == records
    clone.back()


def test_two_strategies_are_compared(clone):
    said = clone.run("merhan", "compare", "gated_fusion", "text_only").stdout
    assert (
        re.search(r"95 % interval to new sessions +[+-]", said)
        and re.search(r"p = [01]\.\d+", said)
        and "verdict: " in said
    )
    wrong = clone.run("merhan", "compare", "gated_fusion", "nothing", fails=True)
    assert wrong.returncode == 1 and "no predictions of 'nothing'" in wrong.stderr and "Traceback" not in wrong.stderr


def test_plots_are_declared(clone):
    shown = json.loads(clone.run("dvc", "plots", "show", "--json").stdout)
    names = {"confusion of the selected strategy", "learning curve of the selected strategy"}
    assert names <= set(shown["data"]), sorted(shown["data"])


@pytest.mark.skipif(
    not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), reason="there is no Chromium here"
)
def test_papers_print_as_pdf(clone):
    clone.run("merhan", "site")
    clone.run("merhan", "pdf", "demo-report")
    assert (clone.folder / "reports/site/demo-report.pdf").read_bytes().startswith(b"%PDF")
    wrong = clone.run("merhan", "pdf", "demo-nothing", fails=True)
    assert wrong.returncode == 1 and "no page 'demo-nothing'" in wrong.stderr
