"Every library notebook runs from top to bottom, and its cells hold."
import subprocess

from conftest import BIN, ROOT


def test_every_notebook_runs():
    done = subprocess.run([BIN / "nbdev_test", "--n_workers", "2", "--do_print"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Success." in done.stdout + done.stderr, (done.stdout + done.stderr)[-6000:]
