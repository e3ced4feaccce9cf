"""Which columns a table has, in which order, and rows for columns."""

from dataclasses import replace
from itertools import takewhile

import pandas as pd

from lmms_awares.errors import ConfigError
from lmms_awares.report.tables.ranks import MEASURE
from lmms_awares.report.tables.table import Table, headings_of
from lmms_awares.tasks.benchmarks import DRAWN

Column = tuple[str, str]
_AVERAGES = ("average", "of the average")


def average_first(table: Table) -> Table:
    """Put the averages before the benchmarks, behind the rows' names and what is fixed for a row."""
    groups = [group for group, _ in headings_of(table.frame)]
    lead = len(list(takewhile(lambda group: group in ("", "RTR"), groups)))
    order = sorted(range(len(groups)), key=lambda place: place >= lead and 1 + (groups[place] not in _AVERAGES))
    return replace(table, frame=table.frame.iloc[:, order])


def chosen(table: Table, names: list[str]) -> Table:
    """Keep the columns that `names` say, in their order but groups together, behind those that name the rows.

    Args:
        table: with rows and columns as they were made.
        names: each a measure (`score`), a group (`average`; `ChartQA`, whichever suite), or both (`average score`);
            case does not matter.

    Raises:
        ConfigError: a name of no column.
    """
    columns = headings_of(table.frame)
    lead = len(list(takewhile(lambda column: not column[0], columns)))
    found: list[int] = []
    for name in (given.strip() for given in names):
        places = _places(columns, name.casefold())
        if not places:
            raise ConfigError(f"--columns: no column {name!r}; there are {_listed(columns[lead:])}")
        found += [place for place in places if place not in found and place >= lead]
    groups = list(dict.fromkeys(columns[place][0] for place in found))
    found.sort(key=lambda place: groups.index(columns[place][0]))
    return replace(table, frame=table.frame.iloc[:, [*range(lead), *found]])


def _places(columns: list[Column], name: str) -> list[int]:
    """Return where a name's columns are: those of a measure, or else of a group, or of a group's measure."""
    for names in ([{measure} for _, measure in columns], list(map(_groups, columns))):
        if found := [place for place, own in enumerate(names) if name in {text.casefold() for text in own}]:
            return found
    return []


def _groups(column: Column) -> set[str]:
    """Return a column's group, and its measure behind it; a drawn suite's benchmark without the suite too."""
    group, measure = column
    names = {group, *(group.removesuffix(f" ({suite})") for suite in DRAWN)} - {""}
    return names | {f"{name} {measure}" for name in names}


def _listed(columns: list[Column]) -> str:
    groups, measures = (list(dict.fromkeys(filter(None, texts))) for texts in zip(*columns, strict=True))
    return "; ".join(filter(None, (", ".join(groups), ", ".join(measures))))


def transposed(table: Table) -> Table:
    """Make a row of each column and a column of each row, which the first column names."""
    columns = headings_of(table.frame)
    (_, first), rest = columns[0], columns[1:]
    names = [("", name) for name in table.frame[columns[0]]]
    averaged = any(group == "average" for group, _ in columns)
    of = "method" if first == "benchmark" else "benchmark" if averaged else "group"
    cells = [[group, measure, *table.frame[group, measure]] for group, measure in rest]
    frame = pd.DataFrame(cells, columns=pd.MultiIndex.from_tuples([("", of), MEASURE, *names]))
    if not frame["", of].any():
        frame = frame.drop(columns=[("", of)])
    return replace(table, frame=frame)
