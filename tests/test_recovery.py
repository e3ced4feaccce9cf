"""Running out of memory costs the one sample that does not fit, and nothing else."""

import numpy as np
import pytest
import torch
from harness import answers, document

from lmms_awares.models.pruned import SparseVLM, VisionZip
from lmms_awares.models.recovery import is_out_of_memory
from lmms_awares.models.resolution import FullResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import visionthink as protocol
from lmms_awares.trace import REASON_CHARS

LIMITS = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}
SIZES = [(640, 480), (300, 500), (850, 600), (96, 64), (420, 336), (200, 160)]
CPU = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
OUT_OF_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nSee the documentation"),
    "driver": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    "linux": RuntimeError(CPU),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "python": MemoryError(),
    "numpy": np._core._exceptions._ArrayMemoryError((9,), np.dtype(int)),
}


@pytest.fixture
def build(small_checkpoint):
    def make(kind=FullResolution, batch_size=1, **arguments):
        arguments = {"pretrained": str(small_checkpoint), "dtype": "float32", **LIMITS, **arguments}
        return kind(device="cpu", batch_size=batch_size, **arguments)

    return make


@pytest.fixture(scope="module")
def docs():
    return [document(size, seed) for seed, size in enumerate(SIZES)]


def short_of_memory(model, monkeypatch, fits, error=OUT_OF_MEMORY["cuda"]):
    """Let the language model fail behind the vision tower, wherever `fits` says no to its [B, P] ids."""
    forward = model.engine.model.model.language_model.forward

    def limited(*args, inputs_embeds, **kwargs):
        if not fits(*inputs_embeds.shape[:2]):
            raise error
        return forward(*args, inputs_embeds=inputs_embeds, **kwargs)

    monkeypatch.setattr(model.engine.model.model.language_model, "forward", limited)


def texts(pairs):
    return [answer for answer, _ in pairs]


@pytest.mark.parametrize("name", OUT_OF_MEMORY)
def test_known_and_other_errors(name):
    assert is_out_of_memory(OUT_OF_MEMORY[name])
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("name", OUT_OF_MEMORY)
def test_a_batch_is_halved_until_it_fits(build, monkeypatch, name):
    docs = [document((420, 336), seed) for seed in range(6)]  # of one length, so that all of them are one batch
    alone = answers(build(), docs)
    model = build(batch_size=6)
    short_of_memory(model, monkeypatch, lambda rows, _: rows <= 2, OUT_OF_MEMORY[name])
    halved = answers(model, docs)
    assert texts(halved) == texts(alone)
    assert [trace.failed for _, trace in halved] == [None] * 6
    assert [trace.batch_size for _, trace in halved] == [1, 2, 2, 1, 2, 2]  # 6 in 3 and 3, each of them in 1 and 2


@pytest.mark.parametrize("kind", [FullResolution, VisionZip, SparseVLM])
def test_only_what_does_not_fit_alone_fails(build, docs, monkeypatch, kind, tmp_path):
    """And leaves no hook on the model, and nothing of its batch in the pruner."""
    options = {} if kind is FullResolution else {"retain_ratio": 0.5}
    alone = answers(build(kind, **options), docs)
    model = build(kind, batch_size=6, journal=tmp_path / "journal.jsonl", **options)
    hooks = {name: len(module._forward_hooks) for name, module in model.engine.model.named_modules()}
    # Visual tokens of the largest sample, which has text besides.
    limit = max(trace.pruning.entering_tokens if trace.pruning else trace.visual_tokens for _, trace in alone)
    short_of_memory(model, monkeypatch, lambda _, tokens: tokens < limit)
    pairs = answers(model, docs)
    assert texts(pairs) == ["" if i == 2 else text for i, text in enumerate(texts(alone))]
    reasons = [trace.failed for _, trace in pairs]
    assert [reason is not None for reason in reasons] == [False, False, True, False, False, False]
    assert "does not fit into memory" in reasons[2]
    assert "CUDA out of memory" in reasons[2]
    assert "\n" not in reasons[2]
    assert len(reasons[2]) <= REASON_CHARS
    assert {name: len(module._forward_hooks) for name, module in model.engine.model.named_modules()} == hooks
    monkeypatch.undo()
    again = answers(model, docs)
    assert texts(again) == texts(alone), "a rerun tries it again, and the model is as it was"


def test_other_errors_stop_the_run(build, docs, monkeypatch):
    model = build(batch_size=6)
    short_of_memory(model, monkeypatch, lambda *_: False, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        answers(model, docs)


def test_sampled_answers_do_not_depend_on_memory(build, docs, monkeypatch):
    model = build(batch_size=3)
    whole = answers(model, docs[:3], temperature=1.0)
    assert [trace.batch_size for _, trace in whole] == [1, 1, 1]
    short_of_memory(model, monkeypatch, lambda _, tokens: tokens < whole[2][1].visual_tokens)
    pairs = answers(model, docs[:3], temperature=1.0)
    assert texts(pairs) == [*texts(whole)[:2], ""]


def test_the_second_turn_too(build, docs, monkeypatch):
    """Turn 2 of one sample does not fit: the batch's other samples keep both of their turns."""
    call = protocol.ToolCall("<tool_call></tool_call>", None)
    monkeypatch.setattr(protocol, "parse_reply", lambda _: call)
    monkeypatch.setattr(protocol, "ROUND_TOKENS", 12)
    alone = answers(build(VisionThink), docs)
    assert all(trace.called for _, trace in alone)
    model = build(VisionThink, batch_size=6)
    most = alone[2][1].full_tokens  # more than any first turn: half-size images
    short_of_memory(model, monkeypatch, lambda _, tokens: tokens < most)
    pairs = answers(model, docs)
    assert texts(pairs) == ["" if i == 2 else text for i, text in enumerate(texts(alone))]
    assert [trace.failed is None for _, trace in pairs] == [True, True, False, True, True, True]


def test_memory_while_preparing(build, docs, monkeypatch):
    model = build(batch_size=6)
    plan = model.plan

    def short(image):
        if image.size == SIZES[2]:
            raise OUT_OF_MEMORY["linux"]
        return plan(image)

    monkeypatch.setattr(model, "plan", short)
    pairs = answers(model, docs)
    assert [trace.failed is None for _, trace in pairs] == [True, True, False, True, True, True]
    assert "allocate" in pairs[2][1].failed


def test_long_reasons_are_cut(build, monkeypatch):
    model = build()

    def refuse(doc, images, task):
        raise OSError("line one\n" + "x" * 10_000)

    monkeypatch.setattr(model, "check", refuse)
    ((_, trace),) = answers(model, [document((96, 64))])
    assert trace.failed.startswith("OSError: line one xxx")
    assert len(trace.failed) == REASON_CHARS
