"""Statistics of curated sets: tables and figures against counts by hand, and what half a set shows."""

import json
from types import SimpleNamespace

import curated_sets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from report_runs import awares, cells, exit_of

from lmms_awares.curation import rows as columns
from lmms_awares.curation.asking import ATTEMPTS, Asker, BadReplyError, Request
from lmms_awares.curation.request_log import Reply
from lmms_awares.report.curated import figures, read, tables
from lmms_awares.report.curated.frame import crop_distribution, frame_of, placed, smallest
from lmms_awares.report.figures import looks
from lmms_awares.report.tables import render


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated") / "set"
    curated_sets.write(folder)
    return folder


@pytest.fixture(scope="module")
def frame(folder):
    return frame_of(read.open_set(folder))


def test_the_reader_knows_the_columns_of_every_stage():
    features = {"answer": columns.ANSWER, "judge": columns.JUDGE, "ground": columns.GROUND, "build": columns.BUILD}
    assert {stage: {*adds} for stage, adds in read.STAGES.items()} == {
        stage: {*adds} - {"images"} for stage, adds in features.items()
    }
    assert {*read.SOURCE} == {*columns.SOURCE} - {"metric"}
    made = {name for name, stage in curated_sets.ASIDE.items() if stage[0] in read.STAGES}
    assert made == {*curated_sets.ASIDE}


def test_rows_are_joined_as_the_trajectories_hold_them(folder, tmp_path):
    """From the stages' shards, and from trajectories alone: the same rows."""
    curated_sets.write(tmp_path / "alone", keep_stages=False)
    wanted = [*read.SOURCE, *(name for adds in read.STAGES.values() for name in adds)]
    staged = [row for row in read.open_set(folder).rows(wanted) if row["rejected"] is None]
    alone = [row for row in read.open_set(tmp_path / "alone").rows(wanted) if row["rejected"] is None]
    assert len(staged) == 29
    assert staged == alone
    aside = [row["id"] for row in read.open_set(tmp_path / "alone").rows(["label"]) if row["rejected"]]
    assert sorted(aside) == sorted(row["id"] for row in read.open_set(folder).rows(["label"]) if row["rejected"])
    assert len(read.open_set(folder)) == len(read.open_set(tmp_path / "alone")) == 38


def test_labels_by_hand(frame):
    """36 rows in sources/, 2 that never got there; 7 set aside later."""
    table = tables.label_table(frame).frame
    total = table[(table["", "source"] == "all") & (table["", "split"] == "all")].iloc[0]
    assert total["rows", "all"] == "38"
    assert total["rows", "set aside"] == "9"
    known = frame[frame["aside"].isna()]
    hard = int((known["label"] == "HR").sum())
    assert (total["rows", "HR"], total["rows", "LR"], total["rows", "open"]) == (str(hard), str(29 - hard), "0")
    assert total["% of labelled", "HR"] == f"{100 * hard / 29:.1f}"


def test_crops_by_hand():
    given = [("LR", ()), ("HR", ("5", "all")), ("HR", ("1", "4")), ("HR", ("all",))]
    frame = pd.DataFrame(given, columns=["label", "targets"]).assign(aside=None, source="a")
    frame.loc[4] = ["HR", (), None, "a"]  # no targets yet
    rows = placed(frame)
    assert len(rows) == 4
    shares = crop_distribution(rows)
    assert {name: share for name, share in shares.items() if share} == {
        "no crop": 0.25,
        "top-right": 0.25,  # as large as the center, and before it
        "top": 0.25,
        "all": 0.25,
    }
    each = crop_distribution(rows, each=True)
    assert {name: share for name, share in each.items() if share} == {
        "no crop": 0.25,
        "top-right": 0.25,
        "center": 0.25,
        "top": 0.25,
        "all": 0.5,
    }
    notes = tables.crop_table(frame).notes
    assert "Rows with several targets: 2." in notes
    assert notes[-1].endswith("left out: 1.")
    assert smallest(("8", "all", "3", "4")) == "3"


def test_the_judge_by_hand():
    """Four rows asked twice: one consistent for each answer, one always for the first named, one always equal."""
    said = [(1, 1), (2, 2), (1, 2), (0, 0), (2, None)]
    frame = pd.DataFrame(said, columns=["verdict", "swapped"]).assign(
        source="a", same=[False, True, False, False, True]
    )
    row = cells(tables.judge_table(frame), "a", "source")
    assert row["swapped rows"] == "4"
    assert row["swapped % agree"] == "75.0"
    assert row["swapped % first named"] == f"{100 * 4 / 6:.1f}"  # 1, 1 of the first answers; 2, 2 of the second
    assert (row["% by verdict equal"], row["% by verdict low-res"], row["% by verdict full-res"]) == (
        "20.0",
        "40.0",
        "40.0",
    )
    assert row["answers % identical"] == "40.0"
    consistent = pd.DataFrame([(1, 1), (2, 2), (2, 2)], columns=["verdict", "swapped"]).assign(source="a", same=False)
    assert cells(tables.judge_table(consistent), "a", "source")["swapped % first named"] == "50.0"


def test_rules_and_resolutions_by_hand(frame):
    row = cells(tables.rule_table(frame), "all", "source")
    hard = frame[(frame["label"] == "HR") & frame["aside"].isna()]
    assert row["HR rows"] == str(len(hard))
    assert row["% by rule nearest"] == f"{100 / len(hard):.1f}"  # the box that leaves its image
    assert float(row["% by rule fallback"]) == pytest.approx(100 - float(row["% by rule iou"]), abs=0.11)
    sizes = cells(tables.resolution_table(frame), "all", "source")
    assert (sizes["rows"], sizes["width, px least"], sizes["width, px most"]) == ("36", "224", "672")
    assert tables.resolution_table(frame).notes == ["Rows without an image that can be read: 2."]


