"""What can be known before the model loads is one line, before it loads."""

import json
import sys
from pathlib import Path

import pytest
import torch

from lmms_awares import cli
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.evaluate import preflight
from lmms_awares.journal import JournalError
from lmms_awares.mini import smoke_data
from lmms_awares.plan import plan_of
from lmms_awares.protocol.prompts import PromptError
from lmms_awares.pruning import PruningError
from lmms_awares.tasks.data import DATA_ROOT

LONG = "x" * 300


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return smoke_data.write(tmp_path_factory.mktemp("data"), documents=2)


@pytest.fixture
def look(data_root, small_checkpoint, tmp_path, monkeypatch):
    """The preflight of `awares eval` with defaults that work."""
    monkeypatch.setenv(DATA_ROOT, str(data_root))

    def run(*extra, args="", **given):
        settings = {"model": "awares", "model_args": f"pretrained={small_checkpoint}{args}", "tasks": "awares_pope"}
        settings |= {"output_path": str(tmp_path / "out")} | given
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        plan, rest = plan_of([*words, *extra])
        preflight(plan, rest)
        return plan, rest

    return run


def test_what_works_passes(look):
    for extra in (
        ("--device", "cpu", "--limit", "3", "--offset", "1", "--gen_kwargs", "temperature=0.5,top_p=0.9"),
        ("--limit", "0.5", "--reasoning_tags", "none", "--verbosity", "WARNING", "--timezone", "UTC"),
    ):
        _, rest = look(*extra)
        assert rest == list(extra)


@pytest.mark.parametrize("limit", ["min_pixels=1000000000", "max_pixels=10"])
def test_one_limit_against_the_checkpoints_other(look, limit):
    with pytest.raises(ConfigError, match="what is not given is the checkpoint's own"):
        look(args=f",{limit}")


@pytest.mark.parametrize(
    ("model", "args", "words"),
    [
        (
            "pruned",
            ",pruner=fastv,retain_ratio=0.5,whole_layers=4",
            "whole_layers=4 must be below the model's 4 layers",
        ),
        ("awares", ",policy=never,pruner=fastv,retain_ratio=0.2", "retain_ratio=0.2 cannot be met by fastv"),
    ],
)
def test_a_pruner_that_the_configuration_rules_out(look, model, args, words):
    with pytest.raises(PruningError, match=words):
        look(model=model, args=args)


BAD = {
    ("--limit", "0"): "--limit 0 must be a number of documents",
    ("--limit", "-3"): "--limit -3 must be",
    ("--limit=-1",): "leave it out to run all",
    ("--limit", "nan"): "--limit nan must be",
    ("--limit", "inf"): "--limit inf must be",
    ("--limit", "2.5"): "--limit 2.5 must be",
    ("--limit", "ten"): "argument --limit: invalid float value: 'ten'",
    ("--lim", "ten"): "invalid float value",
    ("--offset", "-1"): "--offset -1 must be 0 or more",
    ("--offset", "2"): "--offset 2 leaves no document of awares_pope, which has 2",
    ("--offset", "one"): "argument --offset: invalid int value",
    ("--num_samples", "0"): "--repeats 0 must be 1 or more",
    ("--gen_kwargs", "hot"): "--gen_kwargs 'hot' must read name=value",
    ("--gen_kwargs", "temperature=hot"): "a value that is no number",
    ("--gen_kwargs", "num_beams=3"): "num_beams=3 is not supported",
    ("--gen_kwargs", "max_new_tokens=0"): "max_new_tokens >= 1",
    ("--batch_size", "0"): "--batch_size 0 is not supported",
    ("--verbosity", "LOUD"): "--verbosity LOUD is no level",
    ("--timezone", "Mars"): "--timezone Mars is unknown",
    ("--reasoning_tags", "<think>"): "--reasoning_tags <think> must be JSON",
    ("--reasoning_tags", '["<think>"]'): "must be JSON such as",
    ("--limt", "5"): "unrecognized arguments: --limt 5",
    ("--limit",): "argument --limit: expected one argument",
    ("--mod", "x"): "ambiguous option: --mod could match --model, --model_args",
    ("--device", "gpu"): "--device gpu is no device",
    ("--device", "0"): "--device 0 is no device",
    ("--device", "meta"): "--device meta is no device",
    ("--device", "cpu:3"): "--device cpu:3: there are 1, the last is cpu:0",
    ("--include_path", LONG): "is no folder",
    ("--tasks", LONG): "unknown task",
    ("--use_cache", "/proc/none/cache"): "--use_cache '/proc/none' cannot be written",
}
if not torch.cuda.is_available():
    BAD |= {("--device", "cuda"): "has no cuda; give cpu", ("--device", "cuda:7"): "has no cuda"}
if not torch.backends.mps.is_available():
    BAD[("--device", "mps")] = "has no mps; give cpu"


