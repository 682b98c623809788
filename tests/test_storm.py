"Processes of a running pipeline are killed; in the end everything is as if nothing had happened."

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.mark.heavy
def test_a_storm_is_survived():
    from storm import storm

    found = storm(6, seed=1)
    assert not found["differing"] and not found["partial_files"] and not found["processes_left"]
    assert all(kill["processes_left"] == 0 and kill["trials_lost"] == 0 for kill in found["kills"])
