"""Graded print: what the low-res view shows of it, and the documents and tasks that have it."""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_tasks import run_tasks

from lmms_awares.crops import target_crops
from lmms_awares.labels import EVIDENCE, ORACLE_CROPS, SUFFICES
from lmms_awares.mini import suite
from lmms_awares.mini.drawing import _SPECKS, DIGITS, Item, Scene, draw
from lmms_awares.mini.glyphs import glyph
from lmms_awares.mini.questions import BENCHMARKS
from lmms_awares.mini.scenes import FAINT_SHARE, GRADES, graded
from lmms_awares.mini.suite import GRADED, PARTS, TRAINING, document, scored_file, training_file
from lmms_awares.models.awares import Awares
from lmms_awares.tasks.benchmarks import GRADED_TASKS
from lmms_awares.views import plan_views, render_lowres

ROWS, COLUMNS = 12, 16  # cells of the reader's picture
SIDE = 5  # dots of a glyph
CORNER = 8  # px from a cell's corner to its only character's


def test_print_that_is_not_faint_keeps_its_pixels():
    """Scenes that differ in legibilities alone differ within the faint texts' plates alone."""
    generator = random.Random(0)
    faint = 0
    for benchmark in BENCHMARKS.values():
        for _ in range(5):
            clear = benchmark.draw(generator, benchmark.sizes[0])
            scene = graded(generator, clear)
            differs = (np.asarray(draw(scene)) != np.asarray(draw(clear))).any(-1)
            for item in scene.items:
                left, top, right, bottom = item.text_box
                box = differs[top:bottom, left:right]
                assert box.any() == (item.legibility > 0)
                box[:] = False
                faint += item.legibility > 0
            assert not differs.any()
    assert faint > 20


def test_some_fine_print_is_faint():
    generator = random.Random(1)
    items = [
        item for _ in range(200) for item in BENCHMARKS["pope"].sample(generator, graded=True)[0].items if item.text
    ]
    assert not any(item.legibility for item in items if not item.fine)
    found = [item.legibility for item in items if item.fine]
    assert set(found) == {0.0, *GRADES}
    assert np.mean(np.array(found) > 0) == pytest.approx(FAINT_SHARE, abs=0.06)
    clear, _ = BENCHMARKS["pope"].sample(generator)
    assert not any(item.legibility for item in clear.items)


