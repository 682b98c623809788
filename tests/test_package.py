"A package is what it says: it moves, it is whole, it answers whatever it is given; a student never met its test side."

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, workplace

MERHAN = Path(sys.executable).parent / "merhan"
PACKED = ROOT / "work/demo/package"
ASK = """
import json, sys
from merhan.features import load_wave
from merhan.package import Package, ask
answer = ask(Package.from_pretrained(sys.argv[1]), load_wave(sys.argv[2]), sys.argv[3])
print(json.dumps(answer.probability.to_dict()))
"""


@pytest.fixture(scope="module")
def clip():
    return sorted((ROOT / "data/demo").rglob("*.ogg"))[0]


def merhan(*words, cwd, stdin=None):
    return subprocess.run([MERHAN, *map(str, words)], cwd=cwd, capture_output=True, input=stdin)


def encoded(path, samples, codec, rate):
    "A recording as a phone or a browser writes it."
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        resampler = av.AudioResampler(stream.format.name, "mono", rate)
        frame = av.AudioFrame.from_ndarray(samples[None].astype("f4"), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for part in resampler.resample(frame) + resampler.resample(None):
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def test_the_packages_of_the_repository_are_here():
    for corpus in ("demo", "emodb_goemotions"):
        folder = ROOT / f"work/{corpus}/package"
        assert (folder / "config.json").is_file(), "`make install` fetches it"
        assert "must not be used for" in (folder / "README.md").read_text("utf-8")


def test_nothing_in_a_package_is_a_pickle():
    from safetensors import safe_open

    for path in PACKED.rglob("*"):
        assert path.suffix in (".json", ".md", ".safetensors"), path
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                assert file.keys()


def test_a_package_moves(tmp_path, clip):
    "Another folder, another process, no repository: the same probabilities."
    shutil.copytree(PACKED, tmp_path / "elsewhere")
    told = [
        subprocess.run([sys.executable, "-c", ASK, folder, clip, words], cwd=cwd, capture_output=True, text=True)
        for folder, cwd, words in ((PACKED, ROOT, "Well."), (tmp_path / "elsewhere", tmp_path, "Well."))
    ]
    assert told[0].returncode == 0, told[0].stderr
    assert told[0].stdout == told[1].stdout and abs(sum(json.loads(told[0].stdout).values()) - 1) < 1e-4


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "familiarity.safetensors", "README.md"])
def test_a_damaged_package_is_refused(tmp_path, name):
    from merhan.package import Package

    shutil.copytree(PACKED, tmp_path / "damaged")
    content = bytearray((tmp_path / "damaged" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged" / name).write_bytes(content)
    with pytest.raises(ValueError, match="is not what was packed"):
        Package(tmp_path / "damaged")


def test_whatever_somebody_has_is_answered_or_told_why_not(tmp_path, clip):
    "Without a repository: a phone's m4a, a browser's webm, a folder, a table, an empty file, a text file."
    samples, rate = soundfile.read(clip, dtype="float32")
    assert rate == 16000
    encoded(tmp_path / "phone.m4a", samples, "aac", 44100)
    encoded(tmp_path / "browser.webm", samples, "libopus", 48000)
    (tmp_path / "folder").mkdir()
    soundfile.write(tmp_path / "folder/a.wav", samples, 16000)
    (tmp_path / "list.csv").write_text("audio;text\nfolder/a.wav;What is it?\n")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "words.txt").write_text("no sound")
    given = "phone.m4a", "browser.webm", "folder", "list.csv", "empty.wav", "words.txt"
    done = merhan("predict", *given, "--model", PACKED, "--json", cwd=tmp_path)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    phone, browser, folder, table, empty, words = json.loads(done.stdout)
    for row in (phone, browser, folder, table):
        assert not row["fault"] and abs(sum(row["probability"].values()) - 1) < 1e-3
    assert phone["words_are"] == "heard" or phone["words_are"] == "doubted"
    assert (table["words_are"], table["words"]) == ("given", "What is it?")
    assert empty["fault"] == "recording is empty (0 bytes)" and "cannot be read" in words["fault"]
    assert len(done.stderr.decode().strip().splitlines()) == 2


def test_what_comes_in_by_the_standard_input(tmp_path, clip):
    done = merhan("predict", "-", "--model", PACKED, "--words", "none", "--csv", cwd=tmp_path, stdin=clip.read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"recording,fault,seconds,answer") and b"standard input" in done.stdout
    nothing = merhan("predict", "-", "--model", PACKED, cwd=tmp_path, stdin=b"")
    assert nothing.returncode == 1 and nothing.stderr.decode().strip() == "standard input: recording is empty (0 bytes)"


def test_a_long_recording_becomes_a_timeline(tmp_path):
    from praatio import textgrid

    clips = [soundfile.read(path, dtype="float32")[0] for path in sorted((ROOT / "data/demo").rglob("*.ogg"))[:8]]
    hush = np.random.default_rng(0).normal(0, 0.001, 16000).astype("float32")
    parts = [part for clip in clips for part in (clip, hush)]
    soundfile.write(tmp_path / "long.flac", np.concatenate(parts), 16000)
    asked = "predict", "long.flac", "--model", PACKED, "--words", "none"
    done = merhan(*asked, "--timeline", "out.TextGrid", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tier = textgrid.openTextgrid(str(tmp_path / "out.TextGrid"), includeEmptyIntervals=False).getTier("emotion")
    assert 6 <= len(tier.entries) <= 12
    wrong = merhan(*asked, "--timeline", "out.doc", cwd=tmp_path)
    assert wrong.returncode and b"not as" in wrong.stderr and b"Traceback" not in wrong.stderr


def test_a_stream_is_answered_while_it_runs(tmp_path, clip):
    samples = np.concatenate([np.zeros(8000), soundfile.read(clip)[0], np.zeros(16000)])
    raw = (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()
    done = merhan("predict", "--stream", "--model", PACKED, "--words", "none", "--json", cwd=tmp_path, stdin=raw)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told and told[-1]["final"] and not told[0]["final"]


def test_planted_leaks_end_an_audit_with_one(tmp_path, clip):
    "A shared speaker and a copy fail; a shared sentence warns; a clean split passes."
    clips = sorted((ROOT / "data/demo").rglob("*.ogg"))[:6]
    for number, path in enumerate(clips):
        shutil.copy(path, tmp_path / f"{number}.ogg")
    samples, rate = soundfile.read(clips[1])
    soundfile.write(tmp_path / "copy.wav", 0.2 * samples, rate)
    head = "audio,speaker,split,text\n"
    clean = "0.ogg,a,train,Well.\n1.ogg,a,train,Oh.\n2.ogg,b,test,Yes.\n"
    splits = dict(
        clean=clean,
        sentence=clean + "3.ogg,b,test,Oh.\n",
        speaker=clean + "3.ogg,a,test,No.\n",
        same=clean + "0.ogg,c,test,No.\n".replace("0.ogg", "./0.ogg"),
        nearly=clean + "copy.wav,c,test,No.\n",
    )
    found = {}
    for name, rows in splits.items():
        (tmp_path / f"{name}.csv").write_text(head + rows)
        found[name] = merhan("audit", f"{name}.csv", cwd=tmp_path)
        assert b"Traceback" not in found[name].stderr
    assert {name: done.returncode for name, done in found.items()} == dict(
        clean=0, sentence=0, speaker=1, same=1, nearly=1
    )
    assert b"warning" in found["sentence"].stdout and b"LEAK" in found["nearly"].stdout


def test_what_a_student_learns_from_never_met_its_test_side(small, resolved, tmp_path):
    "Soft labels of a fold come from runs that were not trained on the turn, and none of which saw the test session."
    from merhan.grid import run_grid
    from merhan.folds import folds
    from merhan.layout import write_folds, write_table
    from merhan.package import Package, ask
    from merhan.features import load_wave
    from merhan.grid import gather
    from merhan.student import make_student, taught, whole_fold

    table, work = small["table"], shutil.copytree(small["work"], tmp_path / "work")
    write_folds(folds(table, seeds=2), work / "folds.json")
    place = workplace(work)
    config = resolved("baseline") | dict(seeds=2)
    trials = run_grid(config, place, dict(jobs=1), dict(device="cpu"), tmp_path / "scratch")
    sides = dict(validation="validation", predictions="test")
    tables = {what: gather(trials, table, side) for what, side in sides.items()}
    said, splits = taught(*tables.values()), place.folds()
    for fold in splits:
        learned_from = set(said[fold.fold].index)
        assert learned_from and not learned_from & set(fold.test)
        for trial in trials:
            if trial.fold.fold == fold.fold:
                assert not set(trial.fold.test) & learned_from
                assert not set(trial.fold.train) & set(trial.fold.validation)
    assert set(whole_fold(splits).train) == set(table.utterance)
    for what, rows in tables.items():
        write_table(rows, work / f"single/{what}/taught_by.parquet")
    recipe = dict(
        teacher="taught_by",
        seeds=2,
        student=dict(
            features=dict(mfcc=dict(stack=8)),
            text=dict(plain_bert=dict(max_tokens=16)),
            augment=dict(modality_dropout=dict(share=0.5)),
            loss=dict(soft_labels=dict(share=0.5)),
            loop=dict(by_epoch=dict(epochs=2)),
            model=dict(merhan=dict(hidden_dim=16)),
        ),
        made_of=["demo (bundled corpus)"],
        licence="apache-2.0",
    )
    made = make_student(place, recipe, tmp_path / "features", tmp_path / "weights", tmp_path / "package", 1)
    assert set(made.told["test", "words"].utterance) == set(table.utterance)
    assert made.calibration["voice"]["sessions"] == table.session.nunique()
    package = Package(tmp_path / "package")
    row = table.iloc[0]
    for words in (row.text, ""):
        answer = ask(package, load_wave(row.audio), words)
        assert abs(answer.probability.sum() - 1) < 1e-5 and answer.likely and 0 <= answer.rank <= 100
    assert pd.read_json(tmp_path / "package/config.json", typ="series")["kind"] == "student"
