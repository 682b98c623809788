"What CONTRIBUTING shows works as it stands there: each block, run in its room, does what the text says."
import importlib
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from conftest import ROOT

import merhan.trial  # noqa: F401 (components register themselves)
from merhan.layout import Trial
from merhan.metrics import METRICS, score
from merhan.params import read_params
from merhan.resolve import check_all
from merhan.slots import SLOTS
from merhan.utterances import READERS

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PYTHON = {re.match(r"# nbs/\d+_(\w+)", block)[1]: block for block in re.findall(r"```python\n(.*?)```", TEXT, re.S)}
ENTRIES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]


@pytest.fixture
def registries():
    "Every registry as it was, afterwards."
    kept = [(registry, dict(registry)) for registry in (METRICS, READERS, *SLOTS.values())]
    yield
    for registry, content in kept:
        registry.clear()
        registry.update(content)


def follow(room, module=None):
    "Run a block as a cell at the end of its room."
    scope = dict(vars(importlib.import_module(f"merhan.{module or room}")))
    exec(compile(PYTHON[room], f"CONTRIBUTING: {room}", "exec"), scope)


def with_entry(**delta):
    params = read_params("demo")
    params["strategies"]["new"] = dict(why="?", source="ours", group="training", delta=delta)
    return params


def test_the_strategy():
    params = read_params("demo")
    params["strategies"] |= ENTRIES[0]["strategies"]
    check_all(params)


def test_the_loss(registries):
    follow("losses")
    check_all(with_entry(loss={"bounded": {"scale": 2.0}}))


def test_the_fusion_trains(registries, small, resolved, tmp_path):
    follow("fusion")
    check_all(with_entry(fusion={"added": {}}))
    spec = resolved("baseline")["trial"]
    spec["slots"]["fusion"] = {"added": {}}
    trial = merhan.trial.run_trial(Trial(spec, small["place"].folds()[0], scratch=tmp_path), small["work"])
    assert len(trial.history()) == 2


def test_the_metric(registries):
    follow("metrics")
    sure = pd.DataFrame(dict(label=["a", "b"], predicted=["a", "a"], p_a=[0.9, 0.9], p_b=[0.1, 0.1]))
    assert score(sure)["confident_errors"] == 50


def test_the_encoders(registries):
    follow("encoders")
    check_all(with_entry(features={"wave": {}}, audio_encoder={"strided": {}}))
    made = SLOTS["audio_encoder"].build({"strided": {}})(hidden_dim=6, input_dim=1, layers=1)
    real = torch.arange(3200) < torch.tensor([3200, 1600])[:, None]
    states, kept, _ = made.encode(torch.randn(2, 3200), real, True)
    assert states.shape == (2, 18, 6) and kept.shape == (2, 18) and kept.sum(1).tolist() == [18, 8]
    entry = next(entry["fine_tuned_wavlm"] for entry in ENTRIES if "fine_tuned_wavlm" in entry)
    check_all(with_entry(**entry["delta"]))


def test_the_settings_of_a_machine():
    from merhan.grid import BACKENDS
    from merhan.layout import Arithmetic

    arithmetic = [entry["arithmetic"] for entry in ENTRIES if "arithmetic" in entry]
    assert arithmetic and all(Arithmetic(**given).marks for given in arithmetic)
    named = set(re.findall(r"backend: (\w+)", TEXT))
    assert named <= set(BACKENDS) and len(named) == 3


def test_the_reader(registries, tmp_path):
    follow("names", "utterances")
    noise = np.random.default_rng(0)
    for name, length in (("1_joy_1", 1600), ("2_joy_1", 10), ("2_anger_1", 1600), ("notes", 1600)):
        soundfile.write(tmp_path / f"{name}.wav", noise.normal(0, 0.1, length), 16000)
    found = READERS["names"](tmp_path, ["joy"])
    assert [u.speaker for u in found.utterances] == ["1"] and dict(found.outside) == {"anger": 1}
    assert [s.utterance for s in found.set_aside] == ["2_joy_1", "notes"] and found.rows == 4
    assert found.notes == ["NAMES is complete: 2 turns"]
