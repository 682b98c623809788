"Scores agree with two other implementations; on made-up grids intervals cover and planted effects are found."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from merhan.evaluation import intervals
from merhan.metrics import score
from merhan.simulation import Variation, above, at_planted, detectable_of, mean_share, share, simulate
from merhan.verdicts import compared_pair, family_of, many_to_one, paired, prior_variance, runs

CLASSES = ["ang", "hap", "neu", "sad"]


def predictions(seed, skill=0.6, turns=300, seeds=2, weights=(0.2, 0.3, 0.3, 0.2)):
    "Predictions in five sessions: right with chance `skill`, otherwise at random."
    rng, rows = np.random.default_rng(seed), []
    label = rng.choice(CLASSES, turns, p=weights)
    session = np.array(list("12345"))[np.arange(turns) % 5]
    for number in range(seeds):
        p = rng.dirichlet(np.ones(4), turns)
        sure = rng.random(turns) < skill
        p[sure] = 0.1 + 0.6 * np.eye(4)[[CLASSES.index(c) for c in label[sure]]]
        rows.append(
            pd.DataFrame(p, columns=[f"p_{c}" for c in CLASSES]).assign(
                utterance=[f"u{i}" for i in range(turns)],
                session=session,
                speaker=session,
                fold=session,
                seed=number,
                label=label,
                predicted=np.array(CLASSES)[p.argmax(1)],
            )
        )
    return pd.concat(rows, ignore_index=True)


def by_hand(label, predicted):
    "WA, UA, weighted F1 and macro F1 from nothing but counts, in percent."
    label, predicted = list(label), list(predicted)
    found = sorted(set(label))
    hits = {c: sum(a == b == c for a, b in zip(label, predicted)) for c in found}
    said = {c: predicted.count(c) for c in found}
    there = {c: label.count(c) for c in found}
    f1 = {c: 2 * hits[c] / (said[c] + there[c]) for c in found}
    return dict(
        weighted_accuracy=100 * sum(hits.values()) / len(label),
        unweighted_accuracy=100 * sum(hits[c] / there[c] for c in found) / len(found),
        weighted_f1=100 * sum(there[c] * f1[c] for c in found) / len(label),
        macro_f1=100 * sum(f1.values()) / len(found),
    )


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn_and_with_counting(seed):
    table = predictions(seed, skill=[0.0, 0.3, 0.6, 0.9, 1.0][seed], seeds=1)
    ours, counted = score(table), by_hand(table.label, table.predicted)
    theirs = dict(
        weighted_accuracy=100 * accuracy_score(table.label, table.predicted),
        unweighted_accuracy=100 * balanced_accuracy_score(table.label, table.predicted),
        weighted_f1=100 * f1_score(table.label, table.predicted, average="weighted"),
        macro_f1=100 * f1_score(table.label, table.predicted, average="macro"),
    )
    for name, value in counted.items():
        assert ours[name] == pytest.approx(value, abs=1e-10) and ours[name] == pytest.approx(
            theirs[name], abs=1e-10
        ), name


def test_permuted_labels_give_chance_and_a_perfect_predictor_100():
    table = predictions(0)
    order = np.random.default_rng(1).permutation(table.utterance.nunique())
    permuted = pd.concat([t.assign(label=t.label.to_numpy()[order]) for _, t in table.groupby("seed")])
    found = intervals(permuted)["unweighted_accuracy"]
    assert found["low"] <= 25 <= found["high"] and abs(found["mean"] - 25) < 6
    perfect = intervals(table.assign(predicted=table.label))
    assert all(
        perfect[m] == dict(mean=100, low=100, high=100)
        for m in ("weighted_accuracy", "unweighted_accuracy", "weighted_f1", "macro_f1")
    )


