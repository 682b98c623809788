"IEMOCAP at the specification's size can be rehearsed without a licence, and its cost be estimated."

import os

import pytest
from conftest import BIN, ROOT


@pytest.fixture
def apart(monkeypatch, tmp_path):
    "Rehearsals go to a folder of this test, and `dvc` and `merhan` are found."
    import merhan.rehearsal

    monkeypatch.setattr(merhan.rehearsal, "SCRATCH", tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.heavy
def test_the_specification_runs_on_a_made_up_corpus(apart):
    "The real stages prepare, extract and resolve it; strategies whose configuration is IEMOCAP's own take a step."
    from merhan.layout import read_yaml
    from merhan.rehearsal import rehearse

    lock = ROOT / "pipelines/iemocap/dvc.lock"
    stamp = lambda: lock.read_bytes() if lock.is_file() else None  # noqa: E731
    before = stamp()
    asked = ["baseline", "domain_adaptation", "emotion_tokens", "noise_augmentation", "functionals"]
    steps = rehearse("iemocap", 1, asked, turns=12).set_index("strategy")
    assert set(steps.index) == set(asked)
    assert steps.loc["baseline", "parameters"] > 66e6 + 5e6, "DistilBERT and 768 channels"
    assert steps.loc["noise_augmentation", "training_turns"] > steps.loc["baseline", "training_turns"]
    assert (steps.memory_mb < 12_000).all()
    folder = apart / "rehearsal/iemocap-12"
    config = read_yaml(folder / "configs/iemocap/single/domain_adaptation.yaml")["trial"]
    assert config["slots"]["text_encoder"]["contextual"]["sentences"] == "work/iemocap/adaptation.csv"
    assert "work/iemocap/adaptation.csv" in config["files"], "what an encoder is adapted on is part of the trial"
    frozen_below = read_yaml(folder / "configs/iemocap/single/contextual_text.yaml")["trial"]["slots"]["text_encoder"]
    assert frozen_below["contextual"]["trainable_layers"] == 2
    assert stamp() == before, "made-up data never enter the lock of the corpus"


def test_the_parameters_are_the_specification():
    from merhan.params import read_params
    from merhan.slots import compose
    from merhan.strategies import baseline_of

    slots = compose(baseline_of(read_params("iemocap")))
    assert slots["model"] == {"merhan": dict(hidden_dim=768, dropout=0.3, shared=[], checkpointing=False)}
    assert slots["features"]["mfcc"]["n_mfcc"] == 40 and slots["features"]["mfcc"]["stack"] == 1
    assert slots["text"]["token_ids"]["model_name"] == "distilbert-base-uncased"
    encoder = slots["text_encoder"]["contextual"]
    assert (encoder["model_name"], encoder["trainable_layers"]) == ("distilbert-base-uncased", -1)
    assert slots["optimizer"] == {"adamw": dict(lr=1e-4, weight_decay=1e-5)}
    assert slots["sampler"]["shuffled"]["batch_size"] == 16
    assert slots["loop"] == {"by_epoch": dict(epochs=50)}
    assert slots["behaviour"] == {"early_stopping": dict(patience=10)} and slots["choice"] == {"lowest_loss": {}}
    assert slots["schedule"] == {"reduce_on_plateau": dict(factor=0.5, patience=5)}


def test_without_its_weights_it_says_how_to_provide_them(monkeypatch):
    import merhan.resolve
    from merhan.params import read_params

    monkeypatch.setattr(merhan.resolve, "is_at_hand", lambda name: name == "minilm")
    with pytest.raises(ValueError, match="the baseline cannot be trained: .*hf download distilbert-base-uncased"):
        merhan.resolve.needed_products(read_params("iemocap"))


def test_an_estimate_counts_what_can_be_counted():
    "Trials, weights and speech of the bundled corpus, foretold from a ninth of its turns; times are for a benchmark."
    from merhan.estimate import estimate, told
    from merhan.layout import Place, read_json
    from merhan.params import read_params

    found = estimate("demo", 64, ["baseline", "noise_augmentation"])
    rows = found["strategies"].set_index("strategy")
    protocol, place = read_params("demo")["protocol"], Place("demo")
    assert rows.trials.to_dict() == dict(
        baseline=5 * protocol["baseline_seeds"], noise_augmentation=5 * protocol["seeds"]
    )
    parameters = read_json(place.costs_file)["baseline"]["parameters"]
    assert rows.weights_mb["baseline"] == pytest.approx(4 * parameters / 1e6, rel=1e-3)
    assert rows.epoch_seconds["noise_augmentation"] > 0 and found["features"]["products"] == 3
    assert 0.4 < found["features"]["speech_hours"] < 0.7
    assert "the grid" in told(found) and "90 trials" in told(found)
