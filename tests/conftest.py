"What several tests need: the repository's root, the bundled corpus, a small prepared workplace, and a clone."
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    "Paths in parameters are relative to the root of the repository."
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def demo():
    "The bundled corpus as a table."
    from merhan.corpora import iemocap

    assert (ROOT / "data/demo").is_dir(), "the bundled corpus is missing: dvc pull data.dvc"
    return iemocap(ROOT / "data/demo", "4", complete=False)


@pytest.fixture(scope="session")
def small(tmp_path_factory, demo):
    "A prepared workplace of few turns: every session, every class, features of the baseline, two epochs."
    import yaml

    from merhan.ablation import label_digest, needed_products
    from merhan.data import folds, write_folds
    from merhan.features import write_missing_products

    work = tmp_path_factory.mktemp("work")
    table = demo.table().sort_values("utterance").groupby(["session", "emotion"]).head(4).reset_index(drop=True)
    table["audio"] = [str(ROOT / path) for path in table.audio]
    table.to_parquet(work / "utterances.parquet")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["baseline"]["loop"]["by_epoch"]["epochs"] = 2
    params["baseline"]["model"]["merhan"]["hidden_dim"] = 16
    write_folds(folds(table, seeds=1), work / "folds.json")
    cards = write_missing_products(needed_products(params), table, work / "features")
    return dict(work=work, table=table, params=params, labels=label_digest(table), cards=cards)


@pytest.fixture(scope="session")
def resolved(small):
    "A function of a strategy's name that gives its resolved configuration in the small workplace."
    from merhan.ablation import read_strategies, resolve

    strategies = read_strategies(small["params"])
    return lambda name: resolve(small["params"], strategies[name], small["cards"], small["labels"], ROOT / "nbs/pipeline/train.ipynb") | dict(seeds=1)


def copy_of_repository(target):
    "The working tree as a fresh git repository: what is tracked or would be, and nothing that is ignored."
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in files:
        if not (ROOT / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "copy"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target
