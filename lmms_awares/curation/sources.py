"""Sources of a curated set: a YAML file each, which says where the rows are and what their columns mean.

    data:
      files: train/*.parquet         # or hub: OWNER/NAME, with config, split, revision
    columns:
      id: question_id                # default: the row's number
      image: image                   # bytes, a path, an image column of `datasets`, or a list of these
      question: "{{ question }}\\nAnswer the question using a single word or phrase."
      answers: answers               # a text, or a list of them
      evidence_box: {column: box, form: xywh}
    metric: anls
    several_images: drop

A column is a name, or a Jinja template over all columns of the row. The question is all that the user says.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from lmms_awares.curation.records import Data, Record, Records
from lmms_awares.curation.rows import Rejected
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.yaml_settings import read_settings_file

_JINJA = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, finalize=lambda value: "" if value is None else value, keep_trailing_newline=True
)
Box = tuple[float, float, float, float]  # left, top, right, bottom in px


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


def _checked(text: str) -> str:
    try:
        _JINJA.parse(text)
    except TemplateError as error:
        raise ValueError(f"no Jinja template: {error}") from None
    return text


Column = Annotated[str, Field(min_length=1), AfterValidator(_checked)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EvidenceBox(_Strict):
    """The column of the evidence box, in px of the upright image: left, top, and right, bottom or width, height."""

    column: str
    form: Literal["xyxy", "xywh"]


class Columns(_Strict):
    """What a row's columns mean; see the module's text."""

    id: Column | None = None
    image: str = Field(validation_alias=AliasChoices("image", "images"))
    question: Column
    answers: Column
    evidence_box: EvidenceBox | None = None


class Source(_Strict):
    """A source as its YAML file describes it.

    Attributes:
        metric: how a judge without a model compares answers.
        several_images: rows of several images are joined into one picture (see `pictures.join`), or dropped.
    """

    data: Data
    columns: Columns
    metric: Literal["exact", "relaxed", "anls"]
    several_images: Literal["join", "drop"] = "drop"

    @model_validator(mode="after")
    def _box_has_one_image(self) -> "Source":
        if self.columns.evidence_box and self.several_images == "join":
            raise ValueError("an evidence_box is in px of one image; say several_images: drop")
        return self


@dataclass(frozen=True)
class OpenSource:
    """A source with its rows.

    Attributes:
        name: the YAML file's.
        folder: where relative paths of images start; None: at the folder of their file.
    """

    name: str
    source: Source
    records: Records
    folder: Path | None

    def id_of(self, record: Record, number: int) -> str | Rejected:
        """The row's id in the set."""
        own: Any = number
        if self.source.columns.id is not None:
            own = _value(self.source.columns.id, record)
            if isinstance(own, Rejected):
                return own
        if own is None or not str(own).strip():
            return Rejected("no id", f"row {number}")
        return f"{self.name}/{str(own).strip()}"


@dataclass(frozen=True)
class Asked:
    """What a row asks, without its image.

    Attributes:
        answers: right ones, the best first.
        box: as the source has it, not yet compared with the image; None where it has none.
    """

    question: str
    answers: tuple[str, ...]
    box: Box | None


def read_source(name: str) -> tuple[str, Source, Path | None]:
    """Read the description of a source.

    Args:
        name: of one that ships, or a YAML file.

    Returns:
        its name, the description, and the YAML file's folder; None for one that ships.

    Raises:
        ConfigError: there is none, or it cannot work; one line that names file and key.

    Example:
        name, source, _ = read_source("chartqa")
    """
    own = Path(name)
    shipped = files("lmms_awares.curation").joinpath("sources", f"{name}.yaml")
    is_file = own.suffix in (".yaml", ".yml")
    if not is_file and not shipped.is_file():
        raise ConfigError(f"no source {name} ships, and it is no .yaml file; there are: {', '.join(shipped_sources())}")
    read = read_settings_file(own if is_file else Path(str(shipped)), Source, called=f"source {name}")
    return own.stem, read, own.parent if is_file else None


