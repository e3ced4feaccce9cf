"""Samples per second of `awares` on the mini suite: in this process, on a server, and the released adapter's way.

    python benchmarks/engines.py [--base-url URL --served-model NAME] [--before TREE] [--samples 48] [--repeats 3]
        [--flight 1 16] [-o FILE.json]

The shipped tiny checkpoint in float32, one thread. Each way is a process of its own that stays, and they take turns:
batch 1 that prefills turn 1 again in turn 2, which is how the released adapter works; batch 1; batch 8; batch 8 of
another version of this package (`--before`, the root of its checkout); and so many samples in flight at the server.
Counted is all of `generate_until`: loading images, resizing, answering, traces. Answers must not differ.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measuring import machine, quartiles, ratios, write
from PIL import Image

from lmms_awares.envelope import unseal
from lmms_awares.mini import suite
from lmms_awares.mini.demo import checkpoint
from lmms_awares.models.awares import Awares

RELEASED = "batch 1, prefilled again (the released way)"
_FACTS = {"max_new_tokens": 16, "temperature": 0, "do_sample": False}


class Way:
    """A process that answers all documents whenever it is asked."""

    def __init__(self, tree: Path, samples: int, **arguments: Any) -> None:
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", json.dumps({"samples": samples, **arguments})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self) -> dict[str, Any]:
        """Answer once: seconds and answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("go", file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit("a way ended early; its words are above")

    def end(self) -> None:
        """Let it go."""
        self._process.communicate("")


def work(samples: int, **arguments: Any) -> None:
    """Answer the mini suite's documents for each line of the input, and print seconds and answers."""
    names = ("chartqa", "docvqa_val", "ocrbench", "pope", "realworldqa", "vstar_bench")
    docs = [doc for name in names for doc in suite.documents(name, "test", -(-samples // len(names)))]

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        image = doc["image"] if isinstance(doc["image"], Image.Image) else doc["image"]["bytes"]
        text = doc.get("question") or doc["text"]
        return [{"role": "user", "content": [{"type": "image", "url": image}, {"type": "text", "text": text}]}]

    requests = [
        SimpleNamespace(args=("", messages, dict(_FACTS), i, "docs", "test"), metadata={"awares_envelope": True})
        for i in range(len(docs))
    ]
    device = {} if "base_url" in arguments else {"device": "cpu", "dtype": "float32"}
    model = Awares(pretrained=str(checkpoint()), **device, **arguments)
    model.task_dict = {"docs": {"test": docs}}
    for _ in sys.stdin:
        started = time.perf_counter()
        replies = model.generate_until(requests)
        seconds = time.perf_counter() - started
        answers = [unseal(text)[0] for text, _ in replies]
        print(json.dumps({"seconds": seconds, "samples": len(docs), "answers": answers}), flush=True)


def main() -> None:
    """Run, print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--base-url")
    parser.add_argument("--served-model", default="tiny")
    parser.add_argument("--flight", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        work(**json.loads(arguments.worker))
        return
    tree = Path(__file__).resolve().parent.parent
    kinds: dict[str, tuple[Path, dict[str, Any]]] = {
        RELEASED: (tree, {"reuse_cache": False}),
        "batch 1": (tree, {}),
        "batch 8": (tree, {"batch_size": 8}),
    }
    if arguments.before:
        kinds["batch 8, before"] = (arguments.before.resolve(), {"batch_size": 8})
    if arguments.base_url:
        server = {"base_url": arguments.base_url, "served_model": arguments.served_model}
        kinds |= {f"server, {n} in flight": (tree, server | {"concurrency": n}) for n in arguments.flight}
    ways = {name: Way(at, arguments.samples, **given) for name, (at, given) in kinds.items()}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for repeat in range(arguments.repeats + 1):
        for name, way in ways.items():
            run = way.run()
            if repeat:  # the first is the warm-up
                runs[name].append(run)
    for way in ways.values():
        way.end()
    seconds = {name: [run["seconds"] for run in own] for name, own in runs.items()}
    expected = runs["batch 1"][0]["answers"]
    print(f"{len(expected)} samples of the mini suite, medians of {arguments.repeats}")
    rows = []
    for name, own in runs.items():
        gain = ratios(seconds, RELEASED, name)
        differing = sum(a != b for run in own for a, b in zip(run["answers"], expected, strict=True))
        speed = quartiles([len(expected) / value for value in seconds[name]])
        rows.append({"way": name, "samples_per_s": speed, "gain": gain, "differing_answers": differing})
        print(f"{name:<44} {speed['median']:7.2f} samples/s  x{gain['median']:.2f}  {differing} answers differ")
    write(arguments.output, samples=len(expected), repeats=arguments.repeats, machine=machine(), rows=rows)


if __name__ == "__main__":
    main()
