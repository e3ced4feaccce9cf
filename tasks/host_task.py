"""The Task class behind `awares:NAME`: a task of the installed lmms-eval, with its prompts and metrics, and traces."""

import contextlib
import inspect
import io
import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import datasets
from lmms_eval import utils
from lmms_eval.api.task import ConfigurableMessagesTask
from loguru import logger
from PIL import Image

from lmms_awares.envelope import envelope_of
from lmms_awares.errors import ConfigError
from lmms_awares.tasks.data import host_files
from lmms_awares.tasks.host_index import installed
from lmms_awares.tasks.host_survey import FALLBACK_JUDGES, Wrapped, described, wrapped
from lmms_awares.tasks.traced_task import TracedTask, on_files, with_traces
from lmms_awares.tasks.values import image_file

# Without lmms-eval's retries, behind which a missing data set looks like a failure of the network.
_host_download = inspect.unwrap(ConfigurableMessagesTask.download)
_aggregating = threading.Lock()  # what a scorer prints is kept off the terminal, which is the whole process's


class JudgeNeeded(BaseException):
    """An answer that only the task's judge could score. No `Exception`: scorers catch those, and ask again."""


class HostTask(TracedTask):
    """A task of lmms-eval as it is, under the name `awares:NAME`, with tokens and traces.

    Args:
        config: the YAML's keys: `task`, `class`, `host_task` (lmms-eval's name), and where the defaults do not do,
            `headline` (a metric of its `metric_list`) and `scale` (the highest value that gives one document); `model`,
            lmms-eval's model id, for which the task may have prompts of its own.

    Attributes:
        facts: what is known of the task.

    Raises:
        ConfigError: a task that cannot be wrapped, or a headline that it does not have.
        DataError: no local documents where `AWARES_DATA_ROOT` is set.
    """

    dataset: Any  # a split's documents by its name

    def __init__(self, config: dict[str, Any]) -> None:
        self.facts = _facts(config)
        files = host_files(self.facts.name, self.facts.split)
        self._folder = Path(files[0]).parent if files else None  # where relative image paths start
        self.args: Any = None  # lmms-eval's command line, which it sets before it scores
        self._images: dict[str, bool] = {}  # columns with images, and whether they hold lists of them
        super().__init__(config=_full_config(self.facts, config["task"], files), model_name=config.get("model"))
        _without_judge(self.facts.name, self.config.process_results)

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        """Load the documents, leaving images undecoded, so that one broken image cannot end the task."""
        _host_download(self, dataset_kwargs)
        stored, without = {}, {}
        for split, documents in self.dataset.items():
            found = {name: kind for name, kind in map(_as_stored, documents.features.items()) if kind is not None}
            self._images |= {name: isinstance(kind, datasets.List) for name, kind in found.items()}
            for name, kind in found.items():
                documents = documents.cast_column(name, kind)  # noqa: PLW2901
            stored[split], without[split] = documents, documents.remove_columns(list(found))
        # Scorers that want images get them as lmms-eval gives them.
        self.dataset_no_image = self.dataset if self.config.process_results_use_image else without
        self.dataset = stored
        self.config.metadata["awares_images"] = list(self._images)

    def doc_to_visual(self, doc: dict[str, Any]) -> list[Any]:
        """Return what the task shows of a document.

        Raises:
            OSError: an image that cannot be read.
        """
        visuals: list[Any] = super().doc_to_visual(self._decoded(doc))
        return visuals

    def doc_to_messages(self, doc: dict[str, Any], **rounds: Any) -> list[dict[str, Any]]:
        """Return the task's chat messages of a document; errors as `doc_to_visual`."""
        messages: list[dict[str, Any]] = super().doc_to_messages(self._decoded(doc), **rounds)
        return messages

    def count_images(self, doc: dict[str, Any]) -> int:
        """Count the images that the task shows of a document, without decoding those in image columns."""
        blank = Image.new("RGB", (64, 64))
        shown = {
            name: [blank] * len(doc[name]) if several else blank
            for name, several in self._images.items()
            if doc.get(name) is not None
        }
        parts = (part for message in super().doc_to_messages({**doc, **shown}) for part in message["content"])
        return sum(isinstance(part, dict) and part["type"] == "image" for part in parts)

    def _decoded(self, doc: dict[str, Any]) -> dict[str, Any]:
        """Return a document with its images as lmms-eval has them: as `datasets` decodes them."""
        decoded = dict(doc)
        for name, several in self._images.items():
            if doc.get(name) is not None:
                decoded[name] = [*map(self._image, doc[name])] if several else self._image(doc[name])
        return decoded

    def _image(self, stored: Any) -> Any:
        if not isinstance(stored, dict):
            return stored  # decoded before
        if stored["bytes"] is None and stored["path"] is None:
            raise OSError("the document has no image")
        path = stored["path"] if stored["bytes"] is not None else str(image_file(stored["path"], self._folder))
        return datasets.Image().decode_example({"bytes": stored["bytes"], "path": path})

    def apply_filters(self) -> Any:
        """Apply the task's filters to the answers alone: they know nothing of traces."""
        sealed = [(instance, instance.resps) for instance in self._instances]
        traces = []
        for instance, responses in sealed:
            split = [envelope_of(response) for response in responses]
            traces.append(split[0][1])
            instance.resps = [answer for answer, _ in split]
        applied = super().apply_filters()
        for (instance, responses), trace in zip(sealed, traces, strict=True):
            instance.resps = responses
            for name, answer in instance.filtered_resps.items():
                instance.filtered_resps[name] = f"{answer[0] if isinstance(answer, list) else answer}{trace}"
        return applied

    def headline(self, scores: dict[str, Any]) -> float | None:
        """Return the value of the main metric, 0..1; of another where the document does not have that.

        Raises:
            ConfigError: it is beyond the scale.
        """
        listed = [metric["metric"] for metric in self.config.metric_list]
        metric = next((name for name in listed if name in scores), None)
        value = scores[metric] if metric is not None else None
        if isinstance(value, dict) and "score" in value:
            value = value["score"]
        scale = self.facts.scale
        if not isinstance(value, int | float):  # bool is an int, and numpy's numbers are floats
            value, scale = self._alone(value, metric), self.facts.alone_scale
        if value is None or scale is None or math.isnan(value) or self.facts.lower:
            return None
        if not 0 <= value <= scale:
            raise ConfigError(
                f"{metric} of {self.config.task} gave {value:g} for one document, beyond 0 to {scale:g}; write a "
                "task file with its `scale`: awares tasks wrap --help"
            )
        return float(value) / scale

    def _alone(self, value: Any, metric: str | None) -> float | None:
        """Aggregate one document's value."""
        if value is None or metric != self.facts.headline or not self.facts.alone:
            return None
        aggregate = self._aggregation_list[metric]
        log = aggregate.__module__
        with _aggregating, contextlib.redirect_stdout(io.StringIO()):
            logger.disable(log)  # some log a table each time
            try:
                result = aggregate([value], self.args) if _takes_arguments(aggregate) else aggregate([value])
            except Exception:  # it needs more than one document, so that one alone has no score
                return None
            finally:
                logger.enable(log)
        return float(result) if isinstance(result, int | float) else None

    def odd_value(self, doc: dict[str, Any]) -> str | None:
        """Nothing is known of what its columns may hold."""
        return None

    def _scored(self, doc: dict[str, Any], answer: str, full_docs: Any) -> dict[str, Any] | str:
        try:
            return super()._scored(doc, answer, full_docs)
        except JudgeNeeded as error:
            return str(error)


