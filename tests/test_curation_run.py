"""A curated set made by the command: kills, faults, changes, and what is found before the first row."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).parent.parent
STAGES = ("answer", "judge", "ground", "build")
CONCURRENCY = 4
ADDRESS = "where the test's server is"


@pytest.fixture
def served():
    """The scripted judge and oracle in a process of its own, which outlives killed clients."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "curation_server.py", "0", *arguments], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"

    yield start
    for process in started:
        process.kill()
        process.wait()


def configuration(folder, address, **changed):
    """Write a configuration: rows of the mini suite, the shipped checkpoint here, judge and oracle behind `address`."""
    asked = {"base_url": address, "concurrency": CONCURRENCY, "request_timeout": 1}
    config = {
        "sources": ["mini_chartqa", "mini_vstar_bench"],
        "benchmarks": None,
        "rows": 20,
        "validation": 8,
        "shard_rows": 4,
        "base": {"pretrained": "mini", "device": "cpu", "batch_size": 4, "max_new_tokens": 8},
        "judge": asked | {"model": "judge"},
        "oracle": asked | {"model": "oracle"},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config | changed))
    return file


def command(config, output, *more):
    return [sys.executable, "-m", "lmms_awares", "curate", "run", str(config), "-o", str(output), *more]


def run(config, output, *more, check=True):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command(config, output, *more),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr[-3000:]
    return done


def work(config, output):
    """The same in this process, which somebody is going to kill."""
    from lmms_awares.curation.config import read_config
    from lmms_awares.curation.run import run

    run(read_config(config), output)


def killed_in(stage, shards, config, output, draw):
    """Start a run, kill it a random moment after a stage has so many shards; returns when."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lmms_awares.curation.run", "lmms_awares.engine.local"])
    process = context.Process(target=work, args=(config, output))
    process.start()
    until = time.monotonic() + 240
    while len(list((output / stage).glob("*.parquet"))) < shards:
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.001)
    time.sleep(draw.uniform(0, 0.1))
    process.kill()
    at = time.time()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return at


def contents(folder):
    """Bytes of all that a set holds but for the log of requests; of its provenance, all but the configuration."""
    found = {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.parquet"))}
    provenance = json.loads((folder / "provenance.json").read_text())
    return found | {name: value for name, value in provenance.items() if name != "config"}


def table(folder, *columns):
    """Columns of a set's trajectories and its rejected rows, by id."""
    found = {}
    for file in [*sorted((folder / "trajectories").glob("*.parquet")), folder / "rejected.parquet"]:
        own = pq.read_table(file)
        for row in own.select([name for name in columns if name in own.column_names]).to_pylist():
            found[row["id"]] = row
    return found


def labels(folder):
    """Those that occur: without HR rows nobody would ask the oracle."""
    return {row["label"] for row in table(folder, "id", "label").values() if "label" in row}


def record(address):
    return httpx2.get(address.removesuffix("/v1") + "/record").json()


def test_killed_in_every_stage_and_resumed(served, tmp_path):
    """kill -9, 12 times, three of them in each stage at a random moment: the same bytes, no finished request twice."""
    whole, address = served(), served()
    run(configuration(tmp_path, whole), tmp_path / "whole")
    assert labels(tmp_path / "whole") == {"LR", "HR"}
    config, output = configuration(tmp_path, address), tmp_path / "killed"
    kills, draw = [], random.Random(time.time_ns())
    for stage in STAGES:
        for shards in range(3):
            kills.append(killed_in(stage, shards, config, output, draw))
    assert len(kills) == 12
    assert not (output / "provenance.json").exists(), "the last kill came before the end"
    run(config, output)
    assert contents(output) == contents(tmp_path / "whole")
    for _, finished, again in record(address)["again"]:
        # The server had sent it, and the client died before it could write it down.
        assert any(finished <= kill + 0.1 and kill - finished < 0.5 and again > kill for kill in kills)
    assert len(record(address)["again"]) <= CONCURRENCY * len(kills)
    assert record(whole)["again"] == []


LABELS = ("id", "label", "targets", "rule", "stage", "reason")


