"""The estimate of what training takes, by hand on a shape of a few numbers; nothing of it was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lmms_awares.cost import Shape, Tower
from lmms_awares.views import plan_views

ROOT = Path(__file__).parent.parent
TOWER = Tower(2, 4, 3, 3, 6, 2, 2, 1, None, 2)
SHAPE = Shape(2, 1, 1, 1, 2, 3, 5, TOWER)  # a layer has 2 * (2 * 2 + 2 * 2 + 3 * 3) = 34 parameters


@pytest.fixture
def cost(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import training_cost

    return training_cost


@pytest.fixture
def lengths(cost):
    """The opening of 4, an answer of 16, a call of 9, 11 around the crop of 4."""
    return cost.Lengths(opening=4, direct=20, called=44, behind=40, low=1000, crop=500, patches=32)


def test_chances(cost):
    assert cost.any_of(0.5, 2) == 0.75
    assert cost.any_of(0.0, 8) == 0 and cost.any_of(1.0, 1) == 1
    assert cost.mixed(0.25, 8, 4) == 5


def test_passes(cost):
    """10 tokens: 10 * 68 of weights, 4 * 2 * 100 of attention, 3 * 20 of the head."""
    assert cost.forward_flops(SHAPE, 10, 3) == 680 + 800 + 60
    assert cost.training_flops(SHAPE, 10, 3) == 3 * (680 + 60) + 4 * 800
    two = replace(SHAPE, layers=2)
    assert cost.training_flops(two, 10, 3) == 2 * (3 * 680 + 4 * 800) + 3 * 60


def test_rows_of_sft(cost, lengths):
    """With a call: 44 tokens, 25 scored, both views; without: 20 and 16, one view. Half and half in batches of two."""
    called, direct = 3 * 44 * 68 + 4 * 8 * 44**2, 3 * 20 * 68 + 4 * 8 * 20**2
    assert cost.sft_flops(SHAPE, lengths, 1.0, 2) == 1500 + called + 3 * 20 * 25
    assert cost.sft_flops(SHAPE, lengths, 0.0, 2) == 1000 + direct + 3 * 20 * 16
    padded = 0.75 * called + 0.25 * direct  # one of two is enough
    assert cost.sft_flops(SHAPE, lengths, 0.5, 2) == 1250 + padded + 3 * 20 * (25 + 16) / 2


def test_rollouts(cost, lengths):
    """Where all call: turn 2 is prefilled from the start, without its answer; all behind the opening is scored."""
    found = cost.grpo_flops(SHAPE, lengths, 1.0, 8)
    turns = 4 * 68 + 8 * 4**2 + 20, 28 * 68 + 8 * 28**2 + 20
    assert found["prefill"] == 1000 + turns[0] + 1500 + turns[1]
    assert found["reference"] == 1500 + 44 * 68 + 8 * 44**2 + 20 * 40
    assert found["training"] == 1500 + 3 * 44 * 68 + 4 * 8 * 44**2 + 3 * 20 * 40
    none = cost.grpo_flops(SHAPE, lengths, 0.0, 8)
    assert none["prefill"] == 1000 + turns[0]
    assert none["reference"] == 1000 + 20 * 68 + 8 * 20**2 + 20 * 16


def test_bytes_of_decoding(cost, lengths):
    """15 tokens behind each prefill; 34 + 10 parameters in bfloat16, and 8 bytes of cache for a token."""
    assert cost.language_parameters(SHAPE) == 44
    assert cost.decode_bytes(SHAPE, lengths, 0.0, 4) == 15 * (88 + 4 * 8 * 4)
    assert cost.decode_bytes(SHAPE, lengths, 0.5, 2) == 15 * (88 + 2 * 8 * 4 + 0.75 * 88 + 1 * 8 * 44)


def test_memory(cost, lengths):
    """Embeddings 10; the tower 6 * 4 + 2 * (4 * 16 + 3 * 12) + 16 * 16 + 16 * 2; LoRA of rank 2 on 7 projections."""
    assert cost.parameters(SHAPE) == 44 + 10 + 24 + 200 + 256 + 32
    assert cost.lora_parameters(SHAPE, 2) == 2 * (4 * (2 + 2) + 3 * (2 + 3))
    found = cost.memory(SHAPE, lengths, batch=2, rank=2, rollouts=True)
    assert found["weights"] * 1e9 == pytest.approx(566 * 2)
    assert found["optimizer"] * 1e9 == pytest.approx(62 * 20)
    inner = 4 * 2 + 2 * 2 + 2 * 2 + 4 * 3
    tower = 2 * 32 * 2 * (7 * 4 + 4 * 3)
    assert found["activations"] * 1e9 == pytest.approx(max(88 * 2 * (2 + 2 * inner), tower))
    assert found["logits"] * 1e9 == pytest.approx(4096 * 32768 * 2 + 2 * 40 * 2 * 4)
    assert found["kv"] * 1e9 == pytest.approx(2 * 8 * 44)
    sft = cost.memory(SHAPE, lengths, batch=2, rank=2, rollouts=False)
    assert sft["optimizer"] * 1e9 == pytest.approx(62 * 16) and sft["kv"] == 0
    assert cost.peak_memory({"weights": 5, "optimizer": 1, "activations": 2, "logits": 1, "kv": 4}) == 10
    assert cost.peak_memory({"weights": 5, "optimizer": 1, "activations": 2, "logits": 1, "kv": 2}) == 9


def test_the_7b(cost):
    """8.29 B parameters, and 20.2 M of an adapter of rank 8; an image's lengths are those of its views."""
    assert cost.parameters(cost.SHAPE) / 1e9 == pytest.approx(8.292, abs=0.001)
    assert cost.lora_parameters(cost.SHAPE, 8) == 20_185_088
    found = cost.Lengths.of(plan_views(850, 600))
    assert (found.opening, found.direct) == (190 + 150, 190 + 150 + 16)
    assert found.called == found.opening + found.behind
    assert found.patches == 4 * (150 + found.behind - 9 - 11 - 16)


