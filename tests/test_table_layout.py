"""Which columns a table shows, on how wide a terminal, and as JSON; the published tables in every format."""

import csv
import json

import pandas as pd
import pytest
from report_runs import awares, exit_of
from test_latex import full_table

from lmms_awares.report.tables import render
from lmms_awares.report.tables.columns import average_first, chosen, transposed
from lmms_awares.report.tables.paper import FOLDER, TITLES, paper_table
from lmms_awares.report.tables.table import Table, frame_of, headings_of


def joined(table):
    return [" ".join(column).strip() for column in headings_of(table.frame)]


def test_averages_come_first(pair):
    lines = awares("compare", *pair, "--format", "csv").stdout.splitlines()
    assert lines[0].split(",")[:5] == ["method", "RTR nominal", "average score", "average RTR", "average latency s"]
    table = frame_of([{("", "method"): "a", ("POPE", "score"): "1", ("average", "score"): "2", ("", "area"): "3"}])
    assert joined(average_first(Table("T", table))) == ["method", "average score", "POPE score", "area"]


CHOICES = {
    "average,POPE": [
        "method",
        "average score",
        "average RTR",
        "average latency s",
        *(f"POPE {x}" for x in ("score", "F1", "RTR")),
    ],
    "pope rtr, AVERAGE Score": ["method", "POPE RTR", "average score"],
    "RTR,score": ["method", *(f"{group} {x}" for group in ("average", "ChartQA", "POPE") for x in ("RTR", "score"))],
    "nominal": ["method", "RTR nominal"],
    "latency s,average": ["method", "average latency s", "average score", "average RTR"],
    "method,F1": ["method", "POPE F1"],
}


@pytest.mark.parametrize("columns", CHOICES)
def test_chosen_columns(columns, pair):
    shown = awares("compare", *pair, "--columns", columns, "--format", "csv").stdout
    rows = list(csv.reader(shown.splitlines()))
    assert rows[0] == CHOICES[columns]
    whole = list(csv.DictReader(awares("compare", *pair, "--format", "csv").stdout.splitlines()))
    assert rows[1:] == [[row[heading] for heading in rows[0]] for row in whole]


def test_a_drawn_suites_benchmark_by_either_name():
    table = full_table()
    assert joined(chosen(table, ["chartqa score"])) == joined(chosen(table, ["ChartQA (mini) score"]))
    assert joined(chosen(table, ["chartqa score"])) == ["method", "ChartQA (mini) score"]


def test_written_files_have_the_chosen_columns(pair, tmp_path):
    awares("compare", *pair, "--columns", "average", "-o", tmp_path)
    assert (tmp_path / "table_wide.csv").read_text().startswith("method,average score,average RTR,average latency s\n")
    assert "chartqa" in (tmp_path / "table.csv").read_text()  # the long one is for programs, and whole


