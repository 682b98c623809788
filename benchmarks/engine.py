"""How fast is the engine, and how much does it hold? Measurements with a figure, kept in costs/engine.json.

    python benchmarks/engine.py specification          an epoch of the specification's network, against literal code
    python benchmarks/engine.py features CORPUS        trackers and features as multiples of real time, 40 recordings
    python benchmarks/engine.py memory                 an epoch over 1,000 to 100,000 turns on disk
    python benchmarks/engine.py stages BEFORE AFTER    stages whose trials are done, of two that made the first look
    python benchmarks/engine.py estimate CORPUS        what `merhan estimate` says, against what is then measured
    python benchmarks/engine.py rehearsal CORPUS       the same for a corpus that `merhan rehearse` has rehearsed whole
    python benchmarks/engine.py overhead FILE SECONDS  share of a repro that is not work, from its MERHAN_TIMES
    python benchmarks/engine.py gpu                    the specification's size on this GPU, into costs/gpu.json
    python benchmarks/engine.py draw                   the figure of all that is in costs/engine.json

What is compared with each other is measured in one run, in turns. Processor time of one thread, unless said otherwise.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "costs/engine.json"
sys.path.insert(0, str(ROOT / "tests"))  # the literal network stands beside the test that compares it


def keep(name, content, kept=KEPT):
    "Add a measurement to those kept in a file."
    found = json.loads(kept.read_text()) if kept.is_file() else {}
    kept.write_text(json.dumps(dict(sorted((found | {name: content}).items())), indent=1) + "\n")
    print(json.dumps(content, indent=1))


def turns_like_iemocap(count):
    "Turns of IEMOCAP's durations, with random frames and tokens."
    import numpy as np
    import torch

    from merhan.data import Turns
    from merhan.rehearsal import WORDS_PER_SECOND, drawn_seconds

    rng = np.random.default_rng(0)
    seconds = drawn_seconds(count, rng)
    words = rng.poisson(seconds * WORDS_PER_SECOND) + 3
    audio = [torch.randn(int(100 * s), 40) for s in seconds]
    text = [torch.randint(100, 1000, (int(n), 1)) for n in words]
    names = [str(i) for i in range(count)]
    return Turns(names, audio, text, torch.randint(4, (count,)), holds=("audio_features", "input_ids"))


def specification(count, repeats):
    "Processor time of an epoch: literal code, ours in its plain arithmetic, and as pipelines/iemocap computes it."
    import torch
    import torch.nn.functional as F
    from test_specification import Literal

    from merhan.attention import merge_projections
    from merhan.costs import random_encoder
    from merhan.data import shuffled
    from merhan.model import MERHAN
    from merhan.trial import EpochBatches

    torch.set_num_threads(1)
    torch.manual_seed(0)
    turns = turns_like_iemocap(count)

    def epoch(make, sampler, call):
        model = make().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-5)
        started, frames = time.process_time(), 0
        for batch in EpochBatches(turns, sampler):
            frames += batch.audio_features.shape[0] * batch.audio_features.shape[1]
            F.cross_entropy(call(model, batch), batch.label).backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.process_time() - started, frames

    def literally(model, batch):
        return model(batch.audio_features, batch.input_ids, batch.attention_mask)[0]

    def ours(model, batch):
        return model(**batch.inputs, need_weights=False)[0]

    with tempfile.TemporaryDirectory() as folder:
        encoder = random_encoder(folder)

        def merged():
            model = MERHAN(40, encoder, 768, 4, fused=True)
            merge_projections(model)
            return model

        ways = {
            "literal code": (lambda: Literal(40, encoder, 768, 4), shuffled(16), literally),
            "ours, random batches": (lambda: MERHAN(40, encoder, 768, 4), shuffled(16), ours),
            "ours, bounded buckets": (lambda: MERHAN(40, encoder, 768, 4), shuffled(16, 50, 16_000), ours),
            "ours, buckets, fused and merged": (merged, shuffled(16, 50, 16_000), ours),
        }
        rounds = [{name: epoch(*way) for name, way in ways.items()} for _ in range(repeats)]
    started, batches = time.process_time(), list(EpochBatches(turns, shuffled(16)))
    made = 1000 * (time.process_time() - started) / len(batches)
    real = int(turns.audio.lengths.sum())
    rows = {}
    for name in ways:
        seconds = statistics.median(one[name][0] for one in rounds)
        ratios = [one["literal code"][0] / one[name][0] for one in rounds]
        rows[name] = dict(
            milliseconds_a_turn=round(1000 * seconds / count, 1),
            times_faster=round(statistics.median(ratios), 2),
            padding=round(100 * (1 - real / rounds[0][name][1]), 1),
        )
    kept = dict(turns=count, seconds_of_speech=round(real / 100), milliseconds_a_batch_made=round(made, 2), ways=rows)
    keep("specification", kept)


def literal_on_device(*sizes):
    "The literal network; the scales of its attention, which are plain tensors, move with it to a device."
    from test_specification import Literal

    class OnDevice(Literal):
        def to(self, device):
            for module in self.modules():
                if "scale" in vars(module):
                    module.scale = module.scale.to(device)
            return super().to(device)

    return OnDevice(*sizes)


def features(corpus, count):
    "Trackers and features as multiples of real time, and how far trackers agree with pYIN's own settings."
    import librosa
    import numpy as np
    import torch

    from merhan.corpora import read_corpus
    from merhan.f0 import FRAME, HIGHEST, LOWEST, TRACKERS
    from merhan.features import combination, functionals, load_wave, log_mel, mfcc, prosody
    from merhan.params import read_params
    from merhan.utterances import SAMPLE_RATE

    torch.set_num_threads(1)
    table = read_corpus(read_params(corpus)["corpus"]).table().sort_values("utterance")
    paths = table.audio.iloc[np.linspace(0, len(table) - 1, count).astype(int)]
    waves = [load_wave(path) for path in paths]
    seconds = sum(map(len, waves)) / SAMPLE_RATE

    def reference(samples, hop):
        given = dict(fmin=LOWEST, fmax=HIGHEST, sr=SAMPLE_RATE, frame_length=FRAME, hop_length=hop)
        f0, _, probability = librosa.pyin(samples, **given)
        return np.arange(len(f0)), f0, probability

    trackers, tracks = TRACKERS | {"pyin, as librosa sets it": reference}, {}
    if not has_praat():
        trackers.pop("praat")
    rows = {}
    for name, track in trackers.items():
        track(waves[0].numpy(), 160)
        started = time.process_time()
        tracks[name] = [track(wave.numpy(), 160) for wave in waves]
        rows[f"F0, {name}"] = dict(times_real_time=round(seconds / (time.process_time() - started)))
    for name in trackers:
        within, voiced = agreement(tracks[name], tracks["pyin, as librosa sets it"])
        rows[f"F0, {name}"] |= dict(within_a_semitone=within, voicing_agrees=voiced)
    for make in (mfcc, log_mel, prosody, combination, functionals):
        extract = make()
        extract(waves[0])
        started = time.process_time()
        for wave in waves:
            extract(wave.clone())  # another tensor, whose pitch nobody has tracked
        rows[make.__name__] = dict(times_real_time=round(seconds / (time.process_time() - started)))
    together = [make() for make in (prosody, combination, functionals)]
    started = time.process_time()
    for wave in waves:
        for extract in together:
            extract(wave)
    share = "prosody, combination and functionals of one wave"
    rows[share] = dict(times_real_time=round(seconds / (time.process_time() - started)))
    keep("features", dict(corpus=corpus, recordings=count, seconds_of_speech=round(seconds), rows=rows))


def has_praat():
    try:
        import parselmouth  # noqa: F401
    except ImportError:
        return False
    return True


def agreement(tracks, references):
    "Share of frames voiced in both whose pitch differs by less than a semitone; share of frames with equal voicing."
    import numpy as np

    near, both, equal, frames = 0, 0, 0, 0
    for (at, f0, _), (every, other, _) in zip(tracks, references, strict=True):
        place = np.abs(np.asarray(at)[:, None] - every).argmin(0)  # the nearest frame of the track
        own = np.asarray(f0)[place]
        voiced, voiced_there = np.isfinite(own), np.isfinite(other)
        shared = voiced & voiced_there
        near += int((np.abs(12 * np.log2(own[shared] / other[shared])) < 1).sum())
        both, equal, frames = both + int(shared.sum()), equal + int((voiced == voiced_there).sum()), frames + len(every)
    return round(100 * near / both, 1), round(100 * equal / frames, 1)


def memory(counts, folder):
    "Anonymous memory of an epoch over so many turns of 3.6 s, one hundred thousand of which are 100 hours."
    import numpy as np
    from test_memory import memory_of_an_epoch, write_turns

    rng, rows = np.random.default_rng(0), []
    for count in counts:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            lengths = rng.integers(100, 621, count)
            write_turns(place, lengths)
            for by in ("corpus", "speaker"):
                hours, used = round(float(lengths.sum()) / 360_000, 1), memory_of_an_epoch(by, place)
                rows.append(dict(turns=count, hours=hours, by=by, anonymous_mb=used))
                print(rows[-1], flush=True)
    keep("memory", rows)


def seconds_of_children():
    "Processor time of all processes that this one started and that have ended."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_of(folder, words):
    "Processor time and wall time of a command in a checkout."
    environment = os.environ | dict(PYTHONPATH=str(folder), OMP_NUM_THREADS="1", PYTHONHASHSEED="0")
    before, started = seconds_of_children(), time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed in {folder}:\n{done.stderr[-2000:]}")
    return seconds_of_children() - before, time.perf_counter() - started


LOOK = "pipelines/first_look/dvc.yaml"
STAGES = {
    "one train stage, its trials done": ["dvc", "repro", "-f", "-s", f"{LOOK}:train@baseline"],
    "the page of a strategy": ["merhan", "run", "page", "--corpus", "first_look", "--strategy", "baseline"],
    "the report": ["merhan", "run", "report", "--corpus", "first_look"],
    "all stages, their trials done": ["dvc", "repro", "-f", LOOK],
}


def stages(before, after, repeats):
    "Stages that compute next to nothing, in two checkouts that have made the first look, in turns."
    rows = {}
    for name, words in STAGES.items():
        pairs = [(seconds_of(before, words), seconds_of(after, words)) for _ in range(repeats)]
        column = lambda side, kind: round(statistics.median(pair[side][kind] for pair in pairs), 2)  # noqa: E731
        rows[name] = dict(
            before=column(0, 0), after=column(1, 0), before_wall=column(0, 1), after_wall=column(1, 1),
            ratio=round(statistics.median(b[0] / a[0] for a, b in pairs), 2),
        )
        print(name, rows[name], flush=True)
    keep("stages", rows)


def trained(corpus, folder):
    "One trial of the baseline, in this process: its cost, its epochs, and the memory of the process."
    from merhan.grid import arithmetic_here
    from merhan.layout import Place, Trial
    from merhan.params import read_machine
    from merhan.rehearsal import memory_used
    from merhan.trial import run_trial

    place = Place(corpus)
    spec = place.configuration("baseline")["trial"]
    how = arithmetic_here(**read_machine(corpus)["arithmetic"])
    trial = run_trial(Trial(spec, place.folds()[0], how, Path(folder)), place.work)
    return trial.cost() | dict(memory_mb=memory_used(how.device), epochs=len(trial.history()))


def estimate(corpus):
    "The estimate of a corpus beside its features, computed anew, and trials of its baseline, as many as run at a time."
    from concurrent.futures import ThreadPoolExecutor

    from merhan.costs import in_fresh_process
    from merhan.estimate import estimate as estimated
    from merhan.layout import Place
    from merhan.params import read_params
    from merhan.resolve import products_of, with_states
    from merhan.slots import compose
    from merhan.strategies import baseline_of

    needed, place = products_of(with_states(compose(baseline_of(read_params(corpus))))), Place(corpus)
    told = estimated(corpus, only=["baseline"])
    row = told["strategies"].iloc[0]
    with tempfile.TemporaryDirectory() as folder:
        processor, gigabytes = features_anew(needed, place.utterances(), folder)
        folders = [Path(folder) / str(number) for number in range(told["workers"])]
        with ThreadPoolExecutor(told["workers"]) as pool:
            trials = list(pool.map(lambda place: in_fresh_process(trained, corpus, place), folders))
    keep_estimate(corpus, told, {
        "features, processor time [s]": (3600 * told["features"]["processor_hours"], processor),
        "features, disk [GB]": (told["features"]["gigabytes"], gigabytes),
        "an epoch of the baseline [s]": (
            row.epoch_seconds, statistics.mean(trial["train_seconds"] / trial["epochs"] for trial in trials)),
        "memory of a trial [MB]": (row.memory_mb, max(trial["memory_mb"] for trial in trials)),
        "weights of a trial [MB]": (row.weights_mb, 4 * trials[0]["parameters"] / 1e6),
    })


def features_anew(needed, table, folder):
    "Processor time and gigabytes of products, made by all processors."
    import joblib

    from merhan.products import write_missing_products

    before = seconds_of_children()
    cards = write_missing_products(needed, table, folder, joblib.cpu_count())
    processor = seconds_of_children() - before
    gigabytes = sum(4 * card["frames"] * card["channels"] for card in cards.values()) / 1e9
    return processor, gigabytes


def keep_estimate(corpus, told, pairs):
    "Keep what was estimated beside what was measured."
    rows = {}
    for name, (foretold, found) in pairs.items():
        rows[name] = dict(estimated=float(foretold), measured=float(found), ratio=round(float(foretold / found), 2))
    keep(f"estimate of {corpus}", dict(turns_measured=told["measured"], turns=told["turns"], rows=rows))


def rehearsal(corpus, share):
    "The estimate of a corpus beside its rehearsal: features computed anew, and every so many batches of an epoch."
    import pandas as pd

    from merhan.costs import in_fresh_process
    from merhan.estimate import estimate as estimated
    from merhan.layout import Place
    from merhan.params import read_params
    from merhan.rehearsal import rehearsal_folder
    from merhan.resolve import products_of, with_states
    from merhan.slots import compose
    from merhan.strategies import baseline_of

    folder = rehearsal_folder(corpus, None)
    if not (folder / "steps.csv").is_file():
        raise SystemExit(f"{folder} has no steps; first run: merhan rehearse --corpus {corpus}")
    told = estimated(corpus, only=["baseline", "audio_only", "text_only", "gated_fusion"])
    estimates = told["strategies"].set_index("strategy")
    row = estimates.loc["baseline"]
    os.chdir(folder)
    needed = products_of(with_states(compose(baseline_of(read_params(corpus)))))
    with tempfile.TemporaryDirectory() as place:
        processor, gigabytes = features_anew(needed, Place(corpus).utterances(), place)
    steps = pd.read_csv("steps.csv").set_index("strategy")
    epoch = in_fresh_process(part_of_an_epoch, corpus, share)
    os.chdir(ROOT)
    keep_estimate(corpus, told, {
        "features, processor time [s]": (3600 * told["features"]["processor_hours"], processor),
        "features, disk [GB]": (told["features"]["gigabytes"], gigabytes),
        f"an epoch of the baseline, from every {share}th batch [s]": (row.epoch_seconds, epoch),
        "weights of a trial [MB]": (row.weights_mb, 4 * steps.parameters["baseline"] / 1e6),
    } | {
        f"memory of the heaviest steps, {name} [MB]": (memory, steps.memory_mb[name])
        for name, memory in estimates.memory_mb.items()
    })


def overhead(path, wall):
    """Share of the wall time of a `dvc repro` that is neither training, features nor statistics.
    `path` is the file that MERHAN_TIMES named: notebook, heading and seconds of every cell."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    done = sum(seconds for notebook, part, seconds in rows if part == "Do" or notebook == "evaluate.ipynb")
    percent = round(100 * (1 - done / wall), 1)
    keep("overhead", dict(wall_seconds=round(wall), of_that_work=round(done), percent=percent))


