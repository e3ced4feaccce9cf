"""Stages alone, on what others made: never on a shard of other settings, and what is missing is made again."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lmms_awares.curation.config import read_config
from lmms_awares.curation.run import run
from lmms_awares.errors import ConfigError, DataError


def config(folder, checkpoint, name="own", **changed):
    base = {"pretrained": str(checkpoint), "device": "cpu", "dtype": "float32", "max_new_tokens": 4}
    own = {
        **{"sources": ["mini_chartqa"], "benchmarks": None, "rows": 3, "validation": 1, "base": base},
        **{"judge": {"kind": "exact"}, "oracle": {"kind": "source"}},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(own | changed | {"base": base | changed.get("base", {})}))
    return read_config(file)


def files(folder):
    """Bytes of every shard and of the set."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.parquet"))}


@pytest.fixture
def made(small_checkpoint, tmp_path):
    folder = tmp_path / "set"
    run(config(tmp_path, small_checkpoint), folder)
    return folder


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"base": {"max_pixels": 50176}},
            "answer/.* was made with other settings or sources; run `awares curate answer`",
        ),
        ({"sources": ["mini_pope"]}, "sources was made of other sources or settings; run `awares curate answer`"),
        ({"rows": 4}, "sources was made of other sources or settings"),
    ],
)
@pytest.mark.parametrize("stage", ["judge", "ground", "build"])
def test_a_stage_alone_takes_no_shard_of_other_settings(  # noqa: PLR0917
    made, small_checkpoint, tmp_path, changed, words, stage
):
    before = files(made)
    with pytest.raises(ConfigError, match=words):
        run(config(tmp_path, small_checkpoint, "other", **changed), made, stages=(stage,))
    assert files(made) == before


def test_a_stage_alone_says_which_one_is_missing(made, small_checkpoint, tmp_path):
    own = config(tmp_path, small_checkpoint)
    for stage, missing in (("judge", "answer"), ("ground", "judge"), ("build", "ground")):
        for file in (made / missing).glob("*.parquet"):
            file.unlink()
        with pytest.raises(ConfigError, match=rf"{missing}/.* is missing; run `awares curate {missing}` first"):
            run(own, made, stages=(stage,))
        run(own, made)
    with pytest.raises(ConfigError, match="has no sample of its sources yet; run `awares curate answer` first"):
        run(own, tmp_path / "fresh", stages=("judge",))
    assert not list((tmp_path / "fresh").rglob("*.parquet"))


@pytest.mark.parametrize("stage", ["sources", "answer", "judge", "ground", "build", "trajectories"])
def test_a_run_makes_again_what_was_removed(made, small_checkpoint, tmp_path, stage):
    before = files(made)
    min((made / stage).glob("*-*.parquet")).unlink()
    run(config(tmp_path, small_checkpoint), made)
    assert files(made) == before


def test_a_changed_judge_alone_works_on_the_same_answers(made, small_checkpoint, tmp_path):
    run(config(tmp_path, small_checkpoint, "other", judge={"kind": "anls"}), made, stages=("judge",))
    (judged, *_) = [pq.read_table(file).to_pylist()[0] for file in sorted((made / "judge").glob("*.parquet"))]
    assert judged["judge_model"]["name"] == "anls"


def test_a_file_where_a_folder_should_be(small_checkpoint, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "sources").touch()
    with pytest.raises(DataError, match="sources"):
        run(config(tmp_path, small_checkpoint), tmp_path / "set")


def test_blank_parts_of_a_question_are_no_question(tmp_path):
    from lmms_awares.curation.rows import Rejected
    from lmms_awares.curation.sources import Source, read_row

    source = Source.model_validate(
        {
            "data": {"files": "rows.jsonl"},
            "columns": {"image": "image", "question": "{{ q }}\nAnswer briefly.", "answers": "a"},
            "metric": "exact",
        }
    )
    for question in (None, "", "  \n"):
        found = read_row(source, {"q": question, "a": "1", "image": "x.png"})
        assert isinstance(found, Rejected) and found.reason == "blank question"
    columns = source.columns.model_copy(update={"question": "{{ q }} {{ hint }}"})
    asked = read_row(source.model_copy(update={"columns": columns}), {"q": "Who?", "hint": None, "a": "1"})
    assert asked.question == "Who? "
    assert not isinstance(read_row(source, {"q": 0, "a": "1", "image": "x.png"}), Rejected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rowz: 3", "rowz is no setting; rows is"),
        ("concurrency: 3", "concurrency is no setting"),
        ("judge: {base_url: x, model: y, api_key: sk-secret}", "judge.api_key is no setting; api_key_env is"),
        ("judge: {base_url: x, model: y, temprature: 1}", "judge.temprature is no setting"),
        ("rows: 0", r"rows: .* greater than or equal to 1 \(got '0'\)"),
        ("benchmark_hashes: nowhere.parquet", "benchmark_hashes has no effect with benchmarks: null"),
        ("judge: null", "judge: "),
    ],
)
def test_a_setting_that_is_wrong_is_named(small_checkpoint, tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        config(tmp_path, small_checkpoint, **yaml.safe_load(text))
    assert "secret" not in str(caught.value) and "{" not in str(caught.value)


def test_a_file_without_settings_and_one_without_a_judge(tmp_path):
    file = tmp_path / "own.yaml"
    for text, words in (("[1, 2]", "holds no settings by name"), ("", "holds no settings by name")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_config(Path(file))
    file.write_text("sources: [mini_pope]\nbase: {pretrained: mini}\noracle: {kind: source}")
    with pytest.raises(ConfigError, match="judge is missing$"):
        read_config(file)
