"""What batches gain, and what sorting by length gains on top: samples per second and the share of padding.

    python benchmarks/batches.py [--model awares] [--samples 48] [--batch-size 8] [--repeats 3] [-o FILE.json]

The shipped tiny checkpoint on the mini suite, one thread. Counted is all of `generate_until`, from loading images to
traces, and apart the answering alone: preparing costs each sample the same, and as much as a third of it all where the
model is this small. Three ways take turns `--repeats` times, and medians count: batch 1; batches as the samples come;
batches of like length. Seconds are of CPU, since another process may hold the core; wall clock stands beside them.
Padding: pads by all positions of the batches' first prompts. Answers must not differ.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager

from lmms_awares.envelope import unseal
from lmms_awares.mini import suite
from lmms_awares.mini.demo import checkpoint
from lmms_awares.models import answering as running
from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution
from lmms_awares.models.windows import by_length
from lmms_awares.plugin import tasks_dir
from lmms_awares.tasks.benchmarks import TASKS
from lmms_awares.tasks.data import DATA_ROOT

MODELS = {"awares": Awares, "qwen2_5_vl_full": FullResolution}
Cut = Callable[[Sequence[int], int], list[list[int]]]


def as_they_come(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches of a window in its own order."""
    numbers = list(range(len(lengths)))
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def requests_of(model: Any, samples: int) -> list[Instance]:
    """lmms-eval's requests for the first documents of each mini benchmark; the run that gives them is the warm-up."""
    seen: list[Instance] = []
    answer = model.generate_until
    model.generate_until = lambda requests: (seen.extend(requests), answer(requests))[1]
    with tempfile.TemporaryDirectory() as folder:
        suite.build(Path(folder), {"test": -(-samples // len(TASKS))})
        os.environ[DATA_ROOT] = str(Path(folder) / "test")
        simple_evaluate(
            model=model,
            tasks=["awares_suite"],
            task_manager=TaskManager("ERROR", include_path=tasks_dir(), include_defaults=False),
            cli_args=argparse.Namespace(process_with_media=False, reasoning_tags=None, output_path=folder),
            bootstrap_iters=1,
        )
    del model.generate_until
    return seen


def measured(model: Any, requests: list[Instance], size: int, cut: Cut) -> dict[str, Any]:
    """One run: seconds, share of padding, answers."""
    padded, held, answering = 0, 0, 0.0
    answer = model.answer

    def counted(samples: Sequence[Any]) -> Any:
        nonlocal padded, held, answering
        lengths = [sample.prompt.length for sample in samples]
        padded, held = padded + len(lengths) * max(lengths), held + sum(lengths)
        began = time.process_time()
        outcomes = answer(samples)
        answering += time.process_time() - began
        return outcomes

    model.answer, model.batch_size, running.by_length = counted, size, cut
    started, cpu = time.perf_counter(), time.process_time()
    replies = model.generate_until(requests)
    found = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    del model.answer
    found |= {"answering_cpu_s": answering, "padding": 1 - held / padded}
    return found | {"answers": [unseal(text)[0] for text, _ in replies]}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="awares", choices=sorted(MODELS))
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    model = MODELS[arguments.model](pretrained=str(checkpoint()), device="cpu", batch_size=arguments.batch_size)
    requests = requests_of(model, arguments.samples)
    size = arguments.batch_size
    ways: dict[str, tuple[int, Cut]] = {
        "batch 1": (1, by_length),
        f"batch {size}, as they come": (size, as_they_come),
        f"batch {size}, by length": (size, by_length),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            runs[name].append(measured(model, requests, *way))
    report(arguments, runs, len(requests))


def report(arguments: argparse.Namespace, runs: dict[str, list[dict[str, Any]]], samples: int) -> None:
    """Print one line for each way, and write all of them."""
    single = runs["batch 1"]
    rows = {}
    for name, own in runs.items():
        cpu, wall = (statistics.median(run[key] for run in own) for key in ("cpu_s", "wall_s"))
        whole, answering = (
            statistics.median(one[key] / run[key] for one, run in zip(single, own, strict=True))
            for key in ("cpu_s", "answering_cpu_s")
        )
        differing = sum(a != b for run in own for a, b in zip(single[0]["answers"], run["answers"], strict=True))
        rows[name] = {
            "samples_per_cpu_s": samples / cpu,
            "samples_per_wall_s": samples / wall,
            "gain": whole,
            "gain_of_answering": answering,
            "padding": own[0]["padding"],
            "differing_answers": differing,
        }
    print(f"{arguments.model}, {samples} samples of the mini suite, medians of {arguments.repeats}")
    for name, row in rows.items():
        print(
            f"  {name:<24} {row['samples_per_cpu_s']:6.2f} samples/s of CPU  x{row['gain']:.2f}  "
            f"answering x{row['gain_of_answering']:.2f}  "
            f"padding {100 * row['padding']:4.1f} %  {row['differing_answers']} answers differ"
        )
    if arguments.output:
        versions = {name: version(name) for name in ("lmms-awares", "lmms-eval", "transformers", "torch")}
        settings = {"model": arguments.model, "samples": samples, "repeats": arguments.repeats, "threads": 1}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(settings | {"versions": versions, "ways": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