def test_sizes_are_those_that_are_seen():
    """Upright, and none for bytes that are no image."""
    import io

    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(stream, "JPEG", exif=exif)
    assert read.size_of({"bytes": stream.getvalue(), "path": None}) == (20, 40)
    assert read.size_of({"bytes": b"prose", "path": None}) is None
    assert read.size_of(None) is None


def test_rejected_by_hand(frame):
    table = tables.rejected_table(frame)
    found = {(row["", "stage"], row["", "reason"]) for _, row in table.frame.iterrows()}
    never = {(row["stage"], row["reason"]) for row in curated_sets.NEVER}
    assert found == {aside[:2] for aside in curated_sets.ASIDE.values()} | never
    assert table.notes == ["9 of 38 rows are set aside (23.7 %), 2 of them because no reply could be read."]


def test_unreadable_replies_are_known_by_their_detail():
    """As the asking really words it."""

    class Log:
        def get(self, key):
            return Reply("no digit\nat all")

    def refuse(text):
        raise BadReplyError("no verdict in the reply")

    import asyncio
    from concurrent.futures import Future

    def begin(coroutine):
        future = Future()
        future.set_result(asyncio.run(coroutine))
        return future

    client = SimpleNamespace(concurrency=1, begin=begin, served=SimpleNamespace(model="judge"))
    (rejected,) = Asker(client, Log(), "judge", "v").ask([Request(lambda: "", [], 4)], refuse)
    assert rejected.detail.startswith(f"{ATTEMPTS} replies")
    row = {"aside": "judge", "reason": rejected.reason, "detail": rejected.detail}
    assert "1 of them because no reply could be read" in tables.rejected_table(pd.DataFrame([row])).notes[0]


def test_every_format_and_every_file(folder, tmp_path):
    for form in render.FORMATS:
        shown = awares("curate", "stats", folder, "--format", form).stdout
        assert "the swapped verdict differs" in shown
    awares("curate", "stats", folder, "-o", tmp_path / "a")
    awares("curate", "stats", folder, "-o", tmp_path / "b")
    names = {file.name for file in (tmp_path / "a").iterdir()}
    figures_of = {f"{name}.{kind}" for name in ("fig5_left", "fig8", "labels") for kind in looks.FILE_TYPES}
    kinds = ("labels", "crops", "resolutions", "rules", "rejected", "judge", "requests")
    assert names == figures_of | {"stats.md", "stats.tex", "stats.html"} | {f"{kind}.csv" for kind in kinds}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    for name in ("fig5_left", "fig8", "labels"):
        assert np.asarray(Image.open(tmp_path / "a" / f"{name}.png").convert("L")).std() > 10  # something is drawn
    requests = pd.read_csv(tmp_path / "a" / "requests.csv").iloc[0]
    assert requests.to_dict() == {"stage": "judge"} | {
        name.replace("_", " "): count for name, count in curated_sets.provenance()["requests"]["judge"].items()
    }


def test_bars_are_the_shares(frame):
    (axes,) = figures.crops(placed(frame)).axes
    for bars, each in zip(axes.containers, (False, True), strict=True):
        expected = [100 * share for share in crop_distribution(placed(frame), each=each).values()]
        assert [bar.get_height() for bar in bars] == pytest.approx(expected)
    drawn = figures.resolutions(frame[frame["width"].notna()])
    assert [axes.get_title() for axes in drawn.axes] == [
        f"{name}, 12 images" for name in ("chartqa", "docvqa_val", "vstar_bench")
    ]


@pytest.mark.parametrize(
    ("upto", "shown"),
    [
        ("answer", {"labels", "resolutions", "rejected"}),
        ("judge", {"labels", "crops", "resolutions", "rejected", "judge"}),
        ("ground", {"labels", "crops", "resolutions", "rules", "rejected", "judge"}),
    ],
)
def test_half_a_set_shows_what_is_there(tmp_path, upto, shown):
    curated_sets.write(tmp_path / "set", upto)
    found = read.open_set(tmp_path / "set")
    frame = frame_of(found)
    assert {*tables.tables_of(frame, found.provenance)} == shown
    assert {*frame["stage"]} >= {upto}
    assert "labels" in figures.draw(frame)
    awares("curate", "stats", tmp_path / "set", "-o", tmp_path / "out")


def test_bad_input(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken" / "sources").mkdir(parents=True)
    (tmp_path / "broken" / "sources" / "train-00000.parquet").write_bytes(b"PAR1 nothing PAR1")
    (tmp_path / "other" / "sources").mkdir(parents=True)
    table = pq.read_table(folder / "sources" / "train-00000.parquet").drop_columns(["split"])
    pq.write_table(table, tmp_path / "other" / "sources" / "train-00000.parquet")
    curated_sets.write(tmp_path / "torn", "judge")
    (tmp_path / "torn" / "judge" / "train-00000.parquet").write_bytes(b"")
    curated_sets.write(tmp_path / "odd", keep_stages=False)
    (tmp_path / "odd" / "provenance.json").write_text(json.dumps([1]))
    for name, words in (
        ("nowhere", "holds no curated set"),
        ("empty", "holds no curated set"),
        ("broken", "is not a readable parquet file"),
        ("other", "has no column 'split'"),
        ("torn", "is not a readable parquet file"),
        ("odd", "holds no JSON object"),
    ):
        code, err = exit_of(monkeypatch, capsys, "curate", "stats", tmp_path / name)
        assert (code, words in err, len(err.splitlines())) == (2, True, 1), err
    code, err = exit_of(monkeypatch, capsys, "curate", "stats", folder, "-o", "/proc/nope")
    assert (code, "cannot be written" in err, len(err.splitlines())) == (2, True, 1)
