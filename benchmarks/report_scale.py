"""How long `awares compare` takes on many full runs, and how much memory: synthetic runs in lmms-eval's own format.

    python benchmarks/report_scale.py [--runs 20] [--share 1.0] [--folder DIR] [-- ARGUMENTS OF awares compare]

Writes each run with the six benchmarks' sizes (18,805 samples; about 1.2 GB for 20 runs), then runs the command in a
process of its own. Rows have every key that a real row has, the trace twice included, as lmms-eval logs it.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lmms_awares import __version__
from lmms_awares.envelope import seal
from lmms_awares.protocol import format_call
from lmms_awares.trace import Conditions, CropTrace, ToolCallTrace, Trace, TurnTrace

SIZES = {"chartqa": 2500, "docvqa_val": 5349, "ocrbench": 1000, "pope": 9000, "realworldqa": 765, "vstar_bench": 191}
METRICS = {
    "chartqa": "relaxed_overall",
    "docvqa_val": "anls",
    "ocrbench": "ocrbench_accuracy",
    "pope": "pope_accuracy",
    "realworldqa": "exact_match",
    "vstar_bench": "vstar_overall_acc",
}
CONDITIONS = Conditions(
    revision="0123456789ab",
    dtype="bfloat16",
    attention="flash_attention_2",
    min_pixels=3136,
    max_pixels=12845056,
    lowres_base="processed",
    device="synthetic",
    lmms_awares=__version__,
    code="0123456789ab",
    lmms_eval="0.7.3",
    transformers="5.23.0",
    torch="2.13.0",
)


def row(index: int, generator: random.Random, called_share: float, accuracy: float) -> dict[str, Any]:
    """One row of a samples file; the numbers mean nothing."""
    called = generator.random() < called_share
    id = generator.choice("012345678")
    answer = f"answer {index}"
    turns = [TurnTrace(text=format_call([id]) if called else answer, new_tokens=9, seconds=0.25)]
    turns += [TurnTrace(text=answer, new_tokens=5, seconds=0.15)] if called else []
    sides = random.Random(index)  # of the document, the same in every run
    trace = Trace(
        model="awares",
        policy="model",
        method="awares",
        view="lowres",
        prompt="own",
        image_size=(sides.randrange(300, 2000), sides.randrange(300, 2000)),
        images=1,
        image_digest=f"{sides.getrandbits(64):016x}",
        full_tokens=1200,
        lowres_tokens=300,
        crops=[CropTrace(id=id, tokens=300)] if called else [],
        visual_tokens=600 if called else 300,
        visual_tokens_processed=600 if called else 300,
        rtr=0.5 if called else 0.25,
        tool_call=ToolCallTrace(status="valid", ids=[id], text=turns[0].text) if called else None,
        turns=turns,
        preprocess_s=0.02,
        latency_s=generator.random(),
        response_chars=len(answer),
        conditions=CONDITIONS,
    )
    score = float(generator.random() < accuracy)
    metric = {"question_id": str(index), "score": score, "prediction": answer, "ground_truth": "yes"}
    return {
        "doc_id": index,
        "target": "yes",
        "filtered_resps": seal(answer, trace),
        "token_counts": [{"input_tokens": 900, "output_tokens": 14}],
        "doc_hash": "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b",
        **{f"metric_{k}": metric for k in range(3)},
        "score": score,
        "rtr": trace.rtr,
        "call_rate": float(called),
        "failed": 0,
        "answer": answer,
        "awares": trace.model_dump(mode="json"),
        "input": f"Is ring {index} black in the image?\nAnswer the question using a single word or phrase. " * 2,
    }


def write_run(folder: Path, seed: int, share: float) -> None:
    """One run of the six benchmarks, `share` of their samples."""
    generator = random.Random(seed)
    folder.mkdir(parents=True)
    called, accuracy = generator.uniform(0.1, 0.6), generator.uniform(0.6, 0.9)
    tasks = {f"awares_{name}": size for name, size in SIZES.items()}
    for task, size in tasks.items():
        with (folder / f"20261125_120000_samples_{task}.jsonl").open("w", encoding="utf-8") as file:
            for index in range(max(2, int(size * share))):
                file.write(json.dumps(row(index, generator, called, accuracy), ensure_ascii=False) + "\n")
    configs = {
        f"awares_{name}": {"metric_list": [{"metric": METRICS[name]}], "metadata": {"awares_envelope": True}}
        for name in SIZES
    }
    results = {
        "config": {"model": "awares", "model_args": "pretrained=synthetic"},
        "results": {task: {} for task in tasks},
        "configs": configs,
    }
    (folder / "20261125_120000_results.json").write_text(json.dumps(results), encoding="utf-8")


def main() -> None:
    """Write, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--share", type=float, default=1.0, help="of each benchmark's samples")
    parser.add_argument("--folder", type=Path, help="keep the runs there, and use those that are there")
    parser.add_argument("arguments", nargs="*", help="of awares compare")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = [(options.folder or Path(temporary)) / f"run{i:02}" for i in range(options.runs)]
        for seed, folder in enumerate(folders):
            if not folder.exists():
                write_run(folder, seed, options.share)
        size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
        command = [sys.executable, "-m", "lmms_awares", "compare", *map(str, folders), *options.arguments]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{options.runs} runs, {size / 1e9:.2f} GB: {seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, "
        f"peak {used.ru_maxrss / 1e6:.2f} GB"
    )


if __name__ == "__main__":
    main()
