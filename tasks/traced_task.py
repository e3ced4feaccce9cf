"""What our tasks add to lmms-eval's: they ask models for traces, and score each document in a numeric `score`."""

import inspect
from abc import abstractmethod
from typing import Any

from lmms_eval.api.metrics import mean
from lmms_eval.api.task import ConfigurableMessagesTask

from lmms_awares.envelope import unseal
from lmms_awares.tasks.data import content_hash
from lmms_awares.trace import Trace, reason_of

# Without lmms-eval's retries, which are made for judges that answer over a network: here they would turn each odd
# document into eight seconds of waiting.
_host_results = inspect.unwrap(ConfigurableMessagesTask.process_results)


class TracedTask(ConfigurableMessagesTask):
    """A task of lmms-eval with tokens and traces.

    It adds per sample: `rtr`, `call_rate`, `failed`, the numeric headline `score` (0..1), and the trace itself under
    `awares`. Samples that failed count in `failed` and in no mean. Models without traces (lmms-eval's own) get the
    ordinary metrics and `score` only.
    """

    @abstractmethod
    def headline(self, scores: dict[str, Any]) -> float | None:
        """Return the document's `score`, 0..1, from lmms-eval's metrics; None where it has none."""

    @abstractmethod
    def odd_value(self, doc: dict[str, Any]) -> str | None:
        """Describe a value of the document that cannot be scored; None where nothing is known against it."""

    def process_results(self, doc: dict[str, Any], results: list[str], full_docs: Any = None) -> dict[str, Any]:
        """Return lmms-eval's metrics of the answer, and ours of its trace."""
        answer, trace = unseal(results[0])
        if trace is not None and trace.failed is not None:
            return {"failed": 1, "answer": answer, "awares": trace.model_dump(mode="json")}
        scores = self._scored(doc, answer, full_docs)
        if isinstance(scores, str):
            return _unscored(scores, answer, trace)
        headline = self.headline(scores)
        if headline is not None:
            scores["score"] = headline
        if trace is not None:
            scores |= {"rtr": trace.rtr, "call_rate": float(trace.called), "failed": 0}
            scores |= {"answer": answer, "awares": trace.model_dump(mode="json")}
        return scores

    def _scored(self, doc: dict[str, Any], answer: str, full_docs: Any) -> dict[str, Any] | str:
        """Return lmms-eval's metrics, or the reason why its scorer cannot take this document; the run goes on."""
        try:
            scores = dict(_host_results(self, doc, [answer], full_docs))
        except Exception as error:
            return self.odd_value(doc) or f"scoring failed: {reason_of(error)}"
        return scores

    def _prepare_metric_and_aggregation(self) -> None:
        # Not through `metric_list`: tasks that score by a registered metric would look ours up there.
        super()._prepare_metric_and_aggregation()
        self._aggregation_list |= {"rtr": mean, "call_rate": mean, "failed": sum}
        self._higher_is_better |= {"rtr": False, "call_rate": False, "failed": False}


def _unscored(reason: str, answer: str, trace: Trace | None) -> dict[str, Any]:
    """Return the row of a document that has an answer and no score: failed, with the reason."""
    row: dict[str, Any] = {"failed": 1, "answer": answer, "unscored": reason}
    if trace is not None:
        row["awares"] = trace.model_copy(update={"failed": reason}).model_dump(mode="json")
    return row


def with_traces(config: dict[str, Any], task: str) -> dict[str, Any]:
    """Return lmms-eval's settings of a task under our name, with the opt-in for traces in its metadata."""
    kept = {key: value for key, value in config.items() if key not in ("tag", "group", "task_alias")}
    # lmms-eval hands a task's metadata to the model only where it is a dict; many of its own YAMLs hold a list.
    metadata = config.get("metadata") or {}
    entries = metadata if isinstance(metadata, list) else [metadata]
    version = {name: value for entry in entries for name, value in entry.items()}
    return kept | {"task": task, "metadata": {**version, "awares_envelope": True}}


def on_files(config: dict[str, Any], split: str, files: list[str]) -> dict[str, Any]:
    """Return a task's settings with local parquet files of the scored split in place of the hub's documents."""
    # `datasets` knows files by path, size and time: as part of its cache's name, their content counts too.
    content = f"sha-{content_hash(files)[:16]}"
    return config | {
        "dataset_path": "parquet",
        "dataset_name": content,
        "dataset_kwargs": {"data_files": {split: files}},
    }
