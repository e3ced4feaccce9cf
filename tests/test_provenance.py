"""Code is part of an answer: edited sources get no old answers."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from harness import answers, document

from lmms_awares import provenance
from lmms_awares.journal import Journal
from lmms_awares.models.pruned import Pruned
from lmms_awares.pruning import PRUNERS

SOURCE = """
import torch
from lmms_awares.pruning.base import EncodedImage, Kept, Pruner


class Every(Pruner):
    name = "every"

    def keep(self, image: EncodedImage) -> Kept:
        index = torch.arange(0, len(image.embeds), {step})
        return Kept.of(image, index)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Load a pruner from a module of its own that keeps every `step`-th token."""

    def load(step):
        file = tmp_path / "my_pruner.py"
        file.write_text(SOURCE.format(step=step))
        spec = importlib.util.spec_from_file_location("my_pruner", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "my_pruner", module)
        exec(compile(file.read_text(), file, "exec"), module.__dict__)  # not from a stale .pyc of the same second
        monkeypatch.setitem(PRUNERS, "every", module.Every)

    return load


def test_an_edited_pruner_gets_no_old_answers(plugin, small_checkpoint, tmp_path):
    """The same command again, after every 2nd token became every 4th."""

    def run():
        model = Pruned(
            pretrained=str(small_checkpoint),
            device="cpu",
            pruner="every",
            retain_ratio=0.5,
            journal=str(tmp_path / "j.jsonl"),
        )
        ((_, trace),) = answers(model, [document((336, 252))])
        return trace

    plugin(2)
    first, again = run(), run()
    assert (first.reused, again.reused) == (False, True)
    assert again.visual_tokens == first.visual_tokens == 54
    plugin(4)
    edited = run()
    assert not edited.reused
    assert edited.visual_tokens == 27
    assert edited.conditions.code != first.conditions.code
    assert Journal(tmp_path / "j.jsonl").reusable == 2


def copy_of_package(folder, monkeypatch):
    shutil.copytree(
        Path(provenance.__file__).parent, folder, ignore=shutil.ignore_patterns("checkpoint", "__pycache__")
    )
    monkeypatch.setattr(provenance, "_ROOT", folder)


def package_hash():
    provenance._package_hash.cache_clear()
    return provenance.code_hash()


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("pruning/visionzip.py", True),
        ("views.py", True),
        ("images.py", True),
        ("models/awares.py", True),
        ("report/tables/main.py", False),
        ("cli/compare.py", False),
        ("mini/drawing.py", False),
    ],
)
def test_sources_that_answers_depend_on_count_and_no_others(file, counts, tmp_path, monkeypatch):
    copy_of_package(tmp_path / "package", monkeypatch)
    before = package_hash()
    assert package_hash() == before
    with (tmp_path / "package" / file).open("a") as source:
        source.write("\nCHANGED = 1\n")
    try:
        assert (package_hash() != before) is counts
    finally:
        provenance._package_hash.cache_clear()


def test_a_class_without_a_file_is_never_taken_for_another(monkeypatch):
    monkeypatch.setitem(sys.modules, "typed_in", ModuleType("typed_in"))
    made = type("Made", (), {"__module__": "typed_in"})
    assert provenance.code_hash(made) != provenance.code_hash(made)


@pytest.mark.parametrize("name", PRUNERS)
def test_the_packages_own_pruners_share_one_hash(name):
    """Or rows of one table would differ in it; some of them inherit from Python's library too."""
    assert provenance.code_hash(PRUNERS[name]) == provenance.code_hash()
