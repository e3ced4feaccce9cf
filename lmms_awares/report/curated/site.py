"""A static site of a curated set: the explorer's pages, with what the stages said of a row in place of runs."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from tqdm import tqdm

from lmms_awares.report.curated.frame import facts
from lmms_awares.report.curated.page_data import COLUMNS, LABELS, STATES, Record, reason_of, record_of, state_of
from lmms_awares.report.curated.read import CuratedSet, Row, open_set
from lmms_awares.report.curated.tables import tables_of
from lmms_awares.report.explorer.overview import inline
from lmms_awares.report.explorer.pictures import Gallery
from lmms_awares.report.explorer.site import PAGE, ReportError, prepare, write_data
from lmms_awares.report.tables.render import html_table

_BATCH = 32  # rows whose pictures are made side by side


def build(folder: Path, out: Path) -> list[str]:
    """Write the site of a curated set, finished or not.

    Args:
        folder: of the set.
        out: a new or empty folder, or an earlier site, which is replaced.

    Returns:
        warnings: pictures that could not be had, one line per reason.

    Raises:
        ReportError: a folder with other content, or one that cannot be written.
        DataError: no set, or a file of it that cannot be read.
    """
    given = open_set(folder)
    count, provenance = len(given), given.provenance  # before anything is written, so that a broken set leaves no half
    known: list[dict[str, Any]] = []
    try:
        prepare(out, ("curated.js",))
        problems = _write_rows(out, _records(given, known, Gallery(out, count), count))
        _write_overview(out, folder, pd.DataFrame(known), provenance)
    except OSError as error:
        raise ReportError(f"{out} cannot be written: {error.strerror}; give another folder") from None
    return [f"{reason} ({n} rows without a picture)" for reason, n in problems.items()]


def limits_of(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the limits of the views that the base model saw, as far as the configuration says."""
    base = provenance.get("config", {}).get("base", {})
    names = ("min_pixels", "max_pixels", "lowres_base")
    return {name: base[name] for name in names if base.get(name) is not None}


def _records(
    given: CuratedSet, known: list[dict[str, Any]], gallery: Gallery, count: int
) -> Iterator[tuple[Row, Record]]:
    """Yield every row with its record; collect in `known` what tables and figures need, so that all is read once."""
    make = partial(record_of, gallery=gallery, limits=limits_of(given.provenance))
    rows = iter(tqdm(given.rows(COLUMNS), total=count, desc="rows", unit="row", disable=None))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets others work while it resizes and encodes
        while batch := list(islice(rows, _BATCH)):
            known += map(facts, batch)
            yield from zip(batch, pool.map(make, batch), strict=True)


def _write_rows(out: Path, found: Iterator[tuple[Row, Record]]) -> Counter[str]:
    """Write the records, in files of `PAGE`, and the index; count the reasons for missing pictures."""
    index: list[Any] = []
    problems: Counter[str] = Counter()
    named: dict[str, dict[str | None, int | None]] = {name: {None: None} for name in ("sources", "splits", "reasons")}

    def number(name: str, text: str | None) -> int | None:
        return named[name].setdefault(text, len(named[name]) - 1)

    while batch := list(islice(found, PAGE)):
        page = len(index) // PAGE
        write_data(out / "data" / f"{page}.js", f"awares.page({page}, ", [record for _, record in batch])
        for row, record in batch:
            label = LABELS.index(row["label"]) if row["label"] in LABELS else None
            places = number("sources", row["source"]), number("splits", row["split"])
            index.append([row["id"], *places, label, STATES.index(state_of(row)), number("reasons", reason_of(row))])
            if "missing" in record["view"] and row["stage"]:  # of a row that never was one, nobody expects a picture
                problems[record["view"]["missing"]] += 1
    lists = {name: [text for text in texts if text is not None] for name, texts in named.items()}
    head = {"labels": LABELS, "states": STATES, "page": PAGE, **lists, "documents": index}
    write_data(out / "data" / "index.js", "awares.start(", head)
    return problems


def _write_overview(out: Path, folder: Path, frame: pd.DataFrame, provenance: dict[str, Any]) -> None:
    """Write `index.html` with tables and figures, and `samples.html`."""
    from lmms_awares.report.curated.figures import draw

    pages = Environment(loader=PackageLoader("lmms_awares.report.explorer"), autoescape=True, trim_blocks=True)
    tables = tables_of(frame, provenance).values()
    content = {
        "version": version("lmms-awares"),
        "name": folder.resolve().name,
        "tables": [{"title": t.title, "html": Markup(html_table(t)), "notes": t.notes} for t in tables],
        "plots": [Markup(inline(figure)) for figure in draw(frame).values()],
        "provenance": json.dumps(provenance, indent=2, ensure_ascii=False) if provenance else "",
    }
    for name, template in {"index.html": "set.html.jinja", "samples.html": "rows.html.jinja"}.items():
        (out / name).write_text(pages.get_template(template).render(content), encoding="utf-8")
