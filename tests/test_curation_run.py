"""A curated set made by the command: kills, faults, changes, and what is found before the first row."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
import yaml

ROOT = Path(__file__).parent.parent
STAGES = ("answer", "judge", "ground", "build")
CONCURRENCY = 4


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


def configuration(folder, address, checkpoint, **changed):
    """Write a configuration: rows of the mini suite, a random checkpoint here, judge and oracle behind `address`."""
    asked = {"base_url": address, "concurrency": CONCURRENCY, "request_timeout": 3}
    config = {
        "sources": ["mini_chartqa", "mini_vstar_bench"],
        "rows": 36,
        "validation": 8,
        "shard_rows": 4,
        "base": {"pretrained": str(checkpoint), "device": "cpu", "batch_size": 4, "max_new_tokens": 8},
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
    """Bytes of all that a set holds but for the log of requests."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix in (".parquet", ".json")
    }


def record(address):
    return httpx2.get(address.removesuffix("/v1") + "/record").json()


def test_killed_in_every_stage_and_resumed(served, small_checkpoint, tmp_path):
    """kill -9, 12 times, three of them in each stage at a random moment: the same bytes, no finished request twice."""
    whole, address = served(), served()
    run(configuration(tmp_path, whole, small_checkpoint), tmp_path / "whole")
    config, output = configuration(tmp_path, address, small_checkpoint), tmp_path / "killed"
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
