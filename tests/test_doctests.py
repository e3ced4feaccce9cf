"""Examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import lmms_awares

ROOT = Path(lmms_awares.__file__).parent
FILES = sorted({*ROOT.rglob("*.py"), *(ROOT / "tasks").glob("*.py")})
WITH_EXAMPLES = [
    ".".join(("lmms_awares", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for file in FILES
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
