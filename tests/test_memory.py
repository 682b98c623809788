"Training reads turns from disk: of a turn, only its name and its place stay in memory."

import json
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = """
import ctypes, json, re, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from merhan.data import in_order, load_turns, shuffled, standard
from merhan.model import MERHAN
from merhan.products import Product
from merhan.trial import EpochBatches
by, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
names = [f"t{i}" for i in range(count)]
for name, channels, length in (("audio", 40, 200), ("text", 8, 3)):
    place = folder/name
    place.mkdir()
    values = np.random.default_rng(0).standard_normal((length, channels)).astype("<f4").tobytes()
    with open(place/"values.bin", "wb") as file:
        for _ in names: file.write(values)
    index = pd.DataFrame(dict(utterance=names, start=np.arange(count) * length, length=length))
    index.to_parquet(place/"index.parquet")
    holds = dict(audio="audio_features", text="text_states")[name]
    card = dict(channels=channels, layers=1, holds=holds, dtype="<f4")
    (place/"product.json").write_text(json.dumps(card))
speakers = [f"s{i % 20}" for i in range(count)]
table = pd.DataFrame(dict(utterance=names, emotion=["ang", "hap", "neu", "sad"] * (count // 4), speaker=speakers))
def anonymous(): # [MB], after what was freed is given back
    ctypes.CDLL(None).malloc_trim(0)
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
net = MERHAN(40, None, 4, 4, text_states_dim=8)
optimizer = torch.optim.AdamW(net.parameters())
def epoch(turns):
    batches = EpochBatches(turns, shuffled(32, 8, 6400))
    for batch in batches:
        net(**batch.inputs, need_weights=False)[0].sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        for batch in in_order(turns): net(**batch.inputs, need_weights=False)
turns = load_turns(names, table, "4", Product(folder/"audio"), Product(folder/"text"))
epoch(standard(by).fit(turns)(turns))
print(json.dumps(dict(used=anonymous(), data=count * 200 * 40 * 4 / 2**20)))
"""


@pytest.mark.parametrize("by", ["corpus", "speaker"])
def test_frames_stay_on_disk(by, tmp_path):
    used, data = {}, {}
    for count in (1000, 7000):
        folder = tmp_path / str(count)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, by, str(count), str(folder)], cwd=ROOT, capture_output=True, text=True
        )
        assert not done.returncode, done.stderr
        found = json.loads(done.stdout)
        used[count], data[count] = found["used"], found["data"]
    grown, more = used[7000] - used[1000], data[7000] - data[1000]
    assert more > 180, "the turns of this test are larger than what is known of them"
    assert grown / 6000 < 5 / 1024, f"{more:.0f} MB more of turns took {grown:.0f} MB, more than 5 kB a turn"
