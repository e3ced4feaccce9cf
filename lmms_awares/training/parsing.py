"""Settings of a training from a YAML file and options, with TRL's parser."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import yaml
from trl.scripts.utils import TrlParser

from lmms_awares.errors import ConfigError

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], args: Sequence[str] | None = None) -> Settings:
    """Read settings; an option counts more than the file that `--config` names.

    Args:
        kind: a dataclass.
        args: default: the command's.

    Raises:
        ConfigError: a file that is not there or no YAML mapping, an unknown name, or a value of another kind.

    Example:
        read_settings(WeightedSFTConfig, ["--config", "sft.yaml", "--learning_rate", "1e-5"])
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            parsed: tuple[Any, ...] = TrlParser(cast(Any, (kind,))).parse_args_and_config(args)
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
