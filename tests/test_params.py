"Parameters of every corpus compose; what is misspelt fails before anything runs; DVC sees every strategy."

import copy
import inspect

import pytest
import yaml
from conftest import ROOT

import merhan.trial  # noqa: F401 (components register themselves)
from merhan.params import known_corpora, read_params
from merhan.slots import SLOTS, compose
from merhan.strategies import baseline_of, read_stacks, read_strategies


@pytest.mark.parametrize("corpus", known_corpora() if (ROOT / "params.yaml").exists() else [])
def test_every_strategy_composes(corpus):
    params = read_params(corpus)
    for strategy in read_strategies(params).values():
        config = strategy.slots(baseline_of(params))
        assert set(config) == set(SLOTS) and strategy.why and strategy.source
        declining = config["schedule"].get("cosine_decay")
        if declining:  # over the strategy's own epochs, not those of the baseline
            assert declining["epochs"] == next(iter(config["loop"].values()))["epochs"], strategy.name


@pytest.mark.parametrize(
    "edit, message",
    [
        (
            lambda p: p["stacks"].update(x=dict(why="x", source="y", stack=["focal_loss", "weighted_loss"])),
            "stack 'x': two strategies of one stack disagree on slot 'loss'",
        ),
        (lambda p: p["stacks"].update(x=dict(why="x", source="y", stack=["focal_los"])), "names 'focal_los'"),
        (lambda p: p["baseline"].update(losss={}), "no slot 'losss'"),
        (lambda p: p["baseline"]["optimizer"].update(adamw=dict(lrate=1)), "no argument 'lrate'"),
        (lambda p: p["strategies"].update({"bad-name": dict(why="x", source="y")}), "snake_case"),
        (lambda p: p["strategies"].update(x=dict(why="x", source="y", dleta={})), "unknown key 'dleta'"),
        (lambda p: p["strategies"].update(x=dict(source="y")), "does not say its why"),
        (
            lambda p: p["strategies"].update(
                x=dict(why="x", source="y", delta=dict(fusion=dict(hybrid={}, text_alone={})))
            ),
            "takes one component",
        ),
    ],
)
def test_mistakes_are_named(edit, message):
    params = copy.deepcopy(read_params("demo"))
    edit(params)
    with pytest.raises(ValueError, match=message):
        read_stacks(params)


def test_an_unknown_name_under_only_is_named(tmp_path, monkeypatch):
    own = tmp_path / "pipelines/few/params.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("corpus: {name: few}\nonly: [baseline, focal_los]\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="few/params.yaml names, or takes over from params.yaml, 'focal_los' under only; there are"
    ):
        read_params("few")


def test_an_unknown_name_under_simple_is_named(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(
        (ROOT / "params.yaml").read_text().replace("simple: [", "simple: [focal_los, ")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="names, or takes over from params.yaml, 'focal_los' under simple; there are"
    ):
        read_params("demo")


def test_what_is_swapped_in_keeps_what_the_baseline_says():
    "Another corpus's batch size, learning rate and stacking are those of its strategies, too: each is one change."
    for corpus in known_corpora():
        params = read_params(corpus)
        baseline, strategies = baseline_of(params), read_params("demo")["strategies"]
        of = lambda *names: compose(baseline_of(params), *(strategies[name]["delta"] for name in names))
        assert (
            of("discriminative_lr")["optimizer"]["discriminative"].items() >= baseline["optimizer"]["adamw"].items()
        )
        assert of("balanced_sampler")["sampler"]["balanced"] == baseline["sampler"]["shuffled"]
        assert of("weight_decay")["loop"]["tuned_weight_decay"]["epochs"] == baseline["loop"]["by_epoch"]["epochs"]
        assert (
            of("prosody", "spec_augment")["augment"]["spec_augment"]["stack"] == baseline["features"]["mfcc"]["stack"]
        )


def test_stages_follow_from_the_entries():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["train"]["foreach"] == "${strategies}"
    assert stages["train_stack"]["foreach"] == "${stacks}"


def test_no_strategy_is_named_in_the_code():
    "What differs between strategies is in params.yaml; the package knows only the baseline, which it compares with."
    arguments = {
        name
        for slot in SLOTS.values()
        for component in slot.values()
        for name in inspect.signature(component).parameters
    }
    for path in (p for p in (ROOT / "merhan").glob("*.py") if p.name[0] != "_"):
        for name in read_params("demo")["strategies"]:
            if name != "baseline" and name not in arguments:  # `weight_decay` is what PyTorch calls it
                code = path.read_text().partition("\n# %% ../")[
                    2
                ]  # below __all__, where a component may bear a strategy's name
                assert f'"{name}"' not in code and f"'{name}'" not in code, f"{path.name} names {name}"
