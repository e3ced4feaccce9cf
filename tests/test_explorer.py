"""The static report as a person uses it, in headless Chromium from file://."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from explorer_site import (
    DOCUMENTS,
    FIRST,
    data_file,
    page_data,
    write_site,
    write_traced,
)
from PIL import Image
from synthetic import SIZES, rows, write_run
from typer.testing import CliRunner

from lmms_awares.cli import app
from lmms_awares.mini import smoke_data

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return smoke_data.write(tmp_path_factory.mktemp("data"), documents=DOCUMENTS)


@pytest.fixture(scope="module")
def report(tmp_path_factory, data_root):
    return write_site(tmp_path_factory.mktemp("report"), data_root)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)}); e.g. apt-get install chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=QUIET)
        yield running
        running.close()


@pytest.fixture
def page(browser, report):
    """The explorer, opened from file://, without a network; errors of its scripts fail the test."""
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})
    context.set_default_timeout(120_000)  # a busy machine is no failure
    opened = context.new_page()
    errors = []
    opened.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108 (playwright marks its handlers)
    opened.on("requestfailed", lambda request: errors.append(request.url))
    opened.goto((report / "samples.html").as_uri())
    opened.wait_for_selector("#sample h2")
    yield opened
    context.close()
    assert errors == []


def shown(page):
    page.wait_for_selector("#sample h2")
    return page.inner_text("#sample h2")


def listed(page):
    return [line.split()[0] for line in page.locator("#list button").all_inner_texts()]


def choose(page, **filters):
    for name, label in filters.items():
        page.select_option(f"[name={name}]", label=label)


def test_filters(page):
    assert page.inner_text("#count") == "12 of 12 samples"
    choose(page, task="pope")
    assert page.inner_text("#count") == "6 of 12 samples"
    for filters, expected in (
        ({"call": "called"}, ["pope/1", "pope/2"]),
        ({"call": "no call", "answer": "right"}, ["pope/0", "pope/5"]),
        ({"call": "any", "answer": "wrong"}, ["pope/1", "pope/3"]),
        ({"answer": "failed"}, ["pope/4"]),
        ({"answer": "any", "status": "invalid"}, ["pope/3"]),
        ({"status": "recovered"}, ["pope/2"]),
        ({"status": "any", "run": "two", "call": "called"}, ["pope/1"]),
    ):
        choose(page, **{"result" if name == "answer" else name: label for name, label in filters.items()})
        assert listed(page) == expected, filters
        assert shown(page) == expected[0]
    choose(page, status="invalid")
    assert page.inner_text("#sample") == "No sample matches the filters."
    page.click("button[type=reset]")
    page.wait_for_function("document.getElementById('count').textContent === '12 of 12 samples'")


def test_next_and_previous_by_button_and_key(page):
    page.click("#next")
    assert shown(page) == "pope/1"
    page.keyboard.press("j")
    page.keyboard.press("ArrowRight")
    assert shown(page) == "pope/3"
    page.keyboard.press("k")
    page.click("#back")
    assert shown(page) == "pope/1"
    assert page.url.endswith("#pope/1")
    assert page.inner_text("[aria-current=true]").startswith("pope/1")
    page.locator("#list button", has_text="chartqa/5").click()
    assert shown(page) == "chartqa/5"
    assert page.is_disabled("#next")
    page.keyboard.press("f")
    assert page.evaluate("document.activeElement.name") == "task"
    page.keyboard.press("j")  # typed into the filter, not a command
    assert shown(page) == "chartqa/5"
    page.keyboard.press("Escape")
    page.keyboard.press("k")
    assert shown(page) == "chartqa/4"


def test_keys_after_the_mouse(page):
    page.click("[name=task]")
    choose(page, task="pope")
    page.keyboard.press("j")
    assert shown(page) == "pope/1"
    page.locator("#list button", has_text="pope/3").focus()
    page.keyboard.press("Enter")
    assert shown(page) == "pope/3"
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused).startswith("pope/3")
    page.keyboard.press("j")
    assert page.evaluate(focused).startswith("pope/4")


def test_keys_while_a_filter_is_used_by_keyboard(page):
    page.keyboard.press("f")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.getElementById('count').textContent === '6 of 12 samples'")
    assert page.evaluate("document.activeElement.name") == "task"


