"""Several processes, as launchers start them: by hand, by torchrun, on two nodes; and what is left when one dies."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_evaluate import samples, stable

from lmms_awares.mini import smoke_data
from lmms_awares.report.read.folders import find_runs

DOCUMENTS = 7
TASKS = ("awares_pope", "awares_docvqa_val")
# A rank that is told so is slow or fails; and ranks lose patience early.
PROGRAM = """
import os, time
from lmms_awares import pulse
from lmms_awares.models.base import Method
pulse.BEAT_S, pulse.PATIENCE_S = 0.25, 4.0
answer = Method._recovering
def _recovering(self, samples):
    if os.environ.get("FAILS") == str(self.rank):
        raise RuntimeError("no such kernel")
    time.sleep(float(os.environ.get("SLOW", "0")) * (self.rank == 1))
    return answer(self, samples)
Method._recovering = _recovering
from lmms_awares.cli import main
main()
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory, small_checkpoint):
    """Environment and command line without output folder, and the rows of an unbroken run in one process."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {
        "AWARES_DATA_ROOT": str(smoke_data.write(folder / "data", documents=DOCUMENTS)),
        "AWARES_CACHE": str(folder / "cache"),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    command = ["eval", "--model", "awares", "--tasks", ",".join(TASKS)]
    command += ["--model_args", f"pretrained={small_checkpoint},policy=random", "--output_path"]
    one = [sys.executable, "-m", "lmms_awares", *command, str(folder / "one"), "--device", "cpu"]
    subprocess.run(one, env=environment, capture_output=True, check=True, timeout=300)
    return environment, command, folder / "one"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def by_hand(setting, out, *own, **variables):
    """Two processes that nobody watches; `own`: variables of each."""
    environment, command, _ = setting
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command, str(out)],
            env=environment
            | world
            | variables
            | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            | (own[rank] if own else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def finish(processes, timeout=300):
    """Exit codes and error lines, one pair per process."""
    ended = [(process.communicate(timeout=timeout)[1], process.returncode) for process in processes]
    return [(code, [line for line in text.splitlines() if line.startswith("awares: error:")]) for text, code in ended]


def entries(out, name="journal*"):
    return [json.loads(line) for file in out.glob(name) for line in file.read_text().splitlines() if line[-1:] == "}"]


def equal_to_one_process(setting, out):
    _, _, whole = setting
    for task in TASKS:
        assert stable(samples(out, task)) == stable(samples(whole, task))
        one, two = (find_runs(folder)[-1].results["results"][task] for folder in (whole, out))
        # Standard errors are sums in the order in which ranks hand over what they have.
        numbers = [{name: value for name, value in row.items() if isinstance(value, float)} for row in (one, two)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-12)
        assert len(numbers[0]) > 5


def test_a_killed_rank_ends_the_run_and_a_rerun_goes_on(setting, tmp_path):
    """`kill -9` of one of two; then the same again, with a rank that needs longer than the other's patience."""
    out = tmp_path / "out"
    first, second = by_hand(setting, out, SLOW="0.5")
    deadline = time.monotonic() + 240
    while len(entries(out, "journal.rank1.jsonl")) < 3:
        assert second.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (code, lines), (gone, _) = finish([first, second])
    assert time.monotonic() - killed < 30
    assert (code, gone) == (1, -signal.SIGKILL)
    (line,) = lines
    assert line.startswith(f"awares: error: rank 1 on {socket.gethostname()} stopped without a word")
    assert line.endswith("run the same command again to go on from the journal")
    assert not find_runs(out)
    before = entries(out)
    assert 3 <= len(before) < DOCUMENTS * len(TASKS)
    assert finish(by_hand(setting, out, SLOW="5")) == [(0, []), (0, [])]
    equal_to_one_process(setting, out)
    after = entries(out)
    assert len(after) == len({entry["key"] for entry in after}) == DOCUMENTS * len(TASKS), "nothing was answered twice"
    reused = [row["awares"]["reused"] for task in TASKS for row in samples(out, task)]
    assert sum(reused) == len(before)


