"""The set-up script's bad days: each ends in one line that says what to do, and misleads no later run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def setup(tmp_path):
    """Run `awares_setup` in a copy of what it reads; extra variables by keyword."""
    (tmp_path / ".ci").mkdir()
    for name in (".ci/setup.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)

    def run(**variables):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        return subprocess.run(
            ["bash", "-c", ". .ci/setup.sh; awares_setup"],
            cwd=tmp_path,
            env=clean | {"PIP_CONFIG_FILE": os.devnull} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def told(result):
    """The script's own lines."""
    assert result.returncode == 1
    return [line for line in result.stderr.splitlines() if line.startswith("setup: ") and "installing" not in line]


def program(file, text):
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def test_a_missing_interpreter_is_not_called_old(setup):
    (line,) = told(setup(AWARES_PYTHON="python9"))
    assert line == "setup: there is no python9; install Python 3.11 or newer, or name one with AWARES_PYTHON"


def test_an_old_interpreter(setup, tmp_path):
    (line,) = told(setup(AWARES_PYTHON=program(tmp_path / "old", "exit 1")))
    assert "is older than Python 3.11" in line


def test_what_is_left_of_a_failed_environment_goes(setup, tmp_path):
    """Without python3-venv Debian's Python makes half of one and fails; a second run must not take it for whole."""
    half = 'case "$1" in -m) mkdir -p .venv/bin && ln -s "$(command -v true)" .venv/bin/python; exit 1 ;; esac'
    python = program(tmp_path / "debian", half)
    for _ in range(2):
        (line,) = told(setup(AWARES_PYTHON=python))
        assert "apt install python3-venv" in line
        assert not (tmp_path / ".venv").exists()


def test_an_environment_without_pip_is_not_used(setup, tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program(tmp_path / ".venv" / "bin" / "python", "exit 1")
    (line,) = told(setup(AWARES_PYTHON=sys.executable))
    assert ".venv has no working pip; remove it" in line


def test_no_index(setup):
    (line,) = told(setup(AWARES_PYTHON=sys.executable, PIP_NO_INDEX="1"))
    assert "pip could not install torch" in line
    assert "PIP_INDEX_URL" in line
