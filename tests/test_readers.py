"Readers against real corpora where they lie beside the clone, and what all readers have in common."

import inspect

import pandas as pd
import pytest
from conftest import ROOT

from merhan.corpora import read_corpus
from merhan.exchange import LAYOUTS, export_corpus
from merhan.folds import folds
from merhan.utterances import DIMENSIONS, READERS

CORPORA = ROOT / "corpora"


def here(name):
    return pytest.mark.skipif(not (CORPORA / name).exists(), reason=f"corpora/{name} is not here")


@here("emodb")
def test_emodb_is_complete():
    found = READERS["emodb"](CORPORA / "emodb", complete=True, within=CORPORA)
    table = found.table()
    assert found.fates().tolist() == [535, 535, 0, 0]
    assert table.speaker.nunique() == 10 and table.text.nunique() == 10 and set(table.sex) == {"F", "M"}
    assert table.votes.notna().all()
    agreed = pd.Series([u.votes[u.emotion] / 20 for u in found.utterances])
    assert 0.8 < agreed.mean() < 0.95


@here("ravdess/flac")
def test_ravdess_lacks_what_its_readme_says():
    found = READERS["ravdess"](CORPORA / "ravdess/flac", within=CORPORA)
    counts = {label: number for (_, label), number in found.labels.items()}
    whole = {label: counts[label] for label in ("neutral", "sad", "angry", "surprised")}
    assert whole == dict(neutral=96, sad=192, angry=192, surprised=192)
    assert counts["happy"] == 191 and "calm" not in counts  # one of the twins was left out
    assert found.table().groupby("speaker").sex.nunique().max() == 1


@here("emodb_goemotions")
def test_pairings_read_recordings_from_elsewhere_when_told():
    options = dict(name="x", reader="manifest", root=str(CORPORA / "emodb_goemotions/manifest.csv"))
    classes = ["ang", "hap", "neu", "sad"]
    assert len(read_corpus(options | dict(classes=classes, within=str(CORPORA))).utterances) == 339
    with pytest.raises(ValueError, match="lies outside"):
        read_corpus(options | dict(classes=classes, within=str(CORPORA / "emodb_goemotions")))


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_reader_says_what_it_reads_and_refuses_what_is_not_there(name, tmp_path):
    assert READERS[name].__doc__.strip()
    given = dict(pattern=r"(?P<speaker>\w)_(?P<emotion>\w)") if name == "folder" else {}
    with pytest.raises(ValueError, match="there is no"):
        READERS[name](tmp_path / "nowhere", **given)
    with pytest.raises(ValueError):
        READERS[name](tmp_path, **given)
    with pytest.raises(ValueError, match="has no option 'colour'"):
        READERS[name](tmp_path, colour=1, **given)
    assert list(inspect.signature(READERS[name]).parameters)[:2] == ["corpus", "root"]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_bundled_corpus_goes_out_and_comes_back(layout, demo, tmp_path):
    few = READERS["iemocap"](ROOT / "data/demo", complete=False, sessions=[1])
    few.utterances = few.utterances[:40]
    export_corpus(few, tmp_path / "out", layout, "demo")
    again = READERS[layout](tmp_path / "out", classes=["ang", "hap", "neu", "sad"])
    columns = ["utterance", "text", "emotion", "speaker", "session", "sex", "votes", "improvised", "seconds"]
    columns += DIMENSIONS
    expected = few.table()[columns].sort_values("utterance").reset_index(drop=True)
    found = again.table()[columns].sort_values("utterance").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_votes_of_the_bundled_corpus_agree_with_its_labels(demo):
    votes = demo.table().votes
    assert votes.notna().all()
    leaders = [max(u.votes, key=u.votes.get) for u in demo.utterances]
    merged = ["hap" if label == "exc" else label for label in leaders]
    assert sum(a == u.emotion for a, u in zip(merged, demo.utterances)) > 0.95 * len(demo.utterances)


def test_folds_of_official_sides_need_no_sessions(demo):
    table = demo.table()
    table["split"] = table.session.map({"4": "dev", "5": "test"}).fillna("train")
    with pytest.raises(ValueError, match="the test side has one session"):
        folds(table, "official", 3)
    made = folds(table.assign(session=table.speaker), "official", 3)
    assert [(f.fold, f.seed) for f in made] == [("official", n) for n in range(3)]
    assert {len(f.test) for f in made} == {int((table.split == "test").sum())}