def _facts(config: dict[str, Any]) -> Wrapped:
    """Return what is known of the task that a YAML names, with what it says itself."""
    facts = wrapped(config["host_task"])[0]
    if facts.name != config["host_task"]:
        raise ConfigError(f"{config['host_task']} is a group of lmms-eval; name one task as host_task")
    if "headline" in config:
        listed = [metric["metric"] for metric in installed().settings[facts.name]["metric_list"]]
        if config["headline"] not in listed:
            raise ConfigError(f"{facts.name} has no metric {config['headline']}; it has: {', '.join(listed)}")
        facts = described(facts.name, config["headline"])
    scale = config.get("scale")
    return facts if scale is None else replace(facts, scale=float(scale), alone_scale=float(scale))


def _full_config(facts: Wrapped, task: str, files: list[str] | None) -> dict[str, Any]:
    """Return lmms-eval's settings with our name and opt-in, the main metric first, and local data if present."""
    config = with_traces(utils.load_yaml_config(str(installed().files[facts.name]), mode="full"), task)
    config["metric_list"] = sorted(config["metric_list"], key=lambda metric: metric["metric"] != facts.headline)
    return config if files is None else on_files(config, facts.split, files)


def _as_stored(column: tuple[str, Any]) -> tuple[str, Any]:
    """Return a column's name and, where it holds images, the feature that leaves them undecoded, else None."""
    name, kind = column
    stored = datasets.Image(decode=False)
    if isinstance(kind, datasets.Image) or (isinstance(kind, dict) and kind.keys() == {"bytes", "path"}):
        return name, stored
    if isinstance(kind, datasets.List) and isinstance(kind.feature, datasets.Image):
        return name, datasets.List(stored)
    return name, None


def _takes_arguments(function: Callable[..., Any]) -> bool:
    return "args" in inspect.signature(function).parameters


def _without_judge(name: str, scorer: Any) -> None:
    """Keep a scorer from asking its judge where there is no key for it; only answers that no rule reads need one."""
    if name not in FALLBACK_JUDGES:
        return
    evaluator, method, key = FALLBACK_JUDGES[name]
    if os.environ.get(key):
        return

    def refuse(*_: Any) -> NoReturn:
        raise JudgeNeeded(f"no rule of {name} reads this answer, and its judge needs {key}")

    setattr(scorer.__globals__[evaluator], method, refuse)
