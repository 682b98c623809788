"What several tests need: the repository's root, the bundled corpus, a small prepared workplace, and a clone."

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from merhan.layout import Place

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FEW = ("baseline", "audio_only", "text_only", "contextual_text", "gated_fusion")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_configure(config):
    config.addinivalue_line("markers", "heavy: takes minutes, so it belongs to `make test-all`, not to `make test`")


def pytest_collection_modifyitems(items):
    "The files that need the clone take longest, so they begin first."
    items.sort(key=lambda item: "clone" not in item.fixturenames)


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    "Paths in parameters are relative to the root of the repository."
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def demo():
    "The bundled corpus as a table."
    from merhan.iemocap import iemocap

    assert (ROOT / "data/demo").is_dir(), "the bundled corpus is missing: dvc pull data.dvc"
    return iemocap(ROOT / "data/demo", "4", complete=False)


def shared(tmp_path_factory, name):
    "A folder that all workers of a run of tests have in common."
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


@pytest.fixture(scope="session")
def small(tmp_path_factory, demo):
    "A prepared workplace of few turns, made once for all workers: every session, every class, two epochs."
    work = shared(tmp_path_factory, "work")
    with FileLock(f"{work}.lock"):
        return prepared_workplace(work, demo)


def shortened(delta):
    "Two epochs, or four where they are meant to be more, and sixteen channels."
    for given in delta.get("loop", {}).values():
        given["epochs"] = 4 if set(given) == {"epochs"} and given["epochs"] > 50 else 2
        if "tuning_epochs" in given:
            given["tuning_epochs"] = 1
    for given in delta.get("model", {}).values():
        if "hidden_dim" in given:
            given["hidden_dim"] = 16


def prepared_workplace(work, demo):
    "What `small` gives; what is in the folder already is left alone."
    from merhan.folds import folds
    from merhan.layout import write_folds
    from merhan.params import read_params
    from merhan.products import write_missing_products
    from merhan.resolve import label_digest, needed_products

    is_new = not work.is_dir()
    work.mkdir(exist_ok=True)
    table = demo.table().sort_values("utterance").groupby(["session", "emotion"]).head(4)
    table = table[(table.emotion != "sad") | (table.groupby(["session", "emotion"]).cumcount() < 2)].reset_index(
        drop=True
    )  # one class is rare
    table["audio"] = [str(ROOT / path) for path in table.audio]
    table["heard"] = table.text.str.rsplit(n=1).str[0]  # as if the last word were never heard
    os.chdir(ROOT)
    params = read_params("demo") | dict(leave_out={}, trained_longer={})  # every strategy is trained, for few epochs
    params["baseline"]["loop"]["by_epoch"]["epochs"] = 2
    params["baseline"]["model"]["merhan"]["hidden_dim"] = 16
    for entry in params["strategies"].values():
        shortened(entry["delta"])
    params["strategies"]["domain_adaptation"]["delta"]["text"]["adapted"].update(
        sentences=str(work / "adaptation.csv"), epochs=1
    )
    if is_new:
        few = (ROOT / params["adaptation"]["path"]).read_text().splitlines()
        (work / "adaptation.csv").write_text("\n".join([few[0], *few[1::12]]) + "\n")
        table.to_parquet(work / "utterances.parquet")
        write_folds(folds(table, seeds=1), work / "folds.json")
    cards = write_missing_products(needed_products(params), table, work / "features", 2)
    return dict(place=workplace(work), work=work, table=table, params=params, labels=label_digest(table), cards=cards)


@pytest.fixture(scope="session")
def resolved(small):
    "A function of a strategy's name that gives its resolved configuration in the small workplace."
    from merhan.resolve import resolve
    from merhan.strategies import read_strategies

    strategies = read_strategies(small["params"])
    return lambda name: (
        resolve(small["params"], strategies[name], small["cards"], small["labels"], ROOT / "nbs/pipeline/train.ipynb")
        | dict(seeds=1)
    )


@pytest.fixture(scope="session")
def toy_trial(small, resolved, tmp_path_factory):
    "A function of a strategy's name that runs one small trial of it, once; with it come the functions that ran."
    from merhan.layout import Trial
    from merhan.trial import run_trial

    done = {}

    def run(name):
        if name not in done:
            first = small["place"].folds()[0]
            trial, ran = Trial(resolved(name)["trial"], first, scratch=tmp_path_factory.mktemp("trial")), set()

            def profile(frame, event, argument):
                if event == "call" and frame.f_globals.get("__name__", "").startswith("merhan."):
                    ran.add((frame.f_globals["__name__"], frame.f_code.co_qualname))

            sys.setprofile(profile)
            try:
                run_trial(trial, small["work"])
            finally:
                sys.setprofile(None)
            done[name] = trial, ran
        return done[name]

    return run


@dataclass(frozen=True)
class Workplace(Place):
    "The place of the bundled corpus, with its work in another folder; other processes can be given it."

    folder: Path = None

    @property
    def work(self):
        return self.folder


