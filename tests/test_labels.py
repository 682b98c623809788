"Votes and ratings go the whole way: from annotation files through a trial to its metrics and its stored weights."

import numpy as np
import pytest

from merhan.evaluation import metrics_of
from merhan.grid import gather, gather_weights, run_grid
from merhan.features import load_wave
from merhan.package import Package, ask
from merhan.resolve import resolve
from merhan.strategies import Strategy
from merhan.trained import Trained

DELTA = dict(loss={"soft_labels": {}}, auxiliary={"dimensions": {"weight": 0.5}})


@pytest.fixture
def trials(small, tmp_path):
    new = Strategy("labels_as_they_are", "doubt is information", "ours", "training", DELTA)
    config = resolve(small["params"], new, small["cards"], small["labels"]) | dict(seeds=1)
    return run_grid(config, small["place"], dict(jobs=1), dict(device="cpu"), tmp_path / "scratch")


def test_from_annotations_to_metrics(small, trials, tmp_path):
    table = gather(trials, small["table"])
    truth = small["table"].set_index("utterance")
    for name in ("valence", "activation", "dominance"):
        assert np.allclose(table[name], truth.loc[table.utterance, name])
        assert np.isfinite(table[f"estimated_{name}"]).all()
    found = metrics_of(table)["ratings"]
    assert all(-1 <= found[name]["low"] <= found[name]["mean"] <= found[name]["high"] <= 1 for name in found)
    gather_weights(trials, tmp_path / "weights")
    models = [Trained(path) for path in sorted((tmp_path / "weights").glob("*.safetensors"))]
    row = small["table"].iloc[0]
    probability = ask(Package(models=models), load_wave(row.audio), row.text).probability
    assert abs(probability.sum() - 1) < 1e-6


def test_votes_change_what_is_learned(small, trials, resolved, tmp_path):
    plain = run_grid(resolved("baseline"), small["place"], dict(jobs=1), dict(device="cpu"), tmp_path / "plain")
    assert plain[0].card()["weights_sha256"] != trials[0].card()["weights_sha256"]
    assert plain[0].predictions().columns.tolist() == [c for c in trials[0].predictions() if "valence" not in c
                                                       and "activation" not in c and "dominance" not in c]  # fmt: skip
