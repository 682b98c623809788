"A model written literally as in the specification loads strictly into MERHAN, and their arithmetic agrees."

import inspect

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import AutoModel, DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast


class LocalAttention(nn.Module):
    def __init__(self, input_dim, hidden_dim):
        super().__init__()
        self.query = nn.Linear(input_dim, hidden_dim)
        self.key = nn.Linear(input_dim, hidden_dim)
        self.value = nn.Linear(input_dim, hidden_dim)
        self.scale = torch.sqrt(torch.FloatTensor([hidden_dim]))

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        attention = F.softmax(torch.matmul(q, k.permute(0, 2, 1)) / self.scale.to(x.device), dim=-1)
        return torch.matmul(attention, v), attention


class AudioEncoder(nn.Module):
    def __init__(self, input_dim, hidden_dim, num_layers=2, dropout=0.1):
        super().__init__()
        self.feature_layers = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(input_dim if i == 0 else hidden_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout)
                )
                for i in range(num_layers)
            ]
        )
        self.local_attention = LocalAttention(hidden_dim, hidden_dim)
        self.projection = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x):
        for layer in self.feature_layers:
            x = layer(x)
        x, weights = self.local_attention(x)
        return self.projection(x), weights


class TextEncoder(nn.Module):
    def __init__(self, model_name, hidden_dim=768, dropout=0.1):
        super().__init__()
        self.transformer = AutoModel.from_pretrained(model_name)
        self.local_attention = LocalAttention(hidden_dim, hidden_dim)
        self.projection = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids, attention_mask):
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        attended, weights = self.local_attention(hidden)
        return self.dropout(self.projection(attended)), weights


class CrossModalAttention(nn.Module):
    def __init__(self, hidden_dim):
        super().__init__()
        for name in ("audio_query", "text_key", "text_value", "text_query", "audio_key", "audio_value"):
            setattr(self, name, nn.Linear(hidden_dim, hidden_dim))
        self.scale = torch.sqrt(torch.FloatTensor([hidden_dim]))

    def forward(self, audio, text):
        a2t = F.softmax(
            torch.matmul(self.audio_query(audio), self.text_key(text).permute(0, 2, 1)) / self.scale, dim=-1
        )
        t2a = F.softmax(
            torch.matmul(self.text_query(text), self.audio_key(audio).permute(0, 2, 1)) / self.scale, dim=-1
        )
        return torch.matmul(a2t, self.text_value(text)), torch.matmul(t2a, self.audio_value(audio)), a2t, t2a


class GlobalInterModalAttention(nn.Module):
    def __init__(self, hidden_dim):
        super().__init__()
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key = nn.Linear(hidden_dim, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.scale = torch.sqrt(torch.FloatTensor([hidden_dim]))

    def forward(self, audio, text):
        x = torch.cat([audio, text], dim=1)
        attention = F.softmax(torch.matmul(self.query(x), self.key(x).permute(0, 2, 1)) / self.scale, dim=-1)
        return torch.matmul(attention, self.value(x)), attention


class EmotionClassifier(nn.Module):
    def __init__(self, input_dim, hidden_dim, num_classes, dropout=0.3):
        super().__init__()
        self.classifier = nn.Sequential(
            nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, num_classes)
        )

    def forward(self, x):
        return self.classifier(x)


class Literal(nn.Module):
    def __init__(
        self,
        audio_input_dim=40,
        text_model_name="distilbert-base-uncased",
        hidden_dim=768,
        num_classes=7,
        dropout=0.3,
    ):
        super().__init__()
        self.audio_encoder = AudioEncoder(audio_input_dim, hidden_dim, dropout=dropout)
        self.text_encoder = TextEncoder(text_model_name, hidden_dim, dropout)
        self.cross_modal_attention = CrossModalAttention(hidden_dim)
        self.global_attention = GlobalInterModalAttention(hidden_dim)
        self.global_pool = nn.AdaptiveAvgPool1d(1)
        self.classifier = EmotionClassifier(hidden_dim, hidden_dim // 2, num_classes, dropout=dropout)

    def forward(self, audio_features, input_ids, attention_mask):
        audio, audio_local = self.audio_encoder(audio_features)
        text, text_local = self.text_encoder(input_ids, attention_mask)
        from_text, from_audio, a2t, t2a = self.cross_modal_attention(audio, text)
        fused, whole = self.global_attention(audio + from_text, text + from_audio)
        pooled = self.global_pool(fused.transpose(1, 2)).squeeze(-1)
        return self.classifier(pooled), dict(
            audio_local_attention=audio_local,
            text_local_attention=text_local,
            audio_to_text_attention=a2t,
            text_to_audio_attention=t2a,
            global_attention=whole,
        )


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory):
    "A small random DistilBERT, saved locally."
    from tokenizers import Tokenizer, models

    folder = tmp_path_factory.mktemp("distilbert")
    torch.manual_seed(0)
    DistilBertModel(DistilBertConfig(vocab_size=50, dim=24, n_layers=2, n_heads=3, hidden_dim=32)).save_pretrained(
        folder
    )
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pair(distilbert):
    "The literal model with random weights, and ours with the same."
    from merhan.model import MERHAN

    torch.manual_seed(1)
    literal = Literal(7, distilbert, 24, 5).eval()
    ours = MERHAN(7, distilbert, 24, 5).eval()
    ours.load_state_dict(literal.state_dict(), strict=True)
    return literal, ours


