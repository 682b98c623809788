"The whole pipeline in a temporary clone on a reduced protocol: what reruns, and what does not."

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from merhan.corpora import read_corpus


def test_second_repro_does_nothing(clone):
    started = time.perf_counter()
    assert clone.repro() == []
    assert time.perf_counter() - started < 20
    assert "up to date" in clone.run("dvc", "status", "dvc.yaml").stdout


def test_prose_comments_and_docstrings_retrain_nothing(clone):
    clone.edit("nbs/pipeline/train.ipynb", "Each line is one trial.", "Every line is a trial.")
    clone.edit("merhan/step.py", '"One forward, one backward, one update."', '"Forward, backward, update."')
    clone.edit("merhan/attention.py", "    scores = query", "    # a comment\n    scores = query")
    clone.edit("params.yaml", "the voice alone reaches", "a voice alone reaches")
    before = clone.contents("work/demo/features/*/values.bin", "work/demo/single/weights/**/*.safetensors")
    ran = clone.repro("pages", "simple")
    assert "pages" in ran and not [s for s in ran if s.startswith(("train", "simple"))], ran
    assert clone.contents("work/demo/features/*/values.bin", "work/demo/single/weights/**/*.safetensors") == before
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
    "An edited feature component makes its product anew; another label for one turn retrains."
    clone.edit(
        "merhan/features.py",
        "stacked(transform(wave).T.contiguous(), stack)",
        "stacked(1.0001 * transform(wave).T.contiguous(), stack)",
    )
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
    assert {"prepare", "resolve"} <= set(ran) and (
        clone.folder / "configs/demo/single/baseline.yaml"
    ).read_text() != before
    clone.back()
    assert clone.repro() == []


def test_one_parameter_trains_with_that_value(clone):
    clone.run("dvc", "exp", "run", "-S", "baseline.optimizer.adamw.lr=0.003", "evaluate")
    card = json.loads(next((clone.folder / "work/demo/single/weights/baseline").glob("*.json")).read_text())
    assert card["config"]["optimizer"]["adamw"]["lr"] == 0.003
    assert "lr: 0.003" in (clone.folder / "configs/demo/single/baseline.yaml").read_text()
    assert re.search(r"demo/baseline\.json +unweighted_accuracy", clone.run("dvc", "metrics", "diff").stdout)
    trials = len(list((clone.folder / "scratch").glob("*/result")))
    clone.run("git", "checkout", "-q", ".")
    assert "train@baseline" in clone.repro("train@baseline")
    assert len(list((clone.folder / "scratch").glob("*/result"))) == trials, (
        "going back trains nothing: the trials are still there"
    )
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


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("gated: {}", "gatde: {}", "strategy 'gated_fusion': slot 'fusion' has no component 'gatde'; choose from"),
        ("by: corpus", "by: turn", "choose from corpus, speaker, utterance"),
        ("helped:\n    - fusion", "helped:\n    - fusoin", "stack 'whatever_helped' names 'fusoin'"),
    ],
)
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


def test_a_component_that_breaks_its_contract_fails_before_anything_runs(clone):
    "A fusion may do without global attention; one that does not give the vector that it declares is named at once."
    fusions = """
class Added(Fusion):
    def forward(self, audio, text, audio_real, text_real, need_weights):
        return self.pool(audio, audio_real) + self.pool(text, text_real), {}
class Wider(Added):
    def __init__(self, hidden_dim, pool, **attention):
        super().__init__(hidden_dim, pool)
        self.width = 2 * pool.channels
@fusion
def added(): return Added
@fusion
def wider(): return Wider
"""
    with open(clone.folder / "merhan/fusion.py", "a") as file:
        file.write(fusions)
    clone.edit("params.yaml", "gated: {}", "added: {}")
    clone.run("merhan", "pins")
    clone.edit("params.yaml", "added: {}", "wider: {}")
    assert clone.repro(fails=True) == ["pins"]
    assert "strategy 'gated_fusion': mat1 and mat2" in clone.last.stdout + clone.last.stderr
    clone.back()


@pytest.mark.heavy
@pytest.mark.skipif(
    not (ROOT / "corpora/emodb_goemotions/manifest.csv").exists(),
    reason="corpora/emodb_goemotions is not linked here",
)
def test_another_corpus_beside_it(clone):
    "The pipeline of real voices and real sentences runs beside the bundled one, and leaves that one valid."
    (clone.folder / "corpora").symlink_to((ROOT / "corpora").resolve())
    ran = clone.repro("pipelines/emodb_goemotions/dvc.yaml")
    assert [s for s in ran if s.endswith("report")]
    metrics = json.loads((clone.folder / "metrics/emodb_goemotions/baseline.json").read_text())
    assert (
        metrics["per_class"]["ang"]["support"] == 127
        and sum(c["support"] for c in metrics["per_class"].values()) == 339
    )
    assert clone.repro() == [] and clone.repro("pipelines/emodb_goemotions/dvc.yaml") == []


@pytest.mark.heavy
def test_a_corpus_with_sides_of_its_own(clone):
    "Trained on its training side, tested on its test side, up to every paper that says something about it."
    table = read_corpus(dict(name="demo", reader="iemocap", root=str(clone.folder / "data/demo"), classes="4")).table()
    side = {"4": "dev", "5": "test"}
    table = table.assign(
        session=table.speaker,
        audio=[str(Path(path).relative_to(clone.folder / "data")) for path in table.audio],
        split=table.session.map(lambda name: side.get(name, "train")),
    )[["utterance", "audio", "text", "emotion", "speaker", "session", "split"]]
    table.loc[table.index[:5], "split"] = None  # on no side
    table.to_csv(clone.folder / "data/sides.csv", index=False)
    own = clone.folder / "pipelines/sides"
    own.mkdir()
    corpus = dict(name="sides", reader="manifest", root="data/sides.csv", within="data", origin="of the bundled corpus")
    corpus |= dict(classes=["ang", "hap", "neu", "sad"], caveat="For a test.")
    params = dict(corpus=corpus, corpus_files=["data/sides.csv"], protocol=dict(folds="official"))
    (own / "params.yaml").write_text(yaml.safe_dump(params))
    clone.run("merhan", "pipelines")
    ran = {name.split(":")[1] for name in clone.repro("pipelines/sides/dvc.yaml")}
    assert {"report", "ablation", "cards", "pages"} <= ran and not {"leaks", "inflation", "simulation"} & ran
    metrics = json.loads((clone.folder / "metrics/sides/baseline.json").read_text())
    assert sum(c["support"] for c in metrics["per_class"].values()) == (table.split == "test").sum()
    for path in (clone.folder / "reports/sides").rglob("*.ipynb"):
        assert not re.search(r"\bnan\b|Warning", path.read_text()), path
