"""Kept tokens in the static report, in headless Chromium: as many as the trace counts, where the trace says."""

import base64
import json
import random
import re

import pytest
from explorer_site import DOCUMENTS, FIRST, write_traced
from test_explorer import browser, choose, shown
from typer.testing import CliRunner

from lmms_awares.cli import app
from lmms_awares.mini import smoke_data
from lmms_awares.tokens import to_bits

__all__ = ["browser"]

# method: grids of its views, and how many tokens are left, by layer
RUNS = {
    "visionzip@0.5": ([(23, 17)], {None: 196}),
    "sparsevlm@0.5": ([(23, 17)], {2: 300, 6: 200, 15: 9}),
    "awares+holov@0.7": ([(11, 8), (12, 9)], {None: 137}),
    "holov@0.7": ([(23, 17)], {}),  # a trace that is older than schema 5
}
ASKED = 1  # a document with crop 3


def pruning(name, grids, left):
    """A trace's `pruning`, with tokens drawn by lot; each stage leaves some of those before."""
    encoded = sum(columns * rows for columns, rows in grids)
    kept, tokens = [], list(range(encoded))
    for layer, count in left.items():
        tokens = sorted(random.Random(name).sample(tokens, count))
        kept.append({"layer": layer, "bits": to_bits([index in set(tokens) for index in range(encoded)])})
    entering = left.get(None, encoded)
    counts = {"encoded_tokens": encoded, "entering_tokens": entering, "mean_post": 1.0, "mean_input": 1.0}
    method, _, ratio = name.partition("@")
    return {
        "pruner": method.partition("+")[2] or method,
        "retain_ratio": float(ratio),
        **counts,
        "final_tokens": [entering, *left.values()][-1],
        "kv_lengths": [1] * 28,
        **({"grids": grids, "kept": kept} if kept else {}),
    }


@pytest.fixture(scope="module")
def traces():
    return {name: pruning(name, *given) for name, given in RUNS.items()}


@pytest.fixture(scope="module")
def report(tmp_path_factory, traces):
    root = tmp_path_factory.mktemp("kept")
    data = smoke_data.write(root / "data", documents=DOCUMENTS)
    for name, made in traces.items():
        folder = write_traced(root / name, data, {"awares_pope": FIRST["awares_pope"]})
        file = folder / "1_samples_awares_pope.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            if "failed" in row["awares"]:
                continue
            view = "lowres" if name.startswith("awares") else "full"
            row["awares"] |= {"pruning": made, "schema_version": 5, "method": name, "view": view}
            if view == "full":
                row["awares"] |= {"crops": [], "tool_call": None}
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    plain = write_traced(root / "plain", data, {"awares_pope": FIRST["awares_pope"]})
    result = CliRunner().invoke(
        app, ["report", *(str(root / name) for name in RUNS), str(plain), "-o", str(root / "site")]
    )
    assert result.exit_code == 0, result.output
    return root / "site"


@pytest.fixture
def page(browser, report):
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})
    context.set_default_timeout(120_000)  # a busy machine is no failure
    opened = context.new_page()
    errors = []
    opened.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108 (playwright marks its handlers)
    opened.goto(f"{(report / 'samples.html').as_uri()}#pope/{ASKED}")
    assert shown(opened) == f"pope/{ASKED}"
    yield opened
    context.close()
    assert errors == []


def veiled(figure):
    """Raster indices of the tokens under the veil, by (column, row)."""
    path = figure.locator("path.dropped").get_attribute("d")
    return {
        (column, int(top))
        for left, top, width in re.findall(r"M(\d+) (\d+)h(\d+)", path)
        for column in range(int(left), int(left) + int(width))
    }


def dropped(made, view, place):
    """The same from the trace's bits, worked out here."""
    held = base64.b64decode(made["kept"][place]["bits"])
    flags = "".join(f"{byte:08b}" for byte in held)
    start = sum(columns * rows for columns, rows in made["grids"][:view])
    columns, rows = made["grids"][view]
    return {(x, y) for y in range(rows) for x in range(columns) if flags[start + y * columns + x] == "0"}


@pytest.mark.parametrize("name", [name for name, (_, left) in RUNS.items() if left])
def test_what_is_drawn_is_what_the_trace_holds(page, traces, name):
    """Every view and every place, over the view's own picture."""
    choose(page, run=name)
    made = traces[name]
    figures = page.locator(".runs .kept figure").all()
    pairs = [(view, place) for view in range(len(made["grids"])) for place in range(len(made["kept"]))]
    assert len(figures) == len(pairs)
    drawn = dict.fromkeys(range(len(made["kept"])), 0)
    for figure, (view, place) in zip(figures, pairs, strict=True):
        under = veiled(figure)
        assert under == dropped(made, view, place)
        tokens = made["grids"][view][0] * made["grids"][view][1]
        assert figure.inner_text().endswith(f"{tokens - len(under)} of {tokens} tokens")
        drawn[place] += tokens - len(under)
        picture, veil = figure.locator("svg").first.bounding_box(), figure.locator("path.dropped").bounding_box()
        for side in ("x", "y", "width", "height"):
            assert abs(picture[side] - veil[side]) < 0.2 * picture["width"]  # the tokens lie all over it
    assert list(drawn.values()) == list(RUNS[name][1].values())
    assert drawn[len(drawn) - 1] == made["final_tokens"]


def test_stages_say_their_layer_and_views_their_name(page):
    choose(page, run="sparsevlm@0.5")
    words = page.locator(".runs .kept figcaption").all_inner_texts()
    assert words == [
        f"full view, behind layer {layer} of 0-27: {left} of 391 tokens"
        for layer, left in RUNS["sparsevlm@0.5"][1].items()
    ]
    assert "391 of 391 tokens enter, 9 leave the last layer" in page.inner_text(".runs .counts")
    choose(page, run="awares+holov@0.7")
    words = page.locator(".runs .kept figcaption").all_inner_texts()
    assert [text.partition(":")[0] for text in words] == [
        f"{view}, in front of the language model" for view in ("low-res view", "crop 3")
    ]


def test_every_run_that_prunes_is_there_at_once(page):
    """Opened, it stays open for the next sample; runs that do not prune are not in it."""
    assert page.locator(".every figure").count() == 0
    page.locator(".every summary").click()
    page.wait_for_selector(".every figure")
    assert page.locator(".every h3").all_inner_texts() == list(RUNS)
    assert page.locator(".every figure").count() == 1 + 3 + 1  # places; of two views the first
    page.keyboard.press("j")
    page.wait_for_function("document.querySelector('#sample h2').textContent === 'pope/2'")
    page.wait_for_selector(".every figure")


def test_an_older_trace_says_that_it_does_not_know(page):
    choose(page, run="holov@0.7")
    assert "does not say which tokens were kept" in page.inner_text(".runs")
    assert page.locator(".runs .kept").count() == 0


def test_no_pruner_no_tokens(page):
    choose(page, run="plain")
    assert page.locator(".runs .kept, .runs .counts").count() == 0


def test_the_veil_goes_with_the_boxes_and_is_enlarged(page):
    choose(page, run="visionzip@0.5")
    veil = page.locator(".runs .kept path.dropped")
    assert veil.is_visible()
    page.keyboard.press("o")
    assert not veil.is_visible()
    page.keyboard.press("o")
    page.locator(".runs .kept button").first.click()
    page.wait_for_selector("dialog[open] path.dropped")
