"""Where a turn's time goes: the parts add up to the whole, belong to what they say, and cost no answer."""

import time

import pytest
import torch
from harness import answers, document

from lmms_awares.engine import clock
from lmms_awares.models.awares import Awares
from lmms_awares.models.pruned import SparseVLM, VisionZip
from lmms_awares.models.resolution import FullResolution
from lmms_awares.protocol import ToolCall, get_crops

LIMITS = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}
PARTS = ("vision_s", "prefill_s", "decode_s")
SLOW = 0.2  # s


@pytest.fixture
def build(small_checkpoint):
    def make(kind=FullResolution, **arguments):
        arguments = {"pretrained": str(small_checkpoint), "dtype": "float32", "batch_size": 2, **LIMITS, **arguments}
        return kind(device="cpu", **arguments)

    return make


@pytest.fixture(scope="module")
def docs():
    return [document(size, seed) for seed, size in enumerate([(640, 480), (300, 500)])]


@pytest.fixture
def always_call(monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", lambda text: ToolCall(("0", "5"), "valid", text))


def slowed(monkeypatch, holder, name):
    original = getattr(holder, name)

    def slow(*args, **kwargs):
        time.sleep(SLOW)
        return original(*args, **kwargs)

    monkeypatch.setattr(holder, name, slow)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FullResolution, {}),
        (VisionZip, {"retain_ratio": 0.5}),
        (SparseVLM, {"retain_ratio": 0.5}),
        (Awares, {}),
        (Awares, {"reuse_cache": False}),
        (Awares, {"policy": "always_full"}),
    ],
    ids=str,
)
def test_parts_add_up(build, docs, always_call, kind, options):
    traces = [trace for _, trace in answers(build(kind, **options), docs)]
    for trace in traces:
        assert trace.turns[0].preprocess_s is None
        for turn in trace.turns:
            parts = [turn.vision_s, turn.prefill_s, turn.decode_s]
            assert min(parts) >= 0
            assert sum(parts) == pytest.approx(turn.seconds, rel=0.02)
        rendered = [turn.preprocess_s for turn in trace.turns[1:]]
        assert len(rendered) == (kind is Awares)
        assert all(seconds > 0 for seconds in rendered)
        # What is left is selecting the rows that called, on tensors of a few kB.
        assert sum(turn.seconds for turn in trace.turns) + sum(rendered) == pytest.approx(trace.latency_s, rel=0.05)
    first, second = ([turn.model_dump(include={"seconds", *PARTS}) for turn in trace.turns] for trace in traces)
    assert first == second, "rows of a batch share its times"


def test_each_part_is_what_it_says(build, docs, always_call, monkeypatch):
    """Whichever is made slow is the one that grows."""
    model = build(Awares)
    network = model.engine.model.model
    answers(model, docs)
    found = {}
    for part, holder, name in (
        ("vision_s", network.visual, "forward"),
        ("preprocess_s", model, "respond"),
        ("prefill_s", network, "get_rope_index"),  # asked once per turn, in front of the language model
    ):
        with monkeypatch.context() as patch:
            slowed(patch, holder, name)
            _, turn = answers(model, docs[:1])[0][1].turns
        found[part] = {name: getattr(turn, name) for name in ("preprocess_s", *PARTS)}
    for part, times in found.items():
        assert times[part] >= SLOW
        assert all(seconds < SLOW for name, seconds in times.items() if name != part), (part, times)


def test_decoding_grows_with_tokens_and_prefill_does_not(build, docs, monkeypatch):
    model = build()
    slowed(monkeypatch, model.engine.model.model, "forward")
    times = {}
    for tokens in (1, 4):
        ((_, trace),) = answers(model, docs[:1], max_new_tokens=tokens)
        times[trace.turns[0].new_tokens] = trace.turns[0]
    assert times[1].decode_s < SLOW <= times[1].prefill_s < 2 * SLOW
    assert times[4].decode_s >= 3 * SLOW
    assert SLOW <= times[4].prefill_s < 2 * SLOW


def test_the_stopping_criterion_stops_nothing():
    stages = clock.Stages(torch.device("cpu"))
    stops = [stages(torch.zeros(3, 4, dtype=torch.long), None) for _ in range(2)]
    assert [stop.tolist() for stop in stops] == [[False] * 3] * 2
    assert stages.started == stages.encoded <= stages.first_token
