"""The values that benchmarks' columns may hold: those that lmms-eval's prompts and scorers accept.

One value of another kind stops lmms-eval when it scores, after all generation. So local files are checked before a run,
and every document again when it is scored, since the hub's cannot be looked at beforehand.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmms_awares.errors import DataError
from lmms_awares.labels import EVIDENCE, SUFFICES
from lmms_awares.tasks.benchmarks import BENCHMARKS, Rule

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

_SHOWN = 60  # characters of a value in a message


def _is_box(value: Any) -> bool:
    if value is None:
        return True
    sides = list(value) if isinstance(value, list | tuple) else []
    if len(sides) != 4 or not all(isinstance(side, int | float) and math.isfinite(side) for side in sides):
        return False
    left, top, right, bottom = sides
    return bool(left < right and top < bottom)


# What policy=oracle asks by.
ORACLE: dict[str, Rule] = {
    EVIDENCE: Rule("null or [left, top, right, bottom] in px", _is_box),
    SUFFICES: Rule("true, false or null", lambda value: value is None or isinstance(value, bool)),
}


def odd_value(benchmark: str, doc: dict[str, Any]) -> str | None:
    """Describe, in one line, a value of a document that lmms-eval cannot score; None where there is none."""
    return _first_odd(BENCHMARKS[benchmark].rules, doc)


def _first_odd(rules: dict[str, Rule], doc: dict[str, Any]) -> str | None:
    for column, rule in rules.items():
        if not rule.accepts(doc[column]):
            return f"column {column} holds {_shown(doc[column])}, where {rule.expects} is expected"
    return None


def check_files(benchmark: str, files: Sequence[str], *, oracle: bool = False) -> None:
    """Refuse local documents that cannot be scored, or whose images are stored in a way that is not read.

    Reads the small columns in full. Of images it reads the type, and their paths where they are in files of their own.

    Args:
        benchmark: key of `BENCHMARKS`.
        files: parquet files.
        oracle: check the columns of policy=oracle too.

    Raises:
        DataError: names the file, the row (from 0), the column and what is expected.
    """
    import pyarrow
    import pyarrow.parquet

    for name in files:
        try:
            file = pyarrow.parquet.ParquetFile(name)
            problems = _odd_rows(_rules(benchmark, file, oracle=oracle), file), _odd_images(file, Path(name).parent)
            for problem in (found for kind in problems for found in kind):
                raise DataError(f"{name}: {problem}")
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{name} is not a readable parquet file: {reason}") from None


def image_file(path: str, folder: str | Path | None) -> Path:
    """Return the file that an image column names; a relative path starts from the parquet file's `folder`."""
    return Path(folder or "", path)


def _rules(benchmark: str, file: "pyarrow.parquet.ParquetFile", *, oracle: bool) -> dict[str, Rule]:
    own = {column: rule for column, rule in ORACLE.items() if oracle and column in file.schema_arrow.names}
    return BENCHMARKS[benchmark].rules | own


def _odd_rows(rules: dict[str, Rule], file: "pyarrow.parquet.ParquetFile") -> Iterator[str]:
    row = 0
    for batch in file.iter_batches(columns=list(rules)):
        for doc in batch.to_pylist():
            if problem := _first_odd(rules, doc):
                yield f"row {row}, {problem}"
            row += 1


def _odd_images(file: "pyarrow.parquet.ParquetFile", folder: Path) -> Iterator[str]:
    import pyarrow.types as kinds

    kind = file.schema_arrow.field("image").type
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        yield from _odd_paths(file, range(file.num_row_groups), folder)
    elif kinds.is_struct(kind) and {"bytes", "path"} & {field.name for field in kind}:
        yield from _odd_paths(file, _groups_with_paths(file), folder)
    elif not (kinds.is_binary(kind) or kinds.is_large_binary(kind)):
        yield (
            f"column image holds {kind}, where an image column of `datasets` (a struct of bytes and path), plain bytes "
            "or paths are expected: one image a document"
        )


def _groups_with_paths(file: "pyarrow.parquet.ParquetFile") -> list[int]:
    """Return the row groups where an image may lack bytes, by the file's statistics: the bytes stay unread."""
    groups = []
    for index in range(file.num_row_groups):
        group = file.metadata.row_group(index)
        chunks = [group.column(i) for i in range(group.num_columns)]
        stored = [chunk.statistics for chunk in chunks if chunk.path_in_schema == "image.bytes"]
        if not all(found and found.has_null_count and found.null_count == 0 for found in stored) or not stored:
            groups.append(index)
    return groups


def _odd_paths(file: "pyarrow.parquet.ParquetFile", groups: Iterable[int], folder: Path) -> Iterator[str]:
    first = 0
    wanted = set(groups)
    for index in range(file.num_row_groups):
        if index in wanted:
            for row, stored in enumerate(file.read_row_group(index, columns=["image"])["image"].to_pylist(), first):
                path = _path_of(stored)
                if path is not None and not os.path.isfile(image_file(path, folder)):  # noqa: PTH113 - any text is fine
                    yield f"row {row}, column image {_no_file(path, folder)}"
        first += file.metadata.row_group(index).num_rows


def _path_of(stored: Any) -> str | None:
    """Return the path that stands for an image; None where its bytes are there.

    None also for an empty cell, which costs one sample only.
    """
    if isinstance(stored, dict):
        return None if stored.get("bytes") is not None else stored.get("path")
    return None if stored is None else str(stored)


def _no_file(text: str, folder: Path) -> str:
    if text.startswith("data:") or (len(text) > _SHOWN and re.fullmatch(r"[A-Za-z0-9+/_\s-]+={0,2}\s*", text)):
        return "holds base64 text, where bytes or a path are expected: store base64.b64decode(text)"
    return f"names {_shown(text)}, and there is no such file in {folder}; give paths from the parquet file's folder"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
