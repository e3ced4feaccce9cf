"""The tiny checkpoint that ships, and the committed table of the demonstration."""

from pathlib import Path

import pandas as pd
import pytest
from test_tasks import run_tasks

from lmms_awares.mini.demo import METHODS, checkpoint
from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution, LowResolution
from lmms_awares.tasks.data import BENCHMARKS

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "results" / "runs" / "mini"
DOCUMENTS = 16


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Answers to the same documents, by method."""
    out = tmp_path_factory.mktemp("out")

    def answers(model):
        found = run_tasks(model, ["awares_mini_chartqa"], out, limit=DOCUMENTS)["samples"]
        return sorted(found["awares_mini_chartqa"], key=lambda row: row["doc_id"])

    settings = {"pretrained": str(checkpoint()), "device": "cpu", "batch_size": 8}
    return {
        "full": answers(FullResolution(**settings)),
        "lowres": answers(LowResolution(**settings)),
        "never": answers(Awares(**settings, policy="never")),
        "awares": answers(Awares(**settings)),
    }


def mean(rows, key="score"):
    return sum(row[key] for row in rows) / len(rows)


def test_it_sees_more_at_full_resolution(rows):
    assert mean(rows["full"]) >= mean(rows["lowres"]) + 0.25


def test_never_calling_is_the_low_resolution(rows):
    assert [row["answer"] for row in rows["never"]] == [row["answer"] for row in rows["lowres"]]


def test_it_calls_where_it_must(rows):
    assert mean(rows["awares"], "rtr") < 0.6
    needed = [bool(row["doc"]["evidence_box"]) for row in rows["awares"]]
    called = [bool(row["call_rate"]) for row in rows["awares"]]
    assert sum(n == c for n, c in zip(needed, called, strict=True)) >= 0.7 * DOCUMENTS


def test_it_is_small():
    assert sum(file.stat().st_size for file in checkpoint().rglob("*")) < 16 * 2**20


def test_committed_table_is_the_readmes():
    table = (RUNS / "table.md").read_text(encoding="utf-8").strip()
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    long = pd.read_csv(RUNS / "table.csv")
    columns = ["method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n"]
    assert list(long.columns) == columns
    assert len(long) == len(METHODS) * len(BENCHMARKS)
    assert (long["n"] >= 64).all()
