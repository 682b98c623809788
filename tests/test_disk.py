"A disk that is full, read-only or changes a byte: named, and healed where the data can be made again."

import json
import os
import shutil
import subprocess
import warnings

import pandas as pd
import pytest
import torch
import yaml
from conftest import Clone
from safetensors.torch import save_file

from merhan.grid import run_grid
from merhan.layout import read_folds, read_yaml, room_in, write_csv, write_folds, write_json, write_table, written
from merhan.pipeline import mend_lock, mend_notes
from merhan.products import Product, write_missing_products
from merhan.resolve import needed_products

HERE = dict(jobs=1), dict(device="cpu")


@pytest.fixture
def mounted(tmp_path):
    "A function that gives a disk of some kB, where this machine lets us make one."
    disks = []

    def mount(size, options=""):
        folder = tmp_path / f"disk{len(disks)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k{options}", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this machine does not let us make a small disk")
        disks.append(folder)
        return folder

    yield mount
    for folder in disks:
        subprocess.run(["umount", folder], check=True)


def flip(path, place=0.5):
    "Change a bit of a file."
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


TABLE = pd.DataFrame(dict(x=torch.rand(60_000, dtype=torch.float64).tolist()))  # which cannot be compressed
WRITERS = {
    "parquet": lambda path: write_table(TABLE, path),
    "csv": lambda path: write_csv(TABLE, path),
    "json": lambda path: write_json(TABLE.x.tolist(), path),
}


def write_weights(path):
    with room_in(path.parent), written(path) as partial:
        save_file(dict(x=torch.rand(200_000)), partial)


def write_checkpoint(path):
    with written(path) as partial:
        torch.save(dict(x=torch.rand(200_000)), partial)


def write_several(path):
    with written(path) as partial:
        partial.mkdir()
        (partial / "values.bin").write_bytes(bytes(700_000))


@pytest.mark.parametrize("name", [*WRITERS, "weights", "checkpoint", "folder"])
def test_a_full_disk_is_named_and_leaves_nothing(mounted, name):
    writers = WRITERS | dict(weights=write_weights, checkpoint=write_checkpoint, folder=write_several)
    disk = mounted(400)
    (disk / "result").write_text("what was there before")
    with pytest.raises(OSError, match="the disk is full: "):
        writers[name](disk / "result")
    assert [p.name for p in disk.iterdir()] == ["result"]
    assert (disk / "result").read_text() == "what was there before"


def test_a_trial_on_a_full_disk_is_made_when_there_is_room(mounted, small, resolved, tmp_path):
    config = resolved("baseline")
    disk = mounted(60)
    with pytest.raises(OSError, match="the disk is full"):
        run_grid(config, small["place"], *HERE, disk)
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    whole = run_grid(config, small["place"], *HERE, tmp_path / "whole")
    again = run_grid(config, small["place"], *HERE, disk)
    assert [t.card()["weights_sha256"] for t in again] == [t.card()["weights_sha256"] for t in whole]
    assert not list(disk.rglob("*.partial"))


def test_products_on_a_full_disk_are_made_when_there_is_room(mounted, small):
    needed = dict(list(needed_products(small["params"]).items())[:1])
    disk = mounted(300)
    with pytest.raises(OSError, match="the disk is full"):
        write_missing_products(needed, small["table"], disk)
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    (name,) = write_missing_products(needed, small["table"], disk)
    assert Product(disk / name, verify=True).card["checksum"] == small["cards"][name]["checksum"]
    assert not list(disk.rglob("*.partial"))


def test_a_disk_that_is_read_only_is_named(mounted):
    disk = mounted(100)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(OSError, match="Read-only file system.*result"):
        write_json({}, disk / "result")


def test_a_byte_of_a_product(small, tmp_path):
    needed = dict(list(needed_products(small["params"]).items())[:1])
    (name,) = write_missing_products(needed, small["table"], tmp_path)
    for part in ("values.bin", "index.parquet", "product.json"):
        flip(tmp_path / name / part)
        cards = write_missing_products(needed, small["table"], tmp_path)
        assert cards[name]["checksum"] == small["cards"][name]["checksum"]
        assert Product(tmp_path / name, verify=True).card["checksum"] == small["cards"][name]["checksum"]


PARTS = ("weights.safetensors", "test.parquet", "validation.parquet", "history.json", "card.json")


@pytest.mark.parametrize("part", PARTS)
def test_a_byte_of_a_trial(small, resolved, tmp_path, part):
    config = resolved("baseline")
    config["seeds"] = 1
    trial, *_ = before = run_grid(config, small["place"], *HERE, tmp_path)
    content = (trial.result / part).read_bytes()
    flip(trial.result / part)
    after = run_grid(config, small["place"], *HERE, tmp_path)
    assert (trial.result / part).read_bytes() == content or part == "card.json"
    assert [t.card() for t in after] == [t.card() for t in before]