def part_of_an_epoch(corpus, share):
    "Seconds of an epoch of the baseline on its first fold: of its training batches, every so many are taken."
    import torch

    from merhan.costs import timed
    from merhan.grid import arithmetic_here
    from merhan.layout import Place
    from merhan.loop import forward
    from merhan.params import read_machine
    from merhan.slots import SLOTS
    from merhan.trial import assemble_as, inputs_of, normalised_sides, on_one_thread, stored_sides
    from merhan.utterances import class_names

    on_one_thread()
    place = Place(corpus)
    spec, fold = place.configuration("baseline")["trial"], place.folds()[0]
    _, train, validation = normalised_sides(spec["slots"], stored_sides(spec, fold, place.work))
    how = arithmetic_here(**read_machine(corpus)["arithmetic"])
    classes = len(class_names(spec["classes"]))
    run = assemble_as(how, spec["slots"], inputs_of(train), classes, 0, train, validation)
    batches = list(SLOTS["sampler"].build(spec["slots"]["sampler"])(train, torch.Generator().manual_seed(1)))
    device = run.accelerator.device
    learn = lambda rows: float(run.step(run, train.batch(rows.tolist()).to(device)))  # noqa: E731
    predicted = lambda: forward(run.model, run.val_dataloader, device)  # noqa: E731
    run.model.train()
    learn(batches[0])  # what is allocated or compiled at first is not counted
    taken = [timed(lambda: learn(rows)) for rows in batches[::share]]
    return sum(taken) * len(batches) / len(taken) + timed(lambda: [float(logits.sum()) for logits, _ in predicted()])


