"""The site's builder: an overview, and a page that leafs through the samples of all runs.

A page opened from `file://` may not fetch, so the data are scripts that call a function of the page: `data/index.js`
with a few numbers per document for filters and lists, and `data/<n>.js` with everything about `PAGE` documents.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from lmms_awares.errors import DataError, UserError
from lmms_awares.report.explorer import documents, overview, page_data
from lmms_awares.report.explorer.pictures import Gallery, limits_of
from lmms_awares.report.read.content import seen_by
from lmms_awares.report.read.lineup import collect_runs
from lmms_awares.report.read.results import Run

PAGE = 50  # documents in one data file: what the browser loads at a time


class ReportError(UserError):
    """A site that cannot be written; the message is one line that names the folder."""


def short_names(folders: list[Path]) -> dict[str, Path]:
    """Return folders by a short name: the path below what all have in common."""
    paths = [folder.absolute() for folder in folders]
    shared = Path(os.path.commonpath(paths)) if len(set(paths)) > 1 else paths[0].parent
    return {str(path.relative_to(shared)): path for path in paths}


def build(runs: dict[str, Run], out: Path) -> list[str]:
    """Write the site.

    Args:
        runs: by the label that the site shows.
        out: a new or empty folder, or an earlier site, which is replaced.

    Returns:
        warnings: pictures that could not be had, one line per task and reason.

    Raises:
        ReportError: a folder with other content, or one that cannot be written.
        RunError: a broken result folder, or one that shares no task with the others.
        TraceError: a trace of another schema version.
    """
    # Before anything is written, so that a broken run leaves no half of a site.
    lineup = collect_runs(runs)
    tasks = list(dict.fromkeys(lineup.summary["task"]))
    try:
        prepare(out, ("runs.js", "sample.js", "kept.js"))
        problems = _write_samples(out, list(runs), tasks, _all_records(lineup.summary, runs, out))
        overview.write(out, lineup)
    except OSError as error:
        raise ReportError(f"{out} cannot be written: {error.strerror}; give another folder") from None
    return [f"{reason} ({count} documents without a picture)" for reason, count in problems.items()]


def prepare(out: Path, scripts: tuple[str, ...]) -> None:
    """Make the folder, and empty it of an earlier site.

    Args:
        out: of the site.
        scripts: those of its kind, beside those that all sites have.

    Raises:
        ReportError: it holds something else, or cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / "data" / "index.js").is_file():
        raise ReportError(f"{out} is not empty and holds no report; give another folder")
    for name in ("data", "img"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir()
    (out / "data" / "index.js").touch()  # marks the folder as ours, should this be interrupted
    for name in (*scripts, "address.js", "elements.js", "explorer.js", "pictures.js", "style.css"):
        content = files("lmms_awares.report.explorer").joinpath("static", name).read_text(encoding="utf-8")
        (out / name).write_text(content, encoding="utf-8")


def _write_samples(out: Path, labels: list[str], tasks: list[str], found: Iterator[page_data.Record]) -> Counter[str]:
    """Write every document's record, in files of `PAGE`, and the index; count the reasons for missing pictures."""
    index: list[Any] = []
    problems: Counter[str] = Counter()
    while batch := list(islice(found, PAGE)):
        write_data(out / "data" / f"{len(index) // PAGE}.js", f"awares.page({len(index) // PAGE}, ", batch)
        for record in batch:
            index.append([tasks.index(record["task"]), record["doc"], *map(_summary, record["runs"])])
            if "missing" in record["view"]:
                problems[f"{record['task']}: {record['view']['missing']}"] += 1
    head = {
        "runs": labels,
        "tasks": [task.removeprefix("awares_") for task in tasks],
        "statuses": page_data.STATUSES,
        "right": page_data.RIGHT,
        "page": PAGE,
        "documents": index,
    }
    write_data(out / "data" / "index.js", "awares.start(", head)
    return problems


def _summary(answer: page_data.Record | None) -> list[Any] | None:
    return None if answer is None else [answer["score"], page_data.STATUSES.index(answer["status"])]


def write_data(file: Path, call: str, data: Any) -> None:
    """Write a script that calls a function of the page with data. `call`: up to and including the open bracket."""
    # ASCII: it survives any encoding, and half characters, which a random model does produce.
    file.write_text(f"{call}{json.dumps(data, separators=(',', ':'))});\n", encoding="ascii")


def _all_records(table: pd.DataFrame, named: dict[str, Run], out: Path) -> Iterator[page_data.Record]:
    """Yield every document of every task that at least one run was asked about."""
    labels, runs = list(named), list(named.values())
    sizes = {str(task): int(n) for task, n in table.groupby("task", sort=False)["n"].max().items()}
    asked = {task: [run for run in runs if task in run.tasks] for task in sizes}
    surveys = {task: _survey(asked[task][0], task, n) for task, n in sizes.items()}
    gallery = Gallery(out, sum(count for count, _ in surveys.values()))
    for task, (_, missing) in surveys.items():
        answers = [{row["doc_id"]: row for row, _ in run.samples(task)} if run in asked[task] else {} for run in runs]
        stream = iter(()) if missing else enumerate(documents.read(asked[task][0].config(task)))
        for doc_id in tqdm(sorted(set().union(*answers)), desc=task, unit="document", disable=None):
            document = next((document for position, document in stream if position == doc_id), None)
            samples = [run.get(doc_id) for run in answers]
            record = page_data.document_record(task, doc_id, samples)
            asked_by = dict(zip(labels, samples, strict=True))
            yield record | {"view": {"missing": missing} if missing else _view(document, asked_by, gallery)}


def _survey(run: Run, task: str, n: int) -> tuple[int, str | None]:
    """Return the number of different images among a task's `n` documents, and why the documents are missing, if so."""
    start = int(run.settings(task).get("offset") or 0)
    try:
        rows = islice(documents.read(run.config(task)), start, start + n)
        return len({document.digest for document in rows}), None
    except DataError as error:
        return 0, str(error)


def _view(
    document: documents.Document | None, asked_by: dict[str, page_data.Sample | None], gallery: Gallery
) -> page_data.Record:
    """Return pictures and boxes of a document, or why it has none. `asked_by`: each run's row of it."""
    if document is None:
        return {"missing": "the data hold fewer documents than the run"}
    seen = {label: (row, page_data.trace_of(row)) for label, row in asked_by.items() if row is not None}
    try:
        image = document.picture()
        found = document.content(image)
        for label, (row, trace) in seen.items():
            if other := found.not_asked_by(seen_by(row, trace)):
                return {"missing": f"the data are not what {label} saw: {other}"}
        traces = [trace for _, trace in seen.values() if trace is not None]
        picture = gallery.add(document.digest, image, limits_of(traces[0].conditions) if traces else {})
        return page_data.view_record(document, picture, traces)
    except (OSError, ValueError) as error:  # an image or an evidence box that cannot be used
        return {"missing": str(error).splitlines()[0]}
