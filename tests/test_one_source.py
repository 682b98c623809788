"README, index and papers say the same, because it comes from the same place: the metrics."

import json
from pathlib import Path

import pandas as pd
import pytest

from merhan.layout import Place
from merhan.papers import census, census_text, interval_text
from merhan.params import entries_of, read_params
from merhan.pipeline import JOINT

UA = "unweighted_accuracy"
SCORED = sorted(path.stem for path in Path("metrics").glob("*.csv") if path.stem != JOINT)
CHOSEN = [name for name in SCORED if name != "ravdess_goemotions"]  # which inherits its baseline


def text_of(page):
    "What an executed notebook, or a markdown file, shows to a reader."
    if page.suffix != ".ipynb":
        return page.read_text("utf-8")
    shown = []
    for cell in json.loads(page.read_text("utf-8"))["cells"]:
        shown.append("".join(cell["source"]) if cell["cell_type"] == "markdown" else "")
        for output in cell.get("outputs", []):
            for kind in ("text/markdown", "text/plain"):
                shown.append("".join(output.get("data", {}).get(kind, "")))
    return "\n".join(shown)


def pages_of(corpus):
    "The pages that speak of all models."
    pages = [Place(corpus).reports / f"{name}.ipynb" for name in ("ablation", "evaluate")]
    return pages + ([Path("README.md")] if corpus == "demo" else [])


@pytest.mark.parametrize("corpus", SCORED)
def test_pages_count_models_alike(corpus):
    said = census_text(read_params(corpus), Place(corpus).metrics())
    for page in pages_of(corpus):
        assert said in text_of(page).replace("\n", " "), page


@pytest.mark.parametrize("corpus", SCORED)
def test_the_baseline_has_one_score(corpus):
    said = interval_text(Place(corpus).metrics()["baseline"][UA])
    for name in ("report", "evaluate"):
        assert said in text_of(Place(corpus).reports / f"{name}.ipynb"), name
    if corpus == "demo":
        assert said in text_of(Path("README.md"))


@pytest.mark.parametrize("corpus", SCORED)
def test_lists_of_verdicts_are_those_of_the_metrics(corpus):
    params, metrics = read_params(corpus), Place(corpus).metrics()
    singles = census(params, metrics)["strategies"]
    helping = [name for name in singles if metrics[name]["against_baseline"][UA].get("verdict") == "helps"]
    helping.sort(key=lambda name: -metrics[name]["against_baseline"][UA]["difference"])
    said = ", ".join(name.replace("_", " ") for name in helping) or "none"
    assert f"({said})" in text_of(Place(corpus).reports / "ablation.ipynb").replace("\n", " ")


@pytest.mark.parametrize("corpus", SCORED)
def test_the_table_holds_what_the_files_hold(corpus):
    metrics = Place(corpus).metrics()
    table = pd.read_csv(f"metrics/{corpus}.csv").set_index("name")
    assert set(table.index) == set(metrics)
    for name, values in metrics.items():
        assert table.loc[name, UA] == pytest.approx(values[UA]["mean"], abs=0.05), name


@pytest.mark.parametrize("corpus", SCORED)
def test_every_model_was_trained_with_the_parameters_that_stand_here(corpus):
    params, metrics, place = read_params(corpus), Place(corpus).metrics(), Place(corpus)
    names = [*place.names("single"), *place.names("stacks")]
    left_out = {name for name in names if "left_out" in place.configuration(name)}
    assert set(entries_of(params)) - left_out <= set(metrics)
    assert metrics["baseline"]["configuration"] == place.baseline_digest()


@pytest.mark.parametrize("corpus", CHOSEN)
def test_the_baseline_has_converged(corpus):
    "Twice the epochs gain less than two points, and the specification's size is not better beyond its interval."
    metrics = Place(corpus).metrics()["baseline"]
    asked = metrics["criteria"]
    assert set(asked) >= {"twice the epochs"}, asked
    for name, found in asked.items():
        assert found["holds"], (corpus, name, found)