def test_a_byte_of_a_checkpoint(small, resolved, tmp_path):
    from merhan.layout import Trial
    from merhan.loop import load_checkpoint, save_checkpoint
    from merhan.trial import assemble_as, inputs_of, normalised_sides, stored_sides

    config = resolved("baseline")["trial"]
    trial = Trial(config, small["place"].folds()[0], scratch=tmp_path)
    _, train, validation = normalised_sides(config["slots"], stored_sides(config, trial.fold, small["work"]))
    given = config["slots"], inputs_of(train), 4, 0, train, validation
    run = assemble_as(trial.arithmetic, *given, checkpoint=trial.checkpoint)
    run.started = run.saved = -1e9
    save_checkpoint(run)
    flip(trial.checkpoint)
    with pytest.warns(UserWarning, match="was damaged, and its trial starts over"):
        load_checkpoint(run)
    assert not trial.checkpoint.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(run)


def test_a_byte_of_the_folds(small, tmp_path):
    write_folds(small["place"].folds(), tmp_path / "folds.json")
    content = json.loads((tmp_path / "folds.json").read_text())
    content["folds"][0]["test"][0] += "x"
    (tmp_path / "folds.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="was edited"):
        read_folds(tmp_path / "folds.json")


def test_a_lock_that_was_cut_or_changed(tmp_path):
    lock = tmp_path / "dvc.lock"
    shutil.copyfile("pipelines/first_look/dvc.lock", lock)
    whole, stages = lock.read_bytes(), read_yaml(lock)["stages"]
    assert mend_lock(lock) == [] and lock.read_bytes() == whole
    for share in (0.1, 0.37, 0.5, 0.83, 0.999):
        lock.write_bytes(whole[: int(share * len(whole))])
        mend_lock(lock)
        kept = yaml.safe_load(lock.read_text())["stages"]
        assert all(kept[name] == stages[name] for name in list(kept)[:-1]) and kept.keys() <= stages.keys()
        assert len(kept) >= whole[: int(share * len(whole))].count(b"\n    cmd:") - 1
    for at in range(0, len(whole), 97):
        lock.write_bytes(whole[:at] + b"\t:" + whole[at + 2 :])
        mend_lock(lock)
        assert isinstance(yaml.safe_load(lock.read_text())["stages"], dict)


def test_notes_of_dvc_that_were_cut(tmp_path):
    notes = tmp_path / "rwlock"
    for content, is_cut in (("", True), ('{"data": {"rea', True), ("{}", False)):
        notes.write_text(content)
        assert mend_notes(notes) == is_cut and notes.is_file() != is_cut
    assert not mend_notes(tmp_path / "absent")


def test_two_processes_at_one_stage(tmp_path, monkeypatch):
    from filelock import FileLock

    from merhan.stages import run_stage

    root = os.getcwd()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch/stages").mkdir(parents=True)
    with FileLock(tmp_path / "scratch/stages/reports-demo-prepare.ipynb.lock"):
        with pytest.raises(ValueError, match="another process executes the stage"):
            run_stage(f"{root}/nbs/pipeline/prepare.ipynb", "reports/demo/prepare.ipynb", dict(corpus="demo"))


STAGES = ("prepare", "features", "train@gated_fusion", "evaluate", "report")


@pytest.mark.heavy
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_on_a_full_disk_is_named_and_runs_when_there_is_room(mounted, clone, stage):
    disk = mounted(900_000)
    here = disk / "merhan"
    shutil.copytree(clone.folder, here, symlinks=True, ignore=shutil.ignore_patterns(".git", "cache", ".dvcstore"))
    copy = Clone(here)
    known = yaml.safe_load((here / "dvc.lock").read_text())["stages"][stage]
    outs = [out["path"] for out in known["outs"]]
    whole = copy.contents(*outs, *(f"{path}/**/*" for path in outs))
    remove(here, outs, stage)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 8192))
    failed = copy.run(*known["cmd"].split(), fails=True)
    assert failed.returncode and "the disk is full" in failed.stderr, failed.stderr[-2000:]
    assert "Traceback" not in failed.stderr, failed.stderr[-2000:]
    assert not list(here.rglob("*.partial"))
    ballast.unlink()
    remove(here, outs, stage)
    copy.run(*known["cmd"].split())
    assert whole and copy.contents(*outs, *(f"{path}/**/*" for path in outs)) == whole


def remove(here, outs, stage):
    "What DVC removes before it runs a stage, and the trials of it."
    for path in [*outs, *(["scratch"] if stage.startswith("train") else [])]:
        shutil.rmtree(here / path, ignore_errors=True)
        (here / path).unlink(missing_ok=True)
