"""`awares train sweep`: the steps of a grid, that none is done twice, and its tables by hand; nothing is trained."""

import csv
import json
import shlex
import statistics
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from report_runs import CHART, POPE, awares, exit_of, pope, sample, write

from lmms_awares.errors import ConfigError, UserError
from lmms_awares.evaluate import preflight
from lmms_awares.mini.demo import checkpoint
from lmms_awares.report.read.samples import RunError
from lmms_awares.steps import finish as said_finished
from lmms_awares.training import sweep
from lmms_awares.training.sweep import carry_out, is_finished, plan, read_grid

GRID = {
    "tables": [3],
    "pretrained": "base",
    "curated": "curated",
    "output": "out",
    "trainings": "trainings",
    "sft": "sft_mini",
    "grpo": "grpo_mini",
    "evaluate": {"tasks": "awares_graded", "model_args": "dtype=float32", "batch_size": 4, "device": "cpu", "limit": 2},
    "rows": [
        {"method": "SFT only", "sft": {}, "seeds": [1, 2]},
        {"method": "w/o tool cost", "sft": {}, "grpo": {"alpha_use": 0.0}},
    ],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Grids name folders from where they are started; base and curated set are taken as given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "check_checkpoint", lambda place: None)
    monkeypatch.setattr(sweep, "open_set", lambda place, finished: None)
    monkeypatch.setattr(sweep, "preflight", lambda asked, rest: None)


def grid(name="grid", **changes):
    file = Path(f"{name}.yaml")
    file.write_text(yaml.safe_dump(GRID | changes), encoding="utf-8")
    return file


def runs_of(name):
    return {(run.row.method, run.seed): run for run in plan(read_grid(Path(name)))}


def options(step):
    """A command's options, by name."""
    names = [place for place, part in enumerate(step.command) if part.startswith("--")]
    return {step.command[place][2:]: step.command[place + 1] for place in names}


