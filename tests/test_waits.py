"Nothing inside the network looks at a value: it exports, compiles, runs on a GPU that is not there, and trains."

from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import merhan.trial  # noqa: F401 (components register themselves)
from merhan.attention import merge_projections
from merhan.resolve import tiny_turns
from merhan.slots import SLOTS, compose
from merhan.trial import assemble

BASELINE = dict(
    features={"mfcc": {}},
    text={"frozen": {}},
    normalisation={"standard": {}},
    model={"merhan": {"hidden_dim": 8}},
    attention={"dot_product": {}},
    fusion={"hybrid": {}},
    pooling={"mean": {}},
    sampler={"shuffled": {}},
    loss={"cross_entropy": {}},
    optimizer={"adamw": {}},
    schedule={"reduce_on_plateau": {}},
    step={"plain": {}},
    loop={"by_epoch": {"epochs": 1}},
)
SETTINGS = [dict(heads=1), dict(heads=2), dict(heads=1, fused=True), dict(heads=2, fused=True)]
PARTS = [(fusion, pooling) for fusion in sorted(SLOTS["fusion"]) for pooling in sorted(SLOTS["pooling"])]


def trainer(fusion="hybrid", pooling="mean", **more):
    attention = {"dot_product": more.pop("settings", {})}
    slots = compose(BASELINE, dict(fusion={fusion: {}}, pooling={pooling: {}}, attention=attention), more)
    return assemble(slots, dict(audio=4, text=4, layers=1), 2, 0, tiny_turns(), tiny_turns(), device="cpu")


def inputs():
    given = tiny_turns().batch(range(4)).inputs
    return {name: value for name, value in given.items() if value is not None}


class Logits(torch.nn.Module):
    "A model without its maps, which an exported program could not leave out."

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, audio_features, attention_mask, audio_lengths, text_states):
        logits, _ = self.model(audio_features, None, attention_mask, audio_lengths, text_states, need_weights=False)
        return logits


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("fusion, pooling", PARTS)
def test_it_runs_on_fake_cuda(fusion, pooling, settings):
    model = trainer(fusion, pooling, settings=settings).model.eval()
    weights, batch = model.state_dict(), inputs()
    with FakeTensorMode() as mode, torch.no_grad():
        state, given = (
            {name: mode.from_tensor(x).to("cuda") for name, x in part.items()} for part in (weights, batch)
        )
        logits, _ = torch.func.functional_call(model, state, (), given | dict(need_weights=not settings.get("fused")))
    assert logits.device.type == "cuda" and logits.shape == (4, 2)


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[3]], ids=str)
@pytest.mark.parametrize("fusion, pooling", PARTS)
def test_it_exports(fusion, pooling, settings):
    model = Logits(trainer(fusion, pooling, settings=settings).model.eval())
    program = torch.export.export(model, (), inputs())
    assert torch.allclose(program.module()(**inputs()), model(**inputs()), atol=1e-6)


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[3]], ids=str)
@pytest.mark.parametrize("fusion, pooling", PARTS)
def test_it_compiles_without_a_break(fusion, pooling, settings):
    torch._dynamo.reset()
    model = trainer(fusion, pooling, settings=settings).model.eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    logits, maps = compiled(**inputs(), need_weights=not settings.get("fused"))
    assert torch.allclose(logits, model(**inputs(), need_weights=False)[0], atol=1e-6)


class NothingIsRead(TorchDispatchMode):
    "Refuses to hand a number of a tensor to Python, for which a GPU would have to be waited for."

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero"), f"a training step reads a value: {name}"
        return function(*args, **(kwargs or {}))


@contextmanager
def nothing_is_read():
    "Operations that read a value are refused; on a CPU, two methods hand over values without one."

    def refuse(*given):
        raise AssertionError("a training step reads a value")

    with pytest.MonkeyPatch.context() as patched:
        for name in ("tolist", "numpy"):
            patched.setattr(torch.Tensor, name, refuse)
        with NothingIsRead():
            yield


SLOTS_OF_A_STEP = ("loss", "auxiliary", "augment", "optimizer", "step", "behaviour", "model")
STEPS = [(slot, name) for slot in SLOTS_OF_A_STEP for name in sorted(SLOTS[slot])]


@pytest.mark.parametrize("slot, name", STEPS)
def test_a_training_step_reads_no_value(slot, name):
    run = trainer(**{slot: {name: {}}})
    batch = tiny_turns().batch(range(4))
    with nothing_is_read():
        value = run.step(run, batch)
    assert torch.isfinite(value)


@pytest.mark.parametrize("fusion, pooling", PARTS)
@pytest.mark.parametrize("merged", [False, True])
def test_no_part_of_the_network_reads_a_value(merged, fusion, pooling):
    run = trainer(fusion, pooling)
    if merged:
        merge_projections(run.network)
    batch = tiny_turns().batch(range(4))
    with nothing_is_read():
        assert run.step(run, batch).shape == ()


@pytest.mark.heavy
@pytest.mark.parametrize("merged", [False, True])
def test_inductor_compiles_it(merged):
    torch._dynamo.reset()
    model = trainer().model.eval()
    if merged:
        merge_projections(model)
    logits, _ = torch.compile(model, fullgraph=True)(**inputs(), need_weights=False)
    assert torch.allclose(logits, model(**inputs(), need_weights=False)[0], atol=1e-5)


def test_reading_a_value_is_noticed():
    run = trainer()
    run.step = lambda run, batch: float(run.model(**batch.inputs)[0].sum())
    with pytest.raises(AssertionError, match="reads a value"), nothing_is_read():
        run.step(run, tiny_turns().batch(range(4)))
