"""Settings that every trainer has: how often the policy is evaluated, on how much, and what the best checkpoint is."""

import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from lmms_awares.errors import ConfigError

NUMBERS = (
    *("score", "rtr", "call_rate", "crops", "area", "valid", "recovered", "invalid"),
    *("precision", "recall", "f1", "fpr", "iou_exact", "iou_relaxed"),
)
"""What an evaluation measures, see `lmms_awares.training.evaluation.summarize`; its counts are beside these."""

LOWER = "begin again in another output_dir, with a lower learning_rate"  # where numbers are none
_LOGGERS = ("tensorboard", "wandb", "trackio")
_RULE = re.compile(r"(\w+)@(\w+)<=(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Best:
    """Which checkpoint is the best one: the highest `metric` where `limited` is at most `limit`.

    Example:
        >>> Best.parse("score@rtr<=0.4")
        Best(metric='score', limited='rtr', limit=0.4)
    """

    metric: str
    limited: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Best":
        """Read `METRIC@LIMITED<=LIMIT`.

        Raises:
            ConfigError: another form, or a name that is not measured.
        """
        found = _RULE.fullmatch(text.replace(" ", ""))
        if found is None:
            raise ConfigError(f"best={text!r} must read METRIC@LIMITED<=LIMIT, such as score@rtr<=0.4")
        metric, limited, limit = found.groups()
        for name in (metric, limited):
            if name not in NUMBERS:
                raise ConfigError(f"best={text!r}: {name} is not measured; there are {', '.join(NUMBERS)}")
        return cls(metric, limited, float(limit))

    def __str__(self) -> str:
        return f"{self.metric}@{self.limited}<={self.limit:g}"

    def value(self, numbers: Mapping[str, float]) -> float | None:
        """Return the metric where the limit holds; None where it does not, or either is not known.

        Example:
            >>> rule = Best("score", "rtr", 0.4)
            >>> rule.value({"score": 61.0, "rtr": 0.4}), rule.value({"score": 70.0, "rtr": 0.5})
            (61.0, None)
        """
        metric, limited = numbers[self.metric], numbers[self.limited]
        return None if math.isnan(metric) or not limited <= self.limit else metric


def check_values(settings: Mapping[str, Any], at_least: Mapping[str, float]) -> None:
    """Find what no trainer can work with.

    Args:
        settings: by name; `pretrained`, `curated`, `output_dir` and `weights_dtype` among them.
        at_least: the least value of each number.

    Raises:
        ConfigError: a name that is missing, a number out of range, or another dtype.
    """
    for name in ("pretrained", "curated", "output_dir"):
        if not settings[name]:
            raise ConfigError(f"{name} is missing; name it in the file, or as --{name}")
    for name, least in at_least.items():
        if not least <= settings[name] < math.inf:
            raise ConfigError(f"{name}={settings[name]} must be {least:g} or more, and finite")
    if settings["weights_dtype"] not in ("float32", "bfloat16"):
        raise ConfigError(f"weights_dtype={settings['weights_dtype']} must be float32 or bfloat16")


def check_loggers(names: Sequence[str]) -> None:
    """Find what a training is to log to and is not known, or not installed.

    Raises:
        ConfigError: an unknown name, or a package that is missing.
    """
    known = {"none", "all", *INTEGRATION_TO_CALLBACK}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"report_to: {unknown[0]} is not known; there are {', '.join(sorted(known))}")
    missing = [name for name in names if name in _LOGGERS and importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"report_to: {missing[0]} is not installed: pip install {missing[0]}, or give report_to: none"
        )


@dataclass
class EvaluationSettings:
    """Evaluation while training, for a trainer's settings to inherit.

    The rows of a batch are TRL's `per_device_eval_batch_size`.

    Args:
        eval_every: steps between two evaluations; also at step 0 and at the end. 0: never.
        eval_rows: rows of the set's split `validation`, the same ones each time, spread over its sources.
        best: which checkpoint `OUTPUT_DIR/best` keeps, as `score@rtr<=0.4`; empty: none.
    """

    eval_every: int = field(default=0, metadata={"help": "steps between two evaluations of the policy; 0 for none"})
    eval_rows: int = field(default=256, metadata={"help": "rows of the split validation that are evaluated"})
    best: str = field(default="", metadata={"help": "the checkpoint that is kept, as score@rtr<=0.4"})

    def check_evaluation(self) -> None:
        """Find what cannot work.

        Raises:
            ConfigError: a number out of range, or a rule for the best that cannot be read or has nothing to go by.
        """
        for name, least in (("eval_every", 0), ("eval_rows", 1)):
            if vars(self)[name] < least:
                raise ConfigError(f"{name}={vars(self)[name]} must be {least} or more")
        if self.best and not self.eval_every:
            raise ConfigError(f"best={self.best!r} needs evaluations; set eval_every")
        if self.best:
            Best.parse(self.best)
