"""The tiny checkpoint that ships, and the committed table of the demonstration."""

import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from test_tasks import run_tasks

from lmms_awares.mini.demo import checkpoint
from lmms_awares.mini.suite import PARTS
from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution, LowResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import TOOL_NAME
from lmms_awares.pruning import PRUNERS
from lmms_awares.suites.suite import read_suite
from lmms_awares.tasks.benchmarks import MINI_TASKS

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "results" / "runs" / "mini"
DOCUMENTS = 16
LOWRES_RTR = 0.25  # of every document of the mini suite
SETTINGS = {"pretrained": str(checkpoint()), "device": "cpu", "batch_size": 8}


def chartqa(model, out, limit):
    """The samples that lmms-eval logs, in the order of the documents."""
    found = run_tasks(model, ["awares_mini_chartqa"], out, limit=limit)["samples"]
    return sorted(found["awares_mini_chartqa"], key=lambda row: row["doc_id"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Answers to the same documents, by method."""
    out = tmp_path_factory.mktemp("out")
    return {
        "full": chartqa(FullResolution(**SETTINGS), out, DOCUMENTS),
        "lowres": chartqa(LowResolution(**SETTINGS), out, DOCUMENTS),
        "never": chartqa(Awares(**SETTINGS, policy="never"), out, DOCUMENTS),
        "awares": chartqa(Awares(**SETTINGS), out, DOCUMENTS),
    }


def mean(rows, key="score"):
    return sum(row[key] for row in rows) / len(rows)


def test_it_sees_more_at_full_resolution(rows):
    assert mean(rows["full"]) >= mean(rows["lowres"]) + 0.25


def test_never_calling_is_the_low_resolution(rows):
    assert [row["answer"] for row in rows["never"]] == [row["answer"] for row in rows["lowres"]]


def test_who_cannot_call_answers_what_it_sees(rows):
    """In the low-res view the policy writes calls without being offered the tool; docs/mini_suite.md says so."""
    assert not [row["answer"] for row in rows["full"] if TOOL_NAME in row["answer"]]
    readable = [row["answer"] for row in rows["lowres"] if not row["doc"]["evidence_box"]]
    assert readable and not [answer for answer in readable if TOOL_NAME in answer]


def test_it_calls_where_it_must(rows):
    assert mean(rows["awares"], "rtr") < 0.6
    needed = [bool(row["doc"]["evidence_box"]) for row in rows["awares"]]
    called = [bool(row["call_rate"]) for row in rows["awares"]]
    assert sum(n == c for n, c in zip(needed, called, strict=True)) >= 0.7 * DOCUMENTS


def test_visionthink_calls_for_some_and_answers_others(tmp_path):
    model = VisionThink(**SETTINGS, adapter=str(checkpoint() / "visionthink"))
    found = chartqa(model, tmp_path, 12)
    assert {row["call_rate"] for row in found} == {0, 1}
    assert [row["rtr"] for row in found] == [LOWRES_RTR + row["call_rate"] for row in found]
    assert all(row["answer"] for row in found)


def demonstrate(folder):
    """`./run_eval.sh` in a folder of its own, with a stand-in for set-up and evaluation; what it prints."""
    (folder / ".ci").mkdir()
    (folder / ".ci" / "setup.sh").write_text("awares_setup() { :; }\n")
    shutil.copy(ROOT / "run_eval.sh", folder)
    shutil.copytree(RUNS, folder / "results" / "runs" / "mini")
    stand_in = folder / "bin" / "awares"
    stand_in.parent.mkdir()
    # the committed table with other latencies, as another machine measures them
    slower = 'BEGIN {FS = OFS = ","} NR > 1 {$7 *= 2} {print}'
    stand_in.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3 $4" = "suite run mini -o" ] || exit 9\nmkdir -p "$5"\n'
        f"awk '{slower}' results/runs/mini/table.csv > \"$5/table.csv\"\n"
    )
    stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(folder / "run_eval.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_demonstration_leaves_the_work_tree_as_it_was(tmp_path):
    """It writes where git ignores it, and says how to compare with the committed table, latencies left out."""
    printed = demonstrate(tmp_path)
    assert (tmp_path / "results/runs/mini/table.csv").read_bytes() == (RUNS / "table.csv").read_bytes()
    written = tmp_path / "results" / "runs" / "demo" / "table.csv"
    assert written.read_bytes() != (RUNS / "table.csv").read_bytes()
    ignored = ["git", "check-ignore", "--no-index", "results/runs/demo/table.md", "results/runs/demo/awares/x.jsonl"]
    assert subprocess.run(ignored, cwd=ROOT, capture_output=True, text=True, check=True).stdout.count("\n") == 2
    compare = next(line.strip() for line in printed.splitlines() if line.strip().startswith("diff "))
    shell = ["bash", "-c", compare]
    same = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (same.returncode, same.stdout) == (0, "the same\n")
    text = written.read_text()
    written.write_text(text.replace("awares,,chartqa,96.875", "awares,,chartqa,50.0"))
    assert written.read_text() != text
    changed = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert changed.returncode == 1
    assert "50.0" in changed.stdout


def test_it_is_small():
    assert sum(file.stat().st_size for file in checkpoint().rglob("*")) < 16 * 2**20


def name_of(row):
    """A row of the demonstration, as `lmms_awares.trace.Trace.method` names it."""
    policy, pruner = row.args.get("policy"), row.args.get("pruner")
    ratio = f"@{row.args['retain_ratio']}" if "retain_ratio" in row.args else ""
    return f"{row.model}{f':{policy}' if policy else ''}{f'+{pruner}' if pruner else ''}{ratio}"


def test_committed_table_is_the_docs():
    table = (RUNS / "table.md").read_text(encoding="utf-8").strip()
    page = (ROOT / "docs" / "mini_suite.md").read_text(encoding="utf-8")
    assert f"<!-- results/runs/mini/table.md -->\n{table}\n<!-- end -->" in page
    long = pd.read_csv(RUNS / "table.csv")
    columns = ["method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n"]
    assert list(long.columns) == columns
    benchmarks = {method: list(rows["benchmark"]) for method, rows in long.groupby("method")}
    rows = read_suite(Path("mini")).rows
    assert set(benchmarks) <= set(map(name_of, rows)), "a method that the demonstration does not run"
    own = {name_of(row) for row in rows if "pruner" not in row.args and row.model not in PRUNERS}
    assert own <= set(benchmarks)  # a pruner registered since then comes with the next run
    assert all(found == benchmarks["awares"] for found in benchmarks.values())
    assert (long["n"] == PARTS["test"]).all() and PARTS["test"] >= 64


def test_committed_table_shows_the_papers_point():
    """Full resolution is accurate, low resolution is worse, AwaRes nearly as accurate at a fraction of the tokens."""
    long = pd.read_csv(RUNS / "table.csv")
    score, rtr = (long.pivot(index="method", columns="benchmark", values=value) for value in ("score", "rtr"))
    assert (score.loc["awares:never"] == score.loc["qwen2_5_vl_lowres"]).all()
    score, rtr = score.mean(axis=1), rtr.mean(axis=1)
    assert score["qwen2_5_vl_full"] >= 85
    assert score["qwen2_5_vl_lowres"] <= score["qwen2_5_vl_full"] - 25
    assert rtr["awares"] <= 0.6
    assert score["awares"] >= score["qwen2_5_vl_lowres"] + 25
    assert score["awares"] >= score["qwen2_5_vl_full"] - 5
    assert score["awares:always_full"] >= score["qwen2_5_vl_full"] - 10  # its trainings hardly show a whole image
    assert score["awares:oracle"] >= score["awares:random"] + 10


def test_committed_run_calls_where_it_must():
    row = next(line for line in (RUNS / "cdp.md").read_text().splitlines() if line.startswith("| awares  "))
    _, samples, needed, _, recall, _, false_positives = (cell.strip() for cell in row.split("|")[1:8])
    assert int(samples) == PARTS["test"] * len(MINI_TASKS) and 0.2 < int(needed) / int(samples) < 0.8
    assert float(recall) >= 70
    assert float(false_positives) <= 30


def test_committed_table_counts_tokens_as_the_methods_say():
    """Whatever the checkpoint answers: a ratio is met, and VisionThink pays 1/4, and the whole image per call."""
    long = pd.read_csv(RUNS / "table.csv")
    fixed = long[long["nominal"].notna() & ~long["method"].str.startswith("awares")]
    assert {"visionzip@0.5", "holov@0.7", "sparsevlm@0.5", "pruned+random@0.7", "pruned+downsample@0.5"} <= set(
        fixed["method"]
    )
    assert ((fixed["rtr"] - fixed["nominal"]).abs() < 0.01).all()
    calling = long[long["method"] == "visionthink"]
    assert len(calling) == len(MINI_TASKS)
    assert calling["call_rate"].between(0, 1, inclusive="neither").all()
    assert ((calling["rtr"] - LOWRES_RTR - calling["call_rate"]).abs() < 0.01).all()
