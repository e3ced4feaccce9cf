"""A `Table` as terminal text, markdown, CSV, JSON, LaTeX and HTML."""

import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tabulate import tabulate

from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables.latex import latex
from lmms_awares.report.tables.table import Table, headings_of
from lmms_awares.report.tables.terminal import terminal


def markdown(table: Table) -> str:
    """Render as a pipe table for GitHub, the notes as a list."""
    rows = [[text.replace("|", r"\|").replace("*", r"\*") for text in row] for row in table.frame.to_numpy().tolist()]
    headings = [heading.replace("*", r"\*") for heading in _headings(table)]
    alignment = ["left", *["right"] * (len(headings) - 1)]
    body = tabulate(rows, headings, tablefmt="pipe", disable_numparse=True, colalign=alignment)
    notes = [f"- {note}" for note in table.lines]
    return "\n".join([f"**{table.title}**", "", body, *(["", *notes] if notes else [])])


def csv(table: Table) -> str:
    """Render the same cells as CSV, two-level headings joined by a blank, without the notes."""
    return table.frame.set_axis(_headings(table), axis="columns").to_csv(index=False).rstrip("\n")


def as_json(table: Table) -> str:
    """Render as an object: `title`, `notes`, and `rows`, each an object by CSV's headings.

    A cell that is a number is one, `-` is null, and anything else its text, such as an average marked with a star.
    """
    headings = _headings(table)
    rows = [dict(zip(headings, map(_value, row), strict=True)) for row in table.frame.to_numpy().tolist()]
    return json.dumps({"title": table.title, "rows": rows, "notes": table.lines}, indent=1)


def _value(text: str) -> float | str | None:
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text) if "." in text else int(text)
    return None if text == "-" else text


def _headings(table: Table) -> list[str]:
    return [" ".join(column).strip() for column in headings_of(table.frame)]


def html_page(table: Table) -> str:
    """Render as a page of its own, without anything from outside."""
    style = (
        "body{font-family:sans-serif}table{border-collapse:collapse}td,th{padding:.2em .6em;text-align:right;"
        "border:0;border-bottom:1px solid #ccc}td:first-child{text-align:left}"
    )
    title = html.escape(table.title)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.lines)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1>{html_table(table)}<ul>{notes}</ul></html>"
    )


def html_table(table: Table) -> str:
    """Render the table alone, to put into a page."""
    return table.frame.to_html(index=False, escape=True, border=0)


FORMATS: dict[str, Callable[[Table], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": csv,
    "json": as_json,
    "latex": latex,
    "html": html_page,
}
FILES = {
    "markdown": "table.md",
    "csv": "table_wide.csv",
    "json": "table.json",
    "latex": "table.tex",
    "html": "table.html",
}


def document(tables: Sequence[Table], form: str) -> str:
    """Render several tables as one text; as JSON they are the items of one array."""
    parts = [FORMATS[form](table) for table in tables]
    return "[" + ",\n".join(parts) + "]" if form == "json" else "\n\n".join(parts)


def write(tables: list[Table], folder: Path) -> None:
    """Write the first table as `FILES` into `folder`, which is made where missing.

    The other tables come below it in the formats that can hold several.

    Raises:
        RunError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in FILES.items():
            text = document(tables[:1] if name == "csv" else tables, name)
            (folder / file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}; give another folder") from None
