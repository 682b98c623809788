"Training reads turns from disk: of a turn, only its name and its place stay in memory."

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

EPOCH = """
import ctypes, json, re, sys
from pathlib import Path
import pandas as pd, torch
from merhan.data import in_order, load_turns, shuffled, standard
from merhan.model import MERHAN
from merhan.products import Product
from merhan.trial import EpochBatches
by, folder = sys.argv[1], Path(sys.argv[2])
torch.set_num_threads(1)
def anonymous(): # [MB], after what was freed is given back
    ctypes.CDLL(None).malloc_trim(0)
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
audio, text = Product(folder/"audio"), Product(folder/"text")
names = list(audio.spans)
given = dict(utterance=names, emotion="neu", speaker=[f"s{i % 20}" for i in range(len(names))])
net = MERHAN(40, None, 4, 4, text_states_dim=8)
optimizer = torch.optim.AdamW(net.parameters())
turns, most = load_turns(names, pd.DataFrame(given), "4", audio, text), 0
turns = standard(by).fit(turns)(turns)
for number, batch in enumerate(EpochBatches(turns, shuffled(16, 50, 16_000))):
    net(**batch.inputs, need_weights=False)[0].sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    if number % 50 == 0: most = max(most, anonymous())
with torch.no_grad():
    for batch in in_order(turns): net(**batch.inputs, need_weights=False)
print(json.dumps(dict(anonymous_mb=round(max(most, anonymous()), 1))))
"""


def write_turns(folder, lengths):
    "Products of turns with so many frames each, 40 channels of audio and 8 of text."
    rng = np.random.default_rng(0)
    for name, channels, sizes in (("audio", 40, lengths), ("text", 8, np.full(len(lengths), 12))):
        place = Path(folder) / name
        place.mkdir(parents=True)
        block = rng.standard_normal((max(sizes), channels)).astype("<f4")
        with open(place / "values.bin", "wb") as file:
            for length in sizes:
                file.write(block[:length].tobytes())
        index = pd.DataFrame(dict(utterance=[f"t{i}" for i in range(len(sizes))], length=sizes))
        index.insert(1, "start", index.length.cumsum() - index.length)
        index.to_parquet(place / "index.parquet")
        holds = dict(audio="audio_features", text="text_states")[name]
        (place / "product.json").write_text(json.dumps(dict(channels=channels, layers=1, holds=holds, dtype="<f4")))


def memory_of_an_epoch(by, folder) -> float:  # [MB]
    "The most anonymous memory of a process that trains and validates an epoch over the turns in a folder."
    done = subprocess.run(
        [sys.executable, "-c", EPOCH, by, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)["anonymous_mb"]


@pytest.mark.parametrize("by", ["corpus", "speaker"])
def test_frames_stay_on_disk(by, tmp_path):
    used = {}
    for count in (1000, 7000):
        write_turns(tmp_path / str(count), np.full(count, 200))
        used[count] = memory_of_an_epoch(by, tmp_path / str(count))
    more = 6000 * 200 * 40 * 4 / 2**20
    grown = used[7000] - used[1000]
    assert more > 180, "the turns of this test are larger than what is known of them"
    assert grown / 6000 < 5 / 1024, f"{more:.0f} MB more of turns took {grown:.0f} MB, more than 5 kB a turn"
