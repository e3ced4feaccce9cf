"""The stages on a Ray cluster: Ray Data hands out shards, one actor keeps the finished requests.

    this process                   cluster
    shards ─► map_batches ──────►  _Worker: ShardWork ─► DIR/<stage>/<shard>.parquet (a folder that all nodes share)
    Counts ◄─────────────────────     │ finished requests
              actor on this node: RequestLog ◄┘

A worker that dies is started again and its shard is done again, from the requests that had finished.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lmms_awares.curation.asking import Meter
from lmms_awares.curation.config import Config
from lmms_awares.curation.request_log import Reply, RequestLog
from lmms_awares.curation.shards import Counts, Job, ShardWork
from lmms_awares.errors import UserError


class _ActorsLog:
    """The log that the actor keeps, as a worker sees it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def get(self, key: str) -> Reply | None:
        """See `RequestLog.get`."""
        reply: Reply | None = ray.get(self._actor.get.remote(key))
        return reply

    def add(self, stage: str, key: str, reply: Reply) -> None:
        """See `RequestLog.add`; returns once the reply is in the file."""
        ray.get(self._actor.add.remote(stage, key, reply))


class _Worker:
    """One stage in a process of the cluster; it opens at its first shard."""

    def __init__(self, folder: str, config: Config, stage: str, actor: Any) -> None:
        self._meter = Meter()
        self._work = ShardWork(Job(Path(folder), config, _ActorsLog(actor)), stage, self._meter)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Do the shards of a batch; a row of counts each."""
        found: dict[str, list[Any]] = {"rows": [], "reasons": [], "counts": [], "meter": []}
        for shard in batch["shard"]:
            before = astuple(self._meter)
            counts = self._work(str(shard))
            found["rows"].append(counts.rows)
            found["reasons"].append(list(counts.rejected))
            found["counts"].append(list(counts.rejected.values()))
            found["meter"].append([now - then for now, then in zip(astuple(self._meter), before, strict=True)])
        return found


def on_ray(job: Job, stage: str, meter: Meter, shards: Sequence[str]) -> Iterator[Counts]:
    """Do shards on the cluster that `RAY_ADDRESS` names, else on one that is started here; in the order of their end.

    One worker per GPU where the base model is loaded by the workers and there are GPUs, else one per node.

    Raises:
        UserError: as the stage does, in this process.
    """
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours shows rows and requests
    gpus = int(ray.cluster_resources().get("GPU", 0)) if stage == "answer" and not job.config.base.base_url else 0
    workers = gpus or sum(node["Alive"] for node in ray.nodes())
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    assert isinstance(job.log, RequestLog)
    actor = ray.remote(RequestLog).options(num_cpus=0, scheduling_strategy=here, max_concurrency=8).remote(job.log.file)
    data = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
    done = data.map_batches(
        _Worker,
        fn_constructor_args=(str(job.folder.resolve()), job.config, stage, actor),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(shards))),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    try:
        for row in done.iter_rows():
            meter.add(Meter(*map(int, row["meter"])))
            yield Counts(int(row["rows"]), Counter(dict(zip(row["reasons"], map(int, row["counts"]), strict=True))))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
