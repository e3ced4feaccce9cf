"""The house's stairs: no module imports one that imports it, also not late, and the ground floor needs no torch."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lmms_awares

ROOT = Path(lmms_awares.__file__).parent
MODULES = {
    ".".join(("lmms_awares", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in ROOT.rglob("*.py")
}
MODULES |= {f"lmms_awares.tasks.{file.stem}": file for file in (ROOT / "tasks").glob("*.py") if file.stem != "__init__"}


def imported(module: str) -> set[str]:
    """Modules of the package that `module` names in an import, wherever it stands, but for type checkers."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & MODULES.keys() - {module}


def test_no_circle():
    graph = {module: imported(module) for module in MODULES}
    # A package's `__init__` that offers what its modules define is no circle of its own: they do not need it.
    for module, file in MODULES.items():
        if file.name == "__init__.py":
            for inner in graph[module]:
                graph[inner] = graph[inner] - {module}
    assert sum(map(len, graph.values())) > 300
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_file_is_long():
    assert {module: n for module, file in MODULES.items() if (n := len(file.read_text().splitlines())) > 300} == {}


LIGHT = [
    "crops",
    "tokens",
    "views",
    "labels",
    "families",
    "errors",
    "cache",
    "cost",
    "trace",
    "envelope",
    "journal",
    "protocol",
    "engine.turns",
]


@pytest.mark.parametrize("module", LIGHT)
def test_the_ground_floor_needs_no_torch(module):
    code = f"import lmms_awares.{module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_methods_build_no_tensors():
    """They speak in turns; torch is needed to tell errors of memory apart, and for its DataLoader."""
    needing = {"lmms_awares.models.recovery", "lmms_awares.models.prefetch"}
    without = {name for name in MODULES if name.startswith("lmms_awares.models.")} - needing
    assert [name for name in sorted(without) if "import torch" in MODULES[name].read_text()] == []
