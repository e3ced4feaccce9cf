"""Result folders written without a model: rows as lmms-eval writes them, scores from a seed."""

import json
from pathlib import Path

import numpy as np
from harness import CONDITIONS

SIZES = {  # samples of the six benchmarks
    "awares_chartqa": 2500,
    "awares_docvqa_val": 5349,
    "awares_ocrbench": 1000,
    "awares_pope": 9000,
    "awares_realworldqa": 765,
    "awares_vstar_bench": 191,
}


def rows(scores, *, rtr=0.3, latency=1.0, prompt="own", **conditions):
    """A row per score; a score of None is a failed sample."""
    shared = {"schema_version": 1, "model": "awares", "policy": "model", "prompt": prompt}
    shared |= {"conditions": CONDITIONS.model_copy(update=conditions).model_dump()}
    ratios = np.broadcast_to(rtr, len(scores)).tolist()
    made = []
    for doc_id, (score, ratio) in enumerate(zip(scores, ratios, strict=True)):
        row = {"doc_id": doc_id, "target": "yes", "input": f"Is {doc_id} here?", "filtered_resps": "yes" * 50}
        if score is None:
            made.append(row | {"failed": 1, "awares": shared | {"failed": "OSError: no image"}})
            continue
        counts = {"image_size": [640, 480], "images": 1, "full_tokens": 100, "rtr": ratio, "latency_s": latency}
        counts |= {"visual_tokens": round(100 * ratio), "turns": [{"text": "yes", "new_tokens": 2, "seconds": latency}]}
        made.append(row | {"score": float(score), "rtr": ratio, "failed": 0, "awares": shared | counts})
    return made


def write_run(folder, samples, *, batch_size="1", metric="pope_accuracy", generation=None):
    """Write one run. `samples`: rows by task."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    task_config = {
        "metric_list": [{"metric": metric}],
        "metadata": {"awares_envelope": True},
        "generation_kwargs": generation or {"max_new_tokens": 16},
    }
    results = {
        "config": {"model": "awares", "batch_size": batch_size},
        "results": {task: {} for task in samples},
        "configs": dict.fromkeys(samples, task_config),
    }
    (folder / "1_results.json").write_text(json.dumps(results))
    for task, lines in samples.items():
        (folder / f"1_samples_{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def paired_scores(n, *, drop=0.0, churn=0.1, seed=0):
    """Two rows of 0/1 scores [n]: a share `churn` of the documents differs, and the second loses `drop` (0..1)."""
    generator = np.random.default_rng(seed)
    baseline = generator.random(n) < 0.7
    draws = generator.random(n)
    # P(lost) - P(won) = drop and P(lost) + P(won) = churn, given how many are right to begin with
    lost = baseline & (draws < (churn + drop) / 2 / 0.7)
    won = ~baseline & (draws < (churn - drop) / 2 / 0.3)
    return baseline.astype(float), ((baseline & ~lost) | won).astype(float)
