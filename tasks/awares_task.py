"""One Task class for all benchmarks: the installed lmms-eval's own prompts and metrics, plus tokens and traces."""

import inspect
from pathlib import Path
from typing import Any

import datasets
from lmms_eval import utils
from lmms_eval.api.metrics import mean
from lmms_eval.api.task import ConfigurableMessagesTask
from PIL import Image

from lmms_awares import images
from lmms_awares.tasks.benchmarks import BENCHMARKS
from lmms_awares.tasks.data import base_yaml_path, check_columns, content_hash, task_files
from lmms_awares.tasks.values import image_file, odd_value
from lmms_awares.trace import Trace, reason_of, unseal

# Without lmms-eval's retries, which are made for judges that answer over a network: here they would turn each odd
# document into eight seconds of waiting.
_host_results = inspect.unwrap(ConfigurableMessagesTask.process_results)


class AwaresTask(ConfigurableMessagesTask):
    """A benchmark of lmms-eval under our name, with tokens and traces.

    It asks our models for their traces, and adds per sample: `rtr`, `call_rate`, `failed`, the numeric headline
    `score` (0..1), and the trace itself under `awares`. Samples that failed count in `failed` and in no mean.
    Models without traces (lmms-eval's own) get the ordinary metrics only.

    Args:
        config: the YAML's keys: `task`, `class` and `benchmark`, a key of `lmms_awares.tasks.benchmarks.BENCHMARKS`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.benchmark: str = config["benchmark"]
        files = task_files(config["task"])
        self._folder = Path(files[0]).parent if files else None  # where relative image paths start
        super().__init__(config=_full_config(self.benchmark, config["task"], files))

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        """Load the documents, leaving images undecoded, so that one broken image cannot end the task.

        Raises:
            DataError: a column that prompts or scorers read is missing.
        """
        super().download(dataset_kwargs)
        for split, documents in self.dataset.items():
            check_columns(self.benchmark, documents.column_names, f"{self.DATASET_PATH} ({split})")
            self.dataset[split] = documents.cast_column("image", datasets.Image(decode=False))
        self.dataset_no_image = {split: documents.remove_columns("image") for split, documents in self.dataset.items()}

    def doc_to_visual(self, doc: dict[str, Any]) -> list[Image.Image]:
        """Decode the document's image.

        Raises:
            OSError: an image that cannot be read.
        """
        visuals: list[Image.Image] = super().doc_to_visual({**doc, "image": _decode(doc["image"], self._folder)})
        return visuals

    def process_results(self, doc: dict[str, Any], results: list[str], full_docs: Any = None) -> dict[str, Any]:
        """Return lmms-eval's metrics of the answer, and ours of its trace."""
        answer, trace = unseal(results[0])
        if trace is not None and trace.failed is not None:
            return {"failed": 1, "answer": answer, "awares": trace.model_dump(mode="json")}
        scores = self._scored(doc, answer, full_docs)
        if isinstance(scores, str):
            return _unscored(scores, answer, trace)
        headline = scores.get(BENCHMARKS[self.benchmark].headline)
        if headline is not None:  # --predict_only scores nothing
            scores["score"] = float(headline["score"] if isinstance(headline, dict) else headline)
        if trace is not None:
            scores |= {"rtr": trace.rtr, "call_rate": float(trace.called), "failed": 0}
            scores |= {"answer": answer, "awares": trace.model_dump(mode="json")}
        return scores

    def _scored(self, doc: dict[str, Any], answer: str, full_docs: Any) -> dict[str, Any] | str:
        """Return lmms-eval's metrics, or the reason why its scorer cannot take this document; the run goes on."""
        try:
            scores = dict(_host_results(self, doc, [answer], full_docs))
        except Exception as error:
            return odd_value(self.benchmark, doc) or f"scoring failed: {reason_of(error)}"
        scored = BENCHMARKS[self.benchmark].headline in scores
        return (odd_value(self.benchmark, doc) if scored else None) or scores

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


def _decode(stored: dict[str, Any] | None, folder: Path | None) -> Image.Image:
    if not stored or (stored["bytes"] is None and stored["path"] is None):
        raise OSError("the document has no image")
    return images.decode(stored["bytes"] if stored["bytes"] is not None else image_file(stored["path"], folder))


def _full_config(benchmark: str, task: str, files: list[str] | None) -> dict[str, Any]:
    """Return lmms-eval's YAML of the benchmark with our name, our opt-in for traces, and local data if present."""
    config: dict[str, Any] = utils.load_yaml_config(base_yaml_path(benchmark), mode="full")
    for key in ("tag", "group"):  # they would list our task under lmms-eval's own groups
        config.pop(key, None)
    # lmms-eval hands a task's metadata to the model only where it is a dict; its own YAMLs hold a list.
    version = {k: v for entry in config.get("metadata", []) for k, v in entry.items()}
    config |= {"task": task, "metadata": {**version, "awares_envelope": True}}
    if files is not None:
        config["dataset_path"] = "parquet"
        # `datasets` knows files by path, size and time: as part of its cache's name, their content counts too.
        config["dataset_name"] = f"sha-{content_hash(files)[:16]}"
        config["dataset_kwargs"] = {"data_files": {BENCHMARKS[benchmark].split: files}}
    return config
