"""Following a guide to the letter: its code blocks, and a copy of the repository to put them into."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = (
    "lmms_awares",
    "suites",
    "tasks",
    "tests",
    "docs",
    "results",
    "pyproject.toml",
    "README.md",
    "CONTRIBUTING.md",
)


def blocks(page, language="python"):
    """The code blocks of a page of docs/, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


def copy_of_repository(folder):
    """What tests, ruff and mypy look at; the package in the copy is the one that they import."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "demo")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def run(folder, *command, timeout=900):
    """Run a Python module in the copy; fails with what it printed."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def add_line(file, line, *, before):
    """Insert a line in front of the first one that reads `before`; a reader's repository may have it already."""
    text = file.read_text()
    if line in text:
        return
    lines = text.splitlines(keepends=True)
    lines.insert(lines.index(before + "\n"), line)
    file.write_text("".join(lines))
