"""`awares diagnose`."""

from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.cli.options import Data, Format, FormatOption, Labels


def diagnose(
    run: Annotated[Path, typer.Argument(help="result folder (each task's newest results count) or *_results.json")],
    *,
    labels: Labels = None,
    data: Data = None,
    form: FormatOption = Format.terminal,
) -> None:
    """What the crop policy does: when it calls, where it looks, how its calls are written, per benchmark.

    With --labels also whether it calls when it must (Supp. 9.1). A line of a labels file:
    {"task": "awares_chartqa", "doc_id": 0, "label": "HR", "targets": ["0", "7"]}
    """
    from lmms_awares.report.read.lineup import read_source
    from lmms_awares.report.tables import calls, render
    from lmms_awares.report.tables.comparison import labels_from

    source = read_source(run)
    tables = [calls.policy_table(source), calls.form_by_benchmark(source)]
    if labels is not None:
        tables.insert(0, calls.cdp_by_benchmark(source, labels_from(labels, data)(source)))
    print(render.document(tables, form))
