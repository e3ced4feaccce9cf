"""What is wrong with a YAML file of settings, in one line; no value that may be a key is repeated."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ValidationError


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
