"On a GPU: no step waits for the device, sixteen bits train, and a killed run resumes. Without one, this file skips."

from itertools import islice

import pytest
import torch

from merhan.costs import in_fresh_process
from merhan.layout import Arithmetic, Trial
from merhan.trial import assemble_as, inputs_of, normalised_sides, run_trial, stored_sides

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
WAYS = [
    Arithmetic("cuda"),
    Arithmetic("cuda", "bf16"),
    Arithmetic("cuda", "fp16"),
    Arithmetic("cuda", "bf16", fused=True, merged=True),
]


def assembled(how, small, resolved, name="baseline", **place):
    spec, fold = resolved(name)["trial"], small["place"].folds()[0]
    _, train, validation = normalised_sides(spec["slots"], stored_sides(spec, fold, small["work"]))
    return assemble_as(how, spec["slots"], inputs_of(train), 4, 0, train, validation, **place)


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("name", ["baseline", "modality_losses", "gradient_clipping", "mixed_precision"])
def test_no_step_waits_for_the_device(name, how, small, resolved):
    run = assembled(how, small, resolved, name)
    run.model.train()
    batches = list(islice(run.train_dataloader, 3))
    run.step(run, batches[0].to(run.accelerator.device))  # what is initialised at the first step may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:]:
            run.step(run, batch.to(run.accelerator.device))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_every_precision_trains(how, small, resolved, tmp_path):
    spec, fold = resolved("baseline")["trial"], small["place"].folds()[0]
    trial = run_trial(Trial(spec, fold, how, tmp_path), small["work"])
    reference = in_fresh_process(run_trial, Trial(spec, fold, scratch=tmp_path), small["work"])
    assert trial.card()["arithmetic"]["precision"] == how.precision and "cuda" in trial.folder.name
    losses = [t.history()[-1]["validation_loss"] for t in (trial, reference)]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)


@pytest.mark.parametrize("how", WAYS[:3], ids=str)
def test_resume_is_exact(how, small, resolved, tmp_path):
    "A run that was stopped after an epoch ends with the weights of one that was not."
    from merhan.loop import one_epoch, restore, state_of, weights_sha256

    whole, begun, resumed = (assembled(how, small, resolved) for _ in range(3))
    for _ in range(3):
        one_epoch(whole)
    one_epoch(begun)
    torch.save(state_of(begun), tmp_path / "state.pt")
    restore(resumed, torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        one_epoch(resumed)
    assert weights_sha256(resumed.network) == weights_sha256(whole.network)


def test_several_gpus_get_one_trial_each():
    from merhan.grid import own_gpus

    count = torch.cuda.device_count()
    with own_gpus(1, count) as first, own_gpus(1, count) as second:
        assert first != second or count == 1
