"""How far labels from answers agree with how the mini suite's pictures are drawn, and with each other.

    python benchmarks/labels.py [--rows 280] [--validation 320] [-o FILE.json]

The shipped checkpoint answers on both views, as in `awares curate run mini`. A label by a metric is HR where the answer
on the full view scores at least the threshold and the other one does not. By construction it is HR where what is asked
for is drawn so finely that halving leaves nothing of it (`lowres_suffices`); rows with faint print have no such label.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from measuring import machine, write

from lmms_awares.curation import agreement
from lmms_awares.curation.asking import Meter
from lmms_awares.curation.config import Config, MetricJudge, read_config
from lmms_awares.curation.judging import Judging
from lmms_awares.curation.request_log import RequestLog
from lmms_awares.curation.run import run
from lmms_awares.curation.shards import merged, shard_names
from lmms_awares.mini.suite import training_file

JUDGES = {
    "anls, threshold 0.8": MetricJudge(kind="anls", threshold=0.8),
    "anls, threshold 0.5": MetricJudge(kind="anls", threshold=0.5),
    "exact": MetricJudge(kind="exact"),
}


def drawn(benchmark: str, count: int) -> list[str | None]:
    """The label of each of a benchmark's first rows by construction; None where nobody can say."""
    suffices = pq.read_table(training_file(benchmark, count), columns=["lowres_suffices"]).column(0).to_pylist()
    return [None if one is None else "LR" if one else "HR" for one in suffices]


def labelled(rows: list[dict[str, Any]], config: Config, log: RequestLog) -> dict[str, list[str | None]]:
    """Labels of answered rows, by judge and by construction."""
    found: dict[str, list[str | None]] = {}
    for name, judge in JUDGES.items():
        own = config.model_copy(update={"judge": judge})
        found[name] = [row["label"] for row in Judging(own, log, Meter()).process(rows) if isinstance(row, dict)]
        assert len(found[name]) == len(rows)
    places = [row["id"].removeprefix("mini_").rsplit("/", 1) for row in rows]
    last = max(int(number) for _, number in places)
    labels = {benchmark: drawn(benchmark, last + 1) for benchmark in {benchmark for benchmark, _ in places}}
    return found | {"as drawn": [labels[benchmark][int(number)] for benchmark, number in places]}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=280, help="of each of the six sources")
    parser.add_argument("--validation", type=int, default=320)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    config = read_config(Path("mini")).model_copy(update={"rows": arguments.rows, "validation": arguments.validation})
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.perf_counter()
        run(config, folder)
        seconds = time.perf_counter() - began
        rows = [
            row for shard in shard_names(folder) for row in merged(folder, ["sources", "answer"], shard, images=False)
        ]
        labels = labelled(rows, config, RequestLog(folder / "labels.sqlite"))
    pairs = [*((judge, "as drawn") for judge in JUDGES), ("anls, threshold 0.8", "exact")]
    results = []
    for a, b in pairs:
        both = [(x, y) for x, y in zip(labels[a], labels[b], strict=True) if x is not None and y is not None]
        found = agreement([x for x, _ in both], [y for _, y in both])
        results.append({"a": a, "b": b, "rows": len(both), "agreement": found.agreement, "kappa": found.kappa})
        print(f"{a} against {b}: {100 * found.agreement:.1f} %, kappa {found.kappa:.3f}, {len(both):,} rows")
    print(f"{len(rows):,} rows; the whole set took {seconds:.0f} s")
    write(arguments.output, repeats=1, machine=machine(), rows=len(rows), whole_s=seconds, pairs=results)


if __name__ == "__main__":
    main()
