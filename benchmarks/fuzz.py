"""Files of every kind, mutated: each outcome is a result or a named refusal, in bounded time and memory.

`python benchmarks/fuzz.py` tries a thousand cases of each kind, and writes costs/fuzz.json and costs/fuzz.svg;
tests/test_fuzz.py tries fifty. Hypothesis draws the mutations, and makes the smallest file of whatever fails.
"""

import io
import json
import os
import resource
import sys
import tempfile
import time
from contextlib import chdir
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable

import numpy as np
import soundfile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
SECONDS, MEGABYTES = 10.0, 1500  # of processor time and of memory that a case may take at most, on any machine
RATE = 16000


@dataclass(frozen=True)
class Kind:
    "A kind of file: what a good one holds, and what is done with a mutated one."

    name: str
    content: Callable  # gives bytes
    use: Callable  # of (bytes, folder); a result, or a ValueError

    def try_case(self, content) -> str:
        "`result` or `refused`; whatever else happens is an error of ours."
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            try:
                self.use(content, Path(folder))
                outcome = "result"
            except ValueError as error:
                assert str(error).strip(), "a refusal says why"
                outcome = "refused"
            assert time.process_time() - began < SECONDS, "it took too long"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert peak < MEGABYTES, f"it took {peak:.0f} MB"
        return outcome


# What good files hold


@cache
def noise(seed=0, seconds=0.2):
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


@cache
def sound(format, subtype=None):
    "A recording as bytes."
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(), RATE, format=format, subtype=subtype)
    return buffer.getvalue()


