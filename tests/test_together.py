"Two processes that train one model give the losses of one process with the whole batch."

import pytest

from merhan.grid import place_trial
from merhan.layout import Arithmetic, Trial


def without_chance(resolved, name):
    "A configuration in which nothing is drawn at random but the batches; their nine turns make unequal shares."
    config = resolved(name)["trial"]
    config["slots"]["model"]["merhan"]["dropout"] = 0.0
    config["slots"]["loop"]["by_epoch"]["epochs"] = 3
    config["slots"]["sampler"]["shuffled"]["batch_size"] = 9
    return config


@pytest.mark.heavy
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", ["baseline", "modality_losses"])
def test_two_processes_give_the_losses_of_one(name, merged, small, resolved, tmp_path):
    spec, fold = without_chance(resolved, name), small["place"].folds()[0]
    alone, together = (Trial(spec, fold, Arithmetic(processes=count, merged=merged), tmp_path) for count in (1, 2))
    for trial in (alone, together):
        place_trial(trial, small["work"])
    assert alone.folder != together.folder and len(alone.history()) == 3
    for one, two in zip(alone.history(), together.history(), strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], abs=1e-4)
        assert one["validation_loss"] == pytest.approx(two["validation_loss"], abs=1e-4)
    probabilities = [trial.predictions().filter(like="p_").to_numpy() for trial in (alone, together)]
    assert abs(probabilities[0] - probabilities[1]).max() < 1e-3


@pytest.mark.heavy
def test_what_fails_in_one_of_them_is_told(small, resolved, tmp_path):
    spec, fold = without_chance(resolved, "baseline"), small["place"].folds()[0]
    spec["products"]["features"] = dict(name="mfcc_nowhere")
    with pytest.raises(ValueError, match="one of 2 processes .* failed(.|\n)*holds no complete feature product"):
        place_trial(Trial(spec, fold, Arithmetic(processes=2), tmp_path), small["work"])