def test_faults_on_the_way_change_nothing(served, tmp_path):
    """5 % each of 429 storms, 500s, stalls, cut connections, broken JSON and HTML: the labels of a calm server."""
    calm, rough = served(), served("--faults", "0.05", "--only", *("storm", "500", "stall", "cut", "json", "html"))
    run(configuration(tmp_path, calm), tmp_path / "calm")
    run(configuration(tmp_path, rough), tmp_path / "rough")
    assert labels(tmp_path / "calm") == {"LR", "HR"}
    assert sum(record(rough)["faults"].values()) > 5
    assert table(tmp_path / "rough", *LABELS) == table(tmp_path / "calm", *LABELS)
    assert record(rough)["again"] == []


def test_replies_that_cannot_be_read_cost_their_own_rows_only(served, tmp_path):
    """Prose, refusals, wrong ranges and inverted boxes, a quarter of the replies each kind's share."""
    calm, rough = served(), served("--faults", "0.15", "--only", "prose", "refusal", "range", "inverted")
    run(configuration(tmp_path, calm), tmp_path / "calm")
    run(configuration(tmp_path, rough), tmp_path / "rough", "--max-reject", "1")
    expected, found = (table(tmp_path / name, *LABELS) for name in ("calm", "rough"))
    assert found.keys() == expected.keys()
    assert labels(tmp_path / "calm") == {"LR", "HR"}
    differing = {id for id in found if found[id] != expected[id]}
    assert all(found[id].get("stage") in ("judge", "ground") for id in differing)
    assert 0 < len(differing) < len(found) / 4, "most are asked again and then read"


def test_a_changed_judge_asks_only_what_it_concerns(served, tmp_path):
    address = served()
    first = run(configuration(tmp_path, address), tmp_path / "set")
    assert first.stderr.splitlines()[:2] == ["sources: mini_chartqa", "sources: mini_vstar_bench"]
    before = record(address)["requests"]
    counted = json.loads((tmp_path / "set" / "provenance.json").read_text())["requests"]
    assert list(counted) == ["answer", "judge", "ground"]
    assert counted["judge"]["requests"] + counted["ground"]["requests"] == record(address)["finished"]
    assert counted["answer"]["requests"] == 96
    assert all(count > 0 for of_stage in counted.values() for count in of_stage.values())
    again = run(configuration(tmp_path, address), tmp_path / "set")
    assert record(address)["requests"] == before
    assert "0 requests" in again.stderr
    asked = {"base_url": address, "concurrency": CONCURRENCY, "request_timeout": 1}
    changed = configuration(tmp_path, address, judge=asked | {"model": "first-judge"})
    run(changed, tmp_path / "set")
    made = table(tmp_path / "set", "id", "judge", "judge_model", "lowres_answer", "fullres_answer")
    labelled = [row for row in made.values() if "judge" in row]
    asked_about = [row for row in labelled if row["lowres_answer"].strip() != row["fullres_answer"].strip()]
    assert {row["judge_model"]["name"] for row in labelled} == {"first-judge"}
    assert record(address)["requests"] - before > 0.9 * len(asked_about) > 0, "equal questions are asked once"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"judge": {"base_url": "http://127.0.0.1:9/v1", "model": "judge"}},
            "judge: base_url=http://127.0.0.1:9/v1 does",
        ),
        ({"oracle": {"base_url": ADDRESS, "model": "nobody"}}, "oracle: model=nobody is not served"),
        ({"base": {"pretrained": "/nowhere"}}, "/nowhere"),
        ({"rows": 0}, "rows: Input should be greater than or equal to 1"),
        ({"sources": ["nothing"]}, "no source nothing ships"),
        ({"judge": {"kind": "anls", "swap": True}}, "judge.swap is no setting here"),
    ],
)
def test_what_concerns_every_row_is_said_before_the_first(served, tmp_path, changed, words):
    address = served()
    config = configuration(tmp_path, address, **changed)
    config.write_text(config.read_text().replace(ADDRESS, address))
    done = run(config, tmp_path / "set", check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("awares: error:")]
    assert words in line
    assert not list((tmp_path / "set").glob("answer/*"))


def test_too_many_rejected_rows_stop_it_and_keep_what_is_finished(served, tmp_path):
    bad = served("--faults", "0.9", "--only", "prose")
    done = run(configuration(tmp_path, bad), tmp_path / "set", "--max-reject", "0.05", check=False)
    assert done.returncode == 2
    assert "judge has rejected" in done.stderr and "several numbers" in done.stderr
    asked = record(bad)["requests"]
    run(configuration(tmp_path, bad), tmp_path / "set", "--max-reject", "1")
    assert record(bad)["again"] == []
    assert record(bad)["requests"] > asked
    rejected = pq.read_table(tmp_path / "set" / "rejected.parquet").to_pylist()
    assert {row["stage"] for row in rejected} <= {"judge", "ground"}


