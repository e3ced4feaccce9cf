"""`awares suite run`: rows from a file, checks before anything loads, failures of single rows, resuming."""

import copy
import importlib.util
import json
import math
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from report_runs import awares, exit_of
from scripted_server import Script, serving
from test_server import by_model
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from lmms_awares.engine import checkpoint as checkpoints
from lmms_awares.engine import opening
from lmms_awares.engine.opening import open_engine
from lmms_awares.mini.demo import checkpoint
from lmms_awares.models import MODELS
from lmms_awares.models.config import CommonArgs, parse_args
from lmms_awares.protocol import prompts
from lmms_awares.pruning import PRUNERS
from lmms_awares.suites.planning import due, plan, shard, with_checkpoints
from lmms_awares.suites.running import _begin
from lmms_awares.suites.suite import read_suite

ROOT = Path(__file__).parent.parent
SUITE = {
    "checkpoints": {"mini": "mini"},
    "tasks": "awares_mini_chartqa,awares_mini_pope",
    "device": "cpu",
    "batch_size": 2,
    "limit": 2,
    "rows": [{"model": "qwen2_5_vl_lowres"}, {"model": "awares", "args": {"policy": ["never", "always_full"]}}],
}
NAMES = ["qwen2_5_vl_lowres", "awares_policy-never", "awares_policy-always_full"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    monkeypatch.syspath_prepend(str(ROOT / "tests"))


def suite(**changes):
    file = Path("suite.yaml")
    file.write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))
    return file


def answers(folder):
    """Answers and visual tokens, by benchmark and document."""
    lines = [json.loads(line) for file in folder.rglob("*samples*.jsonl") for line in file.open()]
    return {(row["target"], row["doc_id"]): (row["answer"], row["awares"]["visual_tokens"]) for row in lines}


def run(*arguments):
    return awares("suite", "run", suite() if not Path("suite.yaml").exists() else "suite.yaml", "-o", "out", *arguments)


def test_the_demonstration_has_every_model_and_pruner():
    rows = read_suite(Path("mini")).rows
    untrained = {"qwen3_vl_full", "qwen3_vl_lowres", "adaptvision", "ergo"}  # the tiny checkpoint has not learnt these
    assert {row.model for row in rows} == MODELS.keys() - untrained
    named = [row.args.get("pruner", row.model) for row in rows]
    assert all(named.count(pruner) >= 2 for pruner in PRUNERS)
    assert rows[1].name == "visionzip_retain_ratio-0.7" and rows[1].model == "visionzip"
    assert len({row.name for row in rows}) == len(rows)


def test_the_papers_suite_has_its_ten_rows():
    published = pd.read_csv(ROOT / "results" / "paper" / "table1.csv")["Model"]
    rows = read_suite(Path("paper")).rows
    assert len(rows) == len(published) == 10
    ratios = [row.args["retain_ratio"] for row in rows if "retain_ratio" in row.args]
    assert ratios == [int(name[-4:-2]) / 100 for name in published if name.endswith("%)")]


def test_a_broken_row_leaves_the_others_and_a_second_run_goes_on(tmp_path, monkeypatch, capsys):
    rows = [*SUITE["rows"], {"name": "broken", "model": "awares", "checkpoint": "broken"}]
    rows += [{"name": "fatal", "model": "pruned", "args": {"pruner": "fatal_pruner:Fatal", "retain_ratio": 0.5}}]
    broken = Path(shutil.copytree(checkpoint(), tmp_path / "broken"))
    whole = (broken / "tokenizer.json").read_bytes()
    (broken / "tokenizer.json").write_text("{}")  # the checks do not read it
    file = suite(rows=rows, checkpoints={"mini": "mini", "broken": str(broken)})
    code, err = exit_of(monkeypatch, capsys, "suite", "run", file, "-o", "out")
    assert code == 1
    assert "broken  failed: " in err and "its log is out/broken.log" in err
    assert "fatal  failed: its process was killed" in err
    assert "not in the tables, since not finished: broken, fatal" in err
    table = pd.read_csv("out/table.csv")
    assert list(table["method"].unique()) == ["qwen2_5_vl_lowres", "awares:never", "awares:always_full"]
    scores = table.pivot(index="benchmark", columns="method", values="score")
    assert (scores["qwen2_5_vl_lowres"] == scores["awares:never"]).all()
    assert table.loc[table["method"] == "awares:always_full", "rtr"].eq(1.25).all()
    assert {"pareto.png", "table.md", "table.tex"} <= {file.name for file in Path("out").iterdir()}
    assert Path("out-report/index.html").is_file()
    (broken / "tokenizer.json").write_bytes(whole)
    before = {name: Path(f"out/{name}.log").stat().st_mtime_ns for name in NAMES}
    code, err = exit_of(monkeypatch, capsys, "suite", "run", file, "-o", "out")
    assert code == 1 and "broken" not in err.split("not in the tables")[0]
    assert {name: Path(f"out/{name}.log").stat().st_mtime_ns for name in NAMES} == before
    assert "awares" in set(pd.read_csv("out/table.csv")["method"])