@cache
def film(name, codec):
    "A recording as FFmpeg packs it."
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{name}"
        with av.open(path, "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.repeat(noise(), 3)[None], "fltp", "mono")
            frame.sample_rate = 48000
            size = stream.codec_context.frame_size or 960
            plain = av.AudioResampler(stream.format.name, "mono", 48000, frame_size=size)
            for part in [*plain.resample(frame), *plain.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        return Path(path).read_bytes()


MANIFEST = '''utterance,audio,text,emotion,speaker,session,valence
a,a.wav,"Oh, no!",hap,1,1,2.5
b,b.wav,Schöne Grüße,sad,2,1,
c,b.wav,"He said ""no""",sad,2,2,4
d,nowhere.wav,None,odd,3,2,1
'''
SCENE = "Ses01F_impro01"
EVALUATION = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "".join(
    f"[{n}.2901 - {n + 1}.2357]\t{SCENE}_{who}\t{label}\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral; Anger;\t()\n"
    f"C-E3:\tAnger;\t(tense)\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
    for n, (who, label) in enumerate([("F000", "neu"), ("M000", "ang"), ("F001", "xxx")])
)
TRANSCRIPT = (
    f"{SCENE}_F000 [006.2901-008.2357]: Excuse me.\n{SCENE}_M000 [1.0-2.0]: Time: now!\nM: sorry\n"
    f"{SCENE}_F001: [LAUGHTER]\n{SCENE}_MXX0 [1.0-2.0]: Well.\n"
)
MELD = """Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime
1,also I was the point person on my company’s transition,Chandler,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"
2,"You must’ve had your hands full, then.",Joey,joy,positive,0,1,8,21,"00:16:21,940","00:16:23,442"
"""
MSP = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
a.wav,N,4.2,4.0,4.0,127,Male,Test1
b.wav,H,5.0,5.8,4.6,Unknown,Unknown,Train
c.wav,A,5.2,2.0,5.0,128,Female,Test2
"""
METADATA = "file_name,transcription,emotion,speaker,split\na.wav,Oh!,hap,ann,train\ntrain/b.wav,Ah,sad,ben,\n"
JSON_LINES = """{"file_name": "a.wav", "text": "Oh!", "emotion": "hap", "speaker": "ann", "votes": {"hap": 2, "sad": 1}}
{"file_name": "train/b.wav", "text": null, "emotion": "sad", "speaker": 7, "valence": 1.5}
"""
HEARD = "Satz\tErkannt\n03a01Fa.wav\t 95,00\n08a01Wa.wav\t100,00\n"
ACTORS = "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n1002,21,Female,Caucasian,Not Hispanic\n"
WORDS_OF_ESD = "0011_000351\tThe nine the eggs, I keep.\tAngry\n0011_001401 Clear than clear water! Sad\n"
SHEMO_JSON = json.dumps({"F01A01": dict(transcript="نه", gender="female"), "M12W03": dict(transcript="چرا")})


# What is done with them


def heard(content, folder):
    from merhan.features import load_wave
    from merhan.recordings import audio_fault

    (folder / "x").write_bytes(content)
    fault, found = audio_fault(folder / "x")
    if fault:
        raise ValueError(fault)
    assert np.isfinite(found.samples).all() and 0 < found.seconds <= 3600
    assert len(load_wave(folder / "x")) > 0


def read_iemocap(evaluation, transcript, folder):
    from merhan.iemocap import iemocap

    session = folder / "Session1"
    for part in ("dialog/EmoEvaluation", "dialog/transcriptions", f"sentences/wav/{SCENE}"):
        (session / part).mkdir(parents=True)
    (session / f"dialog/EmoEvaluation/{SCENE}.txt").write_bytes(evaluation)
    (session / f"dialog/transcriptions/{SCENE}.txt").write_bytes(transcript)
    recorded(session, *(f"sentences/wav/{SCENE}/{SCENE}_{who}.wav" for who in ("F000", "M000", "F001")))
    accounted(iemocap(folder))


def recorded(folder, *names):
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, noise(seed), RATE)


def reading(reader, name, *recordings):
    "What reads a mutated file of this name beside these recordings, and accounts for every row."

    def use(content, folder):
        from merhan.corpora import READERS

        recorded(folder, *recordings)
        (folder / name).write_bytes(content)
        accounted(READERS[reader](folder))

    return use


def read_evaluation(content, folder):
    read_iemocap(content, TRANSCRIPT.encode(), folder)


def read_transcript(content, folder):
    read_iemocap(EVALUATION.encode(), content, folder)


def accounted(corpus):
    fates = corpus.fates()
    assert fates["rows read"] == fates.drop("rows read").sum()
    assert all(utterance.text == utterance.text.strip() for utterance in corpus.utterances)
    corpus.table().to_parquet(io.BytesIO())


def read_sentences_of(content, folder):
    from merhan.corpora import read_sentences

    (folder / "s.csv").write_bytes(content)
    read_sentences(dict(reader="csv", path=str(folder / "s.csv")), ["oh"], ["ang", "hap"])


def read_parameters(content, folder):
    from merhan.params import read_params
    from merhan.slots import compose
    from merhan.strategies import baseline_of, read_stacks, read_strategies

    (folder / "params.yaml").write_bytes(content)
    with chdir(folder):
        params = read_params("demo")
        base = baseline_of(params)
        for strategy in read_strategies(params).values():
            compose(base, strategy.delta)
        read_stacks(params)


KINDS = [
    Kind("wav", lambda: sound("WAV", "PCM_16"), heard),
    Kind("wav of floats", lambda: sound("WAV", "FLOAT"), heard),
    Kind("flac", lambda: sound("FLAC"), heard),
    Kind("ogg", lambda: sound("OGG"), heard),
    Kind("aiff", lambda: sound("AIFF"), heard),
    Kind("rf64", lambda: sound("RF64"), heard),
    Kind("w64", lambda: sound("W64"), heard),
    Kind("mp3", lambda: sound("MP3"), heard),
    Kind("m4a", lambda: film("x.m4a", "aac"), heard),
    Kind("webm", lambda: film("x.webm", "libopus"), heard),
    Kind("manifest", lambda: MANIFEST.encode(), reading("manifest", "manifest.csv", "a.wav", "b.wav")),
    Kind("evaluation of iemocap", EVALUATION.encode, read_evaluation),
    Kind("transcript of iemocap", TRANSCRIPT.encode, read_transcript),
    Kind(
        "csv of meld", MELD.encode,
        reading("meld", "train_sent_emo.csv", "train_splits/dia0_utt0.wav", "train_splits/dia0_utt1.wav")),
    Kind(
        "csv of msp", MSP.encode,
        reading("msp_podcast", "labels_consensus.csv", *(f"Audios/{name}.wav" for name in "abc"))),
    Kind("audiofolder", METADATA.encode, reading("audiofolder", "metadata.csv", "a.wav", "train/b.wav")),
    Kind("json lines", JSON_LINES.encode, reading("audiofolder", "metadata.jsonl", "a.wav", "train/b.wav")),
    Kind("listeners of emodb", HEARD.encode, reading("emodb", "erkennung.txt", "03a01Fa.wav", "08a01Wa.wav")),
    Kind(
        "actors of crema-d", ACTORS.encode,
        reading("cremad", "VideoDemographics.csv", "1001_IEO_ANG_HI.wav", "1002_TIE_HAP_XX.wav")),
    Kind(
        "words of esd", WORDS_OF_ESD.encode,
        reading("esd", "0011/0011.txt", "0011/Angry/0011_000351.wav", "0011/Sad/0011_001401.wav")),
    Kind("shemo.json", SHEMO_JSON.encode, reading("shemo", "shemo.json", "female/F01A01.wav", "male/M12W03.wav")),
    Kind("sentences", lambda: "text,label\nI won!,hap\nGo away.,ang\n".encode(), read_sentences_of),
    Kind("parameters", lambda: (ROOT / "params.yaml").read_bytes(), read_parameters),
]


# Mutations

WORDS = [
    b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b'"', b"'", b";", b",", b"\t", b"\n", b"\r", b"\r\n", b"|",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\x92", b"\xfc", b"nan", b"inf", b"-1", b"1e999", b"None", b"[", b"]", b"{", b"}", b":",
    b"../../x", b"  ", b"&a", b"*a", b"!!python/object:x", b"yes", b"\xc3\xa4", "💬".encode(), b"\xe2\x80\xa8", b"data", b"RIFF"]  # fmt: skip
places = st.floats(0, 1, exclude_max=True)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), places, st.integers(0, 7)),
        st.tuples(st.just("cut"), places, st.just(0)),
        st.tuples(st.just("drop"), places, st.integers(1, 40)),
        st.tuples(st.just("repeat"), places, st.integers(1, 200)),
        st.tuples(st.just("write"), places, st.sampled_from(WORDS) | st.binary(min_size=1, max_size=6)),
        st.tuples(st.just("insert"), places, st.sampled_from(WORDS) | st.binary(min_size=1, max_size=6)),
        st.tuples(st.just("head"), places, st.sampled_from(WORDS) | st.binary(min_size=1, max_size=6)),
        st.tuples(st.just("encode"), places, st.sampled_from(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])),
    ),
    min_size=1,
    max_size=6,
)


def mutated(content: bytes, drawn) -> bytes:
    "A file with some changes; `head` writes into the first bytes, where headers are."
    for what, place, how in drawn:
        at = int(place * (min(len(content), 64) if what == "head" else len(content)))
        if what == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << how]) + content[at + 1 :]
        if what == "cut":
            content = content[:at]
        if what == "drop":
            content = content[:at] + content[at + how :]
        if what == "repeat":
            content = content[:at] + content[at : at + how] + content[at:]
        if what in ("write", "head"):
            content = content[:at] + how + content[at + len(how) :]
        if what == "insert":
            content = content[:at] + how + content[at:]
        if what == "encode":
            content = content.decode("utf-8", "replace").encode(how)
    return content


def tried(kind: Kind, cases: int) -> dict:
    "Outcomes of so many mutated files of a kind; a failure is raised with the smallest file that shows it."
    counts, slowest = dict(result=0, refused=0), 0.0

    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(changes)
    def one(drawn):
        nonlocal slowest
        began = time.process_time()
        counts[kind.try_case(mutated(kind.content(), drawn))] += 1
        slowest = max(slowest, time.process_time() - began)

    with tempfile.TemporaryDirectory() as folder:
        kind.use(kind.content(), Path(folder))  # a good file is read, and everything is imported
    one()
    return counts | dict(slowest_seconds=round(slowest, 3))


def main(cases=1000):
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    found = {}
    for kind in KINDS:
        began = time.perf_counter()
        found[kind.name] = tried(kind, cases)
        print(f"{kind.name:<23} {found[kind.name]} ({time.perf_counter() - began:.0f} s)", flush=True)
    (ROOT / "costs/fuzz.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    draw(found)


def draw(found):
    "How many cases of each kind were read, and how many refused."
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from merhan.figures import PAGE, paper

    paper()
    figure, axis = plt.subplots(figsize=(PAGE, 0.8 + 0.2 * len(found)), layout="constrained")
    names = list(found)
    read, refused = ([found[name][what] for name in names] for what in ("result", "refused"))
    axis.barh(names, read, color="C0", label="read, every row accounted for")
    axis.barh(names, refused, left=read, color="0.75", label="refused, with a reason")
    axis.set(xlabel="mutated files", xlim=(0, max(map(sum, zip(read, refused)))))
    axis.invert_yaxis()
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.savefig(ROOT / "costs/fuzz.svg")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
