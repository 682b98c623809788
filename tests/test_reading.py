"It reads well: short lines, one comprehension at a time, no component that is asked what it has, figures that fit."

import ast
import json
import re

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
MODULES = [p for p in sorted((ROOT / "merhan").glob("*.py")) if p.stem != "_modidx"]
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
WIDTH = 120
MARGIN = 0.25  # of a figure, which is cut where its outermost mark ends [inch]
SIZES = {"9", "6.3"}  # of letters, and of an exponent [points]


def cells(path, kind):
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def code(path):
    "The syntax trees of a notebook's code cells, or of a module."
    if path.suffix == ".py":
        return [ast.parse(path.read_text())]
    return [ast.parse(re.sub(r"^[%!].*$", "pass", source, flags=re.M)) for source in cells(path, "code")]


def wide(lines):
    return [line for line in lines if len(line) > WIDTH]


def without_exports(source):
    "A module without the list of its names, which the export tool writes as wide as it likes."
    return re.sub(r"^__all__ = \[.*?\]$", "", source, flags=re.M | re.S)


def nested(tree):
    inside = [node for node in ast.walk(tree) if isinstance(node, COMPREHENSIONS)]
    return [ast.unparse(outer) for outer in inside if sum(isinstance(n, COMPREHENSIONS) for n in ast.walk(outer)) > 1]


def probes(tree):
    "Calls of `hasattr`, and of `getattr` with a default."
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return [ast.unparse(c) for c in calls if c.func.id == "hasattr" or c.func.id == "getattr" and len(c.args) == 3]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_line_of_a_notebook_is_wide(path):
    "Rows of tables may be: markdown has no way to break them."
    lines = [line for source in cells(path, "code") for line in source.splitlines()]
    prose = [line for source in cells(path, "markdown") for line in source.splitlines()]
    assert not wide(lines) and not wide(line for line in prose if not line.startswith("|"))


def test_no_line_of_the_package_or_of_the_tests_is_wide():
    found = {
        p.name: wide(without_exports(p.read_text()).splitlines()) for p in [*MODULES, *(ROOT / "tests").glob("*.py")]
    }
    assert not any(found.values()), {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("path", [*NOTEBOOKS, *MODULES], ids=lambda p: p.name)
def test_no_comprehension_stands_inside_another(path):
    assert not [found for tree in code(path) for found in nested(tree)]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *MODULES], ids=lambda p: p.name)
def test_nothing_is_asked_what_it_has(path):
    "What a component owes stands on its base class, with its default."
    assert not [found for tree in code(path) for found in probes(tree)]


def test_these_tests_can_fail():
    assert wide(["x" * 121]) and not wide(["x" * 120])
    assert nested(ast.parse("[[x for x in y] for y in z]")) and not nested(ast.parse("[x for y in z for x in y]"))
    assert probes(ast.parse("hasattr(a, 'b')")) and probes(ast.parse("getattr(a, 'b', None)"))
    assert not probes(ast.parse("getattr(a, 'b')"))


def figures(path):
    "The vector graphics that a notebook shows."
    outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
    return ["".join(o["data"]["image/svg+xml"]) for o in outputs if "image/svg+xml" in o.get("data", {})]


@pytest.fixture(scope="module")
def shown():
    "The figures of each lesson and of each paper."
    paths = [*sorted((ROOT / "nbs").glob("*.ipynb")), *sorted((ROOT / "reports").glob("*/**/*.ipynb"))]
    found = {str(p.relative_to(ROOT)): figures(p) for p in paths}
    assert sum(map(len, found.values())) > 300
    return found


def test_figures_fit_on_the_page(shown):
    from merhan.figures import PAGE

    width = lambda svg: float(re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)[1]) / 72
    too_wide = {path for path, svgs in shown.items() for svg in svgs if width(svg) > PAGE + MARGIN}
    assert not too_wide, sorted(too_wide)


def test_letters_of_figures_have_one_size(shown):
    sizes = lambda svg: set(re.findall(r"font-size: ([\d.]+)px", svg))
    others = {path for path, svgs in shown.items() for svg in svgs if sizes(svg) - SIZES}
    assert not others, sorted(others)
    unread = {path for path, svgs in shown.items() if svgs and not any(map(sizes, svgs))}
    assert not unread, f"letters are written in another way in {sorted(unread)}"