def test_data_that_are_missing_are_said_at_every_visit(browser, report, tmp_path):
    copy = shutil.copytree(report, tmp_path / "site")
    index = copy / "data" / "index.js"
    index.write_text(index.read_text().replace('"page":50', '"page":6'))  # the second benchmark's file is not there
    opened = browser.new_page()
    opened.goto((copy / "samples.html").as_uri())
    for _ in range(2):
        opened.locator("#list button", has_text="chartqa/0").click()
        opened.wait_for_selector("#sample .warning")
        assert opened.inner_text("#sample") == "data/1.js is missing; build the report again."
        opened.locator("#list button", has_text="pope/2").click()
        assert shown(opened) == "pope/2"
    opened.close()


def test_crop_overlay_lies_where_the_crop_is(page):
    choose(page, other="two")
    page.locator("#list button", has_text="pope/1").click()
    whole = page.locator("#sample svg[aria-label='the whole image']").bounding_box()
    mine = page.locator("#sample rect.requested.run0").bounding_box()
    other = page.locator("#sample rect.requested.run1").bounding_box()
    middle = whole["x"] + whole["width"] / 2, whole["y"] + whole["height"] / 2
    assert (mine["x"], mine["y"]) == pytest.approx(middle, abs=6)  # crop 3: bottom right
    assert other["x"] == pytest.approx(whole["x"], abs=6)  # crop 2: bottom left
    assert other["y"] == pytest.approx(middle[1], abs=6)
    assert mine["width"] == pytest.approx(whole["width"] / 2, abs=8)
    assert page.locator("#sample rect.oracle").count() == 1
    assert page.locator("#sample rect.evidence").count() == 1
    assert page.locator("#sample rect.oracle").is_visible()
    page.keyboard.press("o")
    assert not page.locator("#sample rect.oracle").is_visible()
    page.locator("#overlay").check()
    assert page.locator("#sample rect.oracle").is_visible()


def test_pictures_load_and_both_turns_are_shown(page):
    page.locator("#list button", has_text="pope/1").click()
    loaded = "svg => new Promise(done => { const i = new Image(); i.onload = () => done(i.naturalWidth); i.onerror = "
    loaded += "() => done(0); i.src = svg.querySelector('image').getAttribute('href'); })"
    for label in ("the whole image", "the low-res view", "crop 3"):
        assert page.locator(f"#sample svg[aria-label='{label}']").evaluate(loaded) > 100
    turns = page.locator("#sample .transcript li").all_inner_texts()
    assert [turn.split()[0].lower() for turn in turns] == ["user", "assistant", "user", "assistant"]
    assert "Is there a zebra in the image?" in turns[0]
    assert "GET_CROPS: ['3']" in turns[1]
    assert "9 tokens, 0.250 s" in turns[1]
    assert "crop 3, 12 tokens" in turns[2]
    figures = " ".join(page.inner_text("#sample .runs dl").split())
    assert "tool call valid: 3" in figures
    assert "visual tokens 30 of 100" in figures
    assert "tokens prefilled unknown" in figures


def test_disagreement_between_two_runs(page):
    page.keyboard.press("d")
    assert page.input_value("[name=other]") == "1"
    # pope/4 failed in one run: no disagreement about the answer. 0.4 against 0.6 is one about right and wrong.
    assert listed(page) == ["pope/1", "pope/2", *(f"chartqa/{i}" for i in range(DOCUMENTS))]
    assert page.locator("#sample .runs section").count() == 2
    choose(page, disagree="run right, other wrong")
    assert listed(page) == ["pope/2"]
    page.keyboard.press("r")
    assert (page.input_value("[name=run]"), page.input_value("[name=other]")) == ("1", "0")
    assert "pope/1" in listed(page)
    assert "pope/2" not in listed(page)
    choose(page, disagree="run wrong, other right")
    assert listed(page) == ["pope/2"]
    page.keyboard.press("d")
    assert page.inner_text("#count") == "12 of 12 samples"


def test_a_single_run_offers_no_comparison(browser, tmp_path, data_root):
    run = write_traced(tmp_path / "run", data_root, FIRST)
    assert CliRunner().invoke(app, ["report", str(run), "-o", str(tmp_path / "site")]).exit_code == 0
    opened = browser.new_page()
    opened.goto((tmp_path / "site" / "samples.html").as_uri())
    assert shown(opened) == "pope/0"
    opened.keyboard.press("d")
    assert opened.inner_text("#count") == "12 of 12 samples"
    assert not opened.is_visible("[name=disagree]")
    opened.close()


def test_texts_of_models_stay_texts(page):
    page.locator("#list button", has_text="pope/3").click()
    assert "<script>document.title='hacked'</script>" in page.inner_text("#sample .answer")
    assert page.title() == "Samples"
    page.locator("#list button", has_text="pope/4").click()
    assert "OSError: no image" in page.inner_text("#sample .runs")


