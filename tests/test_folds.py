"No speaker is on two sides; statistics come from the training side; nothing of the test side reaches training."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from merhan.data import Normaliser, load_turns
from merhan.folds import folds
from merhan.grid import run_grid
from merhan.layout import Trial
from merhan.products import Product
from merhan.simple import given_sides
from merhan.trial import normalised_sides, run_trial, stored_sides


@pytest.mark.parametrize("by", ["session", "speaker"])
def test_sides_share_no_speaker(demo, by):
    table = demo.table()
    who = dict(zip(table.utterance, table.speaker))
    made = folds(table, by, seeds=4)
    for fold in made:
        sides = [{who[u] for u in getattr(fold, side)} for side in ("train", "validation", "test")]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert all(sides)
    for seed in range(4):
        tested = [u for f in made if f.seed == seed for u in f.test]
        assert sorted(tested) == sorted(table.utterance), "every turn is tested exactly once per seed"


def test_validation_rotates_with_the_seed(demo):
    table = demo.table()
    session = dict(zip(table.utterance, table.session))
    chosen = {(f.fold, f.seed): session[f.validation[0]] for f in folds(table, seeds=4)}
    assert all(len({chosen[fold, seed] for seed in range(4)}) == 4 for fold in "12345")


def test_normaliser_reads_the_training_side_only(small, resolved):
    config, fold = resolved("baseline"), small["place"].folds()[0]
    audio, text = (
        Product(small["work"] / "features" / config["trial"]["products"][slot]["name"])
        for slot in ("features", "text")
    )
    train = load_turns(fold.train, small["table"], "4", audio, text)
    frames = np.concatenate([audio[u].numpy() for u in fold.train])
    assert np.allclose(Normaliser().fit(train).mean, frames.mean(0), atol=1e-3)


def test_simple_models_hear_what_the_network_hears(small, resolved):
    "Normalised alike, by the training side or by speaker; without the copies, which only a network gets."
    fold = small["place"].folds()[0]
    by_speaker = {"normalisation": {"standard": {"by": "speaker"}}}
    for name, more in (
        ("baseline", {}),
        ("baseline", by_speaker),
        ("noise_augmentation", {}),
        ("noise_augmentation", by_speaker),
    ):
        trial = resolved(name)["trial"]
        trial |= dict(slots=trial["slots"] | more)
        load = stored_sides(trial, fold, small["work"])
        normalise, train, validation = normalised_sides(trial["slots"], load)
        sides = given_sides(trial, fold, small["work"])
        for mine, theirs in (
            (sides["train"], train.chosen(range(len(fold.train)))),
            (sides["validation"], validation),
            (sides["test"], normalise(load("test"))),
        ):
            assert mine.utterance == theirs.utterance and all(
                torch.equal(a, b) for a, b in zip(mine.audio, theirs.audio)
            )


def everything_that_training_produces(trial):
    return trial.card()["weights_sha256"], trial.history(), trial.predictions("validation")


def test_poisoning_the_test_side_changes_nothing(small, resolved, tmp_path, monkeypatch):
    "Features of the test side become noise, its labels are turned around: training stays the same to the bit."
    import merhan.trial

    config, fold = resolved("baseline"), small["place"].folds()[0]
    clean = run_trial(Trial(config["trial"], fold, scratch=tmp_path / "clean"), small["work"])
    original = load_turns

    def poisoned(names, *given):
        turns = original(names, *given)
        if set(names) <= set(fold.test):
            turns = replace(
                turns,
                audio=[torch.randn_like(a) * 1e3 for a in turns.audio],
                text=[torch.randn_like(t) for t in turns.text],
                label=3 - turns.label,
            )
        return turns

    monkeypatch.setattr(merhan.trial, "load_turns", poisoned)
    dirty = run_trial(Trial(config["trial"], fold, scratch=tmp_path / "dirty"), small["work"])
    (weights, history, validation), (weights2, history2, validation2) = map(
        everything_that_training_produces, (clean, dirty)
    )
    assert weights == weights2 and history == history2
    pd.testing.assert_frame_equal(validation, validation2)
    assert not clean.predictions().equals(dirty.predictions()), "the poison was not applied"


def test_a_planted_leak_makes_these_tests_fail(demo, small, resolved, tmp_path, monkeypatch):
    "Leaks planted on purpose: a test speaker in training, and a scaler fitted on everything."
    import merhan.folds
    import merhan.trial
    from merhan.slots import SLOTS

    clean = merhan.folds.one_fold
    with monkeypatch.context() as patched:

        def leaking(table, by, group, n, seed, sessions):
            fold = clean(table, by, group, n, seed, sessions)
            return replace(fold, train=fold.train + fold.test[:5])

        patched.setattr(merhan.folds, "one_fold", leaking)
        for by in ("session", "speaker"):
            with pytest.raises(AssertionError):
                test_sides_share_no_speaker(demo, by)
    with monkeypatch.context() as patched:
        patched.setattr(
            merhan.trial,
            "fitted_normalisation",
            lambda config, load: (
                SLOTS["normalisation"].build(config["normalisation"]).fit(load("train").with_turns(load("test")))
            ),
        )
        with pytest.raises(AssertionError):
            test_poisoning_the_test_side_changes_nothing(small, resolved, tmp_path, patched)


def test_same_seed_same_weights_here_and_in_processes(small, resolved, tmp_path):
    config = resolved("baseline")
    alone = run_grid(config, small["place"], dict(jobs=1), dict(device="cpu"), tmp_path / "a")
    beside = run_grid(config, small["place"], dict(backend="loky", jobs=2), dict(device="cpu"), tmp_path / "b")
    weights = [[trial.card()["weights_sha256"] for trial in trials] for trials in (alone, beside)]
    assert weights[0] == weights[1] and len(set(weights[0])) == len(weights[0])
    assert len({Trial(config["trial"], fold).folder for fold in folds(small["table"], seeds=2)}) == 10


def test_a_class_without_member_in_a_fold(small, resolved, tmp_path):
    "Its recall is absent there, never zero, and the fold still scores."
    from merhan.evaluation import per_class
    from merhan.metrics import score

    trials = run_grid(resolved("baseline"), small["place"], dict(jobs=1), dict(device="cpu"), tmp_path)
    table = trials[0].predictions().assign(seed=0)
    without = table[table.label != "sad"]
    without = without.assign(predicted=without.label)
    assert per_class(without)["sad"]["recall"] is None and per_class(without)["sad"]["support"] == 0
    assert score(without)["unweighted_accuracy"] == 100