def test_rows_that_start_alike_share_their_trainings():
    runs = runs_of("table4_mini")
    assert [len(run.steps) for run in runs.values()] == [2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    for seed in (1, 2, 3):
        assert runs["AwaRes", seed].steps[0] == runs["SFT only", seed].steps[0]
    sft = runs["AwaRes", 1].steps[0]
    assert all(run.steps[0] == sft for run in runs.values() if run.seed == 1 and run.row.method != "GRPO only")
    assert len({run.steps[0].folder for run in runs.values()}) == 4  # three seeds, and GRPO from the base
    second = [run.steps[1] for run in runs.values() if len(run.steps) == 3]
    assert len({step.folder for step in second}) == len(second)
    assert all(options(step)["adapter"] == str(runs["AwaRes", 1].steps[0].folder) for step in second[:4])
    assert len({run.folder for run in runs.values()}) == len(runs)


def test_grpo_only_starts_from_the_base():
    alone, _ = runs_of("table4_mini")["GRPO only", 1].steps
    assert alone.command[:2] == ("train", "grpo")
    assert options(alone)["adapter"] == "" and options(alone)["seed"] == "1"
    assert "--adapter ''" in shlex.join(alone.command)


def test_grids_share_equal_trainings():
    one, other = runs_of("table3_mini")["SFT + Traj. + w5", 1], runs_of("table4_mini")["SFT only", 1]
    assert one.steps[0] == other.steps[0]
    assert one.folder != other.folder
    assert runs_of("table3_mini")["SFT + Traj.", 1].steps[0].folder != one.steps[0].folder


def test_a_rows_commands():
    sft, grpo, evaluation = runs_of(grid())["w/o tool cost", 1].steps
    shipped = sweep.CONFIGS / "sft_mini.yaml"
    assert sft.command == (
        *("train", "sft", "--config", str(shipped), "--pretrained", "base", "--curated", "curated", "--seed", "1"),
        *("--output_dir", str(sft.folder)),
    )
    assert options(grpo)["alpha_use"] == "0.0" and options(grpo)["adapter"] == str(sft.folder)
    assert evaluation.command == (
        *("eval", "--model", "awares", "--model_args", f"pretrained=base,adapter={grpo.folder},dtype=float32"),
        *("--tasks", "awares_graded", "--batch_size", "4", "--output_path", "out/runs/w_o_tool_cost_seed-1"),
        *("--device", "cpu", "--limit", "2"),
    )


@pytest.fixture
def done(monkeypatch):
    """What was run, in place of running it; evaluations leave a run. `fails`: words of commands that do not work."""
    said = SimpleNamespace(commands=[], fails=())

    def run(command, *, stdout, stderr, check):
        arguments = command[3:]
        said.commands.append(arguments)
        stdout.write("at work\n")
        if any(word in part for word in said.fails for part in arguments):
            return subprocess.CompletedProcess(command, 1)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(sweep.subprocess, "run", run)
    return said


def stages(done):
    return [command[1] if command[0] == "train" else command[0] for command in done.commands]


def test_what_is_finished_is_not_done_again(done):
    told = list(carry_out(plan(read_grid(grid())), jobs=1))
    assert sorted(stages(done)) == ["eval", "eval", "eval", "grpo", "sft", "sft"]
    assert len(told) == 6
    assert all(is_finished(step) for run in plan(read_grid(grid())) for step in run.steps)
    done.commands.clear()
    assert list(carry_out(plan(read_grid(grid())), jobs=2)) == [] and done.commands == []


def test_what_has_changed_is_done_again(done):
    list(carry_out(plan(read_grid(grid())), jobs=1))
    done.commands.clear()
    rows = [GRID["rows"][0], GRID["rows"][1] | {"grpo": {"alpha_use": 0.5}}]
    list(carry_out(plan(read_grid(grid(rows=rows))), jobs=1))
    assert stages(done) == ["grpo", "eval"]
    done.commands.clear()
    list(carry_out(plan(read_grid(grid(rows=rows, evaluate=GRID["evaluate"] | {"limit": 3}))), jobs=1))
    assert stages(done) == ["eval"] * 3
    done.commands.clear()
    shipped = (sweep.CONFIGS / "sft_mini.yaml").read_text(encoding="utf-8")
    Path("own.yaml").write_text(f"{shipped}\nmax_grad_norm: 0.5\n", encoding="utf-8")
    list(carry_out(plan(read_grid(grid(rows=rows[:1], sft="own.yaml"))), jobs=1))
    assert stages(done) == ["sft", "eval", "sft", "eval"]


def test_a_base_that_has_changed_is_trained_on_again(done):
    Path("base").mkdir()
    list(carry_out(plan(read_grid(grid())), jobs=1))
    done.commands.clear()
    (Path("base") / "model.safetensors").write_bytes(b"other weights")
    list(carry_out(plan(read_grid(grid())), jobs=1))
    assert len(done.commands) == 6


def test_a_step_does_not_wait_for_another_runs(done, monkeypatch):
    """While one row's first stage is under way, another row is carried to its end."""
    honest, go_on = sweep.subprocess.run, threading.Event()
    slow = plan(read_grid(grid()))[0].steps[0]

    def run(command, **more):
        if command[3:] == list(slow.command):
            assert go_on.wait(60)
        ended = honest(command, **more)
        if stages(done).count("eval") == 2:
            go_on.set()
        return ended

    monkeypatch.setattr(sweep.subprocess, "run", run)
    list(carry_out(plan(read_grid(grid(rows=[GRID["rows"][0] | {"seeds": [1, 2, 3]}]))), jobs=2))
    assert stages(done)[:4] == ["sft", "eval"] * 2


def test_a_step_that_was_killed_while_it_said_so_is_done_again(done, monkeypatch):
    """Half of what it wants to say is written: the next run must not read it."""
    runs = plan(read_grid(grid()))
    step, honest = runs[0].steps[0], Path.write_text

    def killed(file, text, **more):
        if file.name.startswith(step.folder.name):
            honest(file, text[:9], **more)
            raise KeyboardInterrupt
        return honest(file, text, **more)

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        list(carry_out(runs[:1], jobs=1))
    monkeypatch.setattr(Path, "write_text", honest)
    done.commands.clear()
    list(carry_out(runs[:1], jobs=1))
    assert done.commands == [list(step.command), list(runs[0].steps[1].command)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_step_that_failed_names_its_log_and_keeps_the_finished_ones(done, jobs):
    runs = plan(read_grid(grid()))
    first, second = runs[0].steps[0], runs[1].steps[0]
    done.fails = (str(second.folder),)
    with pytest.raises(UserError) as caught:
        list(carry_out(runs, jobs=jobs))
    log = second.folder.with_name(f"{second.folder.name}.log")
    assert f"{second.folder.name} failed; the whole log is {log}" in str(caught.value)
    assert "\n" not in str(caught.value) and log.read_text() == "at work\n"
    assert is_finished(first) and not is_finished(second)
    behind = [command for command in done.commands if any(str(second.folder) in part for part in command)]
    assert behind == [list(second.command)], "nothing goes on behind a stage that failed"
    done.commands.clear()
    done.fails = ()
    list(carry_out(runs, jobs=jobs))
    assert list(first.command) not in done.commands and list(second.command) in done.commands
    assert log.read_text() == "at work\n" * 2


def test_the_command_ends_with_one_line(done, monkeypatch, capsys):
    done.fails = ("sft",)
    code, err = exit_of(monkeypatch, capsys, "train", "sweep", grid())
    assert code == 2 and len(err.splitlines()) == 1 and ".log; run again: finished steps are kept" in err


ROW = GRID["rows"][0]
BAD = {
    "an unknown setting": ({"trainngs": "x"}, "trainngs is no setting; trainings is"),
    "an unknown setting of a row": ({"rows": [ROW | {"sed": [1]}]}, "rows.0.sed is no setting; "),
    "a table that is no ablation": ({"tables": [5]}, "an ablation can be laid out as 3, 4, 7, 8, 9"),
    "no labels": ({"tables": [4]}, "labels: the tables' diagnostics need them"),
    "two of one name": ({"rows": [ROW, ROW]}, "two rows have the same method"),
    "two of one folder": ({"rows": [ROW, ROW | {"method": "SFT/only"}]}, "SFT only and SFT/only would share a folder"),
    "a seed twice": ({"rows": [ROW | {"seeds": [1, 1]}]}, "seeds: one is there twice"),
    "no settings' file": ({"sft": None}, "sft: name the file of its settings"),
    "a settings' file that is not there": (
        {"sft": "nowhere"},
        "nowhere: no such file of settings; those that ship are",
    ),
    "a row without stages": ({"rows": [{"method": "x"}]}, "rows.0: Value error, needs sft or grpo"),
    "no rows": ({"rows": []}, "rows: "),
    "a folder that lmms-eval cannot take": ({"output": "a,b"}, "holds a comma, which lmms-eval cannot take"),
    "a stage's unknown setting": ({"rows": [{"method": "x", "sft": {"tool_wieght": 3}}]}, "tool_wieght"),
    "a setting that cannot work": ({"rows": [{"method": "x", "grpo": {"alpha_use": -1}}]}, "alpha_use=-1.0 must be 0"),
    "a setting that is the grid's": (
        {"rows": [{"method": "x", "sft": {"curated": "y"}}]},
        "curated is the grid's to say",
    ),
    "no tasks": ({"evaluate": {}}, "evaluate.tasks is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_grid_is_one_line(name, done, monkeypatch, capsys):
    changes, words = BAD[name]
    code, err = exit_of(monkeypatch, capsys, "train", "sweep", grid(**changes))
    assert code == 2 and words in err and len(err.splitlines()) == 1, err
    assert done.commands == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "grid.yaml cannot be read"),
        ("a: [", "grid.yaml is no YAML"),
        ("- 1", "grid.yaml holds no settings by name"),
    ],
)
def test_a_file_that_is_no_grid_is_one_line(text, words, tmp_path, monkeypatch, capsys):
    if text is not None:
        (tmp_path / "grid.yaml").write_text(text)
    code, err = exit_of(monkeypatch, capsys, "train", "sweep", "grid.yaml")
    assert code == 2 and words in err and len(err.splitlines()) == 1


def test_a_dry_run_prints_the_commands_and_does_nothing(done, tmp_path):
    file = grid()
    before = sorted(tmp_path.rglob("*"))
    shown = awares("train", "sweep", file, "--dry-run").stdout.splitlines()
    steps = {step.folder: step for run in plan(read_grid(file)) for step in run.steps}
    assert shown == [f"awares {shlex.join(step.command)}" for step in steps.values()] and len(shown) == 6
    assert sorted(tmp_path.rglob("*")) == before and done.commands == []
    list(carry_out([plan(read_grid(file))[0]], jobs=1))
    assert awares("train", "sweep", file, "--dry-run").stdout.splitlines() == [shown[2], *shown[3:]]


LABELS = [{"task": CHART, "doc_id": 0, "label": "HR", "targets": ["0"]}, {"task": CHART, "doc_id": 1, "label": "LR"}]
SCORES = {"SFT only": {1: (1.0, 0.0), 2: (1.0, 1.0)}, "w/o tool cost": {1: (0.0, 0.0)}}


def finished(file):
    """Put a run where each evaluation would be: two charts, the first with a call, and one of POPE, which is right."""
    runs = plan(read_grid(file))
    for run in runs:
        first, second = SCORES[run.row.method][run.seed]
        rows = {CHART: [sample(first, rtr=0.5, ids=["0"], latency=3), sample(second)], POPE: [pope("yes", "yes")]}
        write(run.folder / "run", rows)
        for step in run.steps:
            step.folder.parent.mkdir(parents=True, exist_ok=True)
            said_finished(step, seconds=1)
        for step in run.steps[:-1]:
            step.folder.mkdir(exist_ok=True)
            (step.folder / "training.json").write_text(json.dumps([{"stage": step.command[1], "seed": run.seed}]))
    return runs


@pytest.fixture
def ablation(tmp_path):
    """A finished grid with settings and blocks, laid out like two tables."""
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, LABELS)))
    rows = [row | {"block": f"block {n}", "settings": {"w": str(n)}} for n, row in enumerate(GRID["rows"], 1)]
    file = grid(tables=[4, 8], labels="labels.jsonl", rows=rows)
    finished(file)
    return tmp_path / "out", awares("train", "sweep", file).stdout


