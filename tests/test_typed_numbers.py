"No number in a paper is typed: decimals and percentages come from cells."

import ast
import json
import re

import pytest
from conftest import ROOT

from merhan.pipeline import papers

STAGES = sorted((ROOT / "nbs/pipeline").glob("*.ipynb"))
CONSTANTS = (
    r"\b(95|90) % interval",
    r"Python \d\.\d+(, \d\.\d+)*( or \d\.\d+)?",
    r"Apache-\d\.\d",
)  # levels of intervals; versions of a language and a licence
NUMBER = r"\d+\.\d+|\d+(?:\.\d+)? ?%"


def without_what_may_be_typed(text):
    "Prose without code, formulas, citations of years, and constants of the protocol."
    for pattern in (
        r"```.*?```",
        r"`[^`]*`",
        r"\$\$.*?\$\$",
        r"\$[^$\n]+\$",
        r"\barXiv \S+",
        r"Regulation \d+/\d+",
        *CONSTANTS,
    ):
        text = re.sub(pattern, " ", text, flags=re.S)
    return text


def typed_text(cell):
    "The prose of a markdown cell; of a code cell, the literal parts of what it hands to Markdown, HTML and findings."
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Markdown", "HTML", "finding"):
            for inner in ast.walk(node):
                if isinstance(inner, ast.JoinedStr):
                    yield "\N{OBJECT REPLACEMENT CHARACTER}".join(
                        part.value if isinstance(part, ast.Constant) else "" for part in inner.values
                    )
                elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner.value


def typed_numbers(notebook):
    return [
        (found, " ".join(text.split())[:90])
        for cell in notebook["cells"]
        for text in typed_text(cell)
        for found in re.findall(NUMBER, without_what_may_be_typed(text))
    ]


@pytest.mark.parametrize("path", STAGES, ids=lambda p: p.stem)
def test_no_number_is_typed(path):
    assert typed_numbers(json.loads(path.read_text())) == []


def test_a_typed_number_is_seen():
    cells = lambda kind, source: dict(cells=[dict(cell_type=kind, source=[source])])
    assert typed_numbers(cells("markdown", "It reaches 71.3 on average."))
    assert typed_numbers(cells("markdown", "It reaches 71 %."))
    assert typed_numbers(cells("code", 'Markdown(f"It reaches 71.3, not {x:.1f}.")'))
    assert not typed_numbers(cells("code", 'Markdown(f"It reaches {x:.1f} % (95 % interval {y}).")'))
    assert not typed_numbers(cells("markdown", "With $p = 0.05$ and a 95 % interval."))


def test_readme_is_what_its_notebook_says():
    for cell in json.loads((ROOT / "nbs/index.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            assert not re.findall(NUMBER, without_what_may_be_typed("".join(cell["source"]))), cell["source"]


PAPERS = [*papers(), "model_card", "data_card"]


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_has_all_its_parts(name):
    "An abstract with figures from cells, findings, limits, how to make it again, references."
    cells = json.loads((ROOT / f"nbs/pipeline/{name}.ipynb").read_text())["cells"]
    prose, code = (
        "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == kind) for kind in ("markdown", "code")
    )
    assert re.search(r'Markdown\(f"""\*\*Abstract\.\*\*\s[^"]*\{', code)
    for heading in ("## Limits", "## Reproduce", "## References"):
        assert heading in prose, heading
    for function in (r"provenance\(\s*corpus", r"reproduce\(\s*corpus", r"references\("):
        assert re.search(function, code), function
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "plt.subplots" in source:
            assert "finding(" in source, f"a figure without its finding: {source[:80]}"
