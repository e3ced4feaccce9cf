"""How evenly several processes share a set with a few large pages and many small images, with and without balancing.

    python benchmarks/ranks.py [--ranks 2] [--documents 48] [--layouts regular shuffled] [--output FILE.json]

One document in eight is a page of 1700x2200, the rest are 336x336; `regular`: every eighth (lmms-eval's split by rank
then gives all of them to rank 0), `shuffled`: anywhere. Each run is `awares eval` under torchrun with a tiny random
checkpoint; visual tokens and seconds (preparing and answering) of each rank are sums over its journal.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
import torch
from PIL import Image

from lmms_awares import evaluate
from lmms_awares.journal import Entry
from lmms_awares.mini import random_checkpoint
from lmms_awares.tasks.benchmarks import BENCHMARKS
from lmms_awares.tasks.data import DATA_ROOT

PAGE, SMALL, ONE_IN = (1700, 2200), (336, 336), 8


def write(root: Path, documents: int, layout: str) -> Path:
    """Write the set as local data of POPE, and return its folder."""
    pages = [index % ONE_IN == 0 for index in range(documents)]
    if layout == "shuffled":
        random.Random(0).shuffle(pages)
    facts = BENCHMARKS["pope"]
    rows = [
        {"image": Image.new("RGB", PAGE if page else SMALL, (200, 220, index)), **facts.sample("word", index)}
        for index, page in enumerate(pages)
    ]
    folder = root / "pope"
    folder.mkdir(parents=True)
    data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    data.to_parquet(folder / f"{facts.split}-00000-of-00001.parquet")
    return root


def measure(folder: Path, pretrained: Path, ranks: int, how: str) -> list[dict[str, Any]]:
    """Run once; returns documents, visual tokens and seconds per rank."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command += [__file__, "--worker", how, "--model", "qwen2_5_vl_full", "--tasks", "awares_pope"]
    command += ["--model_args", f"pretrained={pretrained}", "--output_path", str(folder / how)]
    environment = os.environ | {DATA_ROOT: str(folder), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    found = []
    for rank in range(ranks):
        journal = folder / how / ("journal.jsonl" if rank == 0 else f"journal.rank{rank}.jsonl")
        traces = [Entry.model_validate_json(line).trace for line in journal.read_text().splitlines()]
        seconds = sum(trace.preprocess_s + trace.latency_s for trace in traces)
        tokens = sum(trace.visual_tokens for trace in traces)
        found.append({"documents": len(traces), "visual_tokens": tokens, "seconds": round(seconds, 2)})
    return found


def work(how: str, arguments: list[str]) -> None:
    """One rank of a run."""
    # lmms-eval's split, as `lmms-eval` without our command has it: nobody joins.
    alone = patch.object(evaluate, "_joined", lambda plan: nullcontext()) if how == "as it comes" else nullcontext()
    with alone:
        sys.exit(evaluate.run(arguments))


def main() -> None:
    """Run and print a table."""
    if "--worker" in sys.argv:
        work(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--layouts", nargs="+", default=["regular", "shuffled"], choices=["regular", "shuffled"])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    runs = []
    print(f"{'layout':<9} {'split':<12} {'rank':>4} {'documents':>9} {'visual tokens':>13} {'share':>6} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as name:
        pretrained = random_checkpoint.build(Path(name) / "tiny")
        for layout in arguments.layouts:
            folder = write(Path(name) / layout, arguments.documents, layout)
            for how in ("as it comes", "balanced"):
                found = measure(folder, pretrained, arguments.ranks, how)
                runs.append({"layout": layout, "split": how, "ranks": found})
                total = sum(rank["visual_tokens"] for rank in found)
                for number, rank in enumerate(found):
                    print(
                        f"{layout:<9} {how:<12} {number:>4} {rank['documents']:>9} {rank['visual_tokens']:>13} "
                        f"{rank['visual_tokens'] / total:>6.1%} {rank['seconds']:>8.2f}"
                    )
    if arguments.output:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__}
        report = {"documents": arguments.documents, "machine": machine, "runs": runs}
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
