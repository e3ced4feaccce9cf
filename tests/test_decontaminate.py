"""Images of benchmarks: copies are found, others that look alike are not."""

import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lmms_awares import images
from lmms_awares.curation import decontaminate
from lmms_awares.curation.decontaminate import contrast, looks, read_hashes, write_hashes
from lmms_awares.curation.pictures import pixel_hash
from lmms_awares.curation.rows import read_rows
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.mini.suite import document
from lmms_awares.mini.suite import test_file as mini_test_file
from lmms_awares.tasks.benchmarks import MINI_TASKS


@pytest.fixture(scope="module")
def hashes(tmp_path_factory):
    file = tmp_path_factory.mktemp("hashes") / "mini.parquet"
    assert write_hashes(file, "awares_mini") == dict.fromkeys(MINI_TASKS, 64)
    return file


@pytest.fixture(scope="module")
def benchmarks(hashes):
    return read_hashes(hashes)


def found(benchmarks, image):
    return benchmarks.find(image, pixel_hash(image))


def stored(image, form, **save):
    file = io.BytesIO()
    image.save(file, form, **save)
    return images.decode(file.getvalue())


@pytest.mark.parametrize(("task", "benchmark"), MINI_TASKS.items())
def test_copies_are_found(task, benchmark, benchmarks):
    for row in read_rows(mini_test_file(benchmark))[:8]:
        image = images.decode(row["image"]["bytes"])
        assert found(benchmarks, stored(image, "BMP")) == f"{task}, the same pixels"
        smaller = image.resize((image.width * 9 // 10, image.height * 9 // 10), Image.Resampling.LANCZOS)
        for copy in (stored(image, "JPEG", quality=75), stored(image, "WEBP", quality=80), stored(smaller, "JPEG")):
            assert found(benchmarks, copy).startswith(f"{task}, looks the same (")


@pytest.mark.parametrize("benchmark", MINI_TASKS.values())
def test_others_of_the_same_make_are_not_taken_for_them(benchmark, benchmarks):
    for index in range(12):
        assert found(benchmarks, document(benchmark, "train", index)["image"]) is None


def letter(words):
    page = Image.new("RGB", (850, 1100), "white")
    ImageDraw.Draw(page).text((100, 100), words, fill="black", font=ImageFont.load_default(16))
    return page


def test_nearly_blank_pages_with_other_words_are_not_the_same():
    one, other = letter("Dear Sir,\nplease find the invoice."), letter("Dear Madam,\nthe order is on its way to you.")
    blank = Image.new("RGB", (850, 1100), "white")
    for index, page in enumerate((one, other, blank)):
        same = [found(alone(page), image) is not None for image in (one, other, blank)]
        assert same == [number == index for number in range(3)]


def test_each_of_the_two_ways_alone_would_be_wrong():
    """A mark on a scene leaves the hash as it is; faint patterns on a strong gradient change little but the hash."""
    blocks = np.random.default_rng(0).integers(0, 128, (16, 16)).astype(np.uint8)
    scene = Image.fromarray(blocks.repeat(40, 0).repeat(40, 1)).convert("RGB")
    marked = scene.copy()
    marked.paste((255, 255, 255), (310, 310, 330, 330))
    bits, share = apart(scene, marked)
    assert bits <= decontaminate.BITS and share > decontaminate.CONTRAST
    assert found(alone(scene), marked) is None
    ramp = np.linspace(0, 235, 256)[:, None].repeat(256, 1)
    patterns = [np.random.default_rng(seed).integers(0, 20, (16, 16)).repeat(16, 0).repeat(16, 1) for seed in (0, 1)]
    one, other = (Image.fromarray((ramp + pattern).astype(np.uint8)).convert("RGB") for pattern in patterns)
    bits, share = apart(one, other)
    assert bits > decontaminate.BITS and share <= decontaminate.CONTRAST
    assert found(alone(one), other) is None and found(alone(one), one) is not None


def alone(image):
    """A benchmark of one image, known by its looks only."""
    own = looks(image)
    return decontaminate.Benchmarks(("t",), {}, own.phash[None], own.grey[None], "")


def apart(image, other):
    one, two = looks(image), looks(other)
    return int(np.bitwise_count(one.phash ^ two.phash).sum()), contrast(one.grey, two.grey)


def test_hashes_are_written_once(hashes, monkeypatch):
    before = hashes.read_bytes()
    monkeypatch.setattr(decontaminate, "looks", None)
    assert write_hashes(hashes, "awares_mini") == dict.fromkeys(MINI_TASKS, 64)
    assert hashes.read_bytes() == before


def test_local_data_of_a_real_benchmark_are_read(tmp_path, monkeypatch):
    from lmms_awares.mini.smoke_data import write as write_smoke_data

    write_smoke_data(tmp_path / "data")
    monkeypatch.setenv("AWARES_DATA_ROOT", str(tmp_path / "data"))
    counts = write_hashes(tmp_path / "hashes.parquet", "awares_suite")
    assert len(counts) == 6 and all(counts.values())


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(ConfigError, match=r"pip install 'lmms-awares\[curate\]'"):
        looks(Image.new("RGB", (9, 9)))


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("AWARES_DATA_ROOT", raising=False)
    with pytest.raises(DataError, match=r"ChartQA \(default, test\) cannot be had from the hub: "):
        write_hashes(tmp_path / "h", "awares_chartqa")
    with pytest.raises(ConfigError, match="unknown task chartqa; there are: awares_chartqa"):
        write_hashes(tmp_path / "h", "chartqa")
    with pytest.raises(DataError, match="benchmark_hashes .*gone cannot be read"):
        read_hashes(tmp_path / "gone")
    (tmp_path / "bad").write_text("no parquet")
    with pytest.raises(DataError, match="bad cannot be read"):
        read_hashes(tmp_path / "bad")


def test_the_command_prints_what_it_wrote(tmp_path, capsys):
    from lmms_awares.cli.curate_hashes import hashes

    hashes(tmp_path / "own" / "hashes.parquet", "awares_mini_pope,awares_mini_chartqa")
    assert capsys.readouterr().out == "awares_mini_pope       64 images\nawares_mini_chartqa    64 images\n"
    assert len(read_hashes(tmp_path / "own" / "hashes.parquet").tasks) == 128
