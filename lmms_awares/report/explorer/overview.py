"""The overview page: the table of all runs, what they were made with, plots."""

import io
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from lmms_awares.report.runs import Run
from lmms_awares.report.terminal import remarks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PER_TASK = {"score": 2, "rtr": 3}  # columns and their digits
_MEANS = {**_PER_TASK, "call_rate": 3, "latency_s": 3}


def write(out: Path, table: pd.DataFrame, runs: dict[str, Run]) -> None:
    """Write `index.html` and `samples.html`.

    Args:
        out: folder of the site.
        table: rows of `summarize` with a column `run`, the label.
        runs: by label.
    """
    pages = Environment(loader=PackageLoader("lmms_awares.report.explorer"), autoescape=True, trim_blocks=True)
    content = {
        "version": version("lmms-awares"),
        "tasks": [task.removeprefix("awares_") for task in dict.fromkeys(table["task"])],
        "rows": list(_rows(table)),
        "conditions": [_conditions(label, run) for label, run in runs.items()],
        "remarks": remarks(table),
        "plots": [Markup(svg) for svg in plots(runs)],
    }
    for name in ("index.html", "samples.html"):
        (out / name).write_text(pages.get_template(f"{name}.jinja").render(content), encoding="utf-8")


def plots(runs: dict[str, Run]) -> list[str]:
    """The figures of `awares plot` as inline SVGs."""
    from lmms_awares.report.collect import collect
    from lmms_awares.report.plots import draw

    figures, _ = draw(collect([run.path for run in runs.values()]))
    return [_inline(figure) for figure in figures.values()]


def _inline(figure: "Figure") -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    return svg[svg.index("<svg") :]


def _rows(table: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """A row per run: label, method, score and RTR per task, means over tasks."""
    tasks = list(dict.fromkeys(table["task"]))
    for label, group in table.groupby("run", sort=False):
        figures = group.set_index("task").reindex(tasks)[list(_MEANS)].apply(pd.to_numeric)
        means = figures.mean()
        yield {
            "label": label,
            "method": group["method"].iloc[0],
            "tasks": [[_number(figures.loc[task, c], digits) for c, digits in _PER_TASK.items()] for task in tasks],
            "means": [_number(means[column], digits) for column, digits in _MEANS.items()],
            "failed": f"{group['failed'].sum():.0f} of {group['n'].sum():.0f}",
        }


def _number(value: Any, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def _conditions(label: str, run: Run) -> dict[str, Any]:
    """What a run was made with, from its first trace and its results file."""
    config = run.results["config"]
    facts = {"results": str(run.path), "batch size": config.get("batch_size"), "limit": config.get("limit")}
    for task in run.tasks:
        _, trace = next(run.samples(task), (None, None))
        if trace is not None:
            facts |= {"prompt": trace.prompt} | trace.conditions.model_dump()
            break
    return {"label": label, "facts": {name: value for name, value in facts.items() if value is not None}}
