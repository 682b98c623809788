"""Are the trials of two checkouts the same, bit by bit?

Train the same strategies with the same seeds in both, on one machine (`dvc repro select`), then:

    python benchmarks/same_trials.py ../before . --corpus demo

compares predictions, validation predictions and histories column by column, and weights tensor by tensor.
The second checkout may hold more seeds than the first: only those that both have are compared.
"""
import argparse
import sys
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

TABLES = ("predictions", "validation", "history")


def sorted_rows(table, seeds):
    "Rows of these seeds, in an order that does not depend on who wrote them."
    keys = ["fold", "seed", "utterance" if "utterance" in table else "epoch"]
    return table[table.seed.isin(seeds)].sort_values(keys).reset_index(drop=True)


def table_differences(before, after):
    "What differs between two tables, as messages."
    if not after.is_file():
        return [f"{after} is absent"]
    old, new = pd.read_parquet(before), pd.read_parquet(after)
    if not len(old):
        return [] if not len(new) else [f"{after} has rows"]
    seeds = set(old.seed) & set(new.seed)
    try:
        pd.testing.assert_frame_equal(sorted_rows(old, seeds), sorted_rows(new, seeds)[old.columns], check_exact=True)
    except AssertionError as error:
        return [f"{after}: {' '.join(str(error).split())[:160]}"]
    return []


def weight_differences(before, after):
    "What differs between two files of weights, as messages."
    if not after.is_file():
        return [f"{after} is absent"]
    old, new = load_file(before), load_file(after)
    if old.keys() != new.keys():
        return [f"{after} has other tensors"]
    return [f"{after}: {name}" for name in old if not torch.equal(old[name], new[name])]


def compared(before, after, corpus, branch="single"):
    "Number of tables, number of files of weights, and all differences."
    old, new = (Path(root) / "work" / corpus / branch for root in (before, after))
    tables = [path for what in TABLES for path in sorted((old / what).glob("*.parquet"))]
    weights = sorted(old.glob("weights/*/*.safetensors"))
    found = []
    for path in tables:
        found += table_differences(path, new / path.relative_to(old))
    for path in weights:
        found += weight_differences(path, new / path.relative_to(old))
    return len(tables), len(weights), found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--corpus", default="demo")
    given = parser.parse_args()
    tables, weights, differences = compared(given.before, given.after, given.corpus)
    print(f"{given.corpus}: {tables} tables and {weights} files of weights, {len(differences)} differences")
    print("\n".join(differences))
    sys.exit(bool(differences) or not tables)
