"""Settings from a YAML file, held against a schema; what is wrong is said in one line that repeats no key."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lmms_awares.errors import ConfigError

Schema = TypeVar("Schema", bound=BaseModel)


class Strict(BaseModel):
    """Settings of which each must be known."""

    model_config = ConfigDict(extra="forbid")


def read_settings_file(file: Path, schema: type[Schema], *, called: str | None = None) -> Schema:
    """Read a file of settings.

    Args:
        schema: what it must hold.
        called: what messages call it; default: its path.

    Raises:
        ConfigError: no file, no YAML, or a setting that is unknown or cannot work; one line that names it.

    Example:
        grid = read_settings_file(Path("table4.yaml"), Grid)
    """
    name = called or str(file)
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} cannot be read: {error}; give a YAML file, or the name of one that ships") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{name} holds no settings by name; `name: value` is expected")
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{name}: {first_problem(error, schema)}") from None


def named_file(name: Path, shipped: Path) -> Path:
    """Return the file that ships under a name, else the path itself.

    Args:
        shipped: folder of the files that ship.

    Example:
        named_file(Path("table4_mini"), CONFIGS)  # CONFIGS / "table4_mini.yaml"
    """
    own = shipped / f"{name}.yaml"
    return own if own.is_file() else name


def first_problem(error: ValidationError, schema: type[BaseModel]) -> str:
    """Say where the first problem is and what it is.

    Args:
        schema: of the file; an unknown name is held against those that it knows.

    Example:
        first_problem(error, Config)  # "rowz is no setting; rows is"
    """
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    top = schema.model_fields.get(place[0]) if place else None
    if len(place) > 1 and top is not None and top.discriminator is not None:
        del place[1]  # which of several kinds it is; nobody wrote that
    where = ".".join(place) or "the file"
    if first["type"] == "extra_forbidden":
        known = set(_names(schema))
        near = [] if place[-1] in known else get_close_matches(place[-1], known, 1)
        return f"{where} is no setting{f'; {near[0]} is' if near else ' here'}"
    if first["type"] == "missing":
        return f"{where} is missing"
    got = first["input"]
    return f"{where}: {first['msg']}" + (f" (got {str(got)[:80]!r})" if isinstance(got, str | int | float) else "")


def _names(schema: type[BaseModel]) -> Iterator[str]:
    """Names of all settings, those of parts among them."""
    for name, field in schema.model_fields.items():
        yield name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _names(kind)
