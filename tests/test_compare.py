"""`awares compare`: the tables and their commands."""

import csv
import json

import pytest
from test_report import ROWS, answered, trace, write_run
from typer.testing import CliRunner

from lmms_awares.cli import app, main

LONG = ["method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n"]


def awares(*arguments):
    """The command, in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def exit_code(monkeypatch, *arguments):
    """What the shell sees, errors turned into a line included."""
    monkeypatch.setattr("sys.argv", ["awares", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def set_model_args(folder, text, model):
    file = next(folder.glob("*_results.json"))
    results = json.loads(file.read_text())
    results["config"] |= {"model": model, "model_args": text}
    file.write_text(json.dumps(results))


def pruned(tokens, score):
    row = answered(tokens, 100, score)
    row["awares"] |= {"model": "visionzip", "policy": None}
    return row


def test_long_table_by_hand(tmp_path):
    """The contract: columns, scale, method names; worked out by hand from the rows."""
    write_run(tmp_path / "a", ROWS)
    write_run(tmp_path / "mini", [answered(30, 100, 0.5, latency=4.0)], task="awares_mini_pope")
    zipped = write_run(tmp_path / "zip", [pruned(52, 1.0), pruned(48, 0.0)])
    set_model_args(zipped, "pretrained=x,retain_ratio=0.5", "visionzip")
    never = write_run(
        tmp_path / "never", [{"score": 1.0, "awares": trace(policy="never", rtr=0.25, full_tokens=4, latency_s=0.0)}]
    )
    result = awares("compare", zipped, never, tmp_path / "mini", tmp_path / "a", "-o", tmp_path / "out")
    assert result.exit_code == 0
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == LONG
    assert [(row["method"], row["benchmark"], row["nominal"]) for row in rows] == [
        ("visionzip@0.5", "pope", "0.5"),
        ("awares:never", "pope", ""),
        ("awares", "mini_pope", ""),
        ("awares", "pope", ""),
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx([50, 100, 50, 200 / 3])
    assert [float(row["rtr"]) for row in rows] == pytest.approx([0.5, 0.25, 0.3, 0.5])
    assert [float(row["call_rate"]) for row in rows] == pytest.approx([0, 0, 0, 1 / 3])
    assert [float(row["latency_s"]) for row in rows] == [1, 0, 4, 2]
    assert [row["n"] for row in rows] == ["2", "1", "1", "3"]  # the failed sample of the last run is in no mean
