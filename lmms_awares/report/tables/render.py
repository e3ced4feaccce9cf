"""A `Table` as terminal text, markdown, CSV, LaTeX (booktabs) and HTML."""

import html
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables.table import Table

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "%_&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"\0": r"$\ge$", ">": "$>$", "<": "$<$", "±": r"$\pm$"}
)


def terminal(table: Table) -> str:
    """Render as aligned text, the notes below."""
    headings = [f"{group}\n{name}" for group, name in _merged(table)]
    body = tabulate(table.frame.to_numpy().tolist(), headings, disable_numparse=True, stralign="right")
    return "\n".join([table.title, body, *table.notes])


def markdown(table: Table) -> str:
    """Render as a pipe table for GitHub, the notes as a list."""
    rows = [[text.replace("|", r"\|").replace("*", r"\*") for text in row] for row in table.frame.to_numpy().tolist()]
    headings = [" ".join(column).strip().replace("*", r"\*") for column in table.frame.columns]
    alignment = ["left", *["right"] * (len(headings) - 1)]
    body = tabulate(rows, headings, tablefmt="pipe", disable_numparse=True, colalign=alignment)
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"**{table.title}**", "", body, *(["", *notes] if notes else [])])


def csv(table: Table) -> str:
    """Render the same cells as CSV, two-level headings joined by a blank, without the notes."""
    frame = table.frame.set_axis([" ".join(column).strip() for column in table.frame.columns], axis="columns")
    return frame.to_csv(index=False).rstrip("\n")


def latex(table: Table) -> str:
    """Render as a `table` environment with booktabs rules; needs `\\usepackage{booktabs}`. The notes are comments."""
    frame = table.frame
    shape = "l" + "r" * (frame.shape[1] - 1)
    columns = pd.MultiIndex.from_tuples([tuple(map(_escaped, column)) for column in frame.columns])
    body = (
        frame.map(_escaped)
        .set_axis(columns, axis="columns")
        .to_latex(index=False, escape=False, column_format=shape, multicolumn_format="c", caption=_escaped(table.title))
    )
    return "\n".join([*(f"% {note}" for note in table.notes), body.rstrip()])


def _escaped(text: str) -> str:
    """Escape for LaTeX; pandas leaves captions alone, and `>` and `<`, which the default font prints as others."""
    return text.replace(">=", "\0").translate(_LATEX)


def html_page(table: Table) -> str:
    """Render as a page of its own, without anything from outside."""
    style = (
        "body{font-family:sans-serif}table{border-collapse:collapse}td,th{padding:.2em .6em;text-align:right;"
        "border:0;border-bottom:1px solid #ccc}td:first-child{text-align:left}"
    )
    title = html.escape(table.title)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1>{html_table(table)}<ul>{notes}</ul></html>"
    )


def html_table(table: Table) -> str:
    """Render the table alone, to put into a page."""
    return table.frame.to_html(index=False, escape=True, border=0)


def _merged(table: Table) -> list[tuple[str, str]]:
    """Return the headings with each group named at its first column only."""
    columns = list(table.frame.columns)
    before = [None, *(column[0] for column in columns)]
    return [("" if column[0] == last else column[0], column[1]) for column, last in zip(columns, before, strict=False)]


FORMATS: dict[str, Callable[[Table], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": csv,
    "latex": latex,
    "html": html_page,
}
FILES = {"markdown": "table.md", "csv": "table_wide.csv", "latex": "table.tex", "html": "table.html"}


def write(tables: list[Table], folder: Path) -> None:
    """Write the first table as `FILES` into `folder`, which is made where missing.

    The other tables come below it in the formats that can hold several.

    Raises:
        RunError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in FILES.items():
            held = tables[:1] if name == "csv" else tables
            text = "\n\n".join(FORMATS[name](table) for table in held)
            (folder / file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}; give another folder") from None
