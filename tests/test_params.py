"Parameters of every corpus compose; what is misspelt fails before anything runs; DVC sees every strategy."
import copy

import pytest
import yaml
from conftest import ROOT

from merhan.ablation import known_corpora, read_params, read_strategies
from merhan.slots import SLOTS, compose


@pytest.mark.parametrize("corpus", known_corpora() if (ROOT / "params.yaml").exists() else [])
def test_every_strategy_composes(corpus):
    params = read_params(corpus)
    for strategy in read_strategies(params).values():
        config = compose(params["baseline"], strategy.delta)
        assert set(config) == set(SLOTS) and strategy.why and strategy.source


@pytest.mark.parametrize("edit, message", [
    (lambda p: p["baseline"].update(losss={}), "no slot 'losss'"),
    (lambda p: p["baseline"]["optimizer"].update(adamw=dict(lrate=1)), "no argument 'lrate'"),
    (lambda p: p["strategies"].update({"bad-name": dict(why="x", source="y")}), "snake_case"),
    (lambda p: p["strategies"].update(x=dict(why="x", source="y", dleta={})), "unknown key 'dleta'"),
    (lambda p: p["strategies"].update(x=dict(source="y")), "does not say its why"),
    (lambda p: p["strategies"].update(x=dict(why="x", source="y", delta=dict(fusion=dict(hybrid={}, text_alone={})))), "takes one component"),
])
def test_mistakes_are_named(edit, message):
    params = copy.deepcopy(read_params("demo"))
    edit(params)
    with pytest.raises(ValueError, match=message):
        read_strategies(params)


def test_stages_follow_from_the_entries():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["train"]["foreach"] == "${strategies}"
    source = (ROOT / "dvc.yaml").read_text()
    metrics = [m for m in yaml.safe_load(source)["metrics"]]
    assert {f"metrics/demo/{name}.json" for name in read_params("demo")["strategies"]} <= set(metrics)


def test_no_strategy_is_named_in_the_code():
    "What differs between strategies is in params.yaml; the package knows only the baseline, which it compares with."
    for path in (ROOT / "merhan").glob("*.py"):
        for name in read_params("demo")["strategies"]:
            if name != "baseline":
                assert f'"{name}"' not in path.read_text() and f"'{name}'" not in path.read_text(), f"{path.name} names {name}"
