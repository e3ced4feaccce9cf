"""The overview page: the table of all runs, their conditions, plots."""

import io
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.tables.conditions import conditions_of, footer
from lmms_awares.report.tables.main import main_table
from lmms_awares.report.tables.render import html_table
from lmms_awares.report.tables.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(out: Path, lineup: Lineup) -> None:
    """Write `index.html` and `samples.html`.

    Args:
        out: folder of the site.
        lineup: the runs; their names are the labels that the site shows.
    """
    pages = Environment(loader=PackageLoader("lmms_awares.report.explorer"), autoescape=True, trim_blocks=True)
    labels = {row: ", ".join(run.name for run in runs) for row, runs in _by_row(lineup).items()}
    content = {
        "version": version("lmms-awares"),
        "table": Markup(html_table(_table(lineup))),
        "lines": footer(lineup.renamed(labels)),
        "conditions": [_conditions(source) for source in lineup.sources],
        "plots": [Markup(svg) for svg in plots(lineup)],
    }
    for name in ("index.html", "samples.html"):
        (out / name).write_text(pages.get_template(f"{name}.jinja").render(content), encoding="utf-8")


def _table(lineup: Lineup) -> Table:
    """Return `awares compare`'s table, each row's run labels first, then the averages, as these are read first."""
    table = main_table(lineup)
    rows = _by_row(lineup)
    of_row = [rows[row] for row in table.frame["", "method"]]
    frame = table.frame.copy()
    frame["", "method"] = [runs[0].method for runs in of_row]
    frame.insert(0, ("", "run"), [", ".join(source.name for source in runs) for runs in of_row])
    first = [column for column in frame.columns if column[0] in {"", "average"}]
    return replace(table, frame=frame[[*first, *frame.columns.difference(first, sort=False)]])


def _by_row(lineup: Lineup) -> dict[str, list[Source]]:
    """Return the runs of each row of the table."""
    rows: dict[str, list[Source]] = {}
    for row, source in lineup.named:
        rows.setdefault(row, []).append(source)
    return rows


def plots(lineup: Lineup) -> list[str]:
    """Draw the figures of `awares plot` as inline SVGs."""
    from lmms_awares.report.figures.plots import draw

    figures, _ = draw(lineup)
    return [inline(figure) for figure in figures.values()]


def inline(figure: "Figure") -> str:
    """Draw a figure as SVG, to put into a page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    return svg[svg.index("<svg") :]


def _conditions(source: Source) -> dict[str, Any]:
    """Return a run's settings and conditions, from its results files and traces."""
    facts = {"results": ", ".join(map(str, source.run.files))}
    for name, by_task in conditions_of(source).items():
        values = dict.fromkeys(value for values in by_task.values() for value in values if value != "none")
        facts |= {name.replace("_", " ") if name == "batch_size" else name: " and ".join(values)} if values else {}
    return {"label": source.name, "facts": facts}