def draw():
    "One figure of everything that was kept."
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from merhan.figures import PAGE, paper

    paper()
    found = json.loads(KEPT.read_text())
    figure, axes = plt.subplots(2, 2, figsize=(PAGE, 6), layout="constrained")
    if "specification" in found:
        ways = found["specification"]["ways"]
        bars(axes[0, 0], {name: row["times_faster"] for name, row in ways.items()}, "{:.1f}")
        axes[0, 0].set(xlabel="times as fast as literal code", title="The specification, an epoch")
    if "features" in found:
        rows = {name: row["times_real_time"] for name, row in found["features"]["rows"].items()}
        bars(axes[0, 1], rows, "{:.0f}")
        axes[0, 1].set(xscale="log", xlim=(1, 60_000), xlabel="times real time", title="Features, one core")
    if "memory" in found:
        for by, marker in (("corpus", "o"), ("speaker", "s")):
            rows = [row for row in found["memory"] if row["by"] == by]
            x, y = ([row[key] for row in rows] for key in ("turns", "anonymous_mb"))
            axes[1, 0].plot(x, y, marker=marker, ms=4, label=f"normalised by {by}")
        axes[1, 0].axhline(2000, color="0.6", lw=1)
        axes[1, 0].set(xscale="log", ylim=(0, None), xlabel="turns", ylabel="anonymous memory [MB]", title="Memory")
        axes[1, 0].legend()
    if "stages" in found:
        rows = found["stages"]
        y = range(len(rows))
        for side, shift, color in (("before", 0.2, "0.7"), ("after", -0.2, "C0")):
            values = [row[side] for row in rows.values()]
            axes[1, 1].barh([i + shift for i in y], values, 0.4, color=color, label=side)
        axes[1, 1].set_yticks(y, [name.replace(", ", ",\n") for name in rows])
        axes[1, 1].set(xscale="log", xlim=(1, None), xlabel="processor time [s]", title="Stages, trials done")
        axes[1, 1].legend(loc="lower right", bbox_to_anchor=(1, 1.1), ncols=2)
    figure.savefig(KEPT.with_suffix(".svg"))