def test_two_runs_in_one_folder(served, tmp_path):
    config = configuration(tmp_path, served())
    from filelock import FileLock

    (tmp_path / "set").mkdir()
    with FileLock(tmp_path / "set" / ".lock"):
        done = run(config, tmp_path / "set", check=False)
    assert done.returncode == 2
    assert "another run works on" in done.stderr


def test_the_estimate_sends_nothing(served, tmp_path):
    address = served()
    done = run(configuration(tmp_path, address), tmp_path / "set", "--dry-run")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert lines["answer"][1:3] == ["48", "96"]
    assert lines["judge"][1:3] == ["48", "48"]
    assert lines["ground"][1:3] == ["10", "10"]
    assert record(address)["requests"] == record(address)["probes"] == 0


@pytest.mark.long
def test_two_thousand_rows_on_a_server_that_fails_in_ten_ways(served, tmp_path):
    """The mini suite's train part, 5 % of requests each: every row ends labelled, or rejected with a reason.

    Prints what docs/measurements.md says: `bash tests/run.sh -m long tests/test_curation_run.py -s`.
    """
    shipped = yaml.safe_load((ROOT / "lmms_awares" / "curation" / "configs" / "mini.yaml").read_text())
    calm, rough = served(), served("--faults", "0.05", "--stall", "8")
    files = {}
    for name, address in (("calm", calm), ("rough", rough)):
        asked = {"base_url": address, "request_timeout": 4}
        models = {"judge": asked | {"model": "judge"}, "oracle": asked | {"model": "oracle"}}
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(shipped | models))
    run(files["calm"], tmp_path / "calm")
    for part in ("sources", "answer"):  # the same answers
        shutil.copytree(tmp_path / "calm" / part, tmp_path / "rough" / part)
    for part in ("sources.json", "benchmarks.parquet"):
        shutil.copy(tmp_path / "calm" / part, tmp_path / "rough" / part)
    run(files["rough"], tmp_path / "rough")
    columns = ("id", "label", "boxes", "targets", "rule", "messages")
    expected, found = (table(tmp_path / name, *columns, "reason") for name in ("calm", "rough"))
    assert len(expected) == 2000 and found.keys() == expected.keys()
    rejected = {id: row["reason"] for id, row in found.items() if "reason" in row}
    assert all(rejected.values())
    assert all(found[id] == expected[id] for id in found.keys() - rejected.keys())
    assert record(rough)["again"] == []
    assert len(record(rough)["faults"]) == 10
    print(f"{len(found) - len(rejected)} rows as without faults, {len(rejected)} set aside; {record(rough)['faults']}")


@pytest.mark.long
def test_on_a_ray_cluster(served, tmp_path):
    """Two nodes on this machine, one worker each: the rows of one process, though a worker is killed in between."""
    pytest.importorskip("ray")
    calm, address = served(), served("--delay", "0.05")
    run(configuration(tmp_path, calm), tmp_path / "here")
    config, output = configuration(tmp_path, address), tmp_path / "there"
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, config, output],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "killed 1" in done.stdout.splitlines(), "Ray writes there too"
    assert contents(output) == contents(tmp_path / "here")
    assert len(record(address)["again"]) <= CONCURRENCY, "but for what the killed worker had in flight"


CLUSTER = """
import sys
import threading
import time
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from lmms_awares.curation.config import read_config
from lmms_awares.curation.run import run

config, output = map(Path, sys.argv[1:])
node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(**node)
ray.init(address=cluster.address, log_to_driver=False)
killed = []


def kill():
    '''The first worker that has judged something.'''
    while not list((output / "judge").glob("*.parquet")):
        time.sleep(0.01)
    for process in psutil.process_iter(["cmdline"]):
        if "_Worker" in " ".join(process.info["cmdline"] or []) and not killed:
            process.kill()
            killed.append(process.pid)


threading.Thread(target=kill, daemon=True).start()
run(read_config(config), output, engine="ray")
print("killed", len(killed))
ray.shutdown()
cluster.shutdown()
"""