def test_a_model_that_stays_loaded_answers_as_a_fresh_one():
    """Rows side by side in processes of their own against all in one process, a pruned one between them."""
    pruned = {"model": "visionzip", "args": {"retain_ratio": 0.5}}
    file = suite(rows=[{"model": "qwen2_5_vl_full"}, pruned, {"model": "awares"}, {"model": "qwen2_5_vl_lowres"}])
    assert awares("suite", "run", file, "-o", "together", "--jobs", 1).exit_code == 0
    rows = ("visionzip_retain_ratio-0.5", "awares")
    for row in rows:
        assert awares("suite", "run", file, "-o", "alone", "--row", row).exit_code == 0
    for row in rows:
        together, alone = (answers(Path(name) / row) for name in ("together", "alone"))
        assert together == alone and len(together) == 4


def test_rows_of_one_checkpoint_load_it_once(monkeypatch):
    loaded, honest = [], checkpoints.load
    monkeypatch.setattr(checkpoints, "load", lambda args, device: loaded.append(args.adapter) or honest(args, device))
    monkeypatch.setattr(opening, "_Kept", type("_Kept", (), vars(opening._Kept) | {"wanted": False, "engine": None}))
    _begin(1)
    plain = CommonArgs(pretrained=str(checkpoint()))
    pruned = parse_args("visionzip", {"pretrained": str(checkpoint()), "retain_ratio": 0.5})
    engines = [open_engine(args, "cpu") for args in (plain, pruned, plain)]
    assert loaded == [None]
    assert [engine.pruner and engine.pruner.name for engine in engines] == [None, "visionzip", None]
    assert engines[0].model is engines[1].model is engines[2].model
    open_engine(plain.model_copy(update={"adapter": str(checkpoint() / "visionthink")}), "cpu")
    assert loaded == [None, str(checkpoint() / "visionthink")]


def test_a_limited_run_measures_the_estimate_and_its_answers_are_kept():
    suite(limit=None)
    assert "?" in run("--dry-run").stdout and not Path("out").exists()
    run("--limit", 1, "--row", NAMES[0])
    seconds = json.loads(Path(f"out/{NAMES[0]}.finished.json").read_text())
    assert seconds["documents"] == 2
    (job, *_) = plan(read_suite(Path("suite.yaml")), Path("out"))
    assert job.documents == 128
    assert job.seconds == pytest.approx(seconds["seconds"] * 64)
    assert [waiting.row.name for waiting in due(plan(read_suite(Path("suite.yaml")), Path("out")))] == NAMES
    assert "no time is known of rows that never ran here" in run("--dry-run").stdout


def test_shards_are_all_rows():
    jobs = plan(read_suite(suite()), Path("out"))
    parts = [shard(jobs, f"{i}/2") for i in (1, 2)]
    assert [[job.row.name for job in part] for part in parts] == [[NAMES[0], NAMES[2]], [NAMES[1]]]
    assert due(jobs) == jobs


