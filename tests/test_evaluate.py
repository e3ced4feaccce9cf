"""`awares eval` and lmms-eval's own command, as a user runs them: in processes of their own."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from lmms_awares.mini import smoke_data
from lmms_awares.plugin import tasks_dir
from lmms_awares.report.read.folders import find_runs
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.read.summary import summarize

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DOCUMENTS = 5


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return smoke_data.write(tmp_path_factory.mktemp("data"), documents=DOCUMENTS)


@pytest.fixture
def environment(data_root, tmp_path):
    return os.environ | {
        "AWARES_DATA_ROOT": str(data_root),
        "AWARES_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def awares(environment, small_checkpoint, tmp_path):
    """Run `awares eval`; unset arguments get defaults that work."""

    def run(*extra, model="awares", checkpoint=None, args="", tasks="awares_pope", out=None, env=None):
        command = [BIN / "awares", "eval", "--model", model, "--tasks", tasks, "--device", "cpu"]
        command += ["--model_args", f"pretrained={checkpoint or small_checkpoint}{args}"]
        command += ["--output_path", str(out or tmp_path / "out"), *extra]
        return subprocess.run(
            command, env=environment | (env or {}), capture_output=True, text=True, timeout=300, check=False
        )

    return run


def samples(folder, task="awares_pope"):
    """Rows of the newest run, by document."""
    rows = [row for row, _ in find_runs(Path(folder))[-1].samples(task)]
    return sorted(rows, key=lambda row: row["doc_id"])


VARYING = ("preprocess_s", "latency_s", "batch_size", "reused")
TURN_TIMES = ("seconds", "preprocess_s", "vision_s", "prefill_s", "decode_s")


def stable(rows):
    """What must not differ between runs: everything but times, batch composition and what was resumed."""
    clean = []
    for row in rows:
        trace = {k: v for k, v in row["awares"].items() if k not in VARYING}
        trace["turns"] = [{**turn, **dict.fromkeys(TURN_TIMES, 0)} for turn in trace["turns"]]
        clean.append({"doc_id": row["doc_id"], "score": row["score"], "rtr": row["rtr"], "trace": trace})
    return clean


BAD = {
    "model argument": ({"args": ",polcy=never"}, "unknown model argument polcy"),
    "model": ({"model": "awarez"}, "unknown model awarez"),
    "missing checkpoint": ({"args": "/nope"}, "does not exist"),
    "task": ({"tasks": "awares_popp"}, "unknown task awares_popp"),
    "data": ({"env": {"AWARES_DATA_ROOT": "/nowhere"}}, "AWARES_DATA_ROOT=/nowhere has no pope/test-"),
    "hub": ({"env": {"AWARES_DATA_ROOT": ""}}, "lmms-lab-encoder/POPE"),
    "output": ({"out": "/proc/nope/out"}, "cannot be written"),
    "prompt": ({"args": ",prompt=awares-adapter"}, "awares prompts import awares-adapter"),
    "limits": ({"args": ",min_pixels=9000,max_pixels=4000"}, "needs min_pixels <= max_pixels"),
    "revision": ({"args": ",rev=sha-0123"}, "rev=sha-0123 was expected"),
    "comma": ({"out": "a,b"}, "holds a comma"),
    "no task": ({"tasks": ","}, "--tasks is missing"),
    "batch size": ({}, "--batch_size auto"),
    "oracle": ({"args": ",policy=oracle"}, "evidence_box"),
    "column": ({}, "lacks column question_id"),
    "other checkpoint": ({}, "is a 'bert' model"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(name, awares, tmp_path):
    options, words = BAD[name]
    extra = ("--batch_size", "auto") if name == "batch size" else ()
    if name in ("oracle", "column"):
        column = {"oracle": "evidence_box", "column": "question_id"}[name]
        options = {**options, "env": {"AWARES_DATA_ROOT": str(data_without(column, tmp_path))}}
    if name == "other checkpoint":
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        options = {"checkpoint": tmp_path}
    result = awares(*extra, **options)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("awares: error:")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in result.stderr
    assert "Loading weights" not in result.stderr, "the model must not be loaded first"


def data_without(column, folder):
    import datasets

    smoke_data.write(folder, documents=2)
    file = folder / "pope" / "test-00000-of-00001.parquet"
    data = datasets.Dataset.from_parquet(str(file), cache_dir=str(folder)).remove_columns(column)
    data.to_parquet(file)
    return folder


def test_wrong_prompt_digest(environment, tmp_path):
    (tmp_path / "p.py").write_text('VISION_MODEL_SHORT_SYSTEM_PROMPT = "not theirs"')
    command = [BIN / "awares", "prompts", "import", "awares-adapter", "--from", str(tmp_path / "p.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "sha256" in result.stderr
    assert "3255294cb5a1" in result.stderr


def test_summary_resume_and_partial_failure(awares, data_root, tmp_path):
    """Exit 0 with a table; a second run reuses the journal; a broken image is counted, not fatal."""
    import pyarrow.parquet as pq

    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    file = root / "pope" / "test-00000-of-00001.parquet"
    table = pq.read_table(file)
    images = table.column("image").to_pylist()
    images[0]["bytes"] = b"broken"
    import pyarrow as pa

    column = pa.array(images, type=table.schema.field("image").type)
    pq.write_table(table.set_column(table.schema.get_field_index("image"), table.schema.field("image"), column), file)
    env = {"AWARES_DATA_ROOT": str(root)}
    first = awares(env=env)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "RTR" in first.stdout
    assert f"1 of {DOCUMENTS} samples of awares_pope failed" in first.stdout
    rows = samples(tmp_path / "out")
    assert [row["awares"]["failed"] is not None for row in rows] == [True] + [False] * (DOCUMENTS - 1)
    second = awares(env=env)
    assert f"{DOCUMENTS - 1} finished samples can be reused" in second.stdout + second.stderr
    assert f"{DOCUMENTS - 1} of {DOCUMENTS - 1} answers came from the journal" in second.stdout
    assert "came from the journal" not in first.stdout
    again = [row["awares"] for row in samples(tmp_path / "out")]
    assert [trace.pop("reused") for trace in again] == [False] + [True] * (DOCUMENTS - 1)
    assert again == [{k: v for k, v in row["awares"].items() if k != "reused"} for row in rows]
    table = summarize(find_runs(tmp_path / "out")[-1])
    assert table["failed"].tolist() == [1]
    assert table["n"].tolist() == [DOCUMENTS]


INSTALLED = pytest.mark.skipif(
    not Path(sys.executable).is_relative_to(ROOT / ".venv"), reason="it would install into .venv"
)


@INSTALLED
def test_the_script_passes_its_arguments_on(environment, small_checkpoint, tmp_path):
    here = os.path.relpath(small_checkpoint, tmp_path)  # seen from the user's folder, not from the project's
    command = [ROOT / "run_eval.sh", "--model", "qwen2_5_vl_lowres", "--pretrained", here]
    command += ["--tasks", "awares_pope", "--limit", "2", "--device", "cpu", "--output_path", str(tmp_path / "out")]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(samples(tmp_path / "out")) == 2
    shown = next(line for line in result.stdout.splitlines() if line.startswith("+ lmms-eval "))
    words = shlex.split(shown)
    given = dict(pairwise(words))
    assert Path(given["--include_path"]).samefile(tasks_dir())
    assert given["--model"] == "qwen2_5_vl_lowres"
    pretrained, journal = (argument.split("=") for argument in given["--model_args"].split(","))
    assert Path(pretrained[1]).samefile(small_checkpoint)
    assert (pretrained[0], journal[0]) == ("pretrained", "journal")
    assert (given["--tasks"], given["--limit"], given["--device"]) == ("awares_pope", "2", "cpu")
    assert (given["--output_path"], given["--batch_size"]) == (str(tmp_path / "out"), "1")
    assert "--log_samples" in words


def test_a_run_that_dies_exits_1(awares, data_root, tmp_path):
    """lmms-eval itself would exit 0 here."""
    (tmp_path / "dying.yaml").write_text(
        f"task: dying\ndataset_path: parquet\ndataset_kwargs: {{data_files: {{test: {data_root}/pope/*.parquet}}}}\n"
        "test_split: a_split_that_is_not_there\noutput_type: generate_until\n"
    )
    result = awares("--include_path", str(tmp_path), tasks="dying")
    assert result.returncode == 1
    assert "a_split_that_is_not_there" in result.stdout + result.stderr


def test_our_own_errors_in_a_run_are_one_line_too(awares):
    result = awares("--gen_kwargs", "num_beams=3")
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("awares: error:")]
    assert len(lines) == 1
    assert "num_beams=3 is not supported" in lines[0]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param([BIN / "awares", "eval"], id="awares eval"),
        pytest.param([ROOT / "run_eval.sh"], id="script", marks=INSTALLED),
    ],
)
def test_settings_from_a_file(program, environment, small_checkpoint, tmp_path):
    config = {
        "model": "qwen2_5_vl_lowres",
        "model_args": f"pretrained={small_checkpoint}",
        "tasks": "awares_pope",
        "output_path": str(tmp_path / "out"),
        "limit": 2,
        "device": "cpu",
    }
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    command = [*program, "--config", str(tmp_path / "run.yaml")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(samples(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    "cached", [pytest.param(False, id="plain"), pytest.param(True, id="response-cache", marks=pytest.mark.long)]
)
def test_two_processes_equal_one(awares, environment, small_checkpoint, tmp_path, cached):
    """An odd number of documents, so that lmms-eval pads one rank."""
    extra = ("--use_cache", str(tmp_path / "cache1")) if cached else ()
    one = awares(*extra, args=",policy=random", out=tmp_path / "one")
    assert one.returncode == 0, one.stderr[-2000:]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "lmms_awares", "eval", "--model", "awares", "--tasks", "awares_pope"]
    command += ["--model_args", f"pretrained={small_checkpoint},policy=random", "--output_path", str(tmp_path / "two")]
    command += ["--use_cache", str(tmp_path / "cache2")] if cached else []
    repeats = 2 if cached else 1  # the second run of a cached pair is all hits
    for run in range(repeats):
        two = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert two.returncode == 0, two.stderr[-3000:]
        assert stable(samples(tmp_path / "two")) == stable(samples(tmp_path / "one"))
        first, second = (find_runs(tmp_path / name)[-1].results["results"]["awares_pope"] for name in ("one", "two"))
        for metric in ("pope_accuracy,none", "rtr,none", "call_rate,none", "failed,none"):
            assert first[metric] == second[metric]
        journals = list((tmp_path / "two").glob("journal*"))
        generated = sum(len(journal.read_text().splitlines()) for journal in journals)
        assert generated == (DOCUMENTS if run == 0 else 0), "the second time the cache alone must answer"
        for journal in journals:
            journal.unlink()
    assert ("rev=sha-" in one.stdout and "setup=sha-" in one.stdout) or not cached


def test_kill_and_resume(environment, small_checkpoint, tmp_path):
    """kill -9 at a random moment: at most one batch is generated again, and the result is that of a whole run."""
    batch = 2
    data = smoke_data.write(tmp_path / "data", documents=12)
    environment = environment | {"AWARES_DATA_ROOT": str(data)}

    def command(out):
        return [
            *(BIN / "awares", "eval", "--model", "awares", "--tasks", "awares_pope", "--device", "cpu"),
            *("--model_args", f"pretrained={small_checkpoint},policy=always_full", "--batch_size", str(batch)),
            *("--output_path", str(out)),
        ]

    journal = tmp_path / "out" / "journal.jsonl"
    process = subprocess.Popen(
        command(tmp_path / "out"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    lines_before_the_kill = random.Random(time.time_ns()).randrange(1, 9)
    deadline = time.monotonic() + 240
    while not journal.exists() or len(journal.read_text().splitlines()) < lines_before_the_kill:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not find_runs(tmp_path / "out"), "killed before lmms-eval wrote anything"
    for out in (tmp_path / "out", tmp_path / "whole"):
        subprocess.run(command(out), env=environment, capture_output=True, check=True, timeout=300)
    assert stable(samples(tmp_path / "out")) == stable(samples(tmp_path / "whole"))
    whole = [line for line in journal.read_text().splitlines() if is_json(line)]
    # Every document once; what was in flight when the kill came is at most one batch, and left no line.
    assert len(whole) == 12
    assert len({json.loads(line)["key"] for line in whole}) == 12


def is_json(line):
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def test_lmms_evals_own_command_and_stock_tasks(environment, small_checkpoint, data_root, tmp_path):
    """The plain host: our task by include path, and its own `chartqa`, whose answers must be clean."""
    local = tmp_path / "lmms-lab-encoder" / "ChartQA"
    local.mkdir(parents=True)
    shutil.copy(data_root / "chartqa" / "test-00000-of-00001.parquet", local)
    command = [
        BIN / "lmms-eval",
        "--model",
        "awares",
        "--include_path",
        tasks_dir(),
        "--tasks",
        "chartqa,awares_chartqa",
    ]
    command += ["--model_args", f"pretrained={small_checkpoint},policy=random,journal={tmp_path / 'j.jsonl'}"]
    command += ["--device", "cpu", "--log_samples", "--output_path", str(tmp_path / "out")]
    # A relative dataset path that exists is read as a folder: this is how stock tasks run without a hub.
    subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=True, timeout=300)
    (run,) = find_runs(tmp_path / "out")
    stock, ours = (samples(tmp_path / "out", task) for task in ("chartqa", "awares_chartqa"))
    assert len(stock) == len(ours) == DOCUMENTS
    for row, twin in zip(stock, ours, strict=True):
        assert "awares-trace" not in json.dumps(row)
        assert row["relaxed_overall"] == twin["relaxed_overall"]
    assert run.results["results"]["chartqa"]["relaxed_overall,none"] is not None
    lines = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert sorted((line["task"], line["doc_id"]) for line in lines) == sorted(
        (task, i) for task in ("chartqa", "awares_chartqa") for i in range(DOCUMENTS)
    )
    table = summarize(run).set_index("task")
    assert table.loc["chartqa", "metric"] == "relaxed_overall"
    assert table["rtr"].isna().tolist() == [task == "chartqa" for task in table.index]


def test_help_is_quick():
    """No torch at import: the best of five starts, since another test may hold the other core."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([BIN / "awares", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, lmms_awares.cli, lmms_awares.plugin; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"torch", "transformers", "lmms_eval", "pandas"} & set(loaded.stdout.split())


