"Rubbish gets a clear message, or a row in the list of what was set aside; never a traceback from three libraries down."

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from merhan.iemocap import iemocap
from merhan.manifest import manifest

TURN = "[{0:.4f} - {1:.4f}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]"


@pytest.fixture
def release(tmp_path):
    "A session with one good turn, and a function that adds turns."
    session = tmp_path / "Session1"
    for part in ("dialog/EmoEvaluation", "dialog/transcriptions", "sentences/wav/Ses01F_impro01"):
        (session / part).mkdir(parents=True)
    evaluation, transcript = (
        session / "dialog/EmoEvaluation/Ses01F_impro01.txt",
        session / "dialog/transcriptions/Ses01F_impro01.txt",
    )
    evaluation.write_text("")
    transcript.write_text("")

    def add(
        name, label="neu", line="Ses01F_impro01_{name} [001.0000-002.0000]: Well.", samples=np.zeros(8000), rate=16000
    ):
        if label:
            evaluation.write_text(
                evaluation.read_text() + TURN.format(1, 2, name=f"Ses01F_impro01_{name}", label=label) + "\n\n"
            )
        if line:
            transcript.write_bytes(transcript.read_bytes() + line.format(name=name).encode("latin-1") + b"\n")
        path = session / f"sentences/wav/Ses01F_impro01/Ses01F_impro01_{name}.wav"
        if samples is not None:
            soundfile.write(path, samples, rate)
        return path

    add("F000")
    return tmp_path, add


def reasons(root):
    found = iemocap(root)
    aside = {s.utterance[-4:]: s.reason for s in found.set_aside + found.files}
    return aside, {u.utterance[-4:]: u for u in found.utterances}


def test_recordings(release):
    root, add = release
    add("F001", samples=None)
    add("F002").write_bytes(b"")
    cut = add("F003")
    cut.write_bytes(cut.read_bytes()[:6000])
    add("F004", samples=np.zeros((24000, 2)), rate=48000)
    aside, used = reasons(root)
    assert "missing" in aside["F001"] and "0 bytes" in aside["F002"] and "truncated" in aside["F003"]
    assert used["F004"].seconds == 0.5


def test_transcripts(release):
    root, add = release
    add("F001", line="Ses01F_impro01_{name}: No timing here.")
    add("F002", line="Ses01F_impro01_{name} [001.0000-002.0000]: He said: never.")
    add("F003", line="Ses01F_impro01_{name} [001.0000-002.0000]: A caf\xe9, please.")
    add("F004", line=None)
    add("F005", label=None)
    add("MXX0", label=None, line="Ses01F_impro01_{name} [001.0000-002.0000]: [LAUGHTER]", samples=None)
    add("F006", line="Ses01F_impro01_{name} [001.0000-002.0000]:   ")
    (root / "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07")
    aside, used = reasons(root)
    assert [used[k].text for k in ("F001", "F002", "F003")] == [
        "No timing here.",
        "He said: never.",
        "A café, please.",
    ]
    assert (
        aside["F004"] == "label without a transcript"
        and aside["F005"] == aside["MXX0"] == "transcript without a label"
    )
    assert aside["F006"] == "transcript is empty" and "resource fork" in aside[""]


def test_a_label_nobody_knows(release):
    root, add = release
    add("F001", label="joy")
    assert "'joy' is none of IEMOCAP's" in reasons(root)[0]["F001"]


def test_folders_that_are_not_the_corpus(tmp_path, release):
    with pytest.raises(ValueError, match="there is no .*point `corpus.root`"):
        iemocap(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not complete.*ang: 0 instead of 1103"):
        iemocap(release[0], complete=True)


def test_manifest_of_anything_soundfile_reads(tmp_path):
    for name, rate, channels in (("a.wav", 48000, 2), ("b.flac", 8000, 1), ("c.ogg", 44100, 2)):
        soundfile.write(tmp_path / name, np.zeros((rate, channels)), rate)
    (tmp_path / "manifest.csv").write_text(
        "utterance,audio,emotion,speaker\na,a.wav,x,1\nb,b.flac,y,2\nc,c.ogg,x,3\nd,d.wav,x,3\n"
    )
    found = manifest(tmp_path / "manifest.csv", ["x", "y"])
    assert [round(u.seconds, 3) for u in found.utterances] == [1, 1, 1] and found.set_aside[0].line == 5
    from merhan.features import load_wave

    assert all(abs(len(load_wave(u.audio)) - 16000) <= 2 for u in found.utterances)


def command(*words, **options):
    return subprocess.run(
        [Path(sys.executable).parent / "merhan", *words], cwd=options.get("cwd", ROOT), capture_output=True, text=True
    )


def test_commands_fail_in_one_line():
    for words, message in (
        (("predict", "nowhere.wav", "--text", "Well.", "--corpus", "nothing"), "there are no trained weights"),
        (("check", "--corpus", "nothing"), "describes corpus 'demo', not 'nothing'"),
        (("run", "train", "--corpus", "demo", "--strategy", "hybird"), "hybird"),
    ):
        done = command(*words)
        assert done.returncode != 0 and message in done.stdout + done.stderr, done
        assert "Traceback" not in done.stderr


def test_check_is_green_here():
    done = command("check")
    assert done.returncode == 0, done.stdout
    assert "SHA-256" in done.stdout and "set aside" in done.stdout