def test_rows_of_a_server_run_side_by_side():
    """Each row has one request in flight; the first answer comes when two are."""
    both, answer = threading.Barrier(2, timeout=120), by_model(checkpoint())
    met = threading.Event()

    def together(messages, images, request):
        if messages[0]["role"] == "system" and not met.is_set():  # no question before the first sample
            both.wait()
            met.set()
        return answer(messages, images, request)

    with serving(Script(str(checkpoint()), together)) as address:
        args = {"base_url": address, "served_model": "tiny", "concurrency": 1}
        policies = ("random", "always_full")
        rows = [{"name": policy, "model": "awares", "args": args | {"policy": policy}} for policy in policies]
        result = awares("suite", "run", suite(rows=rows, limit=1), "-o", "out")
    assert result.exit_code == 0 and met.is_set()
    table = pd.read_csv("out/table.csv")
    assert set(table["method"]) == {"awares:random", "awares:always_full"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Three folders with the 7B's published configuration and the names and shapes of its weights, without content."""
    spec = importlib.util.spec_from_file_location("cost_table", ROOT / "benchmarks" / "cost_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = Qwen2_5_VLConfig.from_dict(copy.deepcopy(module.QWEN2_5_VL_7B))
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config)
    header, end = {}, 0
    for name, tensor in model.state_dict().items():
        begin, end = end, end + 2 * math.prod(tensor.shape)
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    folder = tmp_path_factory.mktemp("published")
    for name in ("base", "awares", "visionthink"):
        made = Path(
            shutil.copytree(checkpoint(), folder / name, ignore=shutil.ignore_patterns("model*", "visionthink"))
        )
        config.save_pretrained(made)
        with (made / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)  # a hole, not 16 GB
    return folder


def test_the_papers_suite_passes_its_checks(published, monkeypatch, capsys):
    given = [
        part for name in ("base", "awares", "visionthink") for part in ("--checkpoint", f"{name}={published / name}")
    ]
    file = Path("paper.yaml")
    file.write_text((ROOT / "suites" / "paper.yaml").read_text().replace("awares_suite", "awares_mini"))
    code, err = exit_of(monkeypatch, capsys, "suite", "run", file, "-o", "out", "--dry-run", *given)
    assert code == 2 and "row visionthink_prompt-visionthink: " in err and "awares prompts import visionthink" in err
    assert len(err.splitlines()) == 1

    monkeypatch.setattr(prompts, "load_prompt", lambda *_: None)
    file.write_text(file.read_text().replace("prompt: visionthink", "prompt: own").replace("awares-adapter", "own"))
    shown = awares("suite", "run", file, "-o", "out", "--dry-run", *given).stdout
    assert shown.count("to do") == 11 and "10 of 10 rows to do, 3840 answers" in shown
    assert not Path("out").exists()


BAD = {
    "an unknown key": ({"device_": "cpu"}, "device_ is no setting; device is"),
    "no rows": ({"rows": []}, "rows: "),
    "two rows of one name": ({"rows": [{"model": "awares"}, {"model": "awares"}]}, "two rows are called awares"),
    "an unknown model": ({"rows": [{"model": "awarse"}]}, "row awarse: unknown model awarse"),
    "an unknown argument": ({"rows": [{"model": "awares", "args": {"polisy": "never"}}]}, "row awares_polisy-never: "),
    "a checkpoint that is set twice": (
        {"rows": [{"model": "awares", "args": {"pretrained": "x"}}]},
        "pretrained is set by checkpoint",
    ),
    "an unknown checkpoint": ({"rows": [{"model": "awares", "checkpoint": "big"}]}, "no checkpoint is called big"),
    "a checkpoint that is not there": (
        {"checkpoints": {"a": "/nowhere"}},
        "row qwen2_5_vl_lowres: pretrained=/nowhere",
    ),
    "a prompt that is not imported": (
        {"rows": [{"model": "awares", "args": {"prompt": "awares-adapter"}}]},
        "awares prompts import awares-adapter",
    ),
    "an unknown task": ({"tasks": "awares_minni"}, "unknown task awares_minni"),
    "a report of a row that is not there": ({"report": ["x"]}, "report: no row is called x"),
    "a name that is no folder's": ({"rows": [{"model": "awares", "name": "a/b"}]}, "rows.0.name: "),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_suite_is_one_line_and_nothing_runs(name, monkeypatch, capsys):
    changes, words = BAD[name]
    monkeypatch.setenv("AWARES_CACHE", str(Path.cwd() / "cache"))
    code, err = exit_of(monkeypatch, capsys, "suite", "run", suite(**changes), "-o", "out")
    assert code == 2 and words in err and len(err.splitlines()) == 1, err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--row", "x"], "--row x: no such row; there are: qwen2_5_vl_lowres,"),
        (["--shard", "3/2"], "--shard 3/2: give i/n"),
        (["--shard", "half"], "--shard half: give i/n"),
        (["--checkpoint", "big=x"], "--checkpoint big=x: give NAME=FOLDER with one of the names mini"),
        (["--checkpoint", "mini"], "--checkpoint mini: give NAME=FOLDER"),
    ],
)
def test_a_bad_option_is_one_line(options, words, monkeypatch, capsys):
    code, err = exit_of(monkeypatch, capsys, "suite", "run", suite(), "-o", "out", *options)
    assert code == 2 and words in err and len(err.splitlines()) == 1, err


def test_a_checkpoint_is_replaced():
    replaced = with_checkpoints(read_suite(suite()), ["mini=other/place"])
    assert replaced.checkpoints == {"mini": "other/place"}
