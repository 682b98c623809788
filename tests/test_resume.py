"A trial killed with SIGKILL in the middle of an epoch ends with the weights of one that was never killed."

import json
import os
import signal
import subprocess
import sys
import time

import torch
from conftest import ROOT

from merhan.grid import run_grid
from merhan.layout import Trial

SCRIPT = """
import json, sys, time
import merhan.resolve, merhan.loop
from merhan.layout import Trial, read_folds
from merhan.slots import SLOTS
from merhan.trial import run_trial

merhan.loop.CHECKPOINT_SECONDS = 0
config, work, scratch = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
plain = SLOTS["step"]["plain"]
def slow():
    update, count = plain(), [0]
    def step(run, batch):
        count[0] += 1
        if run.epoch == 1 and count[0] % 3 == 0:
            print("in the middle of epoch two", flush=True)
            time.sleep(60)
        return update(run, batch)
    return step
SLOTS["step"]["plain"] = slow
run_trial(Trial(config["trial"], read_folds(work + "/folds.json")[0], scratch=scratch), work)
"""


def test_sigkill_in_the_middle_of_an_epoch(small, resolved, tmp_path):
    config = resolved("baseline")
    config["trial"]["slots"]["sampler"]["shuffled"]["batch_size"] = 8
    config["trial"]["slots"]["loop"]["by_epoch"]["epochs"] = 4
    whole = run_grid(config, small["place"], dict(jobs=1), dict(device="cpu"), tmp_path / "whole")
    trial = Trial(config["trial"], small["place"].folds()[0], scratch=tmp_path / "killed")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(config), str(small["work"]), str(tmp_path / "killed")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "in the middle" in process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert trial.checkpoint.exists() and not trial.is_done()
    assert torch.load(trial.checkpoint, weights_only=True)["epoch"] == 1
    resumed = run_grid(config, small["place"], dict(jobs=1), dict(device="cpu"), tmp_path / "killed")
    weights = [trials[0].card()["weights_sha256"] for trials in (whole, resumed)]
    assert weights[0] == weights[1]
    assert not trial.checkpoint.exists()


def test_twice_at_once_is_once(small, resolved, tmp_path):
    "Two processes that want the same trials wait for each other; each trial is trained once."
    from concurrent.futures import ThreadPoolExecutor

    config = resolved("baseline")
    code = """
import json, sys
from pathlib import Path
sys.path.insert(0, "tests")
from conftest import workplace
from merhan.grid import run_grid
run_grid(json.loads(sys.argv[1]), workplace(Path(sys.argv[2])), dict(jobs=1), dict(device="cpu"), sys.argv[3])
"""
    call = lambda _: subprocess.run(
        [sys.executable, "-c", code, json.dumps(config), str(small["work"]), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )  # noqa: E731
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(call, range(2)))
    assert [d.returncode for d in done] == [0, 0], done[0].stderr + done[1].stderr
    assert len(list(tmp_path.glob("*/result/weights.safetensors"))) == 5
    started = time.perf_counter()
    run_grid(config, small["place"], dict(jobs=1), dict(device="cpu"), tmp_path)
    assert time.perf_counter() - started < 2, "what is done is skipped"
