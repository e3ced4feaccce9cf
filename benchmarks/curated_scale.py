"""How long `awares curate stats` and `awares report` take on a curated set, and how much memory: synthetic rows.

    python benchmarks/curated_scale.py [--rows 2000] [--folder DIR]

Writes a set of photograph-like JPEGs, no two alike, then runs each command in a process of its own.
"""

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from lmms_awares.crops import target_crops
from lmms_awares.curation.rows import ANSWER, BUILD, GROUND, JUDGE, SOURCE, write_rows
from lmms_awares.protocol import format_call

SHARD = 512
MODEL = {"name": "synthetic", "revision": None, "prompt": "0"}


def photograph(generator: random.Random) -> Image.Image:
    """Smooth colours with some noise, 600 to 2000 px a side."""
    size = generator.randrange(600, 2000), generator.randrange(600, 2000)
    small = Image.frombytes("RGB", (24, 24), generator.randbytes(24 * 24 * 3)).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(small, Image.effect_noise(size, 40).convert("RGB"), 0.15)


def encoded(image: Image.Image) -> dict[str, Any]:
    """A JPEG as the set holds it."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return {"bytes": stream.getvalue(), "path": None}


def row(index: int, generator: random.Random) -> dict[str, Any]:
    """A row with the columns of all stages; a fifth of them HR."""
    image = photograph(generator)
    hard = generator.random() < 0.2
    left, top = generator.uniform(0, 0.8), generator.uniform(0, 0.8)
    width, height = image.size
    box = [left * width, top * height, (left + 0.15) * width, (top + 0.1) * height]
    targets, rule = target_crops((box[0], box[1], box[2], box[3]), image.size) if hard else ((), None)
    said = format_call(targets) if hard else "42"
    return {
        **{"id": f"synthetic/{index}", "source": f"source{index % 5}", "split": "train", "image": encoded(image)},
        **{"question": f"What is item {index}?", "answers": ["42"], "evidence_box": None, "metric": "anls"},
        **{"lowres_answer": "24" if hard else "42", "fullres_answer": "42", "base_model": MODEL},
        "label": "HR" if hard else "LR",
        "judge": {"verdict": 2 if hard else 0, "swapped": None, "replies": ["2"], "scores": None},
        "judge_model": MODEL,
        "boxes": {"question": [], "answer": [[1000 * left, 1000 * top, 1000 * left + 150, 1000 * top + 100]]},
        **{"targets": list(targets), "rule": rule, "grounding": None, "oracle_model": MODEL},
        "messages": [{"role": "assistant", "content": [{"type": "text", "text": said}]}],
        "images": [],
    }


def write(folder: Path, rows: int) -> None:
    """Write trajectories alone."""
    generator = random.Random(0)
    columns = type(SOURCE)({**SOURCE, **ANSWER, **JUDGE, **GROUND, **BUILD})
    shards = -(-rows // SHARD)
    for shard in range(shards):
        made = [row(index, generator) for index in range(shard * SHARD, min(rows, (shard + 1) * SHARD))]
        write_rows(folder / "trajectories" / f"train-{shard:05}-of-{shards}.parquet", made, columns)


def measured(*arguments: object) -> tuple[float, float, float]:
    """Run `awares` with arguments; seconds, seconds of CPU, and peak memory in MB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "lmms_awares", *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main() -> None:
    """Write, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="keep the set there, and use the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        given = options.folder or Path(temporary) / "set"
        if not given.exists():
            write(given, options.rows)
        size = sum(file.stat().st_size for file in given.rglob("*.parquet"))
        print(f"{options.rows} rows, {size / 1e6:.0f} MB")
        for name, arguments in {
            "stats": ("curate", "stats", given),
            "report": ("report", given, "-o", Path(temporary) / "site"),
            "export": ("curate", "export", given, "--format", "verl", "-o", Path(temporary) / "verl"),
        }.items():
            seconds, busy, memory = measured(*arguments)
            a_row = 1000 * busy / options.rows
            print(f"{name}: {seconds:.1f} s, {busy:.1f} s of CPU ({a_row:.1f} ms a row), peak {memory:.0f} MB")
        print(
            f"index: {(Path(temporary) / 'site' / 'data' / 'index.js').stat().st_size / options.rows:.0f} bytes a row"
        )


if __name__ == "__main__":
    main()