def test_the_long_table_by_hand(ablation):
    with (ablation[0] / "table4.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n", "seed"]
    found = {(line["method"], line["seed"], line["benchmark"]): line for line in lines}
    assert len(found) == len(lines) == 6
    charts = {key[:2]: float(line["score"]) for key, line in found.items() if key[2] == "chartqa"}
    assert charts == {("SFT only", "1"): 50, ("SFT only", "2"): 100, ("w/o tool cost", "1"): 0}
    line = found["SFT only", "1", "chartqa"]
    assert [float(line[name]) for name in ("rtr", "call_rate", "latency_s", "n")] == [0.375, 0.5, 2, 2]
    assert line["nominal"] == ""
    assert {float(line["score"]) for key, line in found.items() if key[2] == "pope"} == {100}


def test_means_and_deviations_by_hand(ablation):
    """Means over the two benchmarks: 75 and 100 with the two seeds of SFT, 50 without the tool's cost."""
    text = (ablation[0] / "table4.md").read_text()
    by_method = {cells[0]: cells[1:] for cells in table_rows(text, "Averages by method")}
    deviation = statistics.stdev([75, 100])
    assert by_method["SFT only"] == ["2", f"87.50 ± {deviation:.2f}", "0.312 ± 0.000", "0.250 ± 0.000"]
    assert by_method["w/o tool cost"] == ["1", "50.00", "0.312", "0.250"]


