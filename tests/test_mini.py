"""The mini suite: what is drawn, what is asked, what is known about it, and the tasks on it."""

import hashlib
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_tasks import Scripted, run_tasks

from lmms_awares.crops import CROPS, IOU_THRESHOLD, box_iou
from lmms_awares.errors import DataError
from lmms_awares.labels import ORACLE_CROPS
from lmms_awares.mini.drawing import CHOICES, DIGITS, LETTERS, SLOT, Item, Scene, draw
from lmms_awares.mini.gallery import gallery
from lmms_awares.mini.questions import BENCHMARKS
from lmms_awares.mini.suite import GRADED, TEST_HASHES, build, document
from lmms_awares.mini.suite import PARTS as SUITE_PARTS
from lmms_awares.mini.suite import test_file as suite_file
from lmms_awares.models.awares import Awares
from lmms_awares.tasks.data import DATA_ROOT
from lmms_awares.views import plan_views, render_lowres

GALLERY = Path(__file__).parent.parent / "docs" / "mini_samples.png"
PARTS = {"train": 40, "validation": 20, "test": 40}


def samples(name, count=200):
    generator = random.Random(f"test/{name}")
    return [BENCHMARKS[name].sample(generator) for _ in range(count)]


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    root = tmp_path_factory.mktemp("suite")
    return root, build(root, PARTS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_questions_agree_with_their_scene(name):
    kinds = set()
    for scene, question in samples(name):
        kinds.add(question.suffices)
        assert question.suffices == (question.evidence is None)
        if question.options:
            assert question.options["ABCD".index(question.letter)] == question.answer
            assert len(set(question.options)) == len(question.options)
        for item in question.read:
            assert item in scene.items
        named = [item for item in scene.items if item.symbol and f"{item.symbol} in {item.colour}" in question.text]
        if question.read and named:  # the description fits one item only
            assert named == list(question.read)
    assert kinds == {True, False}


def test_pope_says_yes_where_a_digit_stands():
    asked = [question for _, question in samples("pope") if question.kind == "digit"]
    assert {question.answer for question in asked} == {"yes", "no"}
    assert all((question.answer == "yes") == question.read[0].text.isdigit() for question in asked)


def test_options_stay_and_every_one_is_right_at_times():
    options, right = defaultdict(set), defaultdict(set)
    for _, question in samples("vstar_bench"):
        options[question.kind].add(question.options)
        right[question.kind].add(question.answer)
    assert options == {"letter": {CHOICES}, "half": {("left", "right")}}
    assert right == {"letter": set(CHOICES), "half": {"left", "right"}}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_evidence_lies_in_the_image_and_in_its_crops(name):
    for scene, question in samples(name):
        if question.evidence:
            left, top, right, bottom = question.evidence
            assert 0 <= left < right <= scene.width and 0 <= top < bottom <= scene.height
            for item in question.read:
                box = item.slot_box
                assert left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom
    for index in range(40):
        row = document(name, "train", index)
        assert bool(row[ORACLE_CROPS]) == (not row["lowres_suffices"])
        assert set(row[ORACLE_CROPS]) <= set(CROPS)
        for id in row[ORACLE_CROPS]:  # a target crop meets the box; by the rule `contains` it holds all of it
            box, crop = row["evidence_box"], CROPS[id].box(*row["image"].size)
            assert crop[0] < box[2] and box[0] < crop[2] and crop[1] < box[3] and box[1] < crop[3]
        if len(row[ORACLE_CROPS]) == 1 and box_iou(crop, box) < IOU_THRESHOLD:
            assert crop[0] <= box[0] and crop[1] <= box[1] and crop[2] >= box[2] and crop[3] >= box[3]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_label_and_evidence_are_what_pixels_say(name):
    """Another text in place of one that must be read: where full and low-res view differ by more than noise."""

    def differing(images, level):
        first, second = (np.asarray(image).astype(int) for image in images)
        return np.abs(first - second).max(-1) > level

    for scene, question in samples(name, 60):
        shown = []
        for item in question.read:
            other = "".join(another(character) for character in item.text)
            items = tuple(replace(each, text=other) if each is item else each for each in scene.items)
            images = [draw(scene), draw(replace(scene, items=items))]
            rows, columns = differing(images, 20).nonzero()
            left, top, right, bottom = item.slot_box
            assert len(rows) > 0
            assert top <= rows.min() and rows.max() < bottom and left <= columns.min() and columns.max() < right
            plan = plan_views(*images[0].size)
            shown.append(differing([render_lowres(image, plan) for image in images], 10).any())
        assert question.suffices == all(shown)


def another(character):
    """The next character of the same sort."""
    sort = LETTERS if character in LETTERS else DIGITS
    return sort[(sort.index(character) + 1) % len(sort)]


def letters(seed, *, fine, lowres, scenes):
    """Pixels [n, features] of slots that each hold a letter in the same place, and the letters' numbers [n]."""
    generator = random.Random(seed)
    pixels, names = [], []
    for _ in range(scenes):
        items = tuple(
            Item(row, column, "", "black", generator.choice(LETTERS), fine=fine)
            for row in range(6)
            for column in range(8)
        )
        image = draw(Scene(448, 336, "scene", items, generator.randint(-8, 8)))
        if lowres:
            image = render_lowres(image, plan_views(*image.size))
        slots = np.asarray(image).astype(float).mean(-1).reshape(6, image.height // 6, 8, image.width // 8)
        pixels.append(slots.transpose(0, 2, 1, 3).reshape(48, -1))
        names += [LETTERS.index(item.text) for item in items]
    return np.concatenate(pixels), np.array(names)


@pytest.mark.parametrize(
    ("fine", "lowres", "least", "most"), [(True, True, 0.0, 0.12), (False, True, 0.98, 1), (True, False, 0.98, 1)]
)
def test_what_a_view_holds_of_a_text(fine, lowres, least, most):
    """An observer that knows print and place and has seen 3000 letters reads one of 16, or no better than chance."""
    pixels, names = letters("learn", fine=fine, lowres=lowres, scenes=63)
    observer = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10)).fit(pixels, names)
    assert least <= observer.score(*letters("test", fine=fine, lowres=lowres, scenes=10)) <= most


