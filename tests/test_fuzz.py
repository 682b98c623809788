"Fifty mutated files of each kind: a result or a named refusal, never another error, never a row lost."

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from fuzz import KINDS, tried  # noqa: E402


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_mutated_file_is_read_or_refused(kind):
    counts = tried(kind, 50)
    assert counts["result"] + counts["refused"] >= 50