def table_rows(text, title):
    """Cells of the rows of a Markdown table behind its title."""
    lines = iter(text[text.index(title) :].splitlines()[1:])
    body = [line for line in lines if line.startswith("|") or not line.strip()]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in body if line.strip()]
    return [row for row in cells if row[0] in SCORES][: len(SCORES)]


def test_every_seed_has_a_row_and_the_published_table_stands_behind(ablation):
    output, shown = ablation
    text = (output / "table4.md").read_text()
    for name in ("SFT only (seed 1)", "SFT only (seed 2)", "w/o tool cost (seed 1)"):
        rows = [line for line in text.splitlines() if line.startswith("|") and f" {name} " in line]
        assert len(rows) == 2 and name in shown, "of the main table and of the diagnostics"
    assert text.index("Averages by method") < text.index("SFT only (seed 1)") < text.index("text similarity -> LaaJ")
    assert "80.30" in text and "block 1" in text
    calls = (output / "table8.md").read_text()
    assert "Averages by method" not in calls and "Traj. + high w" in calls
    lines = list(csv.reader((output / "table8.csv").open(encoding="utf-8")))
    assert lines[0][:2] == ["w", "method"]
    assert [line[:2] for line in lines[1:]] == [
        *(["block 1", ""], ["1", "SFT only (seed 1)"], ["1", "SFT only (seed 2)"]),
        *(["block 2", ""], ["2", "w/o tool cost (seed 1)"]),
    ]


