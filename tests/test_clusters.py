"The grid on Dask and on Ray gives the weights of forked processes, outlives a worker, and passes errors on."

import os
import signal
import threading
import time

import psutil
import pytest

from merhan.grid import run_grid
from merhan.layout import Trial

pytestmark = pytest.mark.heavy
CPU = dict(device="cpu")


def weights(trials):
    return [trial.card()["weights_sha256"] for trial in trials]


@pytest.fixture(scope="module")
def longer(resolved):
    "A configuration whose trials last long enough to be killed in their middle."
    config = resolved("baseline")
    config["trial"]["slots"]["loop"]["by_epoch"]["epochs"] = 12
    return config


@pytest.fixture(scope="module")
def forked(small, longer, tmp_path_factory):
    return weights(run_grid(longer, small["place"], dict(jobs=2), CPU, tmp_path_factory.mktemp("forked")))


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_weights_are_those_of_forks(backend, small, longer, forked, tmp_path):
    trials = run_grid(longer, small["place"], dict(backend=backend, jobs=2), CPU, tmp_path)
    assert weights(trials) == forked


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_worker_that_dies_costs_time_only(backend, small, longer, forked, tmp_path):
    killed = []

    def kill_who_trains():
        while not killed:
            locks = [Trial(longer["trial"], fold, scratch=tmp_path).folder / "lock" for fold in small["place"].folds()]
            for process in psutil.Process().children(recursive=True):
                if holds_one_of(process, {str(lock) for lock in locks}):
                    killed.append(process.pid)
                    os.kill(process.pid, signal.SIGKILL)
                    return
            time.sleep(0.02)

    threading.Thread(target=kill_who_trains, daemon=True).start()
    trials = run_grid(longer, small["place"], dict(backend=backend, jobs=2), CPU, tmp_path)
    assert killed and weights(trials) == forked


def holds_one_of(process, paths):
    try:
        return bool({file.path for file in process.open_files()} & paths)
    except psutil.Error:
        return False


@pytest.mark.parametrize("backend", ["dask", "ray", "fork", "loky"])
def test_an_error_arrives_as_it_was_raised(backend, small, resolved, tmp_path):
    config = resolved("baseline")
    config["trial"]["products"]["features"] = dict(name="mfcc_nowhere")
    with pytest.raises(ValueError, match="mfcc_nowhere holds no complete feature product; run the features stage"):
        run_grid(config, small["place"], dict(backend=backend, jobs=2), CPU, tmp_path)
