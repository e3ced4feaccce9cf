"""Where a run's wall clock goes: generation, preprocessing, and everything else. Prints seconds and shares.

    python benchmarks/overhead.py [--samples 200] [--policy random] [--batch-size 1]

Runs lmms-eval's evaluator in this process on a tiny random checkpoint and synthetic documents. Start-up (imports,
loading) is not part of it and is printed apart.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

from lmms_eval.evaluator import simple_evaluate  # noqa: E402
from lmms_eval.tasks import TaskManager  # noqa: E402

from lmms_awares.engine import crop_turns  # noqa: E402
from lmms_awares.engine.chat import ChatFormat  # noqa: E402
from lmms_awares.engine.conversation import Conversation  # noqa: E402
from lmms_awares.mini import random_checkpoint, smoke_data  # noqa: E402
from lmms_awares.models import awares, base  # noqa: E402
from lmms_awares.plugin import tasks_dir  # noqa: E402
from lmms_awares.tasks.awares_task import AwaresTask  # noqa: E402
from lmms_awares.tasks.benchmarks import TASKS  # noqa: E402
from lmms_awares.tasks.data import DATA_ROOT  # noqa: E402

SPENT: defaultdict[str, float] = defaultdict(float)


def timed(holder: Any, name: str, part: str) -> None:
    """Count the time spent in `holder.name` under `part`."""
    original: Callable[..., Any] = getattr(holder, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            SPENT[part] += time.perf_counter() - started

    setattr(holder, name, wrapper)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--policy", default="random")
    parser.add_argument("--batch-size", type=int, default=1)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        documents = -(-arguments.samples // len(TASKS))
        os.environ[DATA_ROOT] = str(smoke_data.write(Path(folder) / "data", documents=documents))
        checkpoint = random_checkpoint.build(Path(folder) / "tiny")
        model = awares.Awares(
            pretrained=str(checkpoint),
            device="cpu",
            policy=arguments.policy,
            batch_size=arguments.batch_size,
            journal=str(Path(folder) / "journal.jsonl"),
        )
        manager = TaskManager("ERROR", include_path=tasks_dir(), include_defaults=False)
        # Encoding is inside `generate`; decoding the file, resizing and tokenising are preprocessing.
        timed(Conversation, "generate", "generate and encode")
        timed(ChatFormat, "segment", "preprocess")
        timed(AwaresTask, "doc_to_visual", "preprocess")
        timed(base, "show", "preprocess")
        timed(crop_turns, "show", "preprocess")
        timed(base, "read_images", "preprocess")
        startup = time.perf_counter() - STARTED
        started = time.perf_counter()
        simple_evaluate(
            model=model,
            tasks=["awares_suite"],
            task_manager=manager,
            cli_args=argparse.Namespace(process_with_media=False, reasoning_tags=None, output_path=folder),
            bootstrap_iters=100,
        )
        wall = time.perf_counter() - started
    SPENT["everything else"] = wall - sum(SPENT.values())
    print(f"{documents * len(TASKS)} samples, policy {arguments.policy}, batch {arguments.batch_size}: {wall:.1f} s")
    for part, seconds in SPENT.items():
        print(f"  {part:<20} {seconds:7.2f} s  {100 * seconds / wall:5.1f} %")
    print(f"start-up, not counted: {startup:.1f} s")


if __name__ == "__main__":
    main()
