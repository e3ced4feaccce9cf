"""The sample: seeded, whatever order rows are read in; no image in both parts; capped; written once."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from lmms_awares import images
from lmms_awares.curation import sampling
from lmms_awares.curation.config import Config
from lmms_awares.curation.decontaminate import write_hashes
from lmms_awares.curation.pictures import pixel_hash
from lmms_awares.curation.rows import SOURCE, read_rows
from lmms_awares.curation.sampling import collect, split
from lmms_awares.curation.sources import open_source
from lmms_awares.curation.survey import Candidate, rank_of, survey
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.mini.suite import test_file as mini_test_file


def config(*sources, **settings):
    rest = {"benchmarks": None, "base": {"pretrained": "mini"}, "judge": {"kind": "anls"}, "oracle": {"kind": "source"}}
    return Config.model_validate({"sources": list(map(str, sources)), "rows": 20, "validation": 10, **rest, **settings})


def encoded(colour, size=(12, 10), form="PNG", **save):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, form, **save)
    return file.getvalue()


def colour(number):
    return (number % 256, number // 256, 7)


def source(folder, name, rows, **changes):
    """A source of a parquet file; `rows`: dicts that may lack what does not matter."""
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    whole = [
        {"id": str(number), "question": f"{name} {number}?", "answers": ["a"], "box": None, **row}
        for number, row in enumerate(rows)
    ]
    data = datasets.Dataset.from_list(
        [row | {"image": {"bytes": row["image"], "path": None}} for row in whole],
        features=datasets.Features(
            {
                "id": datasets.Value("string"),
                "question": datasets.Value("string"),
                "answers": datasets.List(datasets.Value("string")),
                "box": datasets.List(datasets.Value("float64")),
                "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            }
        ),
    )
    data.to_parquet(folder / f"{name}.parquet")
    columns = {name: name for name in ("id", "image", "question", "answers")}
    columns["evidence_box"] = {"column": "box", "form": "xyxy"}
    described = {"data": {"files": f"{name}.parquet"}, "columns": columns, "metric": "anls"} | changes
    (folder / f"{name}.yaml").write_text(json.dumps(described))
    return folder / f"{name}.yaml"


def written(folder, part):
    return [row for file in sorted((folder / "sources").glob(f"{part}-*")) for row in read_rows(file)]


def ids(folder, part):
    return [row["id"] for row in written(folder, part)]


def shown(rows):
    return {pixel_hash(images.decode(row["image"]["bytes"])) for row in rows}


def everything(folder):
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_the_sample_is_the_lowest_ranks_whatever_order_they_are_read_in(tmp_path):
    rows = [{"id": f"q{n}", "image": encoded(colour(n))} for n in range(90)]
    one = source(tmp_path / "a", "one", rows)
    other = source(tmp_path / "b", "one", rows[::-1])
    for where, yaml in (("x", one), ("y", other)):
        collect(config(yaml), tmp_path / where)
    for part in ("train", "validation"):
        assert set(ids(tmp_path / "x", part)) == set(ids(tmp_path / "y", part))
    ranked = sorted((f"one/q{n}" for n in range(90)), key=lambda id: rank_of(0, id))
    assert set(ids(tmp_path / "x", "validation")) == set(ranked[:10])
    assert set(ids(tmp_path / "x", "train")) == set(ranked[10:30])
    collect(config(one, seed=1), tmp_path / "z")
    assert set(ids(tmp_path / "z", "train")) != set(ids(tmp_path / "x", "train"))


def test_the_mini_suite_draws_about_as_many_rows_as_are_wanted(tmp_path, monkeypatch):
    """Rows for training and the source's share of validation; the first source's data end the test."""
    wanted = []

    def training_file(benchmark, count):
        wanted.append((benchmark, count))
        raise DataError("drawn")

    monkeypatch.setattr("lmms_awares.curation.records.training_file", training_file)
    with pytest.raises(DataError, match="drawn"):
        collect(config("mini_pope", "mini_chartqa", "mini_ocrbench"), tmp_path)
    assert wanted == [("pope", 20 + 4)]


def test_rows_are_what_the_contract_says(tmp_path):
    yaml = source(tmp_path, "one", [{"image": encoded(colour(n)), "box": [1, 2, 3, 4]} for n in range(40)])
    found = collect(config(yaml, shard_rows=8), tmp_path / "set")
    assert found.shards == [
        f"{part}-0000{n}.parquet" for part, most in (("train", 3), ("validation", 2)) for n in range(most)
    ]
    for name in found.shards:
        file = tmp_path / "set" / "sources" / name
        assert pq.read_schema(file).names == list(SOURCE)
        assert pq.read_metadata(file).num_rows <= 8
    row = written(tmp_path / "set", "train")[0]
    number = row["id"].removeprefix("one/")
    assert row["question"] == f"one {number}?" and row["answers"] == ["a"] and row["metric"] == "anls"
    assert row["evidence_box"] == [1, 2, 3, 4] and row["source"] == "one" and row["split"] == "train"
    assert row["image"]["bytes"] == encoded(colour(int(number))), "an image that is small enough keeps its bytes"


def test_no_image_is_in_both_parts_also_of_two_sources(tmp_path):
    """Four questions an image, and the same pictures in both sources, in another file format."""
    one = source(tmp_path, "one", [{"image": encoded(colour(n // 4))} for n in range(240)])
    two = source(tmp_path, "two", [{"image": encoded(colour(n // 4), form="BMP")} for n in range(240)])
    found = collect(config(one, two, rows=60, validation=24), tmp_path / "set")
    train, validation = written(tmp_path / "set", "train"), written(tmp_path / "set", "validation")
    assert shown(train).isdisjoint(shown(validation))
    assert {name: counts.chosen for name, counts in found.sources.items()} == {
        "one": {"train": 60, "validation": 12},
        "two": {"train": 60, "validation": 12},
    }
    assert all(counts.shown_in_validation for counts in found.sources.values())


def test_a_source_is_read_further_where_validation_shows_most_of_its_images(tmp_path):
    """The first candidates of `two` all show images of validation; ones that can be used rank behind them."""
    ranked = sorted(range(400), key=lambda n: rank_of(0, f"two/{n}"))
    common = set(ranked[5:60])
    two = source(
        tmp_path, "two", [{"image": encoded(colour(0 if n in common or n == ranked[0] else 1 + n))} for n in range(400)]
    )
    found = collect(config(two), tmp_path / "set")
    assert found.sources["two"].chosen == {"train": 20, "validation": 10}
    assert shown(written(tmp_path / "set", "train")).isdisjoint(shown(written(tmp_path / "set", "validation")))
    first = survey(open_source(str(two)), 30, 0)
    assert len(split({"two": first.candidates}, 20, 10)["two"].candidates["train"]) == 0 and not first.whole


def test_validation_has_the_mix_of_training():
    """7 rows over three sources, by largest remainders; where one is small, both of its parts shrink alike."""

    def made(name, count):
        return [Candidate(n, n, f"{name}/{n}", (f"{name}{n}",), "") for n in range(count)]

    chosen = split({"a": made("a", 500), "b": made("b", 500), "c": made("c", 500)}, 100, 7)
    assert [len(one.candidates["validation"]) for one in chosen.values()] == [3, 2, 2]
    assert [len(one.candidates["train"]) for one in chosen.values()] == [100] * 3
    chosen = split({"a": made("a", 500), "b": made("b", 60)}, 100, 40)
    assert {name: {part: len(rows) for part, rows in one.candidates.items()} for name, one in chosen.items()} == {
        "a": {"train": 100, "validation": 20},
        "b": {"train": 50, "validation": 10},
    }
    assert sum(len(one.candidates["validation"]) for one in split({"a": made("a", 9)}, 100, 0).values()) == 0


def test_large_images_are_capped_with_their_boxes(tmp_path):
    rows = [
        {"image": encoded("red", (500, 300)), "box": [50, 30, 250, 90]},
        {"image": encoded("blue", (300, 500), "JPEG")},
        {"image": encoded("green", (200, 100))},
    ]
    yaml = source(tmp_path, "one", rows)
    found = collect(config(yaml, validation=0, max_side=200), tmp_path / "set")
    by_id = {row["id"]: row for row in written(tmp_path / "set", "train")}
    sizes = {id: Image.open(io.BytesIO(row["image"]["bytes"])) for id, row in by_id.items()}
    assert {id: (image.size, image.format) for id, image in sizes.items()} == {
        "one/0": ((200, 120), "PNG"),
        "one/1": ((120, 200), "JPEG"),
        "one/2": ((200, 100), "PNG"),
    }
    assert by_id["one/0"]["evidence_box"] == pytest.approx([20, 12, 100, 36])
    assert by_id["one/2"]["image"]["bytes"] == rows[2]["image"]
    assert found.sources["one"].scaled == 2


def test_images_are_upright_as_the_models_see_them(tmp_path):
    """A picture that lies on its side by its EXIF: its box is in px of the upright one, scaled or not."""
    lying = Image.new("RGB", (300, 100), "white")
    lying.paste("red", (0, 0, 60, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    file = io.BytesIO()
    lying.save(file, "JPEG", exif=exif)
    yaml = source(tmp_path, "one", [{"image": file.getvalue(), "box": [0, 0, 100, 60]}])
    for side, size in ((400, (100, 300)), (150, (50, 150))):
        collect(config(yaml, validation=0, max_side=side), tmp_path / str(side))
        (row,) = written(tmp_path / str(side), "train")
        image = images.decode(row["image"]["bytes"])
        assert image.size == size
        left, top, right, bottom = row["evidence_box"]
        inside = image.getpixel((int(left + right) // 2, int(top + bottom) // 2))
        below = image.getpixel((size[0] // 2, size[1] - 5))
        assert inside[0] > 240 > inside[1] + 200 and min(below) > 240


def test_what_cannot_be_used_is_set_aside_with_its_reason(tmp_path):
    good = [{"image": encoded(colour(n))} for n in range(8)]
    bad = [
        {"image": b"no image"},
        {"image": None},
        {"image": encoded("red"), "question": " "},
        {"image": encoded("red"), "answers": []},
        {"image": encoded("red"), "box": [0, 0, 99, 9]},
        {"image": encoded("red"), "id": "3"},
        {"image": encoded("red"), "id": None},
    ]
    yaml = source(tmp_path, "one", good + bad)
    found = collect(config(yaml, rows=100), tmp_path / "set")
    reasons = [
        "corrupt image",
        "no image",
        "blank question",
        "no answer",
        "box outside the image",
        "duplicate id",
        "no id",
    ]
    assert found.sources["one"].rejected == dict.fromkeys(sorted(reasons), 1)
    assert (found.sources["one"].read, found.sources["one"].duplicates, found.rows) == (15, 1, 8)
    rejected = read_rows(tmp_path / "set" / "sources" / "rejected.parquet")
    assert sorted(row["reason"] for row in rejected) == sorted(reasons)
    assert {(row["source"], row["stage"], row["split"]) for row in rejected} == {("one", "sources", None)}
    assert "one/row 14" in {row["id"] for row in rejected}


def test_of_two_rows_with_one_id_the_same_stays_in_any_order(tmp_path):
    rows = [{"id": "x", "image": encoded("red")}, {"id": "x", "image": encoded("blue")}]
    kept = []
    for where, order in (("a", rows), ("b", rows[::-1])):
        collect(
            config(source(tmp_path / where, "one", [row | {"question": "q"} for row in order]), validation=0),
            tmp_path / where / "set",
        )
        kept.append(shown(written(tmp_path / where / "set", "train")))
    assert kept[0] == kept[1] and len(kept[0]) == 1


def test_only_rows_that_the_sample_passed_count_as_rejected(tmp_path):
    """Which rows are looked at must not depend on the order either."""
    rows = [{"id": f"q{n}", "image": encoded(colour(n)) if n % 3 else b"no image"} for n in range(300)]
    found = []
    for where, order in (("a", rows), ("b", rows[::-1])):
        yaml = source(tmp_path / where, "one", order)
        collect(config(yaml), tmp_path / where / "set")
        found.append({row["id"] for row in read_rows(tmp_path / where / "set" / "sources" / "rejected.parquet")})
    ranked = sorted((f"one/q{n}" for n in range(300)), key=lambda id: rank_of(0, id))
    usable = [id for id in ranked if int(id[5:]) % 3]
    before = ranked[: ranked.index(usable[29])]
    assert found[0] == found[1] == {id for id in before if int(id[5:]) % 3 == 0}


def test_a_source_of_which_nothing_can_be_used_stops_with_the_first_reason(tmp_path):
    yaml = source(tmp_path, "one", [{"image": b"no image"}] * 3)
    with pytest.raises(DataError, match=r"source one: none of the 3 rows of .* can be used; the first: corrupt image"):
        collect(config(yaml), tmp_path / "set")


def test_a_source_named_twice_is_refused(tmp_path):
    yaml = source(tmp_path, "one", [{"image": encoded("red")}])
    with pytest.raises(ConfigError, match="one is named twice"):
        collect(config(yaml, yaml), tmp_path / "set")


def test_the_same_bytes_and_nothing_is_done_twice(tmp_path, monkeypatch):
    yaml = source(tmp_path, "one", [{"image": encoded(colour(n))} for n in range(60)])
    found = collect(config(yaml), tmp_path / "x")
    collect(config(yaml), tmp_path / "y")
    assert everything(tmp_path / "x") == everything(tmp_path / "y")

    def forbidden(*given):
        raise AssertionError("the source was read again")

    before = {file: (tmp_path / "x" / file).stat().st_mtime_ns for file in everything(tmp_path / "x")}
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "survey", forbidden)
        assert collect(config(yaml), tmp_path / "x") == found
        with pytest.raises(AssertionError):
            collect(config(yaml, seed=5), tmp_path / "x")
    collect(config(yaml), tmp_path / "x")
    assert everything(tmp_path / "x") == everything(tmp_path / "y")
    (tmp_path / "x" / "sources" / "train-00000.parquet").unlink()
    collect(config(yaml), tmp_path / "x")
    assert everything(tmp_path / "x") == everything(tmp_path / "y")
    assert before.keys() == everything(tmp_path / "x").keys()


def test_changed_data_or_settings_make_the_sample_anew(tmp_path):
    rows = [{"image": encoded(colour(n))} for n in range(60)]
    yaml = source(tmp_path, "one", rows)
    first = collect(config(yaml, shard_rows=4), tmp_path / "set")
    fewer = collect(config(yaml, shard_rows=16), tmp_path / "set")
    assert len(fewer.shards) < len(first.shards)
    assert {file.name for file in (tmp_path / "set" / "sources").iterdir()} == {*fewer.shards, "rejected.parquet"}
    source(tmp_path, "one", [row | {"question": "other"} for row in rows])
    assert collect(config(yaml, shard_rows=16), tmp_path / "set").stamp != fewer.stamp
    assert {row["question"] for row in written(tmp_path / "set", "train")} == {"other"}


def test_a_kill_leaves_nothing_that_counts_as_finished(tmp_path):
    """Killed in the second pass; the next run's files are those of a run that nobody killed."""
    yaml = source(tmp_path, "one", [{"image": encoded(colour(n), (300, 300))} for n in range(120)])
    settings = config(yaml, rows=80, shard_rows=8)
    collect(settings, tmp_path / "whole")
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from lmms_awares.curation.config import Config\n"
        "from lmms_awares.curation.sampling import collect\n"
        "def die(what, rows):\n"
        "    if what.endswith('chosen') and rows == 50: os.kill(os.getpid(), 9)\n"
        "collect(Config.model_validate_json(sys.argv[1]), Path(sys.argv[2]), die)\n"
    )
    words = [sys.executable, "-c", code, settings.model_dump_json(exclude_unset=True), str(tmp_path / "killed")]
    done = subprocess.run(words, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr[-500:]
    left = everything(tmp_path / "killed")
    assert Path("sources.json") not in left and len(left) >= 4
    (tmp_path / "killed" / "sources" / "train-00009.parquet.1.tmp").write_bytes(b"half a shard")
    collect(settings, tmp_path / "killed")
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")


def test_data_that_change_between_the_passes_are_noticed(tmp_path):
    yaml = source(tmp_path, "one", [{"image": encoded(colour(n))} for n in range(120)])

    def meddle(what, rows):
        if what == "one":
            source(tmp_path, "one", [{"image": encoded(colour(n + 1))} for n in range(120)])

    with pytest.raises(DataError, match="changed while it was read; run again"):
        collect(config(yaml), tmp_path / "set", meddle)


def test_images_of_the_benchmarks_are_left_out(tmp_path):
    """The same pixels in another file, a smaller JPEG, and one that is joined from two."""
    write_hashes(tmp_path / "hashes.parquet", "awares_mini_chartqa")
    tests = [images.decode(row["image"]["bytes"]) for row in read_rows(mini_test_file("chartqa"))[:2]]
    files = [io.BytesIO() for _ in range(2)]
    tests[0].save(files[0], "BMP")
    tests[1].resize((tests[1].width * 3 // 4, tests[1].height * 3 // 4)).save(files[1], "JPEG")
    rows = [{"image": encoded(colour(n))} for n in range(6)] + [{"image": file.getvalue()} for file in files]
    yaml = source(tmp_path, "one", rows)
    found = collect(
        config(yaml, benchmarks="awares_suite", benchmark_hashes=tmp_path / "hashes.parquet"), tmp_path / "set"
    )
    assert found.sources["one"].benchmark_images == 2 and found.rows == 6
    assert found.benchmarks == {"awares_mini_chartqa": 64}
    rejected = read_rows(tmp_path / "set" / "sources" / "rejected.parquet")
    assert {(row["id"], row["detail"].partition(" (")[0]) for row in rejected} == {
        ("one/6", "awares_mini_chartqa, the same pixels"),
        ("one/7", "awares_mini_chartqa, looks the same"),
    }


def test_without_hashes_the_run_says_so(tmp_path, capsys):
    from loguru import logger

    heard = []
    sink = logger.add(heard.append, level="WARNING")
    yaml = source(tmp_path, "one", [{"image": encoded(colour(n))} for n in range(6)])
    try:
        found = collect(config(yaml), tmp_path / "set")
    finally:
        logger.remove(sink)
    assert (
        found.benchmarks is None and json.loads((tmp_path / "set" / "sources.json").read_text())["benchmarks"] is None
    )
    assert len(heard) == 1 and "NOT compared" in heard[0]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells a process's peak")
def test_memory_does_not_grow_with_the_source(tmp_path):
    """Peak of a process that samples 10 of 40 and of 240 images of 0.6 MB: far from 120 MB apart."""
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from lmms_awares.curation.config import Config\n"
        "from lmms_awares.curation.sampling import collect\n"
        "collect(Config.model_validate_json(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    peaks = []
    for count in (40, 240):
        rows = [{"image": encoded(colour(n), (480, 420), "BMP")} for n in range(count)]
        yaml = source(tmp_path / str(count), "one", rows)
        settings = config(yaml, rows=8, validation=2, shard_rows=4).model_dump_json(exclude_unset=True)
        words = [sys.executable, "-c", code, settings, str(tmp_path / str(count) / "set")]
        done = subprocess.run(
            words, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1024)  # MiB
    assert peaks[1] < peaks[0] + 50, peaks
