"""One Task class for all benchmarks: the installed lmms-eval's own prompts and metrics, plus tokens and traces."""

from pathlib import Path
from typing import Any

import datasets
from lmms_eval import utils
from PIL import Image

from lmms_awares import images
from lmms_awares.tasks.benchmarks import BENCHMARKS
from lmms_awares.tasks.data import base_yaml_path, check_columns, task_files
from lmms_awares.tasks.traced_task import TracedTask, on_files, with_traces
from lmms_awares.tasks.values import image_file, odd_value


class AwaresTask(TracedTask):
    """A benchmark of lmms-eval under our name, with tokens and traces.

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

    def headline(self, scores: dict[str, Any]) -> float | None:
        """Return the value of the benchmark's headline metric; None with --predict_only, which scores nothing."""
        value = scores.get(BENCHMARKS[self.benchmark].headline)
        if value is None:
            return None
        return float(value["score"] if isinstance(value, dict) else value)

    def odd_value(self, doc: dict[str, Any]) -> str | None:
        """Describe a value that breaks a rule of the benchmark's record."""
        return odd_value(self.benchmark, doc)

    def _scored(self, doc: dict[str, Any], answer: str, full_docs: Any) -> dict[str, Any] | str:
        """Return lmms-eval's metrics, or what is wrong with the document, which its scorer may have overlooked."""
        scores = super()._scored(doc, answer, full_docs)
        scored = isinstance(scores, dict) and BENCHMARKS[self.benchmark].headline in scores
        return (self.odd_value(doc) if scored else None) or scores


def _decode(stored: dict[str, Any] | None, folder: Path | None) -> Image.Image:
    if not stored or (stored["bytes"] is None and stored["path"] is None):
        raise OSError("the document has no image")
    return images.decode(stored["bytes"] if stored["bytes"] is not None else image_file(stored["path"], folder))


def _full_config(benchmark: str, task: str, files: list[str] | None) -> dict[str, Any]:
    """Return lmms-eval's YAML of the benchmark with our name, our opt-in for traces, and local data if present."""
    config = with_traces(utils.load_yaml_config(base_yaml_path(benchmark), mode="full"), task)
    return config if files is None else on_files(config, BENCHMARKS[benchmark].split, files)