def shipped_sources() -> list[str]:
    """Names of the sources that ship."""
    folder = files("lmms_awares.curation").joinpath("sources")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def open_source(name: str, data_root: Path | None = None, wanted: int = 1) -> OpenSource:
    """Open a source's data and check that its columns are there.

    Args:
        data_root: where the files of sources that ship are.
        wanted: rows that are to be chosen; of the mini suite not many more are drawn.

    Raises:
        ConfigError: see `read_source`; a source that ships needs `data_root`.
        DataError: no data, or a column that is missing; one line that names file and key.
    """
    stem, source, folder = read_source(name)
    root = folder or data_root
    if root is None and (source.data.files or source.data.images):
        raise ConfigError(f"source {name} reads local files: say in the configuration where, as data_root")
    records = source.data.open(root or Path(), wanted)
    images = root / source.data.images if root is not None and source.data.images else None
    _check_columns(name, source.columns, records)
    return OpenSource(stem, source, records, images)


def _check_columns(name: str, columns: Columns, records: Records) -> None:
    named = {"id": columns.id, "image": columns.image, "question": columns.question, "answers": columns.answers}
    if columns.evidence_box:
        named["evidence_box"] = columns.evidence_box.column
    for key, text in named.items():
        wanted = _needs(text) if text is not None and key not in ("image", "evidence_box") else {text} - {None}
        for column in sorted(map(str, wanted - set(records.columns))):
            raise DataError(
                f"source {name}: columns.{key}: {records.where} has no column {column}; it has: "
                f"{', '.join(records.columns)}"
            )


def _needs(text: str) -> set[str | None]:
    return set(meta.find_undeclared_variables(_JINJA.parse(text))) if _is_template(text) else {text}


def read_row(source: Source, record: Record) -> Asked | Rejected:
    """Take question, answers and box from a row.

    Example:
        asked = read_row(source, {"query": "How many bars?", "label": ["4"], "image": b"..."})
    """
    columns = source.columns
    question = _value(columns.question, record)
    if isinstance(question, Rejected):
        return question
    parts = [record[str(name)] for name in _needs(columns.question)]
    if not isinstance(question, str) or not question.strip() or all(_is_blank(part) for part in parts):
        return Rejected("blank question", repr(question))
    answers = _value(columns.answers, record)
    if isinstance(answers, Rejected):
        return answers
    folded = fold(answers)
    if not folded:
        return Rejected("no answer", repr(answers)[:80])
    box = None if columns.evidence_box is None else _box(record, columns.evidence_box)
    return box if isinstance(box, Rejected) else Asked(question, folded, box)


def _is_blank(value: Any) -> bool:
    return value is None or not str(value).strip()


def fold(answers: Any) -> tuple[str, ...]:
    """Return each answer once, the most frequent first; those that come equally often stay in order.

    Args:
        answers: a text or a number, or a list of these; blank ones do not count.

    Example:
        >>> fold(["nokia", "Nokia 3310", "nokia"])
        ('nokia', 'Nokia 3310')
    """
    given = [answers] if isinstance(answers, str) or not isinstance(answers, Sequence) else answers
    texts = [str(answer).strip() for answer in given if isinstance(answer, str | int | float)]
    return tuple(text for text, _ in Counter(text for text in texts if text).most_common())


def _box(record: Record, where: EvidenceBox) -> Box | Rejected | None:
    value = record[where.column]
    if value is None:
        return None
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []
    if len(sides) != 4 or not all(isinstance(side, int | float) for side in sides):
        return Rejected("no evidence box", f"four numbers are expected: {repr(value)[:80]}")
    left, top, right, bottom = map(float, sides)
    return (left, top, left + right, top + bottom) if where.form == "xywh" else (left, top, right, bottom)


def _value(text: str, record: Mapping[str, Any]) -> Any:
    """A column's value, or a template's text; Rejected where the template cannot take this row."""
    if not _is_template(text):
        return record[text]
    try:
        return _template(text).render(record)
    except Exception as error:  # whatever the row's values do to the template
        return Rejected("template failed", f"{type(error).__name__}: {error}"[:160])


@cache
def _template(text: str) -> Template:
    return _JINJA.from_string(text)
