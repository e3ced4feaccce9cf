"""The overview page: the table of all runs, what they were made with, plots."""

import io
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from lmms_awares.report.collect import Source, labels
from lmms_awares.report.conditions import footer
from lmms_awares.report.render import html_table
from lmms_awares.report.tables import Table, main_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(out: Path, sources: list[Source]) -> None:
    """Write `index.html` and `samples.html`.

    Args:
        out: folder of the site.
        sources: the runs; their names are the labels that the site shows.
    """
    pages = Environment(loader=PackageLoader("lmms_awares.report.explorer"), autoescape=True, trim_blocks=True)
    content = {
        "version": version("lmms-awares"),
        "table": Markup(html_table(_table(sources))),
        "lines": footer(sources, [source.name for source in sources]),
        "conditions": [_conditions(source) for source in sources],
        "plots": [Markup(svg) for svg in plots(sources)],
    }
    for name in ("index.html", "samples.html"):
        (out / name).write_text(pages.get_template(f"{name}.jinja").render(content), encoding="utf-8")


def _table(sources: list[Source]) -> Table:
    """`awares compare`'s table with the labels of each row's runs in front, then the averages: what is read first."""
    table = main_table(sources)
    rows: dict[str, list[Source]] = {}
    for row, source in zip(labels(sources), sources, strict=True):
        rows.setdefault(row, []).append(source)
    of_row = [rows[row] for row in table.frame["", "method"]]
    frame = table.frame.copy()
    frame["", "method"] = [runs[0].method for runs in of_row]
    frame.insert(0, ("", "run"), [", ".join(source.name for source in runs) for runs in of_row])
    first = [column for column in frame.columns if column[0] in {"", "average"}]
    return replace(table, frame=frame[[*first, *frame.columns.difference(first, sort=False)]])


def plots(sources: list[Source]) -> list[str]:
    """The figures of `awares plot` as inline SVGs."""
    from lmms_awares.report.plots import draw

    figures, _ = draw(sources)
    return [_inline(figure) for figure in figures.values()]


def _inline(figure: "Figure") -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    return svg[svg.index("<svg") :]


def _conditions(source: Source) -> dict[str, Any]:
    """What a run was made with, from its first trace and its results file."""
    run = source.run
    config = run.results["config"]
    facts = {"results": str(run.path), "batch size": config.get("batch_size"), "limit": config.get("limit")}
    for task in run.tasks:
        _, trace = next(run.samples(task), (None, None))
        if trace is not None:
            facts |= {"prompt": trace.prompt} | trace.conditions.model_dump()
            break
    return {"label": source.name, "facts": {name: value for name, value in facts.items() if value is not None}}
