"What joins a stack in a fold is decided without a look at that fold's test side."
from dataclasses import replace

import merhan.trial
from merhan.ablation import Stack, read_strategies
from merhan.data import read_folds
from merhan.evaluation import read_entry
from merhan.grid import gather, run_trials
from merhan.stacks import members_of, validated_gains

NAMES = ("baseline", "gated_fusion", "hierarchical_fusion", "balanced_sampler")


def composed(small, resolved, scratch):
    "Gains and members in the first fold."
    everyone = read_folds(small["work"] / "folds.json")
    first = everyone[0].fold
    tables = {}
    for name in NAMES:
        config = resolved(name)
        config["trial"]["slots"]["loop"]["by_epoch"]["epochs"] = 8
        config["trial"]["slots"]["optimizer"]["adamw"]["lr"] = 0.01
        grid = run_trials(config, small["work"], dict(jobs=1), "cpu", scratch)
        tables[name] = gather(grid[grid.fold == first], small["table"], "validation")
    gains = validated_gains(tables, first)
    strategies = read_strategies(small["params"])
    stack = Stack("all", "?", "ours", helped=("training", "fusion"))
    return gains, members_of(stack, {}, strategies, gains, small["params"]["baseline"])


def turn_labels_around(monkeypatch, names):
    "From here on, every side that holds nothing but these turns has its labels turned around."
    original = merhan.trial.load_turns

    def poisoned(side, *rest):
        turns = original(side, *rest)
        return replace(turns, label=3 - turns.label) if set(side) <= set(names) else turns

    monkeypatch.setattr(merhan.trial, "load_turns", poisoned)


def test_poisoned_test_labels_leave_the_stack_as_it_is(small, resolved, tmp_path, monkeypatch):
    clean = composed(small, resolved, tmp_path / "clean")
    turn_labels_around(monkeypatch, read_folds(small["work"] / "folds.json")[0].test)
    assert composed(small, resolved, tmp_path / "dirty") == clean


def test_poisoned_validation_labels_do_not(small, resolved, tmp_path, monkeypatch):
    "The same with the validation side turned around must show: the test above can fail."
    clean, _ = composed(small, resolved, tmp_path / "clean")
    turn_labels_around(monkeypatch, read_folds(small["work"] / "folds.json")[0].validation)
    assert composed(small, resolved, tmp_path / "dirty")[0] != clean


def test_every_stack_of_the_parameters_has_an_entry():
    assert read_entry("demo", "stage_2_features")["after"] == "stage_1_training"
