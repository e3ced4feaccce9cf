"""The report's rooms: what they may load, how long their files are, and the names that others import."""

import subprocess
import sys
from pathlib import Path

import pytest

import lmms_awares

PACKAGE = Path(lmms_awares.__file__).parent
HEAVY = {"torch", "torchvision", "transformers", "lmms_eval", "accelerate", "peft"}


def modules_of(room):
    """Names of a folder's modules."""
    files = sorted((PACKAGE / room).rglob("*.py"))
    names = [".".join(("lmms_awares", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", ["report", "report.read", "report.tables", "report.figures", "report.gate"])
def test_every_room_is_there(name):
    assert f"lmms_awares.{name}" in modules_of("report")


def test_no_report_module_loads_torch_or_lmms_eval():
    """Each in turn in a fresh process, which names the first that does, also through others."""
    names = modules_of("report")
    assert len(names) > 30
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        f"    if loaded := {HEAVY} & set(sys.modules):\n"
        "        sys.exit(f'{name} loads {loaded}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_file_is_over_300_lines():
    long = {
        file.name: n for file in (PACKAGE / "report").rglob("*.py") if (n := len(file.read_text().splitlines())) > 300
    }
    assert not long


def test_names_that_others_import():
    from lmms_awares.report.runs import COLUMNS, Run, RunError, find_runs, newest_run, summarize

    assert RunError.__mro__[1].__name__ == "UserError"
    assert "rtr" in COLUMNS
    assert all(callable(name) for name in (Run, find_runs, newest_run, summarize))