def bars(axis, values, form):
    "Horizontal bars with their values."
    names = list(values)[::-1]
    axis.barh(range(len(names)), [values[name] for name in names], color="C0")
    shown = [name.replace(", as librosa sets it", ", default") for name in names]
    axis.set_yticks(range(len(names)), [textwrap.fill(name, 24) for name in shown])
    for y, name in enumerate(names):
        axis.annotate(form.format(values[name]), (values[name], y), xytext=(3, -3), textcoords="offset points")
    axis.margins(x=0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ["specification", "features", "memory", "stages", "estimate", "rehearsal", "overhead", "gpu", "draw"]
    parser.add_argument("what", choices=known)
    parser.add_argument("where", nargs="*", help="a corpus; two checkouts; a folder for large files")
    parser.add_argument("--turns", type=int, default=320, help="of the specification's epoch")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.what == "specification":
        specification(given.turns, given.repeats)
    if given.what == "features":
        features(given.where[0] if given.where else "demo", 40)
    if given.what == "memory":
        memory((1_000, 10_000, 100_000), given.where[0] if given.where else None)
    if given.what == "stages":
        stages(*(Path(place).resolve() for place in given.where), given.repeats)
    if given.what == "estimate":
        estimate(given.where[0] if given.where else "demo")
    if given.what == "rehearsal":
        rehearsal(given.where[0] if given.where else "iemocap", 30)
    if given.what == "overhead":
        overhead(given.where[0], float(given.where[1]))
    if given.what == "gpu":
        from merhan.costs import write_gpu_costs

        write_gpu_costs(literal=literal_on_device)
    draw()
