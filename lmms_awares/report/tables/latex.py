"""A `Table` in LaTeX: no wider than the line, in panels where it has too many columns for that; best cells marked."""

import re
from itertools import groupby

import pandas as pd

from lmms_awares.report.tables.conditions import brief
from lmms_awares.report.tables.names import display_heading, display_names
from lmms_awares.report.tables.ranks import BEST, MEASURE, SECOND, is_control_row, is_published_row, ranks
from lmms_awares.report.tables.table import Table, headings_of
from lmms_awares.tasks.benchmarks import DRAWN

# Characters, about, that a line of an article holds in a size, and that size's lines in pt. What is wider is scaled.
_SIZES = ((64, r"\small", 11.0), (76, r"\footnotesize", 9.5), (86, r"\scriptsize", 8.0))
_WIDEST = 120  # characters in a panel; scaled to the line of an article they are still 5 pt high
_HIGHEST = 540.0  # pt, what a page of an article holds
_BETWEEN = 1.5  # characters, the space between two columns
_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "%_&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"\0": r"$\ge$", "\1": r"$\to$", ">": "$>$", "<": "$<$", "±": r"$\pm$"}
)
_KNOWN = "±–—×°µ…"  # besides ASCII and the letters of Latin-1, what LaTeX prints without further packages
_MARKS = {BEST: r"\textbf{%s}", SECOND: r"\underline{%s}", "": "%s"}
Headings = list[tuple[str, str]]
Body = list[list[str]]
Panel = tuple[Headings, Body]
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"


