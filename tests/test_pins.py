"Every function of the package that a trial executes is covered by its pin; what is not code does not move it."

import pytest
import yaml
from conftest import ROOT

from merhan.pins import reachable
from merhan.resolve import chosen_components, strategy_pin, what_lacks
from merhan.slots import SLOTS, compose
from merhan.trial import run_trial

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STRATEGIES = [
    name
    for name, entry in PARAMS["strategies"].items()
    if not what_lacks(compose(PARAMS["baseline"], entry["delta"]), PARAMS)
]


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_runs_is_pinned(name, resolved, toy_trial):
    _, ran = toy_trial(name)
    pinned = set(reachable(run_trial, *chosen_components(resolved(name)["trial"]["slots"])))
    outside = {
        f"{module}.{function}"
        for module, function in ran
        if not is_lookup(module, function) and not covered(f"{module}.{function}", pinned)
    }
    assert len(ran) > 30 and not outside, outside


def is_lookup(module, function):
    "What finds and builds components: how it does so changes no component."
    return module == "merhan.slots" and function.split(".")[0] in ("Slot", "class_of", "is_a", "wrapped", "as_declared")


def covered(name, pinned):
    "A function is pinned by itself, or by the function or class it stands in; dataclasses write some for themselves."
    if "__create_fn__" in name:
        return True
    name = name.split(".<locals>")[0]
    return name in pinned or name.rpartition(".")[0] in pinned


def test_the_profile_can_fail(resolved):
    "A pin without the components would miss them."
    config = resolved("baseline")
    assert "merhan.fusion.Hybrid" in reachable(
        run_trial, *chosen_components(config["trial"]["slots"])
    ) and "merhan.fusion.Hybrid" not in reachable(SLOTS["fusion"]["audio_alone"])


def test_an_unused_component_moves_nothing(resolved):
    slots = resolved("baseline")["trial"]["slots"]
    before = strategy_pin(slots)

    def unused(alpha: float = 1.0):
        "A loss nobody asked for."
        return lambda logits, batch: logits.sum() * alpha

    SLOTS["loss"]["unused"] = unused
    try:
        assert strategy_pin(slots) == before
    finally:
        del SLOTS["loss"]["unused"]
