"""The arguments of each model id and each pruner as text, from their classes and the classes' docstrings."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from lmms_awares.models.config import ARGS, CommonArgs, with_options
from lmms_awares.pruning import PRUNERS, Pruner

_WORDS = {str: "text", int: "number", float: "number", bool: "true|false", Path: "path"}
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", re.MULTILINE)
_WIDTHS = (22, 30, 10)  # of name, type and default


@dataclass(frozen=True)
class Argument:
    """One model argument. `default`: `required` where it must be given, empty where the meaning says what happens."""

    name: str
    type: str
    default: str
    meaning: str


def arguments_of(schema: type[CommonArgs]) -> list[Argument]:
    """The arguments of one class: what must be given, then the others, those that it inherits first."""
    found = _described(schema, _meanings(schema, "Attributes"))
    return sorted(found, key=lambda argument: argument.default != "required")


def options_listed(kind: type[Pruner]) -> list[Argument]:
    """The options of one pruner, which are model arguments where it is used."""
    found = _described(with_options(CommonArgs, kind), _meanings(kind, "Args"))
    return [argument for argument in found if argument.name not in CommonArgs.model_fields]


def listing() -> Iterator[str]:
    """Lines: what every model takes, each model with what it takes besides, then the options of each pruner."""
    common = arguments_of(CommonArgs)
    yield "Every model takes these --model_args:"
    yield from map(_line, common)
    for model, schema in ARGS.items():
        own = [argument for argument in arguments_of(schema) if argument not in common]
        own += options_listed(PRUNERS[model]) if model in PRUNERS else []
        yield ""
        yield f"{model} takes besides:" if own else f"{model} takes no others"
        yield from map(_line, own)
    for pruner, kind in PRUNERS.items():
        options = options_listed(kind)
        yield ""
        yield f"pruner={pruner} takes besides:" if options else f"pruner={pruner} takes no others"
        yield from map(_line, options)


def _described(schema: type[CommonArgs], meanings: dict[str, str]) -> list[Argument]:
    return [
        Argument(name, _type(field.annotation), _default(field), meanings.get(name, ""))
        for name, field in schema.model_fields.items()
    ]


def _line(argument: Argument) -> str:
    cells = (argument.name, argument.type, argument.default)
    head = "  " + " ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
    return f"{head} {argument.meaning}".rstrip()


def _meanings(described: type, section: str) -> dict[str, str]:
    """From a section of the docstrings of a class and of those that it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(described.__mro__):
        _, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition(f"{section}:\n")
        for names, text in _ENTRY.findall(attributes):
            found |= dict.fromkeys(names.split(", "), " ".join(textwrap.dedent(text).split()))
    return found


def _type(annotation: Any) -> str:
    if annotation in _WORDS:
        return _WORDS[annotation]
    members = [member for member in get_args(annotation) if member is not NoneType]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, members))
    return "|".join(map(_type, members))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "" if default is None else str(default).lower()
