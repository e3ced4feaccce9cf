"""What all commands share: the version, one spelling of options, where output goes, and the list of models."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer.main
from report_runs import awares, exit_of
from synthetic import rows, write_run

from lmms_awares import __version__
from lmms_awares.cli import app
from lmms_awares.mini import smoke_data
from lmms_awares.models import MODELS
from lmms_awares.models.config import ARGS
from lmms_awares.models.listing import arguments_of, options_listed
from lmms_awares.pruning import PRUNERS, options_of

BIN = Path(sys.executable).parent


def test_version():
    assert awares("--version").stdout == f"lmms-awares {__version__}\n"


def commands(group, path=()):
    for name, command in group.commands.items():
        if "commands" in vars(command):
            yield from commands(command, (*path, name))
        yield (*path, name), command


def test_what_is_written_goes_to_one_spelling():
    """Every command that writes to a place of the user's choice takes `-o` and `--output`; `eval` is lmms-eval's."""
    spellings = {}
    for path, command in commands(typer.main.get_command(app)):
        for parameter in command.params:
            if isinstance(parameter, click.Option) or parameter.param_type_name == "option":
                spellings[path] = spellings.get(path, set()) | {*parameter.opts}
    found = {path: {"-o", "--output", "--out"} & options for path, options in spellings.items()}
    curating = ("run", "answer", "judge", "ground", "build", "stats", "export")
    writing = {("report",), ("compare",), ("plot",), ("regress", "save"), ("train", "export")}
    writing |= {("suite", "run"), ("tasks", "wrap")} | {("curate", name) for name in curating}
    assert {path for path, options in found.items() if options} == writing
    assert all(found[path] == {"-o", "--output"} for path in writing)


def test_models_are_listed_with_their_arguments():
    shown = awares("models").stdout
    for model in MODELS:
        assert any(line.split()[:1] == [model] for line in shown.splitlines()), model
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert any(line.startswith("pretrained text required folder or hub id of a") for line in lines)
    assert any(line.startswith("dtype auto|float32|bfloat16|float16 auto weights' dtype") for line in lines)
    assert any(line.startswith("reuse_cache true|false true false prefills everything again") for line in lines)
    assert any(line.startswith("whole_layers number 2 layers that run on all tokens") for line in lines)
    assert "pruner=random takes no others" in lines
    own = lines[lines.index("holov takes besides:") :][:4]
    assert own[3].startswith("official_wiring true|false false reproduce the released")
    assert any(line.startswith("min_crop_side number 100 px that a crop's side has at least") for line in lines)


@pytest.mark.parametrize("model", ARGS)
def test_every_argument_is_explained(model):
    found = arguments_of(ARGS[model])
    assert {argument.name for argument in found} == set(ARGS[model].model_fields)
    assert found[0].name == "pretrained", "what must be given comes first"
    assert_explained(found)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_option_of_a_pruner_is_explained(pruner):
    found = options_listed(PRUNERS[pruner])
    assert [argument.name for argument in found] == list(options_of(PRUNERS[pruner]))
    assert_explained(found)


def assert_explained(arguments):
    for argument in arguments:
        assert len(argument.meaning) > 5, argument
        assert "\n" not in argument.meaning
        assert argument.type and "Literal" not in argument.type and "None" not in argument.type


BAD = {
    "compare": [],
    "plot": ["-o", "x"],
    "diagnose": ["/nowhere"],
    "report": ["/nowhere", "-o", "x"],
    "regress": ["--baseline", "x"],
    "regress save": ["/nowhere"],
    "eval": ["--tasks", "awares_pope"],
    "prompts import": ["nonsense"],
    "tasks": ["nonsense"],
    "mini build": [],
    "suite run": ["nowhere.yaml", "-o", "x"],
    "regress ": ["--baseline", "x", "--candidate", "y", "--alpha", "many"],
}


@pytest.mark.parametrize("command", BAD)
def test_messages_of_bad_input_go_to_stderr(command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["awares", *command.split(), *BAD[command]])
    code, err = exit_of(monkeypatch, capsys, *command.split(), *BAD[command])
    assert code == 2
    assert err
    with pytest.raises(SystemExit):
        from lmms_awares.cli import main

        main()
    assert capsys.readouterr().out == ""


def test_runs_that_do_not_compare_are_said_on_stdout_where_the_report_is(tmp_path):
    """The gate's report is its output, whatever it says."""
    run = write_run(tmp_path / "run", {"awares_pope": rows([1.0])})
    assert "not comparable" in awares("regress", "--baseline", run, "--candidate", tmp_path / "none").stdout


@pytest.fixture(scope="module")
def piped(tmp_path_factory, small_checkpoint):
    """`awares eval` into pipes: stdout and stderr."""
    folder = tmp_path_factory.mktemp("piped")
    environment = os.environ | {
        "AWARES_DATA_ROOT": str(smoke_data.write(folder / "data", documents=2)),
        "AWARES_CACHE": str(folder / "cache"),
        "ACCELERATE_USE_CPU": "true",
    }
    command = [BIN / "awares", "eval", "--model", "awares", "--tasks", "awares_pope", "--device", "cpu"]
    command += ["--model_args", f"pretrained={small_checkpoint}", "--output_path", str(folder / "out"), "--limit", "2"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)


def test_output_off_a_terminal_is_plain_and_short(piped):
    for text in (piped.stdout, piped.stderr):
        assert "\x1b[" not in text, "no colours"
        assert "INFO" not in text
        assert "it/s" not in text and "examples/s" not in text, "no progress bars"
    assert "pope" in piped.stdout and "RTR" in piped.stdout
    assert "--limit SHOULD ONLY BE USED FOR TESTING" in piped.stderr, "warnings stay"
    assert "--limit SHOULD" not in piped.stdout


def test_a_listing_is_a_result(tmp_path):
    """lmms-eval prints it as a note, which would be left out off a terminal."""
    command = [BIN / "awares", "eval", "--tasks", "list_groups", "--output_path", str(tmp_path / "out")]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "awares_suite" in listed.stdout
    assert "\x1b[" not in listed.stdout


def test_a_terminal_keeps_what_it_has(monkeypatch):
    from loguru import logger
    from tqdm import tqdm

    from lmms_awares.quiet import plain_off_terminal

    monkeypatch.setattr("sys.stdout", type("Terminal", (), {"isatty": lambda self: True})())
    add = logger.add
    with plain_off_terminal(logs=sys.stderr):
        assert logger.add == add
    stream = type("Pipe", (), {"isatty": lambda self: False, "write": lambda self, text: 1, "flush": lambda self: 0})()
    shown = type("Terminal", (), {**vars(type(stream)), "isatty": lambda self: True})()
    with plain_off_terminal(logs=sys.stderr):
        assert tqdm(range(3), file=stream, disable=False).disable
        assert not tqdm(range(3), file=shown, disable=False).disable
        assert tqdm(range(3), file=shown, disable=True).disable
    assert not tqdm(range(3), file=stream, disable=False).disable


def test_every_subcommand_has_a_file_of_its_name():
    from lmms_awares import cli

    files = {file.stem for file in Path(cli.__file__).parent.glob("*.py") if not file.stem.startswith("curate_")}
    assert files == {*typer.main.get_command(app).commands} | {"__init__", "awares", "options"}
