"""How long does somebody with a recording wait? Measurements with a figure, kept in costs/predict.json.

    python benchmarks/predict.py start [OTHER]    processor time of `merhan predict` on one file; OTHER: a checkout of
                                                  before, whose `predict RECORDING --text …` is timed in turns with it
    python benchmarks/predict.py asked            five seconds of speech, once the model is loaded
    python benchmarks/predict.py many [COUNT]     files of four seconds on two processes, with and without words
    python benchmarks/predict.py stream           delay of answers while somebody speaks, share of real time
    python benchmarks/predict.py long             ten minutes as a timeline
    python benchmarks/predict.py draw             the figure of all that is in costs/predict.json

Recordings are put together from the bundled corpus. What is compared is measured in one run, in turns.
"""

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import engine

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "costs/predict.json"
PACKAGE = ROOT / "work/demo/package"
keep = partial(engine.keep, kept=KEPT)


def speech(seconds):
    "Turns of the bundled corpus one after another."
    import numpy as np
    import torch

    from merhan.features import load_wave

    parts, count = [], 0
    for path in sorted((ROOT / "data/demo").rglob("*.ogg")):
        parts += [load_wave(path), torch.from_numpy(np.zeros(6400, "f4"))]
        count += sum(map(len, parts[-2:]))
        if count >= seconds * 16000:
            break
    return torch.cat(parts)[: int(seconds * 16000)]


def recording(folder, seconds, name="a.wav"):
    import soundfile

    path = Path(folder) / name
    soundfile.write(path, speech(seconds).numpy(), 16000)
    return path


def processor_seconds(command, cwd):
    "Processor time and time of a process and its children."
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | dict(PYTHONPATH=str(cwd))
    subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.perf_counter() - began


def start(other=None, repeats=5):
    merhan, found = str(Path(sys.executable).parent / "merhan"), {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(recording(folder, 4))
        ours = [merhan, "predict", path, "--model", str(PACKAGE)]
        commands = {"by voice alone": ([*ours, "--words", "none"], ROOT), "words heard": (ours, ROOT)}
        if other:
            commands["before, words given"] = ([merhan, "predict", path, "--text", "Well."], Path(other).resolve())
        for _ in range(repeats):
            for name, command in commands.items():
                found.setdefault(name, []).append(processor_seconds(*command))
    keep(
        "start",
        {
            name: dict(
                processor_seconds=round(statistics.median(s for s, _ in times), 2),
                seconds=round(statistics.median(s for _, s in times), 2),
            )
            for name, times in found.items()
        },
    )


def timed(function, repeats):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def asked():
    import torch

    from merhan.package import Package, ask
    from merhan.recognition import transcribed

    torch.set_num_threads(2)
    package, wave = Package.from_pretrained(PACKAGE), speech(5)
    said = transcribed(wave).words
    ask(package, wave, said)
    keep(
        "asked",
        dict(
            voice_ms=round(timed(lambda: ask(package, wave), 15), 1),
            with_words_ms=round(timed(lambda: ask(package, wave, said), 15), 1),
            recognition_ms=round(timed(lambda: transcribed(wave), 5), 1),
        ),
    )


def many(count=500):
    from merhan.predict import answers_to, sources_in

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        import soundfile

        wave = speech(40 * 4)
        for number in range(count):
            first = number % 40 * 4 * 16000
            soundfile.write(Path(folder) / f"{number:04}.wav", wave[first : first + 64000].numpy(), 16000)
        for name, recogniser in (("voice", None), ("words", "whisper_tiny")):
            began = time.perf_counter()
            results = list(answers_to(str(PACKAGE), None, sources_in([folder]), recogniser, 2))
            assert all(result.answer for result in results)
            found[f"{name}_seconds"] = round(time.perf_counter() - began, 1)
            found[f"{name}_files_a_second"] = round(count / found[f"{name}_seconds"], 1)
    share = 1 - found["voice_seconds"] / found["words_seconds"]
    keep("many", found | dict(files=count, seconds_each=4, share_of_recognition=round(share, 2)))


def as_stream():
    from merhan.package import Package
    from merhan.timeline import stream

    package, wave = Package.from_pretrained(PACKAGE), speech(60)
    samples = (wave.clamp(-1, 1) * 32767).numpy().astype("<i2").tobytes()
    list(stream(package, io.BytesIO(samples[:320000])))  # everything is loaded
    began = time.perf_counter()
    updates = list(stream(package, io.BytesIO(samples)))
    spent = time.perf_counter() - began
    delay = lambda final: round(1000 * statistics.median(u.delay for u in updates if u.is_final == final), 1)
    keep(
        "stream",
        dict(
            seconds=60,
            answers=len(updates),
            first_answer_ms=delay(False),
            final_answer_ms=delay(True),
            pause_that_ends_a_stretch_ms=300,
            share_of_real_time=round(spent / 60, 3),
        ),
    )


def long():
    from merhan.package import Package
    from merhan.timeline import timeline

    package, wave, found = Package.from_pretrained(PACKAGE), speech(600), {}
    for name, recogniser in (("voice", None), ("words", "whisper_tiny")):
        began = time.perf_counter()
        found["stretches"] = len(timeline(package, wave, recogniser))
        found[f"{name}_seconds"] = round(time.perf_counter() - began, 1)
        found[f"{name}_share_of_real_time"] = round(found[f"{name}_seconds"] / 600, 3)
    keep("long", found)


def draw():
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from merhan.figures import PAGE, paper

    paper()
    kept = json.loads(KEPT.read_text())
    figure, axes = plt.subplots(1, 3, figsize=(PAGE, 2.4), layout="constrained")
    start, asked, many = kept["start"], kept["asked"], kept["many"]
    axes[0].barh(list(start), [each["processor_seconds"] for each in start.values()])
    axes[0].set(title="one file, cold", xlabel="processor time [s]")
    names = {"voice_ms": "voice", "with_words_ms": "and words", "recognition_ms": "recognition"}
    axes[1].barh(list(names.values()), [asked[name] for name in names])
    axes[1].set(title="5 s of speech, loaded", xlabel="time [ms]")
    axes[2].barh(["voice", "with words"], [many["voice_files_a_second"], many["words_files_a_second"]])
    axes[2].set(title=f"{many['files']} files of 4 s", xlabel="files a second")
    for axis in axes:
        axis.invert_yaxis()
    figure.savefig(KEPT.with_suffix(".svg"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("start", "asked", "many", "stream", "long", "draw"))
    parser.add_argument("more", nargs="?")
    given = parser.parse_args()
    if given.what == "start":
        start(given.more)
    elif given.what == "many":
        many(int(given.more or 500))
    else:
        dict(asked=asked, stream=as_stream, long=long, draw=draw)[given.what]()