def test_transposed(pair):
    rows = list(csv.reader(awares("compare", *pair, "--transpose", "--format", "csv").stdout.splitlines()))
    assert rows[0] == ["benchmark", "measure", "qwen2_5_vl_lowres", "awares"]
    assert rows[2] == ["average", "score", "48.33", "83.33"]  # (0 + 1 + 0.4) / 3 and 1 / 2
    whole = {(group, measure): cells for group, measure, *cells in rows[1:]}
    assert whole["ChartQA", "score"][1] == "66.67"
    table = full_table()
    turned = transposed(table).frame
    assert turned.iloc[:, 2:].to_numpy().T.tolist() == table.frame.iloc[:, 1:].to_numpy().tolist()
    assert joined(transposed(paper_table(9)))[:2] == ["measure", "SFT (baseline)"]
    lengths = awares("compare", *pair, "--transpose", "--table", "length", "--format", "csv").stdout
    assert lengths.splitlines()[0] == "method,measure,ChartQA,POPE"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_terminal_of_any_width(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    table = full_table()
    lines = render.FORMATS["terminal"](table).splitlines()
    assert max(map(len, lines)) <= width
    at = lines.index("visionthink")
    block = [line.split() for line in lines[at + 1 : at + 9]]
    row = table.frame.set_index(("", "method")).loc["visionthink"]
    groups = list(dict.fromkeys(group for group, _ in row.index))
    for words, group in zip(block, groups, strict=True):  # a line per benchmark, with all of its cells
        own = [word for measure, cell in row[group].items() for word in f"{measure} {cell}".split()]
        assert words == [*group.split(), *own]
    assert lines[at + 9] == "qwen2_5_vl_lowres"


@pytest.mark.parametrize("name", TITLES)
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_published_tables_on_a_terminal_of_any_width(name, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    table = paper_table(name)
    shown = render.FORMATS["terminal"](table)
    assert max(map(len, shown.splitlines())) <= width
    words = shown.split()
    for cell in table.frame.to_numpy().ravel():
        assert set(cell.split()) <= set(words), cell


def test_a_table_that_fits_is_a_table(pair, monkeypatch):
    wide = awares("compare", *pair).stdout.splitlines()
    monkeypatch.setenv("COLUMNS", "200")
    assert awares("compare", *pair).stdout.splitlines()[:6] == wide[:6]
    monkeypatch.setenv("COLUMNS", "60")
    assert "awares" in awares("compare", *pair).stdout.splitlines()


def test_json(pair):
    (table,) = json.loads(awares("compare", *pair, "--format", "json").stdout)
    assert table["title"] == "Score (0-100) and RTR per benchmark"
    low, aware = table["rows"]
    assert (aware["method"], aware["RTR nominal"], low["RTR nominal"]) == ("awares", None, 0.25)
    assert (aware["ChartQA score"], aware["average RTR"]) == (66.67, 0.375)
    assert any(note.startswith("same in all rows: ") for note in table["notes"])
    both = json.loads(awares("compare", *pair, "--paper", "--table", "calls", "--format", "json").stdout)
    assert [len(table["rows"]) for table in both] == [2, 5]
    lengths = json.loads(awares("compare", *pair, "--table", "length", "--format", "json").stdout)
    assert lengths[0]["rows"][0]["awares chars"] == "4.0 ± 0.0"


@pytest.mark.parametrize("name", TITLES)
@pytest.mark.parametrize("form", render.FORMATS)
def test_awares_paper_prints_every_table(name, form):
    result = awares("paper", name, "--format", form)
    assert result.exit_code == 0
    assert "not measured here" in result.stdout or form == "csv"
    file = FOLDER / (f"table{name}.csv" if name.isdigit() else f"{name}.csv")
    raw = pd.read_csv(file, dtype=str, keep_default_na=False)
    if form == "csv":
        assert list(csv.reader(result.stdout.splitlines())) == [list(raw.columns), *raw.to_numpy().tolist()]
    if form == "json":
        (table,) = json.loads(result.stdout)
        assert [list(row) for row in table["rows"]] == [list(raw.columns)] * len(raw)
        for row, cells in zip(table["rows"], raw.to_numpy().tolist(), strict=True):
            assert [
                cell is None or cell == text or cell == float(text)
                for cell, text in zip(row.values(), cells, strict=True)
            ]
    numbers = [text for text in raw.to_numpy().ravel() if text.replace(".", "").isdigit()]
    if form != "json":
        assert all(number in result.stdout for number in numbers)


def test_an_unknown_published_table(monkeypatch, capsys):
    for name in ("12", "0", "fig4", "table1", "../table1"):
        code, err = exit_of(monkeypatch, capsys, "paper", name)
        assert code == 2
        there = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, fig5"
        assert err == f"awares: error: no table {name!r} of the paper is transcribed; there are {there}\n"


def test_an_unknown_format_names_those_there_are(monkeypatch, capsys):
    code, err = exit_of(monkeypatch, capsys, "paper", "1", "--format", "word")
    assert code == 2
    assert "'word' is not one of 'terminal', 'markdown', 'csv', 'json', 'latex', 'html'" in " ".join(err.split())
