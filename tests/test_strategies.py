"Each entry composes, trains, and differs from the baseline; adding one takes an entry and nothing else."

import math
import re

import pytest
from test_pins import STRATEGIES

from merhan.layout import Trial, digest
from merhan.params import read_entry
from merhan.resolve import resolve
from merhan.slots import SLOTS
from merhan.strategies import Strategy, baseline_of, read_strategies
from merhan.trained import Trained
from merhan.trial import run_trial

SPEECH = dict(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    conv_dim=(8, 8),
    conv_kernel=(10, 3),
    conv_stride=(160, 2),
    num_feat_extract_layers=2,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
)  # a speech encoder that is small enough
SAME_HERE = {
    "emotion_tokens": "the few turns here hold no such expression",
    "gradient_clipping": "no gradient here is longer than one",
}
ONLY_IN_THE_END = {  # train as the baseline does, and end with other weights
    "lowest_validation_loss",
    "highest_validation_ua",
    "moving_average",
    "checkpoint_averaging",
}
SAME_BY_DESIGN = {
    "gradient_checkpointing": 1e-6,
    "mixed_precision": 0.1,
}  # how far the losses of two epochs may lie from the baseline's


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_trains_and_differs(name, resolved, toy_trial):
    trial, _ = toy_trial(name)
    card, history = trial.card(), trial.history()
    assert card["config"] == resolved(name)["trial"]["slots"]
    assert len(history) >= 2 and all(math.isfinite(row["train_loss"] + row["validation_loss"]) for row in history)
    base = toy_trial("baseline")[0]
    if name != "baseline":
        assert digest(card["config"]) != digest(base.card()["config"])
        same = {
            seen: (trial.result / seen).read_bytes() == (base.result / seen).read_bytes()
            for seen in ("history.json", "validation.parquet")
        }
        if read_entry("demo", name)["group"] == "cost":
            for mine, theirs in zip(history, base.history(), strict=True):
                assert all(
                    abs(mine[loss] - theirs[loss]) <= SAME_BY_DESIGN.get(name, 1e-4)
                    for loss in ("train_loss", "validation_loss")
                ), "it changes the result"
        elif name not in SAME_HERE:
            is_of_epoch = name in ("lowest_validation_loss", "highest_validation_ua")
            kept = is_of_epoch and trial.card()["kept_epoch"] == base.card()["kept_epoch"]
            assert same["history.json"] == (name in ONLY_IN_THE_END), "it changes nothing, or too much"
            assert same["validation.parquet"] == kept, "it ends as the baseline does"


@pytest.mark.parametrize("name", STRATEGIES)
def test_its_weights_load_again(name, toy_trial, tmp_path):
    "A trained model of every strategy can be put together from weights and card alone."
    trial, _ = toy_trial(name)
    (tmp_path / "m.safetensors").write_bytes((trial.result / "weights.safetensors").read_bytes())
    (tmp_path / "m.json").write_bytes((trial.result / "card.json").read_bytes())
    Trained(tmp_path / "m.safetensors")


def test_adding_one_on_the_fly(small, tmp_path):
    "A component and an entry; no other line of code knows of it."
    import torch.nn.functional as F

    def squared(scale: float = 1.0):
        "Mean squared distance of probabilities from labels."
        return lambda logits, batch: (
            scale * ((logits.softmax(-1) - F.one_hot(batch.label, logits.shape[-1])) ** 2).sum(-1).mean()
        )

    squared.__module__ = "merhan.losses"
    SLOTS["loss"]["squared"] = squared
    try:
        entry = dict(
            why="a bounded loss forgives wrong labels",
            source="Brier 1950",
            group="training",
            delta=dict(loss=dict(squared=dict(scale=2.0))),
        )
        strategies = read_strategies(small["params"] | dict(strategies=dict(brier_loss=entry)))
        config = resolve(small["params"], strategies["brier_loss"], small["cards"], small["labels"])
        assert config["trial"]["slots"]["loss"] == {"squared": {"scale": 2.0}}
        trial = run_trial(Trial(config["trial"], small["place"].folds()[0], scratch=tmp_path), small["work"])
        assert len(trial.history()) == 2
    finally:
        del SLOTS["loss"]["squared"]


