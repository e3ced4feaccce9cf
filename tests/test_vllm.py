"""Real servers, which `bash .ci/engine.sh` installs: answers, calls, crops and counts equal this process's.

vLLM serves the tiny checkpoint and its VisionThink adapter; another one is started without the flag for the content
format; `transformers serve` is the third. All in float32 on the CPU.
"""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pyarrow.parquet as pq
import pytest
import yaml
from harness import SPLIT, TASK, document, requests

from lmms_awares.envelope import unseal
from lmms_awares.mini.demo import checkpoint as shipped
from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution, LowResolution
from lmms_awares.models.visionthink import VisionThink

ROOT = Path(__file__).parent.parent
PYTHON = Path(os.environ.get("AWARES_VLLM", ROOT / ".venv-vllm")) / "bin" / "python"
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-vllm; bash .ci/engine.sh makes it"),
]
FORMAT = ("--chat-template-content-format", "openai")
ADAPTER = ("--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"visionthink={shipped() / 'visionthink'}")
BLOCK = 32  # tokens that vLLM's cache holds or does not hold together; the least on a CPU
STARTED_S = 420  # two servers start side by side, beside the other tests
CURATED = {"rows": 20, "validation": 12}
EQUAL = (
    *("full_tokens", "lowres_tokens", "crops", "visual_tokens", "rtr", "tool_call"),
    *("response_chars", "truncated", "failed", "image_digest", "prompt", "method"),
)


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A process that serves; `url` once it does."""

    def __init__(self, command, log, **environment):
        self.log, self.url = log, None
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment,
                start_new_session=True,  # its workers end with it
            )

    def wait(self, address, path):
        until = time.monotonic() + STARTED_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx2.get(address + path, timeout=5).status_code == 200:
                    self.url = f"{address}/v1"
                    return self
            except httpx2.HTTPError:
                time.sleep(1)
        pytest.fail(f"the server did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def vllm(log, at, *flags):
    command = [
        *(str(PYTHON.with_name("vllm")), "serve", str(shipped()), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", str(at), "--dtype", "float32", "--max-model-len", "4096"),
        *("--enforce-eager", "--distributed-executor-backend", "uni", "--generation-config", "vllm"),
        *("--block-size", str(BLOCK), "--enable-prompt-tokens-details"),
        *("--limit-mm-per-prompt", '{"image": 12, "video": 0}'),
        *flags,
    ]
    return Server(
        command,
        log,
        VLLM_TARGET_DEVICE="cpu",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_NO_USAGE_STATS="1",
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """vLLM as it should be, and without the flag."""
    folder, ports = tmp_path_factory.mktemp("servers"), (port(), port())
    started = [
        vllm(folder / "good.log", ports[0], *FORMAT, *ADAPTER),
        vllm(folder / "trap.log", ports[1]),
    ]
    try:
        yield [server.wait(f"http://127.0.0.1:{at}", "/health") for server, at in zip(started, ports, strict=True)]
    finally:
        for server in started:
            server.stop()


def evaluate(model, folder, arguments, *more, wait=True):
    """`awares eval` on the mini suite in a process of its own."""
    command = [
        *(sys.executable, "-m", "lmms_awares", "eval", "--model", model, "--tasks", "awares_mini"),
        *("--model_args", f"pretrained={shipped()},{arguments}", "--output_path", str(folder), *more),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment
    )
    if not wait:
        return process
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-3000:]
    return rows(folder)


def rows(folder):
    """What both engines must agree on, by task and document; and the traces."""
    found, traces = {}, {}
    for file in folder.rglob("*_samples_*.jsonl"):
        task = file.name.partition("_samples_")[2]
        for line in file.read_text().splitlines():
            row = json.loads(line)
            trace, key = row["awares"], (task, row["doc_id"])
            turns = [(turn["text"], turn["new_tokens"], turn["prompt_tokens"]) for turn in trace["turns"]]
            answer, _ = unseal(row["filtered_resps"][0])
            found[key] = {name: trace[name] for name in EQUAL} | {
                "turns": turns,
                "answer": answer,
                "score": row["score"],
            }
            traces[key] = trace
    return found, traces


METHODS = {  # and the name of what is served for it
    "awares": (Awares, "tiny"),
    "qwen2_5_vl_full": (FullResolution, "tiny"),
    "qwen2_5_vl_lowres": (LowResolution, "tiny"),
    "visionthink": (VisionThink, "visionthink"),
}


def tokens_ahead(method):
    """Tokens of a method's prompt in front of its first view, as this process lays it out."""
    model = method(pretrained=str(shipped()), dtype="float32", device="cpu")
    model.task_dict = {TASK: {SPLIT: [document((280, 224))]}}
    (request,) = requests([None])
    _, sample = model._prepare(request, 0)
    return int(sample.prompt.segment.is_image.nonzero()[0])


def check_prefilled(trace, ahead):
    """`visual_tokens_processed` is what each turn's cache did not hold of the view, and the crops."""
    crops = sum(crop["tokens"] for crop in trace["crops"])
    view = trace["visual_tokens"] - crops
    first, *second = trace["turns"]
    prefilled = [min(view, max(0, ahead + view - turn["cached_tokens"])) for turn in trace["turns"]]
    assert trace["visual_tokens_processed"] == sum(prefilled) + crops
    assert abs(trace["visual_tokens_processed"] - trace["visual_tokens"]) <= view
    for turn in second:  # so none of the crops, and all of turn 1 but a block that was not full
        behind = first["prompt_tokens"] + first["new_tokens"]
        assert first["prompt_tokens"] - BLOCK <= turn["cached_tokens"] <= behind
        assert turn["cached_tokens"] % BLOCK == 0


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """All 384 documents of the mini suite in this process, by model; each once."""

    @functools.cache
    def answered(model):
        adapter = f",adapter={shipped() / 'visionthink'}" if model == "visionthink" else ""
        folder = tmp_path_factory.mktemp(model)
        return evaluate(model, folder, f"dtype=float32{adapter}", "--batch_size", "16")[0]

    return answered


@pytest.mark.parametrize("model", METHODS)
def test_vllm_answers_as_this_process(servers, here, tmp_path, model):
    """All 384 documents of the mini suite."""
    here = here(model)
    method, name = METHODS[model]
    served = f"base_url={servers[0].url},served_model={name}"
    there, traces = evaluate(model, tmp_path, served)
    assert len(here) == 384
    assert there == here
    assert {trace["conditions"]["engine"] for trace in traces.values()} == {"vllm 0.32.0"}
    ahead = tokens_ahead(method)
    for trace in traces.values():
        check_prefilled(trace, ahead)
    second = [trace["turns"][1]["cached_tokens"] for trace in traces.values() if len(trace["turns"]) == 2]
    if model in ("awares", "visionthink"):
        assert len(second) > 100
        assert min(second) > 0, "every turn 2 found some of turn 1 in the server's cache"


def test_a_killed_run_resumes(servers, here, tmp_path):
    served = f"base_url={servers[0].url},served_model=tiny,concurrency=4"
    run = evaluate("awares", tmp_path, served, wait=False)
    journal = tmp_path / "journal.jsonl"
    until = time.monotonic() + 300
    while time.monotonic() < until and not (journal.exists() and journal.read_bytes().count(b"\n") > 60):
        time.sleep(0.05)
    run.kill()
    run.communicate()
    kept = journal.read_bytes().count(b"\n")
    assert 60 <= kept < 384
    resumed, traces = evaluate("awares", tmp_path, served)
    assert resumed == here("awares")
    assert kept - 1 <= sum(trace["reused"] for trace in traces.values()) <= kept, "a line may be torn"


def test_a_server_with_the_other_content_format_is_caught(servers, tmp_path):
    served = f"base_url={servers[1].url},served_model=tiny"
    run = evaluate("awares", tmp_path, served, wait=False)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 2
    assert "counts" in output and "--chat-template-content-format openai" in output
    assert not list(tmp_path.rglob("*_results.json"))


def test_transformers_serve_answers_as_this_process(here, tmp_path):
    """64 documents; it does not tell what it caches."""
    at = port()
    script = Path(__file__).with_name("transformers_serve.py")
    server = Server([str(PYTHON), str(script), str(shipped()), str(at)], tmp_path / "serve.log")
    try:
        server.wait(f"http://127.0.0.1:{at}", "/health")
        served = f"base_url={server.url},concurrency=2"
        there, traces = evaluate("awares", tmp_path / "there", served, "--limit", "11")  # of each of the six
    finally:
        server.stop()
    assert len(there) == 66
    assert there == {document: row for document, row in here("awares").items() if document in there}
    cached = {turn["cached_tokens"] for trace in traces.values() for turn in trace["turns"]}
    assert cached == {None}


def curated(folder, **base):
    """The first stage of the mini suite's curation, `awares curate answer`: rows of both parts by id."""
    own = yaml.safe_load((ROOT / "lmms_awares" / "curation" / "configs" / "mini.yaml").read_text())
    own |= CURATED | {"base": {"pretrained": str(shipped()), "max_new_tokens": 16} | base}
    folder.mkdir()
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
    command = [sys.executable, "-m", "lmms_awares", "curate", "answer", str(folder / "own.yaml"), "-o", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    files = (folder / "answer").glob("*.parquet")
    return {row["id"]: row for file in files for row in pq.read_table(file).to_pylist()}


def test_curation_answers_through_vllm_as_in_this_process(servers, tmp_path):
    here = curated(tmp_path / "here", device="cpu", dtype="float32", batch_size=8)
    there = curated(tmp_path / "there", base_url=servers[0].url, served_model="tiny")
    assert len(here) == CURATED["rows"] * 6 + CURATED["validation"]
    assert {row.pop("base_model")["name"] for row in (*here.values(), *there.values())} == {str(shipped())}
    assert there == here
    assert all(row["lowres_answer"] and row["fullres_answer"] for row in here.values())
