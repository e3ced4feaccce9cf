"""What data curation costs besides its models: judge requests a second, memory over many rows, time of each stage.

    python benchmarks/curation.py [--rows 50000] [--timed 64] [-o FILE.json]

Requests: a judge that says 0 at once, in a process of its own (this file, `--serve`), with a log of requests and 32 in
flight; what the server takes of the two cores is in the figure. Memory: resident after every shard of that run; the
slope is a least-squares line behind the first 2,000 rows. Stages: milliseconds a row without a model, for charts of
850x600 px and pages of 1700x2200 px: drawing both views and their prompt (answer), metric judge, source's box, build.
"""

import argparse
import asyncio
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from measuring import machine, write
from PIL import Image

from lmms_awares.curation.answering import VIEWS, Answering
from lmms_awares.curation.asking import Meter
from lmms_awares.curation.config import Config
from lmms_awares.curation.request_log import RequestLog
from lmms_awares.curation.rows import ANSWER, SOURCE, with_verdict, write_rows
from lmms_awares.curation.shards import STAGES, Job, ShardWork, file_of
from lmms_awares.mini.demo import checkpoint

SHARD = 512
SIZES = {"chart 850x600": (850, 600), "page 1700x2200": (1700, 2200)}


def serve() -> None:
    """A judge that says 0; prints its port."""

    async def chat(request: web.Request) -> web.Response:
        await request.read()
        message = {"role": "assistant", "content": "0"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        whole = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "null",
            "choices": [choice],
            "usage": usage,
        }
        return web.json_response(whole)

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "null", "object": "model"}]})

    async def forever() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/v1/models", models)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(forever())


def config_of(address: str, **changed: Any) -> Config:
    """A set whose judge answers at an address."""
    return Config.model_validate(
        {
            "sources": ["mini_chartqa"],
            "base": {"pretrained": str(checkpoint()), "device": "cpu", "dtype": "float32"},
            "judge": {"base_url": address, "model": "null"},
            "oracle": {"kind": "source"},
        }
        | changed
    )


def png(size: tuple[int, int], seed: int) -> dict[str, Any]:
    """A picture with print-like detail, as parquet holds it."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def rows_of(first: int, count: int, image: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows as the sources give them, no two alike."""
    return [
        {
            "id": f"made/{number}",
            "source": "made",
            "split": "train",
            "image": image,
            "question": f"What is the value of bar {number}?",
            "answers": [str(number)],
            "evidence_box": [10.0, 10.0, 60.0, 40.0],
            "metric": "exact",
        }
        for number in range(first, first + count)
    ]


def resident_mib() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def judged(folder: Path, address: str, rows: int) -> dict[str, Any]:
    """Judge many rows; requests a second, and memory."""
    image, model = png((28, 28), 0), {"name": "made", "revision": "", "prompt": ""}
    shards = []
    for start in range(0, rows, SHARD):
        shards.append(f"train-{start // SHARD:05d}")
        own = rows_of(start, min(SHARD, rows - start), image)
        write_rows(file_of(folder, "sources", shards[-1]), own, SOURCE, "made")
        said = [
            {"id": row["id"], "lowres_answer": "1", "fullres_answer": row["answers"][0], "base_model": model}
            for row in own
        ]
        said = [row | {"reason": None, "detail": None} for row in said]
        write_rows(file_of(folder, "answer", shards[-1]), said, with_verdict(ANSWER), "made")
    log, meter = RequestLog(folder / "requests.sqlite"), Meter()
    work = ShardWork(Job(folder, config_of(address), log), "judge", meter)
    memory, began = [], time.perf_counter()
    for shard in shards:
        work(shard)
        memory.append(resident_mib())
    seconds = time.perf_counter() - began
    work.close()
    settled = memory[min(2000 // SHARD, len(memory) - 1) :]
    slope = float(np.polyfit(np.arange(len(settled)) * SHARD / 1000, settled, 1)[0]) if len(settled) > 1 else 0.0
    return {
        "rows": rows,
        "requests_per_s": meter.sent / seconds,
        "resident_mib": {"after_2000_rows": settled[0], "at_the_end": settled[-1], "most": max(memory)},
        "mib_per_1000_rows": slope,
    }


def timed(size: tuple[int, int], count: int, folder: Path) -> dict[str, float]:
    """Milliseconds a row of each stage, without a model."""
    config = config_of("", judge={"kind": "exact"})
    log = RequestLog(folder / "timed.sqlite")
    rows = [row | {"image": png(size, index)} for index, row in enumerate(rows_of(0, count, {}))]
    answering = Answering(config, log, Meter())
    answering.open()
    found: dict[str, float] = {}
    began = time.perf_counter()
    for number, row in enumerate(rows):
        picture = answering._picture(row)
        assert isinstance(picture, tuple)
        for view in VIEWS:
            answering._asked(number, row, *picture, view)
    found["answer"] = time.perf_counter() - began
    model = {"name": "made", "revision": "", "prompt": ""}
    rows = [row | {"lowres_answer": "1", "fullres_answer": row["answers"][0], "base_model": model} for row in rows]
    for name in ("judge", "ground", "build"):
        stage = STAGES[name](config, log, Meter())
        stage.open()
        began = time.perf_counter()
        added = stage.process(rows)
        found[name] = time.perf_counter() - began
        rows = [row | new for row, new in zip(rows, added, strict=True) if isinstance(new, dict)]
        assert len(rows) == count
    return {name: 1000 * seconds / count for name, seconds in found.items()}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--timed", type=int, default=64)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as name:
            timed((280, 224), 1, Path(name))  # what is loaded once is no time of a row
            stages = {title: timed(size, arguments.timed, Path(name)) for title, size in SIZES.items()}
            found = judged(Path(name), f"http://127.0.0.1:{port}/v1", arguments.rows)
    finally:
        server.kill()
    memory = found["resident_mib"]
    print(f"judge: {found['requests_per_s']:.0f} requests/s over {found['rows']:,} rows")
    print(
        f"resident: {memory['after_2000_rows']:.0f} MiB after 2,000 rows, {memory['at_the_end']:.0f} at the end, "
        f"{found['mib_per_1000_rows']:+.3f} MiB per 1,000 rows"
    )
    for title, stage in stages.items():
        print(f"{title}: " + ", ".join(f"{name} {value:.1f} ms" for name, value in stage.items()))
    write(arguments.output, repeats=1, machine=machine(), stages_ms=stages, **found)


if __name__ == "__main__":
    main()
