"""Files and habits from public bug reports: each has its right value, and none is silent.

The letters are kinds of faults; one function mends each kind, wherever it occurs.
"""

import ast
import copy
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import ROOT

from merhan.corpora import read_corpus, read_sentences
from merhan.evaluation import evaluate_model
from merhan.exchange import export_corpus
from merhan.features import load_wave
from merhan.folds import folds, shared_speakers
from merhan.layout import Place
from merhan.manifest import manifest
from merhan.model import MERHAN
from merhan.recordings import audio_fault
from merhan.resolve import tiny_turns
from merhan.slots import SLOTS
from merhan.tables import read_table
from merhan.utterances import READERS, protocol

RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


def wav(path, samples=NOISE, **options):
    soundfile.write(path, samples, RATE, **options)
    return path.read_bytes()


def with_sizes(content, riff, data):
    return content[:4] + struct.pack("<I", riff) + content[8:40] + struct.pack("<I", data) + content[44:]


def listed(folder, rows, header="utterance,audio,text,emotion,speaker", encoding="utf-8", name="manifest.csv"):
    "A manifest in a folder; its reading, every label a class."
    content = "\n".join([header, *rows]) + "\n"
    (folder / name).write_bytes(content.encode(encoding) if isinstance(encoding, str) else encoding(content))
    return manifest(folder / name)


# A. A header is no judge of a recording


@pytest.mark.parametrize("riff, data", [
    (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFFF - 36), (0x7FFFF024, 0x7FFFF000), (0, 0)])  # fmt: skip
def test_a_wav_from_a_pipe_is_whole(tmp_path, riff, data):
    (tmp_path / "pipe.wav").write_bytes(with_sizes(wav(tmp_path / "whole.wav"), riff, data))
    assert listed(tmp_path, ["a,pipe.wav,Oh,x,1"]).utterances[0].seconds == 1
    assert torch.equal(load_wave(tmp_path / "pipe.wav"), load_wave(tmp_path / "whole.wav"))


def test_one_broken_file_is_one_row(tmp_path):
    wav(tmp_path / "good.wav")
    (tmp_path / "broken.mp3").write_bytes(b"ID3\x04\x00\x00\x00\x00\x00\x00" + b"\xff\xfb\x90\x64" + bytes(40))
    (tmp_path / "huge.au").write_bytes(b".snd" + struct.pack(">5I", 24, 0xFFFFFFFE, 27, 0x7FFFFFFF, 1) + bytes(9))
    found = listed(tmp_path, ["a,good.wav,Oh,x,1", "b,broken.mp3,Oh,x,1", "c,huge.au,Oh,x,1"])
    assert [u.utterance for u in found.utterances] == ["a"]
    assert ["broken.mp3" in found.set_aside[0].reason, "huge.au" in found.set_aside[1].reason] == [True, True]