@pytest.fixture(scope="module")
def variation():
    "As the bundled corpus shows it, in round numbers: ten strategies that differ in how much their runs scatter."
    rng = np.random.default_rng(0)
    residuals = rng.multivariate_normal(np.zeros(4), 400 * np.eye(4) - 40, size=2000)
    residuals /= residuals.mean(1).std()
    return Variation(
        residuals,
        np.linspace(6, 9, 10),
        8.0,
        16 * np.eye(4),
        120 * np.eye(4),
        np.array([[23, 31, 35, 20], [18, 36, 34, 19], [24, 31, 30, 27], [28, 34, 32, 19], [20, 37, 38, 23]]),
        3,
        12,
    )


def test_intervals_cover_and_families_rarely_err(variation):
    found = simulate(variation, 400, in_sessions=False)
    assert above(found["found"].any(1), 0.05) > 0.01, share(found["found"].any(1))
    elsewhere = simulate(variation, 400, seed=1)
    for name in ("covered", "control_covered"):
        covered = mean_share(elsewhere[name]) if elsewhere[name].ndim > 1 else share(elsewhere[name])
        assert covered["low"] <= 97 and covered["high"] >= 93, (name, covered)
    assert mean_share(elsewhere["covered_bootstrap"])["high"] < 90, "the interval that is not used would do as well"


def test_a_planted_effect_is_found_with_the_stated_power(variation):
    found = at_planted(simulate(variation, 400, np.diag(detectable_of(variation)), in_sessions=False)["found"])
    assert stats.binomtest(int(found.sum()), len(found), 0.8).pvalue > 0.01, share(found)
    none = simulate(variation, 400, np.eye(10) * 2, seed=2)
    assert share(at_planted(none["equivalent"]))["low"] < 5, (
        "a difference of the margin is called equivalent too often"
    )


def test_equivalence_is_found_where_runs_hardly_scatter_and_rarely_at_the_margin(variation):
    calm = replace(variation, spread=np.full(10, 0.6), control_spread=0.6, interaction=0.1 * np.eye(4))
    same, at_margin = simulate(calm, 200), simulate(calm, 400, np.eye(10) * 2, seed=1)
    assert mean_share(same["equivalent"])["low"] > 90
    within = at_planted(at_margin["within"])  # the rule of strategies that are tested for nothing else
    assert above(within, 0.05) > 0.01 and within.any(), share(within)
    assert (at_margin["within"] | ~at_margin["equivalent"]).all(), "equivalent is said outside the margin"


def test_the_estimate_of_what_is_detectable_is_that_of_the_simulation(variation):
    "From one made-up grid the metrics would state nearly what the variation implies."
    from merhan.simulation import drawn

    stated = []
    for number in range(20):
        control, others = drawn(variation, np.random.default_rng(number), np.zeros(10), False)
        control, others = control.mean(-1), others.mean(-1)
        prior = prior_variance(others.var(-1, ddof=1).mean(-1), 10)
        stated.append(
            many_to_one(
                pd.DataFrame(control), {n: pd.DataFrame(r) for n, r in enumerate(others)}, prior
            ).detectable.mean()
        )
    assert np.mean(stated) == pytest.approx(detectable_of(variation).mean(), rel=0.08)


def test_runs_are_paired_by_the_seeds_that_both_have():
    control, other = (runs(predictions(number, seeds=seeds)) for number, seeds in ((0, 3), (1, 4)))
    assert np.allclose(paired(control, {"x": other})["x"], (other[[0, 1, 2]] - control).to_numpy().ravel())
    with pytest.raises(ValueError, match="no seed in common"):
        paired(control, {"x": other[[3]]})


def test_a_group_without_a_family_is_an_error():
    params = dict(
        strategies={"new": dict(group="magic")},
        stacks={}, averages={},
        verdicts=dict(families=dict(accuracy=["training"]), equivalence=["cost"]),
    )
    with pytest.raises(ValueError, match="new is of group 'magic'.*verdicts.families"):
        family_of(params, "new")


def test_a_strategy_does_not_beat_itself():
    table = predictions(3, seeds=3)
    same = compared_pair({"a": table, "b": table}, "a", "b")
    assert same["verdict"] == "equivalent" and same["p"] == 1 and (same["runs"] == 0).all(axis=None)
    assert runs(table).shape == (5, 3)
