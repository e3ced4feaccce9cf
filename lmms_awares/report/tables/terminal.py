"""A `Table` as text for a terminal: aligned, or a line per benchmark where the terminal is too narrow for that."""

import shutil
import textwrap
from itertools import groupby

from tabulate import tabulate

from lmms_awares.report.tables.table import Table, headings_of

_NAMES = ("method", "benchmark", "measure", "group", "Model", "Setting", "Benchmark", "Section", "Parameter")  # of rows
_ANY = 10**6  # characters: nothing is broken
_SHORTER = (24, 16, 12, 8)  # characters in a cell's line, to try where there are no groups
Pair = tuple[str, str]  # heading and cell


def terminal(table: Table) -> str:
    """Render as text that fits the terminal, the notes below; aligned where no terminal says how wide it is."""
    width = shutil.get_terminal_size(fallback=(0, 0)).columns  # of the variable COLUMNS, where it is set
    if not width:
        return "\n".join([table.title, _aligned(table), *table.lines])
    grouped = any(group for group, _ in headings_of(table.frame))
    tries = (_aligned(table, longest) for longest in (_ANY, *(() if grouped else _SHORTER)))
    body = next((text for text in tries if max(map(len, text.splitlines())) <= width), _stacked(table, width))
    return "\n".join([_wrapped(table.title, width), body, *(_wrapped(line, width) for line in table.lines)])


def _aligned(table: Table, longest: int = _ANY) -> str:
    """Return the table with texts broken into lines of at most `longest` characters, words whole; groups named once."""
    columns = headings_of(table.frame)
    before = ["", *(group for group, _ in columns)]
    named = [("" if group == last else group, name) for (group, name), last in zip(columns, before, strict=False)]
    grouped = any(group for group, _ in columns)
    headings = [f"{group}\n{name}" if grouped else _broken(name, longest) for group, name in named]
    rows = [[_broken(text, longest) for text in row] for row in table.frame.to_numpy().tolist()]
    return tabulate(rows, headings, disable_numparse=True, stralign="right")


def _broken(text: str, longest: int) -> str:
    return textwrap.fill(text, longest, break_long_words=False, break_on_hyphens=False)


def _stacked(table: Table, width: int) -> str:
    """Return a line per row with what is no group's, and below it a line per group: a benchmark, or the averages."""
    columns = headings_of(table.frame)
    cells = table.frame.to_numpy().tolist()
    wide = {name: max(map(len, table.frame.xs(name, axis=1, level=1).to_numpy().ravel())) for _, name in columns}
    label = max(len(group) for group, _ in columns)
    lines = []
    for row in cells:
        own = [(name, row[place]) for place, (group, name) in enumerate(columns) if not group and row[place]]
        lines.append(_line("", "", own, width))
        for group, places in groupby(range(len(columns)), key=lambda place: columns[place][0]):
            pairs = [(columns[place][1], row[place].rjust(wide[columns[place][1]])) for place in places]
            if group and any(text.strip() for _, text in pairs):
                lines.append(_line("  ", group.ljust(label), pairs, width))
    return "\n".join(lines)


def _line(indent: str, label: str, pairs: list[Pair], width: int) -> str:
    """Return label and pairs, broken between pairs only."""
    parts = [text if name in _NAMES else f"{name} {text}" for name, text in pairs]
    lines = [indent + label]
    for part in parts:
        blank = "  " if lines[-1].strip() else ""
        if len(lines[-1]) + len(blank) + len(part) > width and blank:
            lines.append(indent + "    " + part)
        else:
            lines[-1] += blank + part
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(line: str, width: int) -> str:
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