def test_overview(page, report):
    page.goto((report / "index.html").as_uri())
    row = page.locator("tbody tr").first.inner_text().split()
    # averages of score, RTR and latency; nominal RTR; ChartQA's score and RTR
    assert row[:8] == ["one", "awares", "50.00", "0.300", "1.000", "-", "40.00", "0.300"]
    assert "60.00" in row  # pope: 3 of 5 right
    assert "1 of 6 samples of awares_pope failed" in page.inner_text("main")
    assert page.locator("figure.plot svg").count() == 4  # as `awares plot` draws them
    page.click("text=Samples")
    assert shown(page) == "pope/0"


def test_averages_are_in_sight_without_scrolling(browser, tmp_path):
    """Six benchmarks, and names as long as the demonstration's."""
    runs = [
        write_run(tmp_path / name, {task: rows([1.0, 0.0]) for task in SIZES})
        for name in ("awares", "awares_pruner-visionzip_retain_ratio-0.7")
    ]
    result = CliRunner().invoke(app, ["report", *map(str, runs), "-o", str(tmp_path / "site")])
    assert result.exit_code == 0, result.output
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.goto((tmp_path / "site" / "index.html").as_uri())
    headings = opened.locator("thead tr").last.locator("th").all_inner_texts()
    assert headings[:5] == ["run", "method", "score", "RTR", "latency s"]
    for cell in opened.locator("tbody tr").last.locator("td").all()[:5]:
        box = cell.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1400
    opened.close()


RED, GREEN = (220, 30, 30), (30, 200, 60)
SHAPES = {"landscape": (640, 400), "portrait": (300, 900), "square": (448, 448)}


@pytest.fixture(scope="module")
def two_colours(tmp_path_factory, data_root):
    """A site of one landscape, one portrait and one square image, each red above and green below."""
    folder = tmp_path_factory.mktemp("colours")
    shutil.copytree(data_root, folder / "data")
    frame = pd.read_parquet(data_file(folder / "data", "awares_pope")).iloc[: len(SHAPES)].copy()
    stored = []
    for size in SHAPES.values():
        image = Image.new("RGB", size, RED)
        image.paste(GREEN, (0, size[1] // 2, *size))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        stored.append({"bytes": stream.getvalue(), "path": None})
    frame["image"] = stored
    frame["evidence_box"] = [None] * len(SHAPES)
    frame.to_parquet(data_file(folder / "data", "awares_pope"))
    answers = {"awares_pope": [(1.0, ("valid", ["2"]), "yes")] * len(SHAPES)}
    run = write_traced(folder / "run", folder / "data", answers)
    result = CliRunner().invoke(app, ["report", str(run), "-o", str(folder / "site")])
    assert result.exit_code == 0 and "warning" not in result.output, result.output
    return folder / "site"


def distance(pixels, colour):
    return np.abs(pixels.astype(int) - colour).max(axis=-1)


@pytest.mark.parametrize("document", range(len(SHAPES)), ids=SHAPES)
@pytest.mark.parametrize("viewport", [(1400, 900), (1280, 800), (700, 1000)], ids=str)
def test_nothing_but_the_view_is_in_its_picture(browser, two_colours, document, viewport):
    """By pixels: a view is red above, green below and as wide as it is; no filler, no part of the other view."""
    opened = browser.new_page(viewport={"width": viewport[0], "height": viewport[1]})
    opened.goto((two_colours / "samples.html").as_uri() + f"#pope/{document}")
    opened.wait_for_selector("#sample svg image")
    opened.evaluate("Promise.all([...document.images].map(image => image.decode()))")
    opened.uncheck("#overlay")
    view = page_data(two_colours, "0")[document]["view"]
    parts = {
        "the whole image": (RED, view["whole"]),
        "the low-res view": (RED, view["lowres"]),  # rounded to the 28-px grid: of another shape
        "crop 2": (GREEN, view["whole"]),  # a quarter is shaped like the whole
    }
    for label, (top_colour, shape) in parts.items():
        shown = opened.locator(f"#sample svg[aria-label='{label}']")
        box = shown.bounding_box()
        assert box["width"] / box["height"] == pytest.approx(shape[0] / shape[1], rel=0.02), label
        pixels = np.asarray(Image.open(io.BytesIO(shown.screenshot(animations="disabled"))).convert("RGB"))[3:-3, 3:-3]
        middle = len(pixels) // 2
        assert distance(pixels[: middle - 6], top_colour).max() < 30, label
        assert distance(pixels[middle + 6 :], GREEN).max() < 30, label
    opened.close()


@pytest.mark.parametrize("viewport", [(1400, 900), (1280, 800)], ids=str)
def test_question_answers_and_pictures_are_in_sight_together(page, viewport):
    """Whatever the image's shape: nothing must be scrolled to see whether an answer is right."""
    page.set_viewport_size({"width": viewport[0], "height": viewport[1]})
    choose(page, other="two")
    floor = page.locator("footer").bounding_box()["y"]
    for document in range(DOCUMENTS):
        page.locator("#list button", has_text=f"pope/{document}").click()
        assert shown(page) == f"pope/{document}"
        seen = [".question", ".target", "svg[aria-label='the whole image']", "svg[aria-label='the low-res view']"]
        assert page.locator("#sample .verdict").count() == 2
        boxes = [page.locator(f"#sample {name}").first.bounding_box() for name in seen]
        boxes += [verdict.bounding_box() for verdict in page.locator("#sample .verdict").all()]
        boxes += [given.bounding_box() for given in page.locator("#sample .answer").all()]
        for box in boxes:
            assert box["y"] > 0 and box["y"] + box["height"] <= floor, document
        for box in boxes[2:4]:
            assert max(box["width"], box["height"]) >= 250, "large enough to see something"


def test_a_click_enlarges_to_the_stored_pixels(page, report):
    page.locator("#list button", has_text="pope/1").click()
    width, height = page_data(report, "0")[1]["view"]["whole"]
    assert (width, height) == (840, 593)  # as large as the full view
    stored = {"the whole image": (width, height), "crop 3": (420, 297)}  # half of it, in whole pixels
    for label, (width, height) in stored.items():
        page.locator(f"#sample svg[aria-label='{label}']").click()
        enlarged = page.locator("dialog[open] svg").first
        box = enlarged.bounding_box()
        factor = box["width"] / width
        assert factor == round(factor) >= 1, "whole pixels"
        assert box["height"] == factor * height
        assert f"{width}×{height} px" in page.inner_text("dialog[open]")
        page.keyboard.press("j")  # not behind the dialog's back
        assert page.url.endswith("pope/1")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="hidden")
    assert page.locator("#sample rect.oracle").count() == 1, "a copy was enlarged"
    page.locator("#sample button:has(svg[aria-label='crop 3'])").focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] svg[aria-label='crop 3']").is_visible()
    page.locator("dialog[open]").click()
    page.wait_for_selector("dialog", state="hidden")
    assert page.evaluate("document.activeElement.querySelector('svg').ariaLabel") == "crop 3"
    page.keyboard.press("j")
    assert shown(page) == "pope/2"


