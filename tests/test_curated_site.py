"""The static report of a curated set: what it writes, and what a person does with it, in headless Chromium."""

import json
import re
import shutil

import curated_sets
import pytest
from report_runs import POPE, awares, exit_of, sample, write
from test_explorer import browser, choose, listed, shown

from lmms_awares.crops import CROPS
from lmms_awares.report.curated import page_data, site
from lmms_awares.report.curated.read import is_curated, open_set
from lmms_awares.report.explorer.pictures import Gallery

__all__ = ["browser"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of the set, its rows by id, and the site."""
    folder = tmp_path_factory.mktemp("curated")
    rows = curated_sets.write(folder / "set")
    result = awares("report", folder / "set", "-o", folder / "site")
    assert "warning" not in result.output
    return folder / "set", rows, folder / "site"


def data_of(folder, name):
    text = (folder / "data" / f"{name}.js").read_text()
    return json.loads(re.fullmatch(r"awares\.\w+\((?:\d+, )?(.*)\);\n", text, re.DOTALL)[1])


def test_records_hold_what_the_stages_said(made):
    _, rows, folder = made
    index, page = data_of(folder, "index"), data_of(folder, "0")
    assert index["sources"] == list(curated_sets.BENCHMARKS)
    assert len(index["documents"]) == len(page) == 38
    states = [index["states"][entry[4]] for entry in index["documents"]]
    assert (states.count("kept"), states.count("set aside"), states.count("open")) == (29, 9, 0)
    reasons = {index["reasons"][entry[5]] for entry in index["documents"] if entry[5] is not None}
    assert {f"{stage}: {reason}" for stage, reason, _ in curated_sets.ASIDE.values()} <= reasons
    for record in page[:36]:
        row = rows[record["id"]]
        for name in ("question", "answers", "lowres_answer", "label", "targets", "rule", "judge", "grounding"):
            stage_done = name in row and (record["rejected"] is None or record[name] is not None)
            assert record[name] == (row[name] if stage_done else None), (record["id"], name)


def test_boxes_lie_where_they_are(made):
    _, rows, folder = made
    record = data_of(folder, "0")[4]
    row = rows[record["id"]]
    width, height = row["image"].size
    view = record["view"]
    assert view["targets"] == ["1"]
    left, top, right, bottom = CROPS["1"].box(width, height)
    assert view["boxes"]["1"] == [left / width, top / height, (right - left) / width, (bottom - top) / height]
    left, top, w, h = view["evidence"]
    drawn = [left * width, top * height, (left + w) * width, (top + h) * height]
    assert drawn == pytest.approx(row["evidence_box"], abs=0.1)
    assert view["answer"][0] == pytest.approx(view["evidence"], abs=1e-3)  # this oracle gives the source's box
    assert view["question"] == [[0.0, 0.0, 1.0, 0.2]]
    assert [crop["id"] for crop in view["seen"]] == ["1"]


def test_limits_are_the_base_models(tmp_path):
    assert site.limits_of({}) == {}
    base = {"min_pixels": None, "max_pixels": 100_352, "lowres_base": "raw"}
    assert site.limits_of({"config": {"base": base}}) == {"max_pixels": 100_352, "lowres_base": "raw"}
    curated_sets.write(tmp_path / "set")
    row = next(open_set(tmp_path / "set").rows(page_data.COLUMNS))
    view = page_data.record_of(row, Gallery(tmp_path, 1), {"max_pixels": 28 * 28 * 64})["view"]
    assert max(view["full_size"]) == 224  # of 336 px


def test_half_a_set_and_trajectories_alone(tmp_path):
    curated_sets.write(tmp_path / "half", "judge")
    curated_sets.write(tmp_path / "alone", keep_stages=False)
    awares("report", tmp_path / "half", "-o", tmp_path / "a")
    awares("report", tmp_path / "alone", "-o", tmp_path / "b")
    index = data_of(tmp_path / "a", "index")
    assert {index["states"][entry[4]] for entry in index["documents"]} == {"open", "set aside"}
    assert len(index["documents"]) == 36
    assert data_of(tmp_path / "a", "0")[0]["boxes"] is None
    assert len(data_of(tmp_path / "b", "index")["documents"]) == 38


def test_pages_hold_no_more_than_their_number(made, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "PAGE", 15)
    site.build(made[0], tmp_path / "site")
    assert [len(data_of(tmp_path / "site", str(i))) for i in range(3)] == [15, 15, 8]
    assert data_of(tmp_path / "site", "index")["page"] == 15


def test_bad_input(made, tmp_path, monkeypatch, capsys):
    folder, _, _ = made
    run = write(tmp_path / "run", {POPE: [sample()]})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    (tmp_path / "broken" / "sources").mkdir(parents=True)
    (tmp_path / "broken" / "sources" / "train-00000.parquet").write_bytes(b"PAR1")
    for arguments, words in (
        ([run, folder, "-o", tmp_path / "site"], "is a curated set, which a report shows alone"),
        ([folder, folder, "-o", tmp_path / "site"], "is a curated set, which a report shows alone"),
        ([tmp_path / "broken", "-o", tmp_path / "site"], "is not a readable parquet file"),
        ([folder, "-o", tmp_path / "mine"], "is not empty and holds no report"),
        ([tmp_path / "mine", "-o", tmp_path / "site"], "holds no results"),
    ):
        code, err = exit_of(monkeypatch, capsys, "report", *arguments)
        assert (code, words in err, len(err.splitlines())) == (2, True, 1), err
    assert not (tmp_path / "site").exists()
    assert not is_curated(run)


# --- what a person does with it


@pytest.fixture
def page(browser, made):
    """The rows' page, from file://, without a network; errors of its scripts fail the test."""
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})
    context.set_default_timeout(120_000)
    opened = context.new_page()
    errors = []
    opened.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108
    opened.on("requestfailed", lambda request: errors.append(request.url))
    opened.goto((made[2] / "samples.html").as_uri())
    opened.wait_for_selector("#sample h2")
    yield opened
    context.close()
    assert errors == []