def test_every_rows_trainings_are_named(ablation):
    output, _ = ablation
    assert json.loads((output / "trainings4.json").read_text()) == {
        "SFT only (seed 1)": [{"stage": "sft", "seed": 1}],
        "SFT only (seed 2)": [{"stage": "sft", "seed": 2}],
        "w/o tool cost (seed 1)": [{"stage": "sft", "seed": 1}, {"stage": "grpo", "seed": 1}],
    }


def test_compare_takes_the_groups(ablation):
    output, _ = ablation
    assert (output / "groups.csv").read_text().splitlines()[0] == "run,block,w"
    shown = awares("compare", "--group", output / "groups.csv", "--format", "csv").stdout
    rows = list(csv.reader(shown.splitlines()))
    assert rows[0][:2] == ["w", "method"] and ["block 1", ""] in [row[:2] for row in rows]


def test_a_grid_without_settings_and_blocks(tmp_path):
    """As the shipped one of Table 4: nothing stands in front of the methods."""
    file = grid()
    finished(file)
    awares("train", "sweep", file)
    assert (tmp_path / "out" / "groups.csv").read_text().splitlines()[0] == "run"
    assert "| SFT only (seed 2) " in (tmp_path / "out" / "table3.md").read_text()
    shown = awares("compare", "--group", tmp_path / "out" / "groups.csv", "--format", "csv").stdout
    assert shown.splitlines()[0].startswith("method,")


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"tasks": "nosuchtask"}, "unknown task nosuchtask"),
        ({"model_args": "dtyp=float32"}, "unknown model argument dtyp"),
    ],
)
def test_an_evaluation_that_cannot_work_does_not_wait_for_the_trainings(evaluation, words, done, monkeypatch):
    monkeypatch.setattr(sweep, "preflight", preflight)
    changed = grid(pretrained=str(checkpoint()), evaluate=GRID["evaluate"] | evaluation)
    with pytest.raises(ConfigError, match=words):
        awares("train", "sweep", changed)
    assert done.commands == []


def test_labels_that_are_not_there_are_missed_before_the_trainings(done):
    with pytest.raises(ConfigError, match="labels: nowhere.jsonl is not there"):
        awares("train", "sweep", grid(tables=[4], labels="nowhere.jsonl"))
    assert done.commands == []


def test_labels_that_do_not_fit_are_one_line(tmp_path):
    (tmp_path / "labels.jsonl").write_text("{}")
    file = grid(tables=[4], labels="labels.jsonl")
    finished(file)
    with pytest.raises(RunError, match="labels.jsonl") as caught:
        awares("train", "sweep", file)
    assert "\n" not in str(caught.value)