def workplace(folder):
    return Workplace("demo", folder)


def copy_of_repository(target):
    "The working tree as a fresh git repository: what is tracked or would be, and nothing that is ignored."
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        if not (ROOT / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "copy"],
    ):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


class Clone:
    "A copy of the repository with commands that run in it, on its own package."

    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | dict(
            PYTHONPATH=str(folder),
            PATH=f"{BIN}:{os.environ['PATH']}",
            GIT_AUTHOR_NAME="t",
            GIT_AUTHOR_EMAIL="t@example.org",
            GIT_COMMITTER_NAME="t",
            GIT_COMMITTER_EMAIL="t@example.org",
        )

    def run(self, *words, fails=False):
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert fails or done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def repro(self, *words, fails=False):
        "Run `dvc repro`; gives the stages that ran."
        done = self.run("dvc", "repro", *words, fails=fails)
        self.last = done
        return re.findall(r"Running stage '(.+?)'", done.stdout)

    def commit(self, message):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def back(self):
        "Everything as it was committed, the outputs of stages with it: from DVC's cache, so that nothing has to run."
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout", "-q", "--force", "dvc.yaml", "data.dvc")

    def edit(self, path, old, new):
        path = self.folder / path
        text = path.read_text()
        assert old in text, f"{old!r} is not in {path}"
        path.write_text(text.replace(old, new, 1))

    def contents(self, *patterns):
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for pattern in patterns
            for p in sorted(self.folder.glob(pattern))
            if p.is_file()
        }


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    "A clone with a reduced protocol, reproduced and committed once for all workers; each file of tests has a copy."
    made = shared(tmp_path_factory, "reduced")
    with FileLock(f"{made}.lock"):
        if not made.is_dir():
            partial = made.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            run_reduced(Clone(copy_of_repository(partial)))
            partial.rename(made)
    return Clone(shutil.copytree(made, tmp_path_factory.mktemp("clone") / "merhan", symlinks=True))


def reduce(clone, names=FEW):
    "Reduce the protocol of a clone: few strategies, small networks, two epochs."
    clone.run("dvc", "pull", "data.dvc")
    clone.run(
        "git",
        "rm",
        "-rq",
        "--ignore-unmatch",
        "pipelines/ravdess_goemotions",  # whose rows would not be here
        *(f"pipelines/{corpus}/package.yaml" for corpus in ("demo", "emodb_goemotions")),  # nor would its teacher
        *(
            f"{kind}/{corpus}"
            for kind in ("reports", "metrics", "configs")
            for corpus in ("demo", "emodb_goemotions", "ravdess_goemotions")
        ),
    )  # of more strategies than are run here
    params = yaml.safe_load((clone.folder / "params.yaml").read_text())
    params["protocol"].update(seeds=2, baseline_seeds=2)
    params["corpus"].update(spoken=False)  # recognition takes minutes, and no strategy here reads what was heard
    params["leave_out"], params["trained_longer"] = {}, {}  # of strategies that are not here
    params["transfer"].remove("ravdess_goemotions")
    params["verdicts"].update(simulated=40)
    params["inflation"].update(seeds=1, luck=2)
    params["probes"].update(models=["baseline", "gated_fusion"], pairings=2)
    params["baseline"]["loop"]["by_epoch"]["epochs"] = 2
    params["baseline"]["model"]["merhan"]["hidden_dim"] = 16
    params["strategies"] = {name: params["strategies"][name] for name in names}
    if "contextual_text" in names:  # one that cannot be trained here
        params["strategies"]["contextual_text"]["delta"]["text"] = dict(token_ids=dict(model_name="roberta-large"))
    for entry in params["strategies"].values():
        for given in entry["delta"].get("text", {}).values():
            if "sentences" in (given or {}):
                given.update(most=48, epochs=1)
    params["stacks"] = dict(whatever_helped=dict(why="they may add up", source="ours", helped=["fusion"]))
    params["simple"] = ["baseline", "whatever_helped"]
    (clone.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    own = clone.folder / "pipelines/emodb_goemotions/params.yaml"
    own.write_text(
        own.read_text().split("# Chosen on validation sessions")[0] + "only: [baseline, audio_only, text_only]\n"
    )  # the reduced protocol's size, not this corpus's own
    own = clone.folder / "pipelines/iemocap/params.yaml"
    own.write_text(own.read_text().split("# Here the text encoder is trained along")[0])  # whose strategies are gone
    clone.run("merhan", "pipelines")


def run_reduced(clone):
    "Reduce the protocol of a clone, run every stage, commit."
    reduce(clone)
    ran = clone.repro()
    assert {
        "train@baseline",
        "train@gated_fusion",
        "train@contextual_text",
        "select",
        "simple",
        "train_stack@whatever_helped",
        "evaluate",
        "pages",
        "report",
    } <= set(ran)
    clone.commit("reduced")
