"""The committed ablations of the tiny policy: whole, and each printed mean is that of the committed cells."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lmms_awares.mini.suite import PARTS
from lmms_awares.report.tables.render import markdown
from lmms_awares.tasks.benchmarks import BENCHMARKS
from lmms_awares.training.parsing import CONFIGS
from lmms_awares.training.sweep import TABLES, read_grid
from lmms_awares.training.sweep_tables import means

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "runs" / "training"
COLUMNS = ["method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n", "seed"]
GRIDS = {"table3_mini": 3, "table4_mini": 4}


@pytest.mark.parametrize(("grid", "number"), GRIDS.items())
def test_every_row_and_seed_of_the_shipped_grid_is_there(grid, number):
    long = pd.read_csv(RESULTS / f"table{number}.csv")
    assert list(long.columns) == COLUMNS
    rows = {row.method: row.seeds for row in read_grid(Path(grid)).rows}
    assert {method: list(found["seed"].unique()) for method, found in long.groupby("method")} == rows
    assert (long.groupby(["method", "seed"])["benchmark"].nunique() == len(BENCHMARKS)).all()
    assert (long["n"] == PARTS["validation"]).all()


@pytest.mark.parametrize("number", GRIDS.values())
def test_means_are_those_of_the_cells(number):
    long = pd.read_csv(RESULTS / f"table{number}.csv")
    printed = (RESULTS / f"table{number}.md").read_text(encoding="utf-8")
    assert printed.startswith(markdown(means(long)))
    shown = (ROOT / "docs" / "training_mini.md").read_text(encoding="utf-8")
    table = markdown(means(long)).split("\n\n")[1]
    assert f"<!-- results/runs/training/table{number}.md, the first table -->\n{table}\n<!-- end -->" in shown


@pytest.mark.parametrize("number", TABLES)
def test_the_published_table_stands_behind_each(number):
    text = (RESULTS / f"table{number}.md").read_text(encoding="utf-8")
    assert f"**Paper, Table {number}" in text and (RESULTS / f"table{number}.csv").is_file()


@pytest.mark.parametrize(("grid", "number"), GRIDS.items())
def test_each_row_was_trained_with_the_shipped_settings(grid, number):
    trained = json.loads((RESULTS / f"trainings{number}.json").read_text(encoding="utf-8"))
    read = read_grid(Path(grid))
    assert list(trained) == [f"{row.method} (seed {seed})" for row in read.rows for seed in row.seeds]
    files = {stage: yaml.safe_load((CONFIGS / f"{stage}_mini.yaml").read_text()) for stage in ("sft", "grpo")}
    for row in read.rows:
        for seed in row.seeds:
            stages = trained[f"{row.method} (seed {seed})"]
            wanted = {stage: vars(row)[stage] for stage in files if vars(row)[stage] is not None}
            assert list(dict.fromkeys(stage["stage"] for stage in stages)) == list(wanted)  # one may have gone on
            for stage in stages:
                settings = files[stage["stage"]] | wanted[stage["stage"]] | {"seed": seed}
                said = stage["settings"]
                own = {name: value for name, value in settings.items() if name in said and name not in PLACES}
                assert {name: said[name] for name in own} == own
            assert {stage["data"] for stage in stages} == {trained[f"{read.rows[0].method} (seed 1)"][0]["data"]}


PLACES = ("output_dir", "adapter", "pretrained", "curated")
