"The bundled corpus is the frozen one, and is what its datasheet says."

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT


def fingerprint(root):
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            continue
        digest.update(str(path.relative_to(root)).encode())
        digest.update(
            soundfile.read(path, dtype="int16")[0].tobytes() if path.suffix == ".ogg" else path.read_bytes()
        )
    return digest.hexdigest()


def test_it_is_frozen():
    assert fingerprint(ROOT / "data/demo") == (ROOT / "nbs/corpus/FROZEN").read_text().strip()


def test_it_is_what_the_datasheet_says(demo):
    from merhan.iemocap import iemocap

    table, cues = demo.table(), pd.read_csv(ROOT / "data/demo/cues.csv")
    everything = iemocap(
        ROOT / "data/demo",
        {label: label for label in ("ang", "hap", "exc", "sad", "neu", "fru", "sur", "fea", "dis", "oth", "xxx")},
        complete=False,
    ).table()
    assert 500 <= len(table) <= 600 and 190 <= len(everything) - len(table) <= 220
    assert table.session.nunique() == 5 and table.speaker.nunique() == 10
    assert everything.text.nunique() >= 400
    assert 1 <= everything.seconds.min() and 9 < everything.seconds.max() <= 12
    assert set(cues.cue) >= {"both", "voice", "words", "conflict"}
    scripted = everything[~everything.improvised.astype(bool)]
    assert (scripted.groupby("text").session.nunique() == 5).mean() > 0.9, "scripted sentences repeat across sessions"
    assert sum(p.stat().st_size for p in (ROOT / "data").rglob("*.ogg")) < 30e6
    assert {s.reason for s in demo.set_aside + demo.files} >= {
        "resource fork, not an annotation",
        "label without a transcript",
        "transcript without a label",
    }


@pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("espeak-ng")),
    reason="flite and espeak-ng, needed only to regenerate the corpus, are not installed",
)
def test_one_session_regenerates(tmp_path):
    "The generator, run again, gives the same decoded samples and annotation bytes (OGG streams carry a random number)."
    done = subprocess.run(
        [
            Path(sys.executable).parent / "papermill",
            "nbs/corpus/demo_corpus.ipynb",
            str(tmp_path / "executed.ipynb"),
            "-p",
            "out",
            str(tmp_path / "demo"),
            "-p",
            "only_session",
            "2",
            "-p",
            "draw_figures",
            "False",
            "--no-progress-bar",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = sorted(p for p in (tmp_path / "demo/Session2").rglob("*") if p.is_file())
    assert len(made) > 150
    for path in made:
        committed = ROOT / "data/demo" / path.relative_to(tmp_path / "demo")
        if path.suffix == ".ogg":
            assert np.array_equal(
                soundfile.read(path, dtype="int16")[0], soundfile.read(committed, dtype="int16")[0]
            ), path.name
        else:
            assert path.read_bytes() == committed.read_bytes(), path.name