def test_filters_are_in_the_address(page, browser):
    chosen = {"task": "pope", "run": "two", "other": "one", "call": "no call", "result": "right", "disagree": "any"}
    choose(page, **{**chosen, "status": "no attempt"})
    choose(page, disagree="run right, other wrong")
    assert listed(page) == []
    choose(page, disagree="any")
    assert listed(page) == ["pope/0", "pope/4", "pope/5"]
    page.locator("#list button", has_text="pope/4").click()
    address = page.url
    # what a colleague sees who gets the link
    colleague = browser.new_page()
    colleague.goto(address)
    assert shown(colleague) == "pope/4"
    assert listed(colleague) == ["pope/0", "pope/4", "pope/5"]
    values = {name: colleague.locator(f"[name={name}] option:checked").inner_text() for name in chosen}
    assert values == chosen
    assert colleague.locator("[name=status] option:checked").inner_text() == "no attempt"
    # the same tab, another address; names that are not there are as good as none
    colleague.goto(address.partition("#")[0] + "#pope/1?run=two&task=nonsense&call=yes&other=gone")
    assert (shown(colleague), listed(colleague)) == ("pope/1", ["pope/1"])
    assert colleague.inner_text("#count") == "1 of 12 samples"
    colleague.close()


def test_back_undoes_a_filter_and_a_choice(page):
    choose(page, task="pope")
    choose(page, call="called")
    assert listed(page) == ["pope/1", "pope/2"]
    page.keyboard.press("j")
    page.go_back()
    assert page.inner_text("#count") == "6 of 12 samples"
    assert page.input_value("[name=call]") == ""
    page.locator("#list button", has_text="pope/5").click()
    page.go_back()
    assert shown(page) != "pope/5"
    page.go_forward()
    assert shown(page) == "pope/5"