def test_a_machine_that_is_lost_with_the_store(setting, tmp_path):
    """Rank 0 stopped in its tracks: its connections stay open, and nothing comes from them any more."""
    first, second = by_hand(setting, tmp_path / "out", SLOW="0.5")
    deadline = time.monotonic() + 240
    while not entries(tmp_path / "out", "journal.rank1.jsonl"):
        assert second.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    ((code, lines),) = finish([second])
    assert time.monotonic() - stopped < 30
    first.kill()
    first.communicate()
    assert code == 1
    (line,) = lines
    assert re.match(r"awares: error: rank 0 at 127\.0\.0\.1:\d+ is gone: killed, or its machine is lost; run the", line)


def test_a_rank_that_fails_ends_the_others(setting, tmp_path):
    started = time.monotonic()
    (code, lines), (failed, _) = finish(by_hand(setting, tmp_path / "out", FAILS="1"))
    assert (code, failed) == (1, 1)
    assert lines == ["awares: error: rank 1 failed: RuntimeError: no such kernel"]
    assert time.monotonic() - started < 200


def test_bad_input_in_one_rank_only_is_bad_input_in_all(setting, tmp_path):
    """A node without the data, say."""
    ended = finish(by_hand(setting, tmp_path / "out", {}, {"AWARES_DATA_ROOT": "/nowhere"}))
    assert [code for code, _ in ended] == [2, 2]
    (there,), (here,) = (lines for _, lines in ended)
    assert here.startswith("awares: error: AWARES_DATA_ROOT=/nowhere has no ")
    assert there.startswith("awares: error: rank 1 failed: DataError: AWARES_DATA_ROOT=/nowhere has no ")


def test_a_launcher_that_sets_half_is_named(setting, tmp_path):
    environment, command, _ = setting
    alone = [sys.executable, "-m", "lmms_awares", *command, str(tmp_path / "out")]
    result = subprocess.run(
        alone, env=environment | {"WORLD_SIZE": "2", "RANK": "0"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "WORLD_SIZE=2 without MASTER_ADDR, MASTER_PORT" in result.stderr


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
ACCELERATE += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port")


def process_of_rank(launcher, rank):
    """Process id of a launcher's child, once it is there."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    found = [int(child) for child in children if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text()]
    return found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for the ranks' processes in /proc")
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_rank_that_is_killed_under_a_launcher(launcher, setting, tmp_path):
    """The launcher ends the others and names the rank; what was answered is in the journal."""
    environment, command, _ = setting
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    port = [str(free_port())] if launcher == ACCELERATE else []
    run = subprocess.Popen(
        [sys.executable, *launcher, *port, str(program), *command, str(tmp_path / "out")],
        env=environment | {"SLOW": "0.5"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while len(entries(tmp_path / "out", "journal.rank1.jsonl")) < 2:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process_of_rank(run, 1), signal.SIGKILL)
    killed = time.monotonic()
    _, text = run.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert run.returncode == 1
    assert re.search(r"rank *: 1 \(local_rank: 1\)\s+exitcode *: -9", text)
    assert len(entries(tmp_path / "out", "journal.rank1.jsonl")) >= 2


def test_two_nodes(setting, tmp_path):
    """Two torchrun agents, as on two machines with a common file system; each rank gets a fair share of tokens."""
    environment, command, _ = setting
    rendezvous = f"127.0.0.1:{free_port()}"
    agents = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(node)),
                *("--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", rendezvous, "--rdzv_id", "x"),
                *("-m", "lmms_awares", *command, str(tmp_path / "out")),
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    for agent in agents:
        assert agent.wait(timeout=300) == 0, agent.communicate()[1][-3000:]
    equal_to_one_process(setting, tmp_path / "out")
    shares = [
        sum(entry["trace"]["lowres_tokens"] for entry in entries(tmp_path / "out", name))
        for name in ("journal.jsonl", "journal.rank1.jsonl")
    ]
    assert len(entries(tmp_path / "out")) == DOCUMENTS * len(TASKS)
    assert max(shares) <= 1.1 * sum(shares) / 2
