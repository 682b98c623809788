"A turn scores the same alone and in any batch, whatever stands in the padding."

import math

import pytest
import torch

from merhan.model import MERHAN
from merhan.slots import SLOTS


@pytest.mark.parametrize("fusion", sorted(SLOTS["fusion"]))
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_alone_and_in_a_batch(fusion, heads, fused):
    torch.manual_seed(0)
    need_weights = not fused
    model = MERHAN(
        5, None, 12, 4, text_states_dim=7, heads=heads, fusion=SLOTS["fusion"][fusion](), fused=fused
    ).eval()
    frames, tokens = torch.tensor([9, 1, 4]), torch.tensor([2, 6, 1])
    audio, states = torch.full((3, 9, 5), math.nan), torch.full((3, 6, 7), math.nan)
    for i in range(3):
        audio[i, : frames[i]], states[i, : tokens[i]] = torch.randn(int(frames[i]), 5), torch.randn(int(tokens[i]), 7)
    mask = (torch.arange(6) < tokens[:, None]).long()
    together, maps = model(audio, None, mask, frames, states, need_weights=need_weights)
    assert torch.isfinite(together).all()
    for name, weights in maps.items():
        assert torch.isfinite(weights).all(), name
    for i in range(3):
        alone, _ = model(
            audio[i : i + 1, : frames[i]],
            None,
            mask[i : i + 1, : tokens[i]],
            frames[i : i + 1],
            states[i : i + 1, : tokens[i]],
            need_weights=need_weights,
        )
        assert torch.allclose(together[i], alone[0], atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_ignore_padding(fused):
    torch.manual_seed(0)
    model = MERHAN(5, None, 12, 4, text_states_dim=7, fused=fused).eval()
    audio = torch.randn(2, 6, 5)
    audio[1, 3:] = math.nan
    logits, _ = model(
        audio,
        None,
        torch.ones(2, 3, dtype=torch.long),
        torch.tensor([6, 3]),
        torch.randn(2, 3, 7),
        need_weights=False,
    )
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_shapes_are_what_the_annotations_say(tmp_path):
    "The same forward pass under jaxtyping's import hook, which checks every annotated shape."
    import subprocess
    import sys

    script = """
from jaxtyping import install_import_hook
with install_import_hook(["merhan.attention", "merhan.encoders", "merhan.fusion", "merhan.model"], "beartype.beartype"):
    import sys, torch
    from merhan.model import MERHAN
model = MERHAN(5, None, 12, 4, text_states_dim=7, heads=3)
audio, mask, states = torch.randn(2, 6, 5), torch.ones(2, 3, dtype=torch.long), torch.randn(2, 3, 7)
if sys.argv[1] == "wrong": mask = mask[:1] # it would be broadcast, and nobody would notice
model(audio, None, mask, torch.tensor([6, 3]), states)
"""
    run = lambda shape: subprocess.run([sys.executable, "-c", script, shape], capture_output=True, text=True)
    right, wrong = run("right"), run("wrong")
    assert right.returncode == 0, right.stderr
    assert wrong.returncode and "jaxtyping.TypeCheckError" in wrong.stderr, wrong.stderr