def test_filters(page):
    assert page.inner_text("#count") == "38 of 38 rows"
    for filters, expected in (
        ({"source": "docvqa_val", "state": "set aside"}, ["docvqa_val/0", "docvqa_val/11", "docvqa_val/901"]),
        ({"source": "any", "state": "any", "reason": "judge: no reply"}, ["vstar_bench/2"]),
        ({"reason": "any", "label": "HR", "split": "validation", "state": "kept"}, ["docvqa_val/10", "vstar_bench/10"]),
    ):
        choose(page, **filters)
        assert listed(page) == expected, filters
        assert shown(page).split()[0] == expected[0]
    assert "label=HR" in page.url
    page.reload()  # the address brings the filters back
    assert listed(page) == ["docvqa_val/10", "vstar_bench/10"]
    choose(page, state="open")
    assert page.inner_text("#sample") == "No row matches the filters."
    page.click("button[type=reset]")
    page.wait_for_function("document.getElementById('count').textContent === '38 of 38 rows'")


def test_a_row_shows_question_answers_verdict_boxes_and_transcript(page, made):
    row = made[1]["docvqa_val/1"]
    page.locator("#list button", has_text="docvqa_val/1").first.click()
    text = page.inner_text("#sample")
    for words in (
        row["question"],
        row["lowres_answer"],
        "the full-res answer is better; with the answers exchanged: the full-res answer is better",
        "1 (rule: iou)",
        "big-judge, prompt judge 77aa",
        row["grounding"],
        "GET_CROPS: ['1']",
        "crop 1",
    ):
        assert words in text, words
    assert page.locator("#sample .boxes rect").count() == 4
    assert page.locator("#sample .boxes rect.oracle title").text_content() == "target: 1"
    picture = page.locator(".pictures .view").first.bounding_box()
    box = page.locator("#sample .boxes rect.oracle").bounding_box()
    assert box["x"] - picture["x"] == pytest.approx(picture["width"] / 2, abs=5)
    page.keyboard.press("o")
    assert not page.locator("#sample .boxes").is_visible()


def test_several_crops_stand_in_one_turn(page):
    assert shown(page) == "chartqa/0 (train)"
    assert page.locator(".transcript .crops").count() == 1
    assert page.locator(".transcript .crops figcaption").all_inner_texts() == [
        "crop 5, 72 tokens",
        "crop all, 144 tokens",
    ]


def test_rows_set_aside_say_why(page):
    page.locator("#list button", has_text="vstar_bench/1").first.click()
    assert "Set aside in judge: no verdict in the reply. 3 replies" in page.inner_text("#sample .warning")
    assert "full view" in page.inner_text("#sample")  # both answers are still there
    page.locator("#list button", has_text="chartqa/900").click()
    assert "Set aside in sources: corrupt image" in page.inner_text("#sample")
    assert "No picture: the set does not hold the image." in page.inner_text("#sample")


def test_texts_are_shown_and_never_run(page, made):
    page.locator("#list button", has_text="chartqa/1").first.click()
    assert shown(page) == "chartqa/1 (train)"
    assert "<script>document.title='hacked'</script>" in page.inner_text("#sample .answers")
    assert page.title() == "Rows"
    for file in made[2].rglob("*.*"):
        if file.suffix in (".html", ".js", ".css"):
            assert not re.search(r"(?:src|href)=\W?https?:|url\((?!#)|@import", file.read_text()), file


def test_ids_of_any_kind_can_be_sent_to_a_colleague(browser, made, tmp_path):
    copy = shutil.copytree(made[2], tmp_path / "site")
    index = copy / "data" / "index.js"
    odd = "local/IMG 1?#100 %é.png"
    index.write_text(index.read_text().replace('"chartqa/2"', json.dumps(odd)))
    opened = browser.new_page()
    opened.goto((copy / "samples.html").as_uri())
    opened.locator("#list button", has_text="IMG").click()
    assert shown(opened) == f"{odd} (train)"
    opened.reload()
    assert shown(opened) == f"{odd} (train)"
    opened.close()


def test_the_overview(browser, made):
    opened = browser.new_page()
    opened.goto((made[2] / "index.html").as_uri())
    text = opened.inner_text("main")
    for words in ("Labels by source and split", "Target crops (Fig. 5 left)", "The judge", "What it was made with"):
        assert words in text
    assert opened.locator(".plot svg").count() == 3
    opened.close()
