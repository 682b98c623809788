"Imports point upward: a module imports only from notebooks with smaller numbers; the package needs no development tool."

import ast
import re

from conftest import ROOT

ORDER = {}
for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
    module = re.search(r"default_exp (\w+)", path.read_text())[1]
    ORDER[module] = path.name


def imports(module):
    tree = ast.parse((ROOT / "merhan" / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield f"merhan.{node.module}" if node.level else node.module
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_point_upward():
    assert "merhan.slots" in set(imports("features")), "the test would see nothing"
    for module, notebook in ORDER.items():
        for name in imports(module):
            if name.startswith("merhan."):
                other = name.split(".")[1]
                assert ORDER[other] < notebook or other == module, f"{notebook} imports {other}, which comes later"


def test_no_development_tool_is_imported():
    for module in ORDER:
        used = {name.split(".")[0] for name in imports(module)}
        assert not used & {"nbdev", "execnb", "fastcore", "ghapi", "pytest"}, f"{module} imports a development tool"


def test_every_module_has_its_notebook():
    assert set(ORDER) == {p.stem for p in (ROOT / "merhan").glob("*.py")} - {"__init__", "_modidx"}


def test_mistakes_cannot_be_imported():
    "What makes scores look better on purpose is reached by its own two notebooks alone."
    for module in ORDER:
        assert "merhan.inflation" not in set(imports(module)), module
    assert ORDER["inflation"] > ORDER["command"], "it stands below everything that trains"
    readers = {p.stem for p in (ROOT / "nbs/pipeline").glob("*.ipynb") if "merhan.inflation" in p.read_text()}
    assert readers == {"leaks", "inflation"}
