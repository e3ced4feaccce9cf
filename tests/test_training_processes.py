"""Training in two processes is training in one; a run that was killed ends as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time

import curated_sets
import pytest
from safetensors.torch import load_file

from lmms_awares.mini.demo import checkpoint

pytestmark = pytest.mark.long  # eleven trainings, each in processes of its own
FIXED = ("--weights_dtype", "float32", "--bf16", "False", "--use_cpu", "True", "--report_to", "none", "--seed", "1")
STAGES = {
    "sft": ("--save_steps", "2", "--max_steps", "4"),
    "grpo": (
        *("--save_steps", "2", "--max_steps", "4", "--num_generations", "4", "--max_new_tokens", "12"),
        *("--answer_reward", "exact", "--gradient_checkpointing", "False", "--temperature", "1.2"),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated")
    curated_sets.write(folder)
    return curated_sets.fit(folder, checkpoint())


def command(stage, folder, output, batch, *more, processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    named = ("--pretrained", checkpoint(), "--curated", folder, "--output_dir", output, "--logging_steps", "1")
    module = ["-m", f"lmms_awares.training.{stage}", *named, *FIXED, *STAGES[stage], "--per_device_train_batch_size"]
    if processes > 1:
        more = (*more, "--ddp_backend", "gloo")
    return [sys.executable, *(launcher if processes > 1 else ()), *map(str, (*module, batch, *more))]


def run(*args, **kwargs):
    done = subprocess.run(
        command(*args, **kwargs),
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def logged(output, name):
    newest = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in history if name in entry]


def test_sft_in_two_processes_has_the_losses_of_one(folder, tmp_path):
    """The same rows a step, a share of them in each process, or after each other."""
    run("sft", folder, tmp_path / "one", 4)
    run("sft", folder, tmp_path / "two", 2, processes=2)
    run("sft", folder, tmp_path / "halves", 2, "--gradient_accumulation_steps", "2")
    one, two, halves = (logged(tmp_path / name, "loss") for name in ("one", "two", "halves"))
    assert len(one) == 4 and one[0] != one[-1]
    assert two == pytest.approx(one, abs=1e-4)
    assert halves == pytest.approx(one, abs=1e-4)
    one, *others = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two", "halves"))
    assert all((one[name] - other[name]).abs().max() < 1e-4 for other in others for name in one)


def test_grpo_in_two_processes_has_the_rewards_of_one_in_the_first_step(folder, tmp_path):
    """Of greedy rollouts, as every process draws random numbers of its own."""
    greedy = ("--top_k", "1", "--max_steps", "1", "--save_steps", "1")
    run("grpo", folder, tmp_path / "one", 8, *greedy)
    run("grpo", folder, tmp_path / "two", 4, *greedy, processes=2)
    for name in ("rewards/answer/mean", "rewards/call/mean", "rewards/area/mean", "reward", "rollouts/rtr"):
        one, two = (logged(tmp_path / folder, name) for folder in ("one", "two"))
        assert one and two == pytest.approx(one, abs=1e-6), name


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed_ends_as_an_unbroken_one(stage, folder, tmp_path):
    run(stage, folder, tmp_path / "whole", 8)
    process = subprocess.Popen(
        command(stage, folder, tmp_path / "killed", 8),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    saved = tmp_path / "killed" / "checkpoint-2" / "trainer_state.json"
    while not saved.is_file() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "checkpoint-4" / "trainer_state.json").is_file()
    run(stage, folder, tmp_path / "killed", 8)
    names = {"sft": ("loss", "grad_norm"), "grpo": ("loss", "kl", "reward", "rollouts/rtr", "grad_norm")}[stage]
    for name in names:
        assert len(logged(tmp_path / "whole", name)) == 4
        assert logged(tmp_path / "killed", name) == logged(tmp_path / "whole", name), name
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert all((one[name] == two[name]).all() for name in one)
