"""lmms-eval's own arguments, read by its own parser: what would end the run later is refused here, in one line."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from lmms_awares.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours, without the page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError in place of leaving the program."""
        raise ConfigError(f"{' '.join(message.split())}; lmms-eval eval --help lists what it takes")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The settings that lmms-eval will make of `arguments`.

    Raises:
        ConfigError: an unknown argument, or a value of another type.
    """
    from lmms_eval import __main__ as host

    with (
        patch.object(sys, "argv", ["lmms-eval", *arguments]),
        patch.object(argparse.ArgumentParser, "error", Parser.error),
    ):
        _, found = host.parse_eval_args()
    return found


def check(found: argparse.Namespace) -> None:
    """Refuse settings that lmms-eval finds out about only when the model is loaded, or when everything is generated.

    Raises:
        ConfigError: names the argument.
    """
    limit = found.limit
    if limit is not None and not (0 < limit < 1 or (limit >= 1 and float(limit).is_integer())):
        raise ConfigError(
            f"--limit {limit:g} must be a number of documents, 1 or more, or a share of them below 1; leave it out to "
            "run all"
        )
    if found.offset < 0:
        raise ConfigError(f"--offset {found.offset} must be 0 or more")
    if found.repeats < 1:
        raise ConfigError(f"--repeats {found.repeats} must be 1 or more")
    _check_known_words(found)
    pairs(found.gen_kwargs, "--gen_kwargs")


def pairs(text: str, what: str) -> dict[str, Any]:
    """`name=value,name=value` as lmms-eval reads it.

    Raises:
        ConfigError: something else.
    """
    from lmms_eval.utils import simple_parse_args_string

    try:
        found: dict[str, Any] = simple_parse_args_string(text)
    except ValueError:
        raise ConfigError(f"{what} {text!r} must read name=value,name=value") from None
    return found


def results_folder(found: argparse.Namespace) -> Path:
    """Where lmms-eval will write the results: it names a folder after the model."""
    from lmms_eval.loggers.evaluation_tracker import GeneralConfigTracker
    from lmms_eval.utils import sanitize_model_name

    return Path(found.output_path, sanitize_model_name(GeneralConfigTracker._get_model_name(found.model_args)))


def _check_known_words(found: argparse.Namespace) -> None:
    from lmms_eval.utils import get_datetime_str
    from loguru import logger

    try:
        logger.level(found.verbosity)
    except ValueError:
        raise ConfigError(f"--verbosity {found.verbosity} is no level; give INFO, WARNING, ERROR or DEBUG") from None
    try:
        get_datetime_str(timezone=found.timezone)
    except KeyError:
        raise ConfigError(f"--timezone {found.timezone} is unknown; give one such as UTC or Europe/Berlin") from None
    try:
        tags = None if found.reasoning_tags == "none" else json.loads(found.reasoning_tags)
        well_formed = tags is None or all(isinstance(pair, list) and len(pair) == 2 for pair in tags)
    except (ValueError, TypeError):
        well_formed = False
    if not well_formed:
        raise ConfigError(
            f"--reasoning_tags {found.reasoning_tags} must be JSON such as " + '[["<think>", "</think>"]]'
        )