def test_tasks_and_doctor_commands(environment, small_checkpoint):
    def awares(*arguments):
        return subprocess.run(
            [BIN / "awares", *arguments], env=environment, capture_output=True, text=True, check=False
        )

    assert Path(awares("tasks", "path").stdout.strip()).joinpath("awares_suite.yaml").is_file()
    listed = awares("tasks", "list").stdout
    assert "awares_vstar_bench" in listed
    assert "question_type" in listed
    good = awares("doctor", "--pretrained", str(small_checkpoint))
    assert good.returncode == 0, good.stdout
    assert "rev=" in good.stdout
    bad = awares("doctor", "--pretrained", "/nowhere")
    assert bad.returncode == 1
    assert "does not exist" in bad.stdout
    module = subprocess.run([sys.executable, "-m", "lmms_awares", "tasks", "path"], capture_output=True, check=True)
    assert module.stdout.decode().strip() == tasks_dir()


def test_truncated_results_are_named(tmp_path):
    (tmp_path / "x_results.json").write_text('{"results": ')
    with pytest.raises(RunError, match="x_results.json is not JSON"):
        find_runs(tmp_path)


def test_wheel_resolves_model_and_tasks(tmp_path, environment, small_checkpoint):
    """Built and unpacked in a folder of its own, away from this checkout: models, tasks and templates are all in it."""
    # From a copy: setuptools leaves a build folder behind, whose stale files would end up in the next wheel.
    source = tmp_path / "source"
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=unwanted)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("lmms_awares-*.whl")
    subprocess.run([sys.executable, str(ROOT / ".ci" / "release.py"), "wheel", str(wheel)], check=True)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, capture_output=True, check=True)
    script = (
        "import lmms_awares, sys; assert lmms_awares.__file__.startswith(sys.argv[1]), lmms_awares.__file__\n"
        "from importlib.metadata import distribution\n"
        "from lmms_awares.plugin import tasks_dir\n"
        "from lmms_awares.mini.random_checkpoint import chat_template\n"
        "from lmms_eval.models import MODEL_REGISTRY_V2\n"
        "from lmms_eval.tasks import TaskManager\n"
        "assert tasks_dir().startswith(sys.argv[1])\n"
        "assert 'im_start' in chat_template()\n"
        "from lmms_awares.report.tables.paper import paper_table\n"
        "assert len(paper_table(1).frame) == 10\n"
        "print(MODEL_REGISTRY_V2.get_model_class('awares').__name__)\n"
        "manager = TaskManager('ERROR', include_path=tasks_dir(), include_defaults=False)\n"
        "print(len(manager.load_task_or_group(['awares_suite'])))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(site)],
        env=environment | {"PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split()[-2:] == ["Awares", "1"]
