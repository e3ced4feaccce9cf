"""docs/adding_a_pruner.md, followed to the letter: one file, one registry line, and everything stays green."""

import re

import pytest
from guides import add_line, blocks, copy_of_repository, run

FILE, IMPORT, LINE = blocks("adding_a_pruner.md")[:3]
SHARED = ("test_pruning", "test_pruned_models", "test_plain_generate", "test_encoded_image", "test_provenance")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy in which a reader has added the guide's pruner."""
    folder = copy_of_repository(tmp_path_factory.mktemp("guide") / "repository")
    (folder / "lmms_awares" / "pruning" / "norm.py").write_text(FILE)
    registry = folder / "lmms_awares" / "pruning" / "__init__.py"
    add_line(registry, IMPORT, before="from lmms_awares.pruning.outside import load_pruner")
    add_line(registry, LINE, before="}")
    return folder


def test_style_and_types(repository):
    run(repository, "ruff", "check", "--no-cache", "lmms_awares", "docs")
    run(repository, "ruff", "format", "--check", "--no-cache", "lmms_awares")
    run(repository, "mypy", "--cache-dir", "mypy", "lmms_awares/pruning/norm.py", "lmms_awares/pruning/__init__.py")


@pytest.mark.long
def test_the_shared_tests_take_it_up(repository):
    tests = [f"tests/{name}.py" for name in SHARED]
    printed = run(repository, "pytest", "-v", "-p", "no:cacheprovider", *tests, "-k", "norm")
    assert int(re.search(r"(\d+) passed", printed)[1]) > 40


def test_what_lists_the_pruners_stays_green(repository):
    """Bad arguments, listings, the committed table."""
    tests = ["tests/test_mini_checkpoint.py", "tests/test_pruned_models.py", "tests/test_commands.py"]
    words = "committed or demonstration_runs or bad or new or listed or explained or registered"
    run(repository, "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", words)
    assert "shortest true|false false keep the shortest" in " ".join(run(repository, "lmms_awares", "models").split())