def inputs(batch=3, frames=11, tokens=6):
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(batch, frames, 7, generator=generator),
        torch.randint(50, (batch, tokens), generator=generator),
        torch.ones(batch, tokens, dtype=torch.long),
    )


@torch.no_grad()
def test_logits_and_all_five_maps_agree(pair):
    literal, ours = pair
    expected, maps = literal(*inputs())
    found, our_maps = ours(*inputs())
    assert torch.allclose(found, expected, atol=1e-5)
    assert our_maps.keys() == maps.keys()
    for name in maps:
        assert torch.allclose(our_maps[name], maps[name], atol=1e-5), name


def test_fused_path_agrees(pair, distilbert):
    "Outputs and gradients, by a kernel that never holds the weights: every other way is forbidden meanwhile."
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from merhan.model import MERHAN

    literal, ours = pair
    fused = MERHAN(7, distilbert, 24, 5, fused=True).eval()
    fused.load_state_dict(literal.state_dict())
    fused.text_encoder.transformer.set_attn_implementation("eager")  # only ours is looked at
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        logits, nothing = fused(*inputs(), need_weights=False)
    expected, _ = ours(*inputs())
    assert torch.allclose(logits, expected, atol=1e-6) and nothing == {}
    logits.square().sum().backward()
    expected.square().sum().backward()
    for (name, mine), theirs in zip(fused.named_parameters(), ours.parameters()):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5), name
    ours.zero_grad()


@torch.no_grad()
def test_gradient_reaches_every_parameter(distilbert):
    from merhan.model import MERHAN

    model = MERHAN(7, distilbert, 24, 5)
    with torch.enable_grad():
        model(*inputs())[0].sum().backward()
    untouched = [n for n, p in model.named_parameters() if p.grad is None]
    assert not untouched, untouched


def test_signature_is_the_specifications():
    from merhan.model import MERHAN

    given = {k: p.default for k, p in list(inspect.signature(MERHAN).parameters.items())[:5]}
    assert given == dict(
        audio_input_dim=40, text_model_name="distilbert-base-uncased", hidden_dim=768, num_classes=7, dropout=0.3
    )


NAMES = {
    "attention": [
        "LocalAttention",
        "CrossModalAttention",
        "GlobalInterModalAttention",
        "scaled_dot_product_attention",
    ],
    "encoders": ["AudioEncoder", "TextEncoder"],
    "model": ["MERHAN", "EmotionClassifier", "GatedFusion"],
    "losses": ["weighted_cross_entropy_loss"],
    "corpora": ["process_iemocap_dataset", "extract_emotion_from_evaluation", "extract_transcriptions"],
    "features": ["extract_audio_features"],
    "data": ["IEMOCAPDataset", "get_iemocap_dataloader"],
    "training": ["Trainer", "train_merhan"],
    "evaluation": ["evaluate_model"],
}


@pytest.mark.parametrize("module", NAMES)
def test_names_of_the_specification(module):
    import importlib

    for name in NAMES[module]:
        assert hasattr(importlib.import_module(f"merhan.{module}"), name), name


def test_a_hub_name_out_of_reach_says_what_to_do(monkeypatch):
    from merhan.encoders import TextEncoder

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="save_pretrained.*or use 'minilm'"):
        TextEncoder("some-lab/some-model-that-is-not-here")


def test_train_merhan_runs_on_a_processed_folder(tmp_path, demo, distilbert):
    "The specification's own road: process, load, train, evaluate."
    from merhan.data import get_iemocap_dataloader
    from merhan.evaluation import evaluate_model
    from merhan.training import train_merhan

    table = demo.table().groupby(["session", "emotion"]).head(1)
    table = table.rename(columns=dict(utterance="utterance_id", audio="audio_path")).assign(
        split=lambda t: t.session.map({"4": "val", "5": "test"}).fillna("train")
    )
    table.to_csv(tmp_path / "utterances.csv", index=False)
    model, history = train_merhan(
        tmp_path, hidden_dim=24, num_classes=4, batch_size=4, num_epochs=2, device="cpu", text_model_name=distilbert
    )
    assert len(history) == 2
    scores = evaluate_model(model, get_iemocap_dataloader(tmp_path, 4, "test", text_model_name=distilbert))
    assert set(scores) == {"accuracy", "f1_score", "classification_report", "confusion_matrix"}
