"""Settings of a training from a YAML file and options, with TRL's parser."""

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from trl.scripts.utils import TrlParser

from lmms_awares.errors import ConfigError

CONFIGS = Path(__file__).parent / "configs"
Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], args: Sequence[str] | None = None) -> Settings:
    """Read settings; an option counts more than the file that `--config` names.

    Args:
        kind: a dataclass.
        args: default: the command's; after `--config` a file, or the name of one that ships.

    Raises:
        ConfigError: no argument at all, a file that is not there or no YAML mapping, an unknown name, or a value of
            another kind.

    Example:
        read_settings(WeightedSFTConfig, ["--config", "sft.yaml", "--learning_rate", "1e-5"])
    """
    told, given = io.StringIO(), _named(args)
    if not given:
        raise ConfigError("give --config FILE, or the name of one that ships, such as sft_7b or grpo_7b")
    try:
        with contextlib.redirect_stderr(told):
            parsed: tuple[Any, ...] = TrlParser(cast(Any, (kind,))).parse_args_and_config(given)
    except SystemExit as end:
        if not end.code:
            raise  # --help
        raise ConfigError(told.getvalue().strip().rpartition("error: ")[2] or "the options cannot be read") from None
    except OSError as error:
        raise ConfigError(f"--config {error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, IndexError, yaml.YAMLError) as error:
        raise ConfigError(f"--config: {' '.join(str(error).split())[:200]}") from None
    settings: Settings = parsed[0]
    return settings


def _named(args: Sequence[str] | None) -> list[str]:
    """The arguments, with a configuration that ships by its path."""
    given = list(sys.argv[1:] if args is None else args)
    for place in range(1, len(given)):
        if given[place - 1] == "--config" and (shipped := CONFIGS / f"{given[place]}.yaml").is_file():
            given[place] = str(shipped)
    return given