def test_one_that_needs_weights_is_left_out_with_its_reason(small, tmp_path):
    by_name = Strategy(
        "larger",
        "?",
        "ours",
        delta=dict(text=dict(token_ids=dict(model_name="roberta-large")), text_encoder=dict(contextual={})),
    )
    config = resolve(small["params"], by_name, small["cards"], small["labels"])
    assert "needs the weights of roberta-large" in config["left_out"] and config["seeds"] == 0


def trained_from_a_folder(small, place, delta):
    "A trial whose products are made here, since no strategy of the parameters needs them."
    from merhan.products import write_product
    from merhan.resolve import products_of
    from merhan.slots import compose

    slots, cards = compose(baseline_of(small["params"]), delta), dict(small["cards"])
    for name, (slot, spec, variant) in products_of(slots).items():
        if name not in cards:
            cards[name] = write_product(slot, spec, small["table"], small["work"] / "stacks/features", variant)
    config = resolve(small["params"], Strategy("from_a_folder", "?", "ours", delta=delta), cards, small["labels"])
    assert "left_out" not in config
    return run_trial(Trial(config["trial"], small["place"].folds()[0], scratch=place), small["work"])


def test_a_local_folder_includes_a_text_encoder(small, tmp_path):
    "It is trained inside the network."
    from transformers import AutoTokenizer, BertConfig, BertModel

    from merhan.text import text_model_path

    tokenizer = AutoTokenizer.from_pretrained(text_model_path("minilm"))
    tokenizer.save_pretrained(tmp_path / "bert")
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
        )
    ).save_pretrained(tmp_path / "bert")
    delta = dict(
        text=dict(token_ids=dict(model_name=str(tmp_path / "bert"))),
        text_encoder=dict(contextual=dict(trainable_layers=1)),
    )
    assert trained_from_a_folder(small, tmp_path / "trial", delta).card()["inputs"]["text"] == 1


def test_a_local_folder_includes_a_speech_encoder(small, tmp_path):
    "Its layers come side by side, and the network learns a weight for each."
    from safetensors.torch import load_file
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    WavLMModel(WavLMConfig(**SPEECH)).save_pretrained(tmp_path / "wavlm")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "wavlm")
    delta = read_strategies(small["params"])["pretrained_audio"].delta
    frames = delta["features"]["pretrained"] | dict(model_name=str(tmp_path / "wavlm"))
    trial = trained_from_a_folder(small, tmp_path / "trial", dict(features=dict(pretrained=frames)))
    inputs = trial.card()["inputs"]
    assert inputs["audio"] == 3 * 8 and inputs["layers"] == 3
    learned = load_file(trial.result / "weights.safetensors")["audio_encoder.layer_weights"]
    assert learned.shape == (3,) and learned.abs().min() > 0


def layers_moved(trial, prefix, before):
    "The layers of a pretrained encoder that a trial changed, by number; its other weights, by name."
    from safetensors.torch import load_file

    after = load_file(trial.result / "weights.safetensors")
    moved = [name for name, value in before.items() if not (after[f"{prefix}.{name}"] == value).all()]
    numbers = {re.search(r"\blayers?\.(\d+)", name) for name in moved}
    return {int(n[1]) for n in numbers if n}, [n for n in moved if not re.search(r"\blayers?\.\d+", n)]


@pytest.mark.parametrize("trainable, expected", [(0, set()), (1, {1})])
def test_a_speech_encoder_is_trained_end_to_end(small, tmp_path, trainable, expected):
    "From waves, and exactly the layers that it should move do."
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    encoder = WavLMModel(WavLMConfig(**SPEECH))
    encoder.save_pretrained(tmp_path / "wavlm")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "wavlm")
    speech = dict(model_name=str(tmp_path / "wavlm"), trainable_layers=trainable, pool=8)
    delta = dict(features=dict(wave={}), audio_encoder=dict(speech=speech))
    trial = trained_from_a_folder(small, tmp_path / "trial", delta)
    layers, others = layers_moved(trial, "audio_encoder.speech.encoder", encoder.state_dict())
    assert layers == expected and not others