@pytest.mark.parametrize("extra", BAD, ids=" ".join)
def test_arguments_of_lmms_eval(look, extra):
    with pytest.raises(ConfigError) as caught:
        look(*extra)
    assert BAD[extra] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_beyond_the_last(look, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    look("--device", "cuda")
    look("--device", "cuda:1")
    with pytest.raises(ConfigError, match="--device cuda:7: there are 2, the last is cuda:1"):
        look("--device", "cuda:7")
    with pytest.raises(ConfigError, match="device_map=cuda:2: there are 2"):
        look(args=",device_map=cuda:2")


def test_device_maps(look):
    look(args=",device_map=auto")
    with pytest.raises(ConfigError, match="device_map=everywhere is no device"):
        look(args=",device_map=everywhere")


def test_flash_attention_without_the_package(look, monkeypatch):
    import transformers.utils

    monkeypatch.setattr(transformers.utils, "is_kernels_available", lambda: False)
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: False)
    with pytest.raises(ConfigError, match="attn_implementation=flash_attention_2 needs the package flash-attn"):
        look(args=",attn_implementation=flash_attention_2")
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: True)
    look(args=",attn_implementation=flash_attention_2")


def test_journals(look, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\n")
    (tmp_path / "other.jsonl").write_text('{"doc_id": 0}\n')
    (tmp_path / "folder" / "journal.jsonl").mkdir(parents=True)
    for name, words in {
        "file/journal.jsonl": "cannot be written: ",
        "file/deeper/journal.jsonl": "cannot be written: ",
        "picture.png": "is a file of another kind",
        "other.jsonl": "is a file of another kind",
        "folder": "is no regular file",
        LONG: "cannot be written: File name too long",
        "/proc/version": "cannot be written: ",
    }.items():
        with pytest.raises(JournalError, match=words) as caught:
            look(args=f",journal={tmp_path / name}")
        assert "journal" in str(caught.value)
    assert (tmp_path / "picture.png").read_bytes() == b"\x89PNG\r\n\x1a\n\0\0\n"
    for content in ("", '{"ke', 'garbage\n{"key": "torn', '{"key":"a"}\n'):
        (tmp_path / "journal.jsonl").write_text(content.replace('"key": ', '"key":'))
        look(args=f",journal={tmp_path / 'journal.jsonl'}")


def test_names_that_no_file_system_takes(look, tmp_path, small_checkpoint):
    for name in (LONG, "a/" * 3000 + "b"):
        with pytest.raises(ConfigError, match="cannot be written: File name too long"):
            look(output_path=str(tmp_path / name))
    (tmp_path / "run.yaml").write_text(json.dumps({"output_path": "out\0put"}))
    with pytest.raises(ConfigError, match=r"'.*out\\x00put' cannot be written: embedded null byte"):
        preflight(*plan_of(["--config", str(tmp_path / "run.yaml"), "--model", "awares", "--tasks", "awares_pope"]))
    # lmms-eval names the folder of the results after the last two parts of the checkpoint's path.
    deep = tmp_path / ("a" * 200) / ("b" * 200)
    deep.parent.mkdir()
    deep.symlink_to(small_checkpoint)
    with pytest.raises(ConfigError, match="--output_path .* cannot be written: File name too long"):
        look(model_args=f"pretrained={deep}")


def test_a_limit_of_zero_in_a_settings_file(look, tmp_path):
    """It must not be taken for no limit."""
    for setting, words in (({"limit": 0}, "--limit 0 must be"), ({"repeats": 0}, "--repeats 0 must be")):
        (tmp_path / "run.yaml").write_text(json.dumps(setting))
        with pytest.raises(ConfigError, match=words):
            look("--config", str(tmp_path / "run.yaml"))


@pytest.mark.parametrize("content", ["", "\n", " \r\n\t\n", "\ufeff"])
def test_an_empty_prompt_file(look, tmp_path, content):
    (tmp_path / "prompt.txt").write_text(content, encoding="utf-8")
    with pytest.raises(PromptError, match=r"prompt.txt is empty: write a prompt there"):
        look(args=f",prompt={tmp_path / 'prompt.txt'}")


def test_data_that_cannot_be_scored(look, tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = smoke_data.write(tmp_path / "data", documents=2)
    file = next((root / "pope").glob("*.parquet"))
    table = pq.read_table(file)
    index = table.schema.get_field_index("answer")
    pq.write_table(table.set_column(index, "answer", pa.array(["yes", "maybe"])), file)
    monkeypatch.setenv(DATA_ROOT, str(root))
    with pytest.raises(DataError, match="row 1, column answer holds 'maybe', where one of yes, no is expected"):
        look()


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["awares", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, capsys.readouterr()


def test_an_empty_command_line(monkeypatch, capsys):
    code, said = command(monkeypatch, capsys, "eval")
    assert code == 2
    assert said.err.startswith("awares: error: --model is missing; e.g. awares eval --model awares")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_still_help(monkeypatch, capsys, flag):
    code, said = command(monkeypatch, capsys, "eval", flag)
    assert code == 0
    assert said.out.startswith("Usage: awares eval")


def test_our_error_is_one_line_and_exit_2(monkeypatch, capsys, data_root, small_checkpoint, tmp_path):
    monkeypatch.setenv(DATA_ROOT, str(data_root))
    given = ["--model", "awares", "--model_args", f"pretrained={small_checkpoint}", "--tasks", "awares_pope"]
    given += ["--output_path", str(tmp_path), "--limit", "0"]
    code, said = command(monkeypatch, capsys, "eval", *given)
    assert code == 2
    assert [line for line in said.err.splitlines() if line.startswith("awares: error: --limit 0 must be")]
    assert "Traceback" not in said.err
    assert not list(Path(tmp_path).rglob("*_results.json"))