def digits(seed):
    """A picture's items, a digit of fine print in each of 192 cells."""
    generator = random.Random(seed)
    return [
        Item(row // 2, column // 2, "", "black", generator.choice(DIGITS), fine=True, text_cell=(row % 2, column % 2))
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]


def views(items, legibility):
    """Grey levels of both views, cell by cell: [192, 28, 28] and [192, 14, 14]."""
    scene = Scene(448, 336, "scene", tuple(replace(item, legibility=legibility) for item in items))
    image = draw(scene)
    cells = []
    for view in (image, render_lowres(image, plan_views(*image.size))):
        side = view.width // COLUMNS
        grey = np.asarray(view).astype(float).mean(-1).reshape(ROWS, side, COLUMNS, side)
        cells.append(grey.transpose(0, 2, 1, 3).reshape(-1, side, side))
    return cells


def templates():
    """The digits' dots, [10, 25]."""
    return np.stack([np.asarray(glyph(digit, 1)).ravel() > 0 for digit in DIGITS]).astype(float)


def halved_dots():
    """What each dot of a glyph adds to the low-res view of its cell, [14 * 14, 25]."""
    added = []
    for dot in np.eye(SIDE * SIDE, dtype=np.float32).reshape(-1, SIDE, SIDE):
        cell = np.zeros((28, 28), np.float32)
        cell[CORNER : CORNER + 2 * SIDE, CORNER : CORNER + 2 * SIDE] = np.kron(dot, np.ones((2, 2)))
        added.append(np.asarray(Image.fromarray(cell).resize((14, 14), Image.Resampling.LANCZOS)).ravel())
    return np.stack(added, 1)


def test_each_grade_is_read_better_than_the_one_below():
    """An ideal reader: it knows all of a picture but the digits, undoes the halving, and takes the nearest template.

    With specks of one spread at every dot, the nearest template is the likeliest one.
    """
    undo, shapes = np.linalg.pinv(halved_dots()), templates()
    right = {grade: [] for grade in (0.0, *GRADES)}
    for seed in range(2):
        items = digits(seed)
        _, plain = views(items, 0.0)
        for grade, found in right.items():
            _, low = views(items, grade)
            behind = plain if grade else plain.mean(0)  # at legibility 0 it knows its place only
            dots = (low - behind).reshape(len(items), -1) @ undo.T
            nearest = ((dots[:, None] - _SPECKS * (grade or 1) * shapes) ** 2).sum(-1).argmin(1)
            found += [DIGITS[index] == item.text for index, item in zip(nearest, items, strict=True)]
    shares = [np.mean(found) for found in right.values()]
    assert shares[0] < 0.16  # one in ten is chance
    assert 0.2 < shares[1] < 0.45
    assert all(better > worse + 0.05 for worse, better in pairwise(shares))
    assert shares[-1] > 0.95


@pytest.mark.parametrize("grade", [GRADES[0], GRADES[-1]])
def test_faint_print_is_legible_at_full_resolution(grade):
    """A dot there is a checkerboard, which no lighter or darker dot hides."""
    items = digits(3)
    full, _ = views(items, grade)
    inner = full[:, CORNER : CORNER + 2 * SIDE, CORNER : CORNER + 2 * SIDE].reshape(-1, SIDE, 2, SIDE, 2)
    board = inner[:, :, 0, :, 1] + inner[:, :, 1, :, 0] - inner[:, :, 0, :, 0] - inner[:, :, 1, :, 1]
    nearest = (board.reshape(len(items), -1) @ (2 * templates().T - 1)).argmax(1)
    assert [DIGITS[index] for index in nearest] == [item.text for item in items]


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_graded_documents_have_no_label_where_nobody_can_say(benchmark):
    """The part as it is published; `scored_file` refuses other pixels or columns than the pinned ones."""
    rows = pq.read_table(scored_file(benchmark, "validation"), columns=[EVIDENCE, SUFFICES, ORACLE_CROPS]).to_pylist()
    assert len(rows) == PARTS["validation"]
    for index, row in enumerate(rows):
        generator = random.Random(f"validation/{benchmark}/{index}")
        scene, question = BENCHMARKS[benchmark].sample(generator, graded=True)
        fine = [item for item in question.read if item.fine]
        assert question.uncertain == (bool(fine) and all(item.legibility for item in fine))
        if question.uncertain:
            assert row[SUFFICES] is None
        else:
            assert row[SUFFICES] is not bool(fine)
        assert (row[EVIDENCE] is not None) == bool(fine)
        crops = target_crops(row[EVIDENCE], (scene.width, scene.height))[0] if fine else ()
        assert tuple(row[ORACLE_CROPS]) == tuple(crops)
    assert {row[SUFFICES] for row in rows} == {True, False, None}


def test_a_question_about_two_texts_is_uncertain_where_both_show():
    faint = Item(0, 0, "E", "black", "K7", fine=True, legibility=GRADES[0])
    large, hidden = replace(faint, fine=False, legibility=0.0), replace(faint, legibility=0.0)
    generator = random.Random(0)
    question = BENCHMARKS["docvqa_val"].sample(generator)[1]
    found = {
        name: (asked.suffices, asked.uncertain, asked.evidence is None)
        for name, read in {
            "large": (large, large),
            "faint and large": (faint, large),
            "faint": (faint, faint),
            "faint and hidden": (faint, hidden),
            "nothing": (),
        }.items()
        for asked in [replace(question, read=read)]
    }
    assert found == {
        "large": (True, False, True),
        "faint and large": (False, True, False),
        "faint": (False, True, False),
        "faint and hidden": (False, False, False),
        "nothing": (True, False, True),
    }


def test_the_test_part_has_no_faint_print():
    """Its pixels are pinned; here, that no part but it is without."""
    assert {part for part in PARTS if part not in GRADED} == {"test"}
    for part in PARTS:
        rows = [document("realworldqa", part, index) for index in range(12)]
        assert (None in [row[SUFFICES] for row in rows]) == (part in GRADED)


def test_what_curation_can_draw_shows_no_scene_that_is_scored():
    def sampled(part, count):
        for name, benchmark in BENCHMARKS.items():
            for index in range(count):
                yield benchmark.sample(random.Random(f"{part}/{name}/{index}"), graded=part in GRADED)[0]

    scored = {*sampled("validation", PARTS["validation"]), *sampled("test", PARTS["test"])}
    assert scored.isdisjoint(sampled("train", TRAINING))


def test_training_documents_are_drawn_in_steps(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(suite, "_STEP", 2)
    monkeypatch.setattr(suite, "TRAINING", 5)
    files = {wanted: training_file("pope", wanted) for wanted in (1, 2, 3, 5, 900)}
    assert [pq.read_metadata(file).num_rows for file in files.values()] == [2, 2, 4, 5, 5]
    assert len(set(files.values())) == 3
    few, many = (pq.read_table(files[wanted]).to_pylist() for wanted in (1, 900))
    assert many[:2] == few


def test_graded_tasks_run_and_their_oracle_calls_for_faint_print_too(small_checkpoint, tmp_path):
    model = Awares(pretrained=str(small_checkpoint), device="cpu", policy="oracle", batch_size=8)
    results = run_tasks(model, ["awares_graded"], tmp_path, limit=10, gen_kwargs="max_new_tokens=1")
    labels = []
    for task, benchmark in GRADED_TASKS.items():
        for row in results["samples"][task]:
            known = document(benchmark, "validation", row["doc_id"])
            call = row["awares"]["tool_call"]
            assert row["awares"]["image_size"] == list(known["image"].size)
            assert (call is None) == (known[SUFFICES] is True)
            assert call is None or set(call["ids"]) <= set(known[ORACLE_CROPS])
            labels.append(known[SUFFICES])
    assert len(labels) == 60 and min(map(labels.count, (True, False, None))) > 5