def test_same_bytes_twice(suite, tmp_path):
    root, files = suite
    for first, second in zip(files, build(tmp_path, PARTS), strict=True):
        assert first.relative_to(root) == second.relative_to(tmp_path)
        assert first.read_bytes() == second.read_bytes()


def test_parts_share_no_image(suite):
    seen = {}
    for file in suite[1]:
        for row in datasets.Dataset.from_parquet(str(file)):
            key = hashlib.sha256(repr(row["image"].size).encode() + row["image"].tobytes()).hexdigest()
            assert seen.setdefault(key, file) == file
    assert len(seen) > 0.95 * 6 * sum(PARTS.values())


def test_published_parts_share_no_scene():
    """Equal scenes alone make equal pictures: the noise is drawn from all that a scene says."""
    found = [
        BENCHMARKS[name].sample(random.Random(f"{part}/{name}/{index}"), graded=part in GRADED)[0]
        for name in BENCHMARKS
        for part, count in SUITE_PARTS.items()
        for index in range(count)
    ]
    assert len(set(found)) == len(found) == 6 * sum(SUITE_PARTS.values())
    scene, _ = BENCHMARKS["pope"].sample(random.Random("test/pope/0"))
    assert scene in found
    assert document("pope", "test", 0)["image"].tobytes() == draw(scene).tobytes()


def test_scenes_vary_in_size_and_fit_the_slots():
    for name in BENCHMARKS:
        sizes = {(scene.width, scene.height) for scene, _ in samples(name)}
        assert len(sizes) >= 4
        assert all(side % (2 * SLOT) == 0 for size in sizes for side in size)


def test_build_command_names_the_folder_it_cannot_write(tmp_path, capsys):
    from lmms_awares.cli import main

    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["awares", "mini", "build", str(tmp_path / "file")])
        main()
    assert stopped.value.code == 2
    assert "cannot be written" in capsys.readouterr().err


def gold(row):
    answer = row.get("answer") or row.get("answers") or row.get("label")
    return answer[0] if isinstance(answer, list) else answer


@pytest.mark.parametrize("name", BENCHMARKS)
def test_lmms_evals_scorers_accept_the_right_answers_only(name, suite, small_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(suite[0] / "test"))
    file = next(file for file in suite[1] if file.parts[-3:-1] == ("test", name))
    rights = [gold(row) for row in datasets.Dataset.from_parquet(str(file))]
    wrong = {"yes": "no", "no": "yes", "A": "B", "B": "A", "C": "A", "D": "A"}
    model = Scripted(pretrained=str(small_checkpoint), device="cpu", batch_size=8)
    for says, score in ((rights, 1.0), ([wrong.get(right, "0000") for right in rights], 0.0)):
        model.says = says
        rows = run_tasks(model, [f"awares_{name}"], tmp_path, limit=8)["samples"][f"awares_{name}"]
        assert [row["score"] for row in rows] == [score] * 8


def test_oracle_asks_for_crops_where_low_res_does_not_suffice(suite, small_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(suite[0] / "test"))
    model = Awares(pretrained=str(small_checkpoint), device="cpu", policy="oracle", batch_size=8)
    results = run_tasks(model, ["awares_suite"], tmp_path, limit=12)
    for name in BENCHMARKS:
        for row in results["samples"][f"awares_{name}"]:
            known = document(name, "test", row["doc_id"])
            call = row["awares"]["tool_call"]
            assert (call is None) == known["lowres_suffices"]
            assert call is None or set(call["ids"]) <= set(known[ORACLE_CROPS])
            assert row["awares"]["image_size"] == list(known["image"].size)


def test_mini_tasks_draw_their_test_set_once_and_run_on_it(small_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = Awares(pretrained=str(small_checkpoint), device="cpu", policy="oracle", batch_size=2)
    results = run_tasks(model, ["awares_mini_pope"], tmp_path / "out", limit=2)
    rows = results["samples"]["awares_mini_pope"]
    assert [row["awares"]["image_size"] for row in rows] == [
        list(document("pope", "test", index)["image"].size) for index in range(2)
    ]
    file = suite_file("pope")
    assert file.is_relative_to(tmp_path / "cache")
    written = file.stat().st_mtime_ns
    assert suite_file("pope").stat().st_mtime_ns == written
    assert len(datasets.Dataset.from_parquet(str(file))) >= 64


def test_the_docs_picture_shows_the_published_samples():
    with Image.open(GALLERY) as picture:
        assert picture.convert("RGB").tobytes() == gallery().tobytes()


def test_other_pixels_than_published_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(TEST_HASHES, "pope", "0" * 64)
    with pytest.raises(DataError, match="comes out differently with Pillow"):
        suite_file("pope")
    assert not list(tmp_path.rglob("*.parquet"))
