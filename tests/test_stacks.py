"What joins a stack in a fold is decided without a look at that fold's test side."

from dataclasses import replace

import merhan.trial
from merhan.grid import gather, run_grid
from merhan.params import read_entry, read_params
from merhan.strategies import Stack, baseline_of, members_of, read_strategies, validated_gains

NAMES = ("baseline", "gated_fusion", "hierarchical_fusion", "balanced_sampler")


def composed(small, resolved, scratch):
    "Gains and members in the first fold."
    first = small["place"].folds()[0].fold
    tables = {}
    for name in NAMES:
        config = resolved(name)
        config["trial"]["slots"]["loop"]["by_epoch"]["epochs"] = 8
        config["trial"]["slots"]["optimizer"]["adamw"]["lr"] = 0.01
        trials = run_grid(config, small["place"], dict(jobs=1), dict(device="cpu"), scratch)
        tables[name] = gather([t for t in trials if t.fold.fold == first], small["table"], "validation")
    gains = validated_gains(tables, first)
    strategies = read_strategies(small["params"])
    stack = Stack("all", "?", "ours", helped=("training", "fusion"))
    return gains, members_of(stack, {}, strategies, baseline_of(small["params"]), gains)


def turn_labels_around(monkeypatch, names):
    "From here on, every side that holds nothing but these turns has its labels turned around."
    original = merhan.trial.load_turns

    def poisoned(side, *rest):
        turns = original(side, *rest)
        return replace(turns, label=3 - turns.label) if set(side) <= set(names) else turns

    monkeypatch.setattr(merhan.trial, "load_turns", poisoned)


def test_poisoned_test_labels_leave_the_stack_as_it_is(small, resolved, tmp_path, monkeypatch):
    clean = composed(small, resolved, tmp_path / "clean")
    turn_labels_around(monkeypatch, small["place"].folds()[0].test)
    assert composed(small, resolved, tmp_path / "dirty") == clean


def test_poisoned_validation_labels_do_not(small, resolved, tmp_path, monkeypatch):
    "The same with the validation side turned around must show: the test above can fail."
    clean, _ = composed(small, resolved, tmp_path / "clean")
    turn_labels_around(monkeypatch, small["place"].folds()[0].validation)
    assert composed(small, resolved, tmp_path / "dirty")[0] != clean


def test_every_stack_of_the_parameters_has_an_entry():
    stacks = read_params("demo")["stacks"]
    assert len(stacks) > 3 and all(read_entry("demo", name) == entry for name, entry in stacks.items())
    assert read_entry("demo", "stage_2_features")["after"] == "stage_1_training"
