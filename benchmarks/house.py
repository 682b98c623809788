"""What do two checkouts cost where nothing is computed? Times side by side, in turns, into a table and a figure.

    python benchmarks/house.py BEFORE AFTER costs/house

BEFORE and AFTER are clones in which the same (reduced) protocol has been reproduced. Each command runs in both, one
right after the other, several times; what counts is the processor time of the command and its children.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEP = """
import time, torch
torch.set_num_threads(1)
from merhan.model import MERHAN
torch.manual_seed(0)
model = MERHAN(1280, None, 64, 4, text_states_dim=384).train()
optimizer = torch.optim.AdamW(model.parameters())
frames, tokens = torch.randint(5, 26, (32,)), torch.randint(4, 20, (32,))
audio, states = torch.randn(32, 25, 1280), torch.randn(32, 20, 384)
mask = (torch.arange(20) < tokens[:, None]).long()
label = torch.randint(4, (32,))
def step():
    logits, _ = model(audio, None, mask, frames, states, need_weights=False)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(logits, label).backward()
    optimizer.step()
for _ in range(20): step()
started = time.process_time()
for _ in range(300): step()
print((time.process_time() - started) / 300)
"""
OWN_PACKAGES = "dvc repro, nothing to do, each with its packages"
COMMANDS = {
    "dvc repro, nothing to do": ["dvc", "repro"],
    OWN_PACKAGES: ["dvc", "repro"],
    "merhan pins": ["merhan", "pins", "--corpus", "demo"],
    "the page of a strategy": ["merhan", "run", "page", "--corpus", "demo", "--strategy", "baseline"],
    "one train stage, its trials done": ["dvc", "repro", "-f", "-s", "train@baseline"],
    "import merhan.papers": [sys.executable, "-c", "import merhan.papers"],
    "a training step of the baseline": [sys.executable, "-c", STEP],
}


def seconds(folder, words, without=None):
    """Processor time of a command and its children; what a script prints as a number counts instead.
    `without` is a folder with a module that takes the place of an installed one."""
    path = os.pathsep.join(filter(None, [without, str(folder)]))
    environment = os.environ | dict(PYTHONPATH=path, OMP_NUM_THREADS="1", TQDM_DISABLE="1")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:80]} failed in {folder}:\n{done.stderr[-2000:]}")
    if words[-1] is STEP:
        return float(done.stdout)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(before, after, repeats, no_parser):
    """Medians of both, and the median and the range of their ratio, by command;
    `no_parser` is an empty folder for the module that hides DVC's parser in C, which it lacked before."""
    found = {}
    Path(no_parser, "_ruamel_yaml.py").write_text('raise ImportError("before, DVC had no parser in C")')
    for name, words in COMMANDS.items():
        lacks = no_parser if name == OWN_PACKAGES else None
        pairs = [[seconds(before, words, lacks), seconds(after, words)] for _ in range(repeats)]
        ratios = [new / old for old, new in pairs]
        middle = [statistics.median(column) for column in zip(*pairs, strict=True)]
        found[name] = dict(
            before=round(middle[0], 4), after=round(middle[1], 4), ratio=round(statistics.median(ratios), 3),
            low=round(min(ratios), 3), high=round(max(ratios), 3),
        )
        print(f"{name:<52}{found[name]}", flush=True)
    return found


def drawn(found, path):
    "Ratios with their range, one line a command."
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from merhan.figures import PAGE, paper

    paper()
    figure, axis = plt.subplots(figsize=(PAGE, 0.3 * len(found) + 0.8), layout="constrained")
    for y, (name, row) in enumerate(reversed(found.items())):
        axis.plot([row["low"], row["high"]], [y, y], lw=2, color="0.6")
        axis.plot(row["ratio"], y, "s", ms=5, color="C0")
        axis.annotate(f"{row['ratio']:.2f}", (row["high"], y), xytext=(5, -3), textcoords="offset points")
    axis.axvline(1, color="0.6", lw=1)
    axis.set_yticks(range(len(found)), list(reversed(found)))
    axis.set(xlabel="processor time after, relative to before", xlim=(0, None))
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("output", type=Path, help="path without a suffix")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(given.before.resolve(), given.after.resolve(), given.repeats, folder)
    given.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    drawn(found, given.output.with_suffix(".svg"))