@pytest.mark.parametrize("change, reason", [
    (lambda content: content[: len(content) // 2], "truncated"),
    (lambda content: with_sizes(content, 8036, 8000), "24000 bytes more than the 8000")])  # fmt: skip
def test_readers_features_and_predictions_judge_alike(tmp_path, change, reason):
    (tmp_path / "cut.wav").write_bytes(change(wav(tmp_path / "whole.wav")))
    found = listed(tmp_path, ["a,cut.wav,Oh,x,1", "b,whole.wav,Oh,x,1"])
    assert reason in found.set_aside[0].reason
    with pytest.raises(ValueError, match=reason):
        load_wave(tmp_path / "cut.wav")


@pytest.mark.parametrize("suffix", ["wav", "aiff", "caf", "flac", "ogg", "mp3"])
def test_two_recordings_in_one_file_are_not_read_as_one(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert audio_fault(tmp_path / f"a.{suffix}")[0] is None
    (tmp_path / f"a.{suffix}").write_bytes(content + content)
    assert "followed by another one" in audio_fault(tmp_path / f"a.{suffix}")[0]


@pytest.mark.parametrize("behind", [b"\n", bytes(1000), b"TAG" + bytes(125), b"ID3\4\0\0\0\0\x20\0" + bytes(4096)])
def test_what_stands_behind_an_mp3_is_no_sound(tmp_path, behind):
    soundfile.write(tmp_path / "a.mp3", np.random.default_rng(0).normal(0, 0.1, 48000), 16000)
    with open(tmp_path / "a.mp3", "ab") as file:
        file.write(behind)
    assert abs(len(load_wave(tmp_path / "a.mp3")) - 48000) < 2000


def test_an_mp3_without_its_first_frame_is_read_to_its_end(tmp_path):
    soft = np.concatenate([np.random.default_rng(0).normal(0, 0.3, 16000), np.zeros(64000)])
    soundfile.write(tmp_path / "a.mp3", soft, 16000, bitrate_mode="VARIABLE", compression_level=0.3)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[288:])
    assert abs(len(load_wave(tmp_path / "a.mp3")) - 80000) < 3000
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated"):
        load_wave(tmp_path / "a.mp3")


def test_what_telephones_and_browsers_record(tmp_path):
    av = pytest.importorskip("av")
    for name, codec in (("phone.m4a", "aac"), ("browser.webm", "libopus")):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.repeat(NOISE, 3)[None], "fltp", "mono")
            frame.sample_rate = 48000
            size = stream.codec_context.frame_size or 960
            plain = av.AudioResampler(stream.format.name, "mono", 48000, frame_size=size)
            for part in [*plain.resample(frame), *plain.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        assert abs(len(load_wave(tmp_path / name)) - RATE) < 1500


@pytest.mark.parametrize("rate", [1, 100, 2**31 - 1])
def test_no_rate_of_a_header_costs_anything(tmp_path, rate):
    content = bytearray(wav(tmp_path / "a.wav"))
    content[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(content)
    fault, _ = audio_fault(tmp_path / "a.wav")
    assert f"sample rate of {rate} Hz" in fault


@pytest.mark.parametrize("rate", [7919, 44099, 352799])
def test_a_rate_that_divides_nothing(tmp_path, rate):
    soundfile.write(tmp_path / "odd.wav", np.tile(NOISE, 23)[:rate], rate)
    assert abs(len(load_wave(tmp_path / "odd.wav")) - RATE) <= 1


# B. Numbers are finite


def small_model(classes=4, **parts):
    torch.manual_seed(0)
    return MERHAN(4, None, 8, classes, text_states_dim=4, **parts).eval()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    broken = NOISE.copy()
    broken[7] = value
    wav(tmp_path / "broken.wav", broken, subtype="FLOAT")
    wav(tmp_path / "good.wav")
    assert "not finite" in listed(tmp_path, ["a,broken.wav,Oh,x,1", "b,good.wav,Oh,x,1"]).set_aside[0].reason
    with pytest.raises(ValueError, match="broken.wav: .*not finite"):
        load_wave(tmp_path / "broken.wav")


def test_samples_beyond_the_full_scale(tmp_path):
    wav(tmp_path / "loud.wav", 32768 * NOISE, subtype="FLOAT")
    found = listed(tmp_path, ["a,loud.wav,Oh,x,1"])
    assert "samples reach" in found.notes[0] and len(found.utterances) == 1
    with pytest.warns(UserWarning, match=r"loud.wav: its samples reach \d\.\d+e\+04"):
        load_wave(tmp_path / "loud.wav")


def test_a_network_that_is_lost_has_no_score():
    model, batch = small_model(2), tiny_turns().batch(range(4))
    with torch.no_grad():
        model.classifier.classifier[3].bias[1] = math.nan
    with pytest.raises(ValueError, match="output for turn a is not finite"):
        evaluate_model(model, [batch])


# C. The structure of a CSV


@pytest.mark.parametrize("header, row, encoding", [
    ("utterance;audio;text;emotion;speaker", "a;a.wav;Oh, no;x;1", "utf-8"),
    ("utterance\taudio\ttext\temotion\tspeaker", 'a\ta.wav\tOh, "no\tx\t1', "utf-8"),
    ("sep=,\nutterance,audio,text,emotion,speaker", 'a,a.wav,"Oh, no",x,1', "utf-8"),
    ("utterance,audio,text,emotion,speaker", 'a,a.wav,"Oh, no",x,1', "utf-16"),
    ("utterance, audio,Text,EMOTION , speaker", 'a, a.wav ,"Oh, no",x,1', "utf-8-sig")])  # fmt: skip
def test_spreadsheets(tmp_path, header, row, encoding):
    wav(tmp_path / "a.wav")
    found = listed(tmp_path, [row], header, encoding)
    assert found.utterances[0].text.replace('"', "") == "Oh, no"


@pytest.mark.parametrize("rows", [10, 20_000])
def test_a_quotation_mark_that_is_not_closed(tmp_path, rows):
    content = ["utterance,audio,text,emotion,speaker"] + [f"u{i},a.wav,Oh,x,1" for i in range(rows)]
    content[3] = 'u2,a.wav,"Oh,x,1'
    (tmp_path / "m.csv").write_text("\n".join(content))
    with pytest.raises(ValueError, match="m.csv, line 4: .*quotation mark"):
        manifest(tmp_path / "m.csv")


def test_two_columns_of_one_name(tmp_path):
    with pytest.raises(ValueError, match="two columns named 'text'"):
        listed(tmp_path, ["a,a.wav,Oh,Ah,x,1"], "utterance,audio,text,Text,emotion,speaker")


# D. Encodings


def test_one_byte_of_windows_changes_one_line(tmp_path):
    for name in "ab":
        wav(tmp_path / f"{name}.wav", NOISE[:: 1 if name == "a" else -1])
    mixed = lambda content: content.encode().replace("Grüße!".encode(), "Grüße!".encode("cp1252"))
    found = listed(tmp_path, ["a,a.wav,Schöne Grüße,x,1", "b,b.wav,Grüße!,x,1"], encoding=mixed)
    assert [u.text for u in found.utterances] == ["Schöne Grüße", "Grüße!"]
    assert "Windows-1252" in found.notes[0]


@pytest.mark.parametrize("encoding, words", [
    ("shift_jis", "こんにちは"), ("gbk", "你好世界"), ("mac_roman", "Schöne Grüße"), ("latin2", "żółty ślad"),
    ("cp1251", "привет")])  # fmt: skip
def test_mojibake_is_no_text(tmp_path, encoding, words):
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav", NOISE[::-1])
    rows = [f"a,a.wav,{words},x,1", "b,b.wav,plain,x,1"]
    found = listed(tmp_path, rows, encoding=encoding)
    assert [u.text for u in found.utterances] == ["plain"] and "encoding" in found.set_aside[0].reason
    assert "name the encoding" in found.notes[0]
    named = manifest(tmp_path / "manifest.csv", encoding=encoding)
    assert [u.text for u in named.utterances] == [words, "plain"]


def test_control_characters_mean_apostrophes(tmp_path):
    wav(tmp_path / "a.wav")
    assert listed(tmp_path, ["a,a.wav,I\u0092m fine,x,1"]).utterances[0].text == "I’m fine"


SENTENCES = "text,label\nGrüße,ang\n".encode("cp1252"), "text;label\nGrüße;ang\n".encode()


@pytest.mark.parametrize("content", SENTENCES)
def test_sentences_for_adaptation_are_read_as_a_manifest(tmp_path, content):
    (tmp_path / "s.csv").write_bytes(content)
    table, _ = read_sentences(dict(reader="csv", path=str(tmp_path / "s.csv")), [], ["ang", "hap"])
    assert table.values.tolist() == [["Grüße", "ang"]]


# E. Words that look like nothing


@pytest.mark.parametrize("words", ["NA", "None", "null", "nan", "n/a", "-", "0"])
def test_they_are_sentences(tmp_path, words):
    wav(tmp_path / "a.wav")
    found = listed(tmp_path, [f"a,a.wav,{words},x,1"])
    assert found.utterances[0].text == words
    (tmp_path / "s.csv").write_text(f"text,label\n{words},ang\n")
    table, _ = read_sentences(dict(reader="csv", path=str(tmp_path / "s.csv")), [], ["ang", "hap"])
    assert table.text.tolist() == [words]
    out = export_corpus(found, tmp_path / "out", "manifest")
    assert manifest(out).utterances[0].text == words


# F. Names


@pytest.mark.parametrize("on_disk, in_row", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_written_in_two_ways(tmp_path, on_disk, in_row):
    wav(tmp_path / unicodedata.normalize(on_disk, "ärger.WAV"))
    name = unicodedata.normalize(in_row, "ärger.wav")
    assert len(listed(tmp_path, [f"a,{name},Oh,x,1"]).utterances) == 1


def test_labels_are_words():
    assert protocol([0, 1]) == {"0": "0", "1": "1"}
    with pytest.raises(ValueError, match="quote it"):
        protocol([True, False])  # what YAML makes of [yes, no]


def test_a_copy_of_a_session_is_no_session(tmp_path):
    (tmp_path / "Session1 - Copy/dialog/EmoEvaluation").mkdir(parents=True)
    with pytest.raises(ValueError, match="no Session"):
        READERS["iemocap"](tmp_path)


# G. Uniqueness, for all readers


def test_a_session_that_is_there_twice(tmp_path):
    for number, name in enumerate(("Session1", "Session01")):
        scene, folder = "Ses01F_impro01", tmp_path / name
        for part in ("dialog/EmoEvaluation", "dialog/transcriptions", f"sentences/wav/{scene}"):
            (folder / part).mkdir(parents=True)
        line = f"[1.0 - 2.0]\t{scene}_F000\tneu\t[2.5, 2.5, 2.5]\n"
        (folder / f"dialog/EmoEvaluation/{scene}.txt").write_text(line)
        (folder / f"dialog/transcriptions/{scene}.txt").write_text(f"{scene}_F000 [1.0-2.0]: Well.\n")
        wav(folder / f"sentences/wav/{scene}/{scene}_F000.wav", NOISE[:: 1 - 2 * number])
    found = READERS["iemocap"](tmp_path)
    assert len(found.utterances) == 1 and "twice" in found.set_aside[0].reason and found.rows == 2


def test_no_recording_is_used_twice_and_none_from_elsewhere(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    wav(folder / "a.wav")
    wav(folder / "b.wav")
    wav(tmp_path / "outside.wav", NOISE[::-1])
    (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    rows = ["a,a.wav,Oh,x,1", "b,b.wav,Oh,x,1", "c,../outside.wav,Oh,x,1", "d,link.wav,Oh,x,1"]
    found = listed(folder, rows)
    assert [u.utterance for u in found.utterances] == ["a"]
    assert ["same samples" in s.reason for s in found.set_aside] == [True, False, False]
    assert len(manifest(folder / "manifest.csv", within=tmp_path).utterances) == 2


# H. The model's inputs


FRAMES, STATES = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
MASK, LENGTHS = torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.tensor([5, 3])


@pytest.mark.parametrize("given, message", [
    (dict(audio_lengths=torch.tensor([1.0, 0.5])), "relative lengths"),
    (dict(audio_lengths=torch.tensor([6, 3])), "longer than the 5 frames"),
    (dict(audio_lengths=torch.tensor([5, 0])), "no real frame"),
    (dict(attention_mask=torch.tensor([[0.0, 0, 0], [0, 0, -1e9]])), "means the opposite"),
    (dict(attention_mask=torch.tensor([[0, 0, 0], [0, 0, -(10**9)]])), "other numbers than 0 and 1"),
    (dict(attention_mask=MASK[:, :2]), "attention_mask has the shape"),
    (dict(text_states=STATES[:1]), "differ in their number of turns"),
    (dict(audio_features=FRAMES.numpy()), "should be a tensor")])  # fmt: skip
def test_what_is_not_meant_is_refused(given, message):
    inputs = dict(audio_features=FRAMES, attention_mask=MASK, audio_lengths=LENGTHS, text_states=STATES) | given
    with pytest.raises(ValueError, match=message):
        small_model()(**inputs)


def test_lengths_may_be_a_list_and_a_batch_of_none_is_told():
    model = small_model()
    whole = model(FRAMES, None, MASK, LENGTHS, STATES)[0]
    assert torch.equal(model(FRAMES, None, MASK, [5, 3], STATES)[0], whole)
    with pytest.raises(ValueError, match="a batch of no turns"):
        model(FRAMES[:0], None, MASK[:0], LENGTHS[:0], STATES[:0])


# I. What is carried


@pytest.mark.parametrize("fusion", sorted(SLOTS["fusion"]))
def test_a_model_can_be_copied_and_saved(fusion):
    model = small_model(fusion=SLOTS["fusion"].build({fusion: SLOTS["fusion"].arguments(fusion, {})})).train()
    torch.save(model, io.BytesIO())
    again = pickle.loads(pickle.dumps(model)).eval()  # noqa: S301 (our own bytes)
    given = FRAMES, None, MASK, LENGTHS, STATES
    assert torch.equal(again(*given)[0], model.eval()(*given)[0])
    assert torch.equal(copy.deepcopy(model)(*given)[0], model(*given)[0])


@pytest.mark.parametrize("fusion", sorted(SLOTS["fusion"]))
def test_an_exported_model_takes_other_lengths(fusion):
    model = small_model(fusion=SLOTS["fusion"].build({fusion: SLOTS["fusion"].arguments(fusion, {})}))

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, frames, mask, lengths, states):
            return self.model(frames, None, mask, lengths, states, need_weights=False)[0]

    batch, frame, token = (torch.export.Dim(name, min=2, max=99) for name in ("batch", "frame", "token"))
    axes = ({0: batch, 1: frame}, {0: batch, 1: token}, {0: batch}, {0: batch, 1: token})
    program = torch.export.export(Logits(), (FRAMES, MASK, LENGTHS, STATES), dynamic_shapes=axes).module()
    other = torch.randn(3, 9, 4), torch.ones(3, 7).long(), torch.tensor([9, 8, 2]), torch.randn(3, 7, 4)
    assert torch.allclose(program(*other), Logits()(*other), atol=1e-5)


# J. Metrics know all classes


def test_a_class_without_a_turn_keeps_its_row():
    batch = tiny_turns().batch(range(4))
    batch.label = torch.tensor([0, 1, 3, 3])
    found = evaluate_model(small_model(), [batch])
    assert np.shape(found["confusion_matrix"]) == (4, 4) and not any(found["confusion_matrix"][2])
    assert {"0", "1", "2", "3"} <= found["classification_report"].keys()


# K. Early, and by name


def test_a_fold_with_one_class_is_refused_in_prepare():
    rows = [(f"u{s}{n}", f"s{s}", str(s), "ang" if s < 4 else "hap") for s in range(1, 5) for n in range(3)]
    with pytest.raises(ValueError, match="training side of fold"):
        folds(pd.DataFrame(rows, columns=["utterance", "speaker", "session", "emotion"]))


@pytest.mark.parametrize("name", ["mein korpus", "demo2;touch x", "../demo", "", "a-b"])
def test_a_corpus_has_a_name_for_files_and_shells(name):
    with pytest.raises(ValueError, match="cannot be called"):
        Place(name)


def test_sides_that_share_speakers_say_so(tmp_path):
    rows = [(f"u{i}", "ann" if i % 2 else "ben", str(i % 2), "ang" if i % 3 else "hap", side)
            for i, side in enumerate(["train"] * 6 + ["dev"] * 3 + ["test"] * 3)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["utterance", "speaker", "session", "emotion", "split"])
    made = folds(table, "official", 2)
    assert len(made) == 2 and made[0].test == ("u10", "u11", "u9")
    assert shared_speakers(table, made[0]) == dict(validation=(2, 2), test=(2, 2))


def test_a_header_of_many_columns_costs_what_it_is_long(tmp_path):
    names = ["audio", *(f"c{number}" for number in range(100_000))]
    (tmp_path / "wide.csv").write_text(",".join(names) + "\n")
    assert read_table(tmp_path / "wide.csv", ("audio",)).columns == names
    (tmp_path / "wide.csv").write_text(",".join([*names, "Audio"]) + "\n")
    with pytest.raises(ValueError, match="two columns named 'audio'"):
        read_table(tmp_path / "wide.csv", ("audio",))


def test_metadata_that_would_not_be_read_are_named(tmp_path):
    wav(tmp_path / "a.wav")
    row = dict(file_name="a.wav", emotion="sad", speaker="ann")
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + '\n{"file_name": "a.wav", "emotion": 1, "emotion": 2}\n')
    found = READERS["audiofolder"](tmp_path)
    assert [u.emotion for u in found.utterances] == ["sad"] and "stands there twice" in found.set_aside[0].reason
    for other in ("metadata.csv", "data/train/metadata.jsonl", "metadata.parquet"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("file_name,emotion,speaker\n")
        with pytest.raises(ValueError, match="is not read"):
            READERS["audiofolder"](tmp_path)
        (tmp_path / other).unlink()


# L. Surroundings


def command(*words, cwd=ROOT, **environment):
    "A command of merhan in other surroundings."
    program = Path(sys.executable).parent / "merhan"
    given = os.environ | {name: str(value) for name, value in environment.items()}
    return subprocess.run([program, *words], cwd=cwd, capture_output=True, env=given)


def test_outside_the_repository(tmp_path):
    done = command("pins", "--corpus", "demo", cwd=tmp_path)
    assert done.returncode == 1 and b"from the root of the repository" in done.stderr


def test_a_home_that_cannot_be_written_and_a_terminal_of_ascii(tmp_path):
    done = command("run", "nothing", HOME="/nowhere")
    assert b"Traceback" not in done.stderr
    script = tmp_path / "greet.py"
    script.write_text("from merhan.environment import surround\nsurround()\nprint('Schöne Grüße 🙂')\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", script], capture_output=True, cwd=ROOT,
        env=os.environ | dict(LC_ALL="C", PYTHONIOENCODING="ascii", HOME="/nowhere"))  # fmt: skip
    assert done.returncode == 0 and b"Sch\\xf6ne" in done.stdout, done.stderr


def test_parameters_with_umlauts_in_a_plain_locale(tmp_path):
    (tmp_path / "params.yaml").write_text("corpus: {name: demo, caveat: Schöne Grüße}\n", "utf-8")
    script = "from merhan.layout import read_yaml; print(len(read_yaml('params.yaml')['corpus']['caveat']))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", script], capture_output=True, cwd=tmp_path,
        env=os.environ | dict(LC_ALL="C", PYTHONPATH=str(ROOT), PYTHONCOERCECLOCALE="0"))  # fmt: skip
    assert done.stdout.strip() == b"12", done.stderr


def without_encoding(node):
    "Whether a call opens text in the encoding of the place where it happens."
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    words = [a.value for a in node.args if isinstance(a, ast.Constant)]
    named = {k.arg for k in node.keywords}
    if name in ("read_text", "write_text"):
        return "utf-8" not in words and "encoding" not in named
    if name == "open" and isinstance(node.func, ast.Name):
        return "encoding" not in named and not any("b" in str(word) for word in words[-1:])
    return "text" in named and "encoding" not in named and name in ("run", "Popen", "check_output")


@pytest.mark.parametrize("path", sorted((ROOT / "merhan").glob("*.py")), ids=lambda path: path.stem)
def test_no_text_is_opened_in_the_encoding_of_the_place(path):
    lines = [node.lineno for node in ast.walk(ast.parse(path.read_text("utf-8"))) if without_encoding(node)]
    assert not lines, f"{path.name}: lines {lines}"


@pytest.mark.parametrize("words", [
    ("predict", "nowhere.wav", "--text", os.fsdecode(b"Gr\xfc\xdfe")), ("check", "--corpus", "demo2;touch x"),
    ("compare", "a", "b", "--corpus", "mein korpus")])  # fmt: skip
def test_what_cannot_be_done_is_told_in_a_line(words):
    done = command(*words)
    assert done.returncode and b"Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) < 3


def test_a_reader_that_has_had_enough():
    program = Path(sys.executable).parent / "merhan"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} requirements | head -c 1"], cwd=ROOT, capture_output=True)
    assert b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr


# M. What is left out is said


def test_words_that_are_not_read():
    read = SLOTS["text"].build({"frozen": dict(model_name="minilm", max_tokens=16)})
    assert read.left_out("Plain words.") == []
    told = read.left_out("🙂 " + "and " * 5000)
    assert "only the first 16" in told[0] and "🙂" in told[1]


def test_every_corpus_of_the_repository_has_its_caveat():
    from merhan.params import known_corpora, read_params

    for name in known_corpora():
        assert read_params(name)["corpus"].get("caveat"), name


# What a second reader found


def test_the_second_row_is_used_if_the_first_cannot_be(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    wav(tmp_path / "a.wav")
    found = listed(tmp_path, ["a,a.mp3,Oh,x,1", "a,a.wav,Oh,x,1", "a,a.wav,Oh,x,1"])
    assert [u.audio[-5:] for u in found.utterances] == ["a.wav"]
    assert "git lfs pull" in found.set_aside[0].reason and "twice" in found.set_aside[1].reason


def test_a_row_that_lost_a_quotation_mark_is_no_other_label(tmp_path):
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav", NOISE[::-1])
    header = "utterance,audio,text,emotion,speaker,session"
    found = listed(tmp_path, ["a,a.wav,Oh, no,hap,ann,", "b,b.wav,Oh,hap,ann,1"], header)
    assert [u.utterance for u in found.utterances] == ["b"] and "number of fields" in found.set_aside[0].reason


@pytest.mark.parametrize("audio", ["x" * 300 + ".wav", "loop.wav"])
def test_a_path_that_no_system_has_is_one_row(tmp_path, audio):
    wav(tmp_path / "a.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    assert len(listed(tmp_path, [f"a,{audio},Oh,x,1", "b,a.wav,Oh,x,1"]).set_aside) == 1


def test_a_name_that_is_no_text_can_be_written_down(tmp_path):
    (tmp_path / os.fsdecode(b"gr\xfc_x.wav")).write_bytes(b"no sound")
    wav(tmp_path / "ann_x.wav")
    found = READERS["folder"](tmp_path, pattern=r"(?P<speaker>[^_]+)_(?P<emotion>\w)$")
    found.aside().to_csv(tmp_path / "aside.csv", encoding="utf-8")
    assert len(found.utterances) == 1 and len(found.set_aside) == 1


@pytest.mark.parametrize("name, options", [
    ("manifest", dict(separator="::")), ("manifest", dict(encoding=8)), ("folder", {}), ("folder", dict(pattern=5)),
    ("iemocap", dict(sessions=[[1]])), ("msp_podcast", dict(test=["Test1"]))])  # fmt: skip
def test_options_of_another_kind_are_refused(tmp_path, name, options):
    (tmp_path / "Session1/dialog/EmoEvaluation").mkdir(parents=True)
    (tmp_path / "manifest.csv").write_text("utterance,audio,emotion,speaker\na,a.wav,x,1\n")
    (tmp_path / "labels_consensus.csv").write_text("FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Split_Set\n")
    wav(tmp_path / "a.wav")
    with pytest.raises(ValueError):
        READERS[name](tmp_path, **options)


def test_votes_stay_with_their_turn(tmp_path):
    from merhan.iemocap import read_evaluation

    name = "Ses01F_impro01"
    line = "[1.0 - 2.0]\t{}_{}\tneu\t[2.5, 2.5, 2.5]\n"
    block = line.format(name, "F000") + "C-E2:\tAnger;\t()\n\nC-E3:\tSadness;\t()\n " + line.format(name, "F001")
    (tmp_path / "x.txt").write_text(block + "C-E2:\tSadness;\t()\n")
    rows, _ = read_evaluation(tmp_path / "x.txt")
    assert [row["votes"] for row in rows] == [dict(ang=1), dict(sad=1)]


def test_sides_and_sexes_have_one_spelling(tmp_path):
    for name in "abc":
        wav(tmp_path / f"{name}.wav", np.roll(NOISE, ord(name)))
    rows = ["a,a.wav,Oh,x,1,Validation,female", "b,b.wav,Oh,x,1,TRAIN,M", "c,c.wav,Oh,x,1,holdout,?"]
    found = listed(tmp_path, rows, "utterance,audio,text,emotion,speaker,split,sex")
    assert [(u.split, u.sex) for u in found.utterances] == [("dev", "F"), ("train", "M")]
    assert "side 'holdout'" in found.set_aside[0].reason


@pytest.mark.parametrize("rating, value", [("2,5", 2.5), ("inf", None), ("1_0", None), ("nan", None)])
def test_ratings_are_finite_numbers(tmp_path, rating, value):
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav", NOISE[::-1])
    rows = [f"a;a.wav;Oh;x;1;{rating}", "b;b.wav;Oh;x;1;"]
    found = listed(tmp_path, rows, "utterance;audio;text;emotion;speaker;valence")
    assert found.utterances[0].valence == value
    assert bool(found.set_aside) == (value is None)


def test_a_class_that_no_row_has_is_told(tmp_path):
    wav(tmp_path / "a.wav")
    listed(tmp_path, ["a,a.wav,Oh,hap,1"])
    found = manifest(tmp_path, classes=["hap", "hapy"])
    assert found.notes == ["no row has the label 'hapy', which the protocol names"]


@pytest.mark.parametrize("format", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_recording_that_was_cut_is_no_shorter_recording(tmp_path, format, share):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.tile(NOISE, 3), RATE, format=format)
    (tmp_path / "x").write_bytes(buffer.getvalue())
    assert audio_fault(tmp_path / "x")[0] is None
    (tmp_path / "x").write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    assert audio_fault(tmp_path / "x")[0] is not None


# Readers are accounted for


def test_a_reader_that_is_not_told_of_anything_loses_nothing(tmp_path):
    wav(tmp_path / "a.wav")
    found = listed(tmp_path, ["a,a.wav,Oh,x,1", "b,b.wav,Oh,y,1", "a,a.wav,Oh,x,1", ",a.wav,Oh,x,1", "c,a.wav,x"])
    assert found.fates().tolist() == [5, 1, 0, 4]
    with pytest.raises(ValueError, match="nothing in .* 5 rows were read"):
        read_corpus(dict(name="own", reader="manifest", root=str(tmp_path), classes=["z"]))


def test_a_table_of_another_kind(tmp_path):
    (tmp_path / "x.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(ValueError, match="no text file"):
        read_table(tmp_path / "x.csv", ["a"])
