"""The tokens that a pruner keeps, in the trace: as many as are counted, and the very ones that it chose."""

from itertools import pairwise
from statistics import fmean

import pytest
import torch
from harness import answers, document, picture
from hypothesis import given
from hypothesis import strategies as st

from lmms_awares.models.awares import Awares
from lmms_awares.models.pruned import Pruned
from lmms_awares.models.resolution import FullResolution
from lmms_awares.protocol import ToolCall, get_crops
from lmms_awares.pruning import PRUNERS
from lmms_awares.pruning.stages import StagedPruner
from lmms_awares.tokens import from_bits, to_bits

SIZES = [(336, 252), (560, 420), (300, 500)]
COMPOSABLE = [name for name in PRUNERS if PRUNERS[name].second_prefill]
STAGED = [name for name, kind in PRUNERS.items() if issubclass(kind, StagedPruner)]
BEFORE = [name for name in PRUNERS if name not in STAGED and not PRUNERS[name](0.5).resizes]


@pytest.fixture(scope="module")
def docs():
    return [document(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture
def build(small_checkpoint):
    def make(kind=Pruned, batch_size=1, **arguments):
        fixed = {"pretrained": str(small_checkpoint), "dtype": "float32", "max_pixels": 600 * 784}
        return kind(device="cpu", batch_size=batch_size, **{**fixed, **arguments})

    return make


def traces(model, docs):
    found = [trace for _, trace in answers(model, docs, max_new_tokens=2)]
    assert [trace.failed for trace in found] == [None] * len(found)
    return found


def flags(pruning):
    """Per place, the raster indices of the tokens that it left, over all views."""
    return [[i for i, kept in enumerate(from_bits(left.bits, pruning.encoded_tokens)) if kept] for left in pruning.kept]


def check_counts(trace):
    """The bits against every count of the trace."""
    pruning, depth = trace.pruning, len(trace.pruning.kv_lengths)
    kept = flags(pruning)
    assert sum(columns * rows for columns, rows in pruning.grids) == pruning.encoded_tokens
    assert len(kept[-1]) == pruning.final_tokens
    layers = [left.layer for left in pruning.kept]
    if layers == [None]:
        assert len(kept[0]) == pruning.entering_tokens == trace.visual_tokens
        return
    assert layers == sorted(layers)
    after = [
        next((len(own) for layer, own in zip(layers[::-1], kept[::-1], strict=True) if layer <= at), None)
        for at in range(depth)
    ]
    assert fmean(pruning.entering_tokens if count is None else count for count in after) == trace.visual_tokens
    assert all({*later} <= {*earlier} for earlier, later in pairwise(kept))


@given(st.lists(st.booleans(), max_size=300))
def test_bits_round_trip(given):
    assert from_bits(to_bits(given), len(given)) == given


@pytest.mark.parametrize(("bits", "count"), [("gA==", 9), ("gA==", 0), ("g?==", 3), ("", 1)])
def test_bits_of_another_length_are_refused(bits, count):
    with pytest.raises(ValueError, match="bytes do not hold|base64|padding|Only base64"):
        from_bits(bits, count)


@pytest.mark.parametrize("ratio", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("name", PRUNERS)
def test_as_many_as_the_trace_counts(build, docs, name, ratio):
    """In a batch and alone the same ones."""
    batch, single = (traces(build(pruner=name, retain_ratio=ratio, batch_size=size), docs) for size in (3, 1))
    for trace, alone in zip(batch, single, strict=True):
        check_counts(trace)
        assert len(trace.pruning.grids) == 1
        assert trace.pruning.kept == alone.pruning.kept


@pytest.mark.parametrize("name", BEFORE)
def test_the_ones_that_the_pruner_chose(build, docs, name, monkeypatch):
    chosen = []
    keep = PRUNERS[name].keep

    def noted(self, image):
        kept = keep(self, image)
        chosen.append((image.grid[::-1], kept.index.tolist()))
        return kept

    monkeypatch.setattr(PRUNERS[name], "keep", noted)
    found = traces(build(pruner=name, retain_ratio=0.5, batch_size=3), docs)
    assert sorted((tuple(trace.pruning.grids), *flags(trace.pruning)) for trace in found) == sorted(
        ((grid,), index) for grid, index in chosen
    )


@pytest.mark.parametrize("name", STAGED)
def test_the_ones_that_each_stage_chose(build, docs, name, monkeypatch):
    """Of the tokens in front of a stage, which are in the order of the columns, merged ones last."""
    chosen = []
    reduce = PRUNERS[name].reduce

    def noted(self, scores, hidden, target, generator):
        reduced = reduce(self, scores, hidden, target, generator)
        chosen.append((len(scores), reduced.kept.tolist() + reduced.sources.tolist()))
        return reduced

    monkeypatch.setattr(PRUNERS[name], "reduce", noted)
    (trace,) = traces(build(pruner=name, retain_ratio=0.5), docs[1:2])
    left = list(range(trace.pruning.encoded_tokens))
    for (before, rows), kept in zip(chosen, flags(trace.pruning), strict=True):
        assert before == len(left)
        left = [left[row] for row in rows]
        assert sorted(left) == kept


@pytest.mark.parametrize("policy", ["model", "always_full"])
@pytest.mark.parametrize("name", COMPOSABLE)
def test_both_turns_of_awares_view_by_view(build, docs, name, policy, monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", lambda text: ToolCall(("0", "5"), "valid", text))
    cached, fresh = (
        traces(build(Awares, pruner=name, retain_ratio=0.7, batch_size=3, policy=policy, reuse_cache=reuse), docs)
        for reuse in (True, False)
    )
    for trace, again in zip(cached, fresh, strict=True):
        check_counts(trace)
        assert len(trace.pruning.grids) == 1 + len(trace.crops)
        assert trace.pruning.kept == again.pruning.kept
        if name != "downsample":
            tokens = [trace.lowres_tokens, *(crop.tokens for crop in trace.crops)]
            assert [columns * rows for columns, rows in trace.pruning.grids] == tokens


def test_several_images(build):
    two = {"images": [picture((336, 252), 1), picture((560, 420), 2)], "question": "Which is larger?"}
    for name in PRUNERS:
        (trace,) = traces(build(pruner=name, retain_ratio=0.5), [two])
        check_counts(trace)
        assert len(trace.pruning.grids) == 2


def test_padding_of_the_official_holov_is_no_bit(build, docs):
    """It stands where another token stands: fewer bits than tokens, by as many as coincide."""
    found = traces(build(pruner="holov", retain_ratio=0.7, official_wiring=True), docs)
    assert all(len(flags(trace.pruning)[0]) <= trace.pruning.entering_tokens for trace in found)
    assert all(len(flags(trace.pruning)[0]) > 0 for trace in found)


def test_nothing_is_recorded_without_a_pruner(build, docs, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: pytest.fail("waited for the device"))
    (trace,) = traces(build(FullResolution), docs[:1])
    assert trace.pruning is None
