"What is killed with SIGKILL, a trial in the middle of an epoch or features half done, ends as if it had not been."

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT

import merhan.products
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


FEATURES = """
import os, signal, sys
import merhan.features, merhan.products as products
import pandas as pd

folder, table = products.Path(sys.argv[1]), pd.read_parquet(sys.argv[2])
write_part = products.write_part
def write_and_die(*given):
    write_part(*given)
    if len(list(folder.glob("*.parts/*.safetensors"))) >= 3:
        os.killpg(0, signal.SIGKILL)
products.write_part = write_and_die
needed = {products.product_name("features", dict(mfcc={})): ("features", dict(mfcc={}), None)}
products.write_products(needed, table, folder, dict(audio=products.hashed_sources("audio", table)), 2, size=4)
"""


def test_sigkill_in_the_middle_of_features(small, tmp_path):
    from merhan.products import hashed_sources, write_product, write_products

    table = small["table"].head(24)
    table.to_parquet(tmp_path / "table.parquet")
    whole = write_product("features", dict(mfcc={}), table, tmp_path / "whole")
    words = [sys.executable, "-c", FEATURES, str(tmp_path / "killed"), str(tmp_path / "table.parquet")]
    done = subprocess.run(words, cwd=ROOT, start_new_session=True, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = list((tmp_path / "killed").glob("*.parts/*.safetensors"))
    assert 3 <= len(kept) < 6
    computed, needed = [], {whole["name"]: ("features", dict(mfcc={}), None)}
    with pytest.MonkeyPatch.context() as patch:
        write_part = merhan.products.write_part
        patch.setattr(merhan.products, "write_part", lambda *given: computed.append(1) or write_part(*given))
        hashed = dict(audio=hashed_sources("audio", table))
        cards = write_products(needed, table, tmp_path / "killed", hashed, 1, 4)
    assert len(computed) == 6 - len(kept), "what was written before is not computed again"
    assert cards[whole["name"]]["checksum"] == whole["checksum"]
    assert not list((tmp_path / "killed").glob("*.parts"))


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
