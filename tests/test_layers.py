"Imports point upward, stages that only draw import no torch, and the package needs no development tool."
import ast
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

ORDER = {}  # module to its notebook; in the order of names is the order of reading
for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
    exported = re.search(r"default_exp (\w+)", path.read_text())
    if exported:
        ORDER[exported[1]] = path.name
# stages that compute
BUILDING = {"train", "hear", "features", "resolve", "select", "simple", "leaks", "probe", "pairings", "crossed"}
BUILDING |= {"package", "stress"}
LOOKING = {"model", "architecture", "attention", "report"}  # papers that open a network or describe its components
STAGES = sorted(p.stem for p in (ROOT / "nbs/pipeline").glob("*.ipynb"))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield f"merhan.{node.module}" if node.level else node.module
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports_of(module):
    return set(imports(ast.parse((ROOT / "merhan" / f"{module}.py").read_text())))


def imports_of_stage(stage):
    cells = json.loads((ROOT / f"nbs/pipeline/{stage}.ipynb").read_text())["cells"]
    return set(imports(ast.parse("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"))))


def test_imports_point_upward():
    assert "merhan.slots" in imports_of("features"), "the test would see nothing"
    for module, notebook in ORDER.items():
        for name in imports_of(module):
            if name.startswith("merhan."):
                other = name.split(".")[1]
                assert ORDER[other] < notebook or other == module, f"{notebook} imports {other}, which comes later"


def test_no_development_tool_is_imported():
    for module in ORDER:
        used = {name.split(".")[0] for name in imports_of(module)}
        assert not used & {"nbdev", "execnb", "fastcore", "ghapi", "pytest"}, f"{module} imports a development tool"


def test_every_module_has_its_notebook():
    assert set(ORDER) == {p.stem for p in (ROOT / "merhan").glob("*.py")} - {"__init__", "_modidx"}


def torch_is_imported_by(names):
    script = f"import sys; [__import__(name) for name in {sorted(names)!r}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_the_probe_for_torch_can_fail():
    assert torch_is_imported_by({"merhan.slots"}) and not torch_is_imported_by({"merhan.layout", "merhan.params"})


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in BUILDING | LOOKING])
def test_stages_that_only_draw_import_no_torch(stage):
    assert not torch_is_imported_by(imports_of_stage(stage))


def test_what_runs_a_stage_imports_no_torch():
    assert not torch_is_imported_by({"merhan.command", "merhan.stages"})


def test_mistakes_cannot_be_imported():
    "What makes scores look better on purpose is reached by its own two notebooks alone."
    flattering = {"merhan.inflation", "merhan.leaks"}
    for module in ORDER:
        assert not flattering & imports_of(module) or f"merhan.{module}" in flattering, module
    readers = {stage for stage in STAGES if flattering & imports_of_stage(stage)}
    assert readers == {"leaks", "inflation"}