def latex(table: Table) -> str:
    """Render as a `table` environment with caption and label; needs `\\usepackage{booktabs,graphicx}`.

    Methods and columns have a paper's names. The best of a column is bold, the second best underlined. The caption
    says under which conditions; what is said row by row stands in comments above. No column is lost: what does not
    fit beside the others is in a further panel below.
    """
    marks = ranks(table.frame)
    panels = _panels(_headings(table), _cells(table, marks), _lead(table))
    wide = max(_width(headings, body) for headings, body in panels)
    _, size, line = next((size for size in _SIZES if wide <= size[0]), _SIZES[-1])
    caption = _caption(table, marks)
    parts = [f"% {_known(line)}" for line in ["needs booktabs and graphicx; in two columns: table*", *table.lines]]
    title = _escaped(table.title)
    for number, held in enumerate(_floats(panels, line, 22 + 9.5 * (len(caption) // 80 + 1))):
        said = [r"\addtocounter{table}{-1}", rf"\caption[]{{{title} (continued).}}"]
        if number == 0:
            said = [rf"\caption[{{{title}}}]{{{title}. \footnotesize {caption}}}", rf"\label{{tab:{_label(table)}}}"]
        parts += [r"\begin{table}[tbp]", r"\centering\emergencystretch=3em\setlength{\tabcolsep}{3pt}", *said, size]
        for headings, body in held:
            parts += [r"\par\medskip", *_tabular(headings, body)]
        parts.append(r"\end{table}")
    return "\n".join(parts)


def _floats(panels: list[Panel], line: float, caption: float) -> list[list[Panel]]:
    """Put panels on pages. `line`: of a panel, in pt; `caption`: the first page's, in pt."""
    pages: list[list[Panel]] = [[]]
    left = _HIGHEST - caption
    for headings, body in panels:
        high = line * (len(body) + 2) + 18  # with rules, and the space between panels
        if high > left and pages[-1]:
            pages.append([])
            left = _HIGHEST - 22
        pages[-1].append((headings, body))
        left -= high
    return pages


def _escaped(text: str) -> str:
    return _known(text).replace(">=", "\0").replace("->", "\1").translate(_ESCAPES)


def _known(text: str) -> str:
    """Write what LaTeX cannot print, line breaks among it, as Python does: any folder's name may be in a row's."""
    latin = (character if _prints(character) else ascii(character)[1:-1] for character in text)
    return "".join(latin)


def _prints(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    return character in _KNOWN or (character.isalpha() and ord(character) < 256 and character not in "ðÐþÞ")


def _only_suite(table: Table) -> str:
    """Return the remark behind every benchmark's name, such as ` (mini)`, which the caption says once; else ''."""
    groups = [group for group, _ in headings_of(table.frame) if group not in ("", "RTR", "average", "of the average")]
    return next((f" ({suite})" for suite in DRAWN if groups and all(g.endswith(f" ({suite})") for g in groups)), "")


def _headings(table: Table) -> Headings:
    suite = _only_suite(table)
    names = display_names(name for column in headings_of(table.frame) for name in column)
    return [
        (display_heading(names[group].removesuffix(suite)), display_heading(names[name]))
        for group, name in headings_of(table.frame)
    ]


def _cells(table: Table, marks: pd.DataFrame) -> list[list[str]]:
    """Return the cells as LaTeX has them: methods by their paper's names, escaped, and marked."""
    frame = table.frame.copy()
    if ("", "method") in frame.columns:
        methods = frame["", "method"]
        frame["", "method"] = methods.map(display_names(methods))
    if MEASURE in frame.columns:
        lead = headings_of(frame).index(MEASURE) + 1
        frame.iloc[:, :lead] = frame.iloc[:, :lead].map(display_heading)
    return [
        [_MARKS[mark] % _escaped(text) for text, mark in zip(row, own, strict=True)]
        for row, own in zip(frame.to_numpy().tolist(), marks.to_numpy().tolist(), strict=True)
    ]


def _caption(table: Table, marks: pd.DataFrame) -> str:
    sentences = [*table.notes, *brief(table.conditions)]
    if suite := _only_suite(table).strip():  # which the headings do not say
        sentences = [sentence.replace(f"{suite}: ", "all benchmarks: ", 1) for sentence in sentences]
    if (marks == BEST).any(axis=None):
        rows = _rows(table)
        kinds = {"controls": any(map(is_control_row, rows)), "published rows": any(map(is_published_row, rows))}
        aside = " and ".join(kind for kind, there in kinds.items() if there)
        sentences.append("best in bold, second best underlined" + (f", {aside} aside" if aside else ""))
    text = " ".join(f"{sentence[:1].upper()}{sentence[1:].rstrip('.')}." for sentence in sentences)
    return _escaped(text).replace("/", r"/\allowbreak{}")


def _rows(table: Table) -> list[str]:
    """Return the names of all rows; of a transposed table, of its columns."""
    rows = table.frame["", "method"].tolist() if ("", "method") in table.frame.columns else []
    return [*rows, *(name for group, name in headings_of(table.frame) if not group)]


def _label(table: Table) -> str:
    return table.label or "-".join(re.findall(r"[a-z0-9]+", table.title.lower()))


def _lead(table: Table) -> int:
    """Return how many columns name the rows."""
    columns = headings_of(table.frame)
    if MEASURE in columns:
        return columns.index(MEASURE) + 1
    return next((place for place, (group, _) in enumerate(columns) if group), 1)


def _panels(headings: Headings, body: Body, lead: int) -> list[Panel]:
    """Split between groups into few panels of like width, none above `_WIDEST`; each names the rows."""
    rest = range(lead, len(headings))
    # Columns of no group may be apart.
    groups = [list(places) for _, places in groupby(rest, key=lambda place: headings[place][0] or place)]
    widths = [_width(*_taken(headings, body, places)) for places in [list(range(lead)), *groups]]
    fewest = _split(widths, _WIDEST)
    limits = (limit for limit in range(1, _WIDEST) if len(_split(widths, limit)) == len(fewest))
    split = _split(widths, next(limits, _WIDEST))
    return [_taken(headings, body, [*range(lead), *(place for i in part for place in groups[i])]) for part in split]


def _split(widths: list[float], limit: float) -> list[list[int]]:
    """Return the groups in each panel; `widths`: of what names the rows, and of each group."""
    parts: list[list[int]] = [[]]
    left = limit - widths[0]
    for group, width in enumerate(widths[1:]):
        if width > left and parts[-1]:
            parts.append([])
            left = limit - widths[0]
        parts[-1].append(group)
        left -= width
    return parts


def _taken(headings: Headings, body: Body, places: list[int]) -> Panel:
    return [headings[place] for place in places], [[row[place] for place in places] for row in body]


def _width(headings: Headings, body: Body) -> float:
    """Return a line's width in characters, about."""
    widths = [max(len(name), *(len(_bare(row[place])) for row in body)) for place, (_, name) in enumerate(headings)]
    total = 0.0
    for group, columns in groupby(zip(headings, widths, strict=True), key=lambda column: column[0][0]):
        total += max(len(group) + _BETWEEN, sum(width + _BETWEEN for _, width in columns))
    return total


def _bare(text: str) -> str:
    """Return what is printed of a cell, about."""
    return re.sub(r"\\[a-z]+|[\\{}$]", "", text)


def _tabular(headings: Headings, body: Body) -> list[str]:
    lines = [rf"{_FIT}\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}", r"\toprule"]
    if any(group for group, _ in headings):
        lines += _group_lines(headings)
    lines += [" & ".join(_escaped(name) for _, name in headings) + r" \\", r"\midrule"]
    for row in body:
        heads_block = row[0] and not any(row[1:])
        lines.append((rf"\multicolumn{{{len(row)}}}{{l}}{{{row[0]}}}" if heads_block else " & ".join(row)) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def _group_lines(headings: Headings) -> list[str]:
    """Return each group's name over its columns, and the rules below the names."""
    spans, rules, start = [], "", 1
    for group, columns in groupby(headings, key=lambda column: column[0]):
        end = start + len(list(columns)) - 1
        spans.append(rf"\multicolumn{{{end - start + 1}}}{{c}}{{{_escaped(group)}}}")
        rules += rf"\cmidrule(lr){{{start}-{end}}}" if group else ""
        start = end + 1
    return [" & ".join(spans) + r" \\", rules]
