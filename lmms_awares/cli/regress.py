"""`awares regress`, `awares regress save` and `awares regress power`."""

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmms_awares.cli.options import Format, FormatOption

if TYPE_CHECKING:
    from lmms_awares.report.gate.verdict import Report, Rules

app = typer.Typer()
_BASELINES = Path("results/baselines")


@app.callback(invoke_without_command=True)
def regress(  # noqa: PLR0917
    context: typer.Context,
    baseline: Annotated[Path | None, typer.Option(help="result folder, or a file of `awares regress save`")] = None,
    candidate: Annotated[Path | None, typer.Option(help="result folder; each task's newest results count")] = None,
    max_drop: Annotated[float, typer.Option(min=0, help="points of score (0..100); `ok` is shown to lose less")] = 1.0,
    max_rtr_rise: Annotated[float, typer.Option(min=0, help="the same for RTR")] = 0.02,
    alpha: Annotated[float, typer.Option(help="chance of a false alarm where nothing got worse; below 0.5")] = 0.05,
    strict: Annotated[bool, typer.Option("--strict", help="fail (exit 1) on `undecided` too")] = False,
    markdown: Annotated[Path | None, typer.Option(help="file for a Markdown summary")] = None,
    junit: Annotated[Path | None, typer.Option(help="file for JUnit XML")] = None,
    json: Annotated[Path | None, typer.Option(help="file for JSON")] = None,
) -> None:
    """Did a checkpoint get worse? Compares a candidate with a baseline, document by document.

    Each benchmark, and all together, gets a verdict on its score and on its RTR. same: no document differs. ok: shown
    to be worse by less than --max-drop or --max-rtr-rise. worse: worse beyond chance, and not shown to be so by less
    than that, so that a true loss below --max-drop may fail too. undecided: too few documents for either.

    --alpha is the level of each test. Where nothing got worse, anything is called worse with at most this chance, once
    over all scores and once over all RTR. It bounds no error where something did get worse, by however little.

    Exits 0 where nothing is worse, 1 where something is (with --strict also where something is undecided), 2 where the
    runs do not compare. In a GitHub job the summary also goes to the step summary.
    """
    if context.invoked_subcommand is not None:
        return
    if baseline is None or candidate is None:
        raise typer.BadParameter("give --baseline and --candidate")
    if not 0 < alpha < 0.5:
        raise typer.BadParameter(f"--alpha {alpha:g} must lie between 0 and 0.5")
    from lmms_awares.report.gate.verdict import EXIT_CODES, Rules

    try:
        report = _compare(baseline, candidate, Rules(max_drop, max_rtr_rise, alpha, strict))
        _publish(report, markdown, junit, json)
    except Exception:  # Python would exit 1, which here says that the checkpoint got worse
        traceback.print_exc()
        raise typer.Exit(2) from None
    raise typer.Exit(EXIT_CODES[report.outcome])


@app.command("save")
def save_baseline(
    run: Annotated[Path, typer.Argument(help="result folder; each task's newest results count")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="file to write (default: below results/baselines/)")
    ] = None,
) -> None:
    """Write what the gate needs of a run as a small file that fits into a repository."""
    from lmms_awares.report.gate import baseline as store

    reduced = store.load(run)
    file = store.save(reduced, output or _BASELINES / f"{reduced.name.replace(':', '-')}{store.SUFFIX}")
    samples = sum(len(task.doc_ids) for task in reduced.tasks.values())
    typer.echo(f"{file}: {len(reduced.tasks)} tasks, {samples} samples, {file.stat().st_size / 1000:.0f} kB")


@app.command("power")
def show_power(
    *,
    baseline: Annotated[Path, typer.Option(help="result folder, or a file of `awares regress save`")],
    alpha: Annotated[float, typer.Option(help="as in `awares regress`")] = 0.05,
    changed: Annotated[float, typer.Option(help="share of a candidate's answers drawn anew, above 0, at most 1")] = 0.2,
    form: FormatOption = Format.terminal,
) -> None:
    """Before a candidate is run: which drop can a baseline's documents show, and how many documents show which drop?

    From the baseline's own scores, and an assumption on how alike the runs are: --changed.
    """
    if not 0 < alpha < 0.5:
        raise typer.BadParameter(f"--alpha {alpha:g} must lie between 0 and 0.5")
    if not 0 < changed <= 1:
        raise typer.BadParameter(f"--changed {changed:g} must lie above 0 and be at most 1")
    from lmms_awares.report.gate import baseline as store
    from lmms_awares.report.tables import render
    from lmms_awares.report.tables.power import power_table

    typer.echo(render.FORMATS[form](power_table(store.load(baseline), alpha=alpha, changed=changed)))


def _compare(baseline: Path, candidate: Path, rules: "Rules") -> "Report":
    """The report; runs that cannot be read are reported as not comparable, so that a CI job says why."""
    from lmms_awares.report.gate.baseline import BaselineError, load
    from lmms_awares.report.gate.verdict import Report, compare_runs
    from lmms_awares.report.read.samples import RunError
    from lmms_awares.trace import TraceError

    names = (str(baseline), str(candidate))
    try:
        return compare_runs(load(baseline), load(candidate), rules, names)
    except (BaselineError, RunError, TraceError) as error:
        return Report(*names, rules, reasons=[str(error)])


def _publish(report: "Report", markdown: Path | None, junit: Path | None, json: Path | None) -> None:
    from lmms_awares.report.gate import output

    typer.echo(output.as_text(report))
    for file, render in ((markdown, output.as_markdown), (junit, output.as_junit), (json, output.as_json)):
        if file is not None:
            _write(file, render(report), "w")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _write(Path(summary), output.as_markdown(report), "a")


def _write(file: Path, content: str, mode: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open(mode, encoding="utf-8") as stream:
            stream.write(content)
    except OSError as error:
        typer.echo(f"awares: error: {file} cannot be written: {error.strerror}", err=True)
        sys.exit(2)
