"""Kill a random process of a running pipeline, again and again; in the end everything is as if nothing had happened.

`python benchmarks/storm.py` kills fifty times (DVC, a stage, a worker; KILL and TERM), and writes costs/storm.json and
costs/storm.svg; tests/test_storm.py kills a few times. The pipeline is the whole one on the bundled corpus, with a reduced protocol:
every stage, features, an encoder that is adapted, a stack that is selected.
A storm is survived if the results equal those of an undisturbed run, if no finished trial is lost, and if nothing
stays behind: no process, no partial file, no lock.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from conftest import Clone, copy_of_repository, reduce  # noqa: E402

LATEST = 25  # seconds from the start of a run to a kill
PATIENCE = 15  # seconds within which nobody works for the dead any more
STRATEGIES = ("baseline", "audio_only", "text_only", "contextual_text", "gated_fusion", "domain_adaptation")
FOLDERS = ("work", "metrics", "configs", "reports")


def place(folder):
    "A copy of the repository with a reduced protocol: every stage, features, an adapted encoder, a selected stack."
    clone = Clone(copy_of_repository(folder))
    reduce(clone, STRATEGIES)
    (folder / "dvc.lock").unlink(missing_ok=True)
    for other in (folder / "pipelines").glob("*/dvc.yaml"):
        other.unlink()  # DVC reads every pipeline at every call
        other.with_suffix(".lock").unlink(missing_ok=True)
    return folder


def run(folder, *words):
    "A command in the copy, as the leader of a group of its own."
    environment = os.environ | dict(PYTHONPATH=str(folder), PYTHONHASHSEED="0", OMP_NUM_THREADS="1")
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    log = open(folder / "storm.log", "ab")
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def processes(folder):
    "All processes that work in the copy, whoever their parent is."
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def role(process):
    "What a process does: `dvc`, `stage`, or `worker` (a fork of a stage, or a fork of that)."
    try:
        words = " ".join(process.cmdline())
        is_fork = process.parent() is not None and " ".join(process.parent().cmdline()) == words
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    if "bin/dvc " in words:
        return "dvc"
    return ("worker" if is_fork else "stage") if "merhan" in words and "python" in words else None


def finished(folder):
    "Trials that are done, by the hash of their weights."
    done = {}
    for path in folder.glob("scratch/*/result/weights.safetensors"):
        done[path.parent.parent.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return done


def results(folder):
    "Everything that a run is for, as hashes: metrics, configurations, tables, executed notebooks."
    found = {}
    for path in (path for part in FOLDERS for path in (folder / part / "demo").rglob("*")):
        if path.is_file() and path.suffix in (".json", ".yaml", ".parquet", ".ipynb", ".csv", ".bin", ".safetensors"):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def kill_once(folder, chance, running):
    "Kill one process at a random moment; what was killed, and what was left when it should have ended."
    time.sleep(chance.uniform(0.5, LATEST))
    if running.poll() is not None:
        return None
    able = {}
    for process in processes(folder):
        able.setdefault(role(process), []).append(process)
    able.pop(None, None)
    if not able:
        return None
    what = chance.choice(sorted(able))
    how = chance.choice([signal.SIGKILL, signal.SIGTERM])
    before = finished(folder)
    try:
        chance.choice(able[what]).send_signal(how)
    except psutil.NoSuchProcess:
        return None
    if what == "dvc":
        running.wait()
    deadline = time.time() + 120  # a stage that lost a worker says so first, and DVC ends with it
    while running.poll() is None and time.time() < deadline:
        time.sleep(0.2)
    deadline = time.time() + PATIENCE
    while processes(folder) and time.time() < deadline:
        time.sleep(0.2)
    left = processes(folder)
    for process in left:
        process.kill()
    lost = [name for name, weights in before.items() if finished(folder).get(name) != weights]
    return dict(what=what, signal=how.name, processes_left=len(left), trials_lost=len(lost), trials_done=len(before))


def storm(kills, seed=0):
    "An undisturbed run, then one with kills; what happened, and whether both are equal."
    with tempfile.TemporaryDirectory(prefix="storm-") as base:
        calm, wild = (Path(base).resolve() / name for name in ("calm", "wild"))
        shutil.copytree(place(calm), wild, symlinks=True)  # of one state, whoever edits meanwhile
        began = time.time()
        if run(calm, "dvc", "repro").wait():
            raise SystemExit((calm / "storm.log").read_text()[-3000:])
        seconds, expected = time.time() - began, results(calm)
        chance, happened, rounds = random.Random(seed), [], 0
        while len(happened) < kills:
            run(wild, "merhan", "mend").wait()
            running = run(wild, "dvc", "repro")
            found = kill_once(wild, chance, running)
            if found:
                happened.append(found)
                print(len(happened), found, flush=True)
            elif running.poll() == 0:  # it came to its end: begin anew
                rounds += 1
                assert results(wild) == expected, "another result than that of the undisturbed run"
                for part in ("scratch", ".dvc/cache", *(f"{part}/demo" for part in FOLDERS)):
                    shutil.rmtree(wild / part, ignore_errors=True)
                (wild / "dvc.lock").unlink()
            else:
                stop(wild, running)
        run(wild, "merhan", "mend").wait()
        code = run(wild, "dvc", "repro").wait()
        if code:
            raise SystemExit((wild / "storm.log").read_text()[-3000:])
        found = results(wild)
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        deadline = time.time() + PATIENCE
        while processes(wild) and time.time() < deadline:
            time.sleep(0.2)
        partial = [str(path.relative_to(wild)) for path in wild.rglob("*.partial")]
        return dict(
            kills=happened, rounds_to_the_end=rounds, undisturbed_seconds=round(seconds), differing=differing,
            partial_files=partial, processes_left=len(processes(wild)))


def stop(folder, running):
    "Let a run come to its end that nobody could be killed of."
    running.wait()


def main(kills):
    found = storm(kills)
    (ROOT / "costs/storm.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    draw(found)
    print({name: found[name] for name in ("rounds_to_the_end", "differing", "partial_files", "processes_left")})


def draw(found):
    "Who was killed how often, and what was lost."
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.ticker import MaxNLocator

    from merhan.figures import PAGE, paper

    paper()
    counts = pd.DataFrame(found["kills"]).groupby(["what", "signal"]).size().unstack(fill_value=0)
    figure, axis = plt.subplots(figsize=(PAGE, 2), layout="constrained")
    left = 0
    for name, color in zip(counts.columns, ("0.35", "0.7")):
        axis.barh(counts.index, counts[name], left=left, color=color, label=name)
        left = left + counts[name]
    axis.set(xlabel="kills survived")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.savefig(ROOT / "costs/storm.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    main(parser.parse_args().kills)