def test_hours(cost):
    """Hours go with 1 / share, with rows and epochs; decoding by bandwidth alone."""
    assumed = cost.Assumed()
    lengths = cost.Lengths.of(plan_views(850, 600))
    sft = {"per_device_train_batch_size": 16, "num_train_epochs": 2, "lora_rank": 8, "rows_per_source": 5000}
    one = cost.sft_row(lengths, assumed, sft)
    flops = cost.sft_flops(cost.SHAPE, lengths, 0.2026, 16)
    assert one["gpu_hours"] == pytest.approx(2 * 25_000 * flops / (989e12 * 0.35) / 3600)
    whole = cost.sft_row(lengths, assumed, sft | {"rows_per_source": 0})
    assert whole["gpu_hours"] == pytest.approx(2 * one["gpu_hours"])
    assert one["hours"] == one["gpu_hours"] / 8
    assert cost.sft_row(lengths, replace(assumed, mfu=0.175), sft)["hours"] == pytest.approx(2 * one["hours"])
    grpo = {"num_generations": 8, "num_train_epochs": 1, "lora_rank": 8}
    two = cost.grpo_row(lengths, assumed, grpo)
    read = cost.decode_bytes(cost.SHAPE, lengths, 0.4075, 8)
    assert two["decode_s"] == pytest.approx(50_000 * read / (3.35e12 * 0.2))
    parts = ("prefill_s", "reference_s", "training_s", "decode_s")
    assert two["gpu_hours"] * 3600 == pytest.approx(sum(two[name] for name in parts))
    slow = cost.grpo_row(lengths, replace(assumed, bandwidth=1e12), grpo)
    assert [name for name in parts if slow[name] != two[name]] == ["decode_s"]


def test_the_committed_result_is_the_commands_and_so_is_the_page(cost):
    """Where this fails: python benchmarks/training_cost.py -o benchmarks/results/training_cost.json, and the page."""
    found = json.loads((ROOT / "benchmarks" / "results" / "training_cost.json").read_text())
    assert (found["kind"], found["measured"]) == ("estimate", False)
    made = cost.estimates(cost.Assumed(**found["assumed"]))
    assert cost.Assumed(**found["assumed"]) == cost.Assumed()
    page = (ROOT / "docs" / "training.md").read_text()
    for row, committed in zip(made, found["rows"], strict=True):
        assert {name: committed[name] for name in row} == pytest.approx(row, abs=1e-3)
        cells = f"| {row['stage']} | {row['image']} | {row['hours']:.1f} | {row['gpu_hours']:.1f} | {row['gb']:.0f} |"
        assert cells in page
