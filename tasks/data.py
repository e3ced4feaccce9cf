"""The documents of each benchmark: where they come from, and the columns that they must have.

`AWARES_DATA_ROOT=DIR` reads `DIR/<benchmark>/<split>-*.parquet` instead of the hub. The mini and the graded
tasks read parts of the mini suite, which are drawn where they are missing. Light to import: the checks run before
anything heavy loads.
"""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path

from lmms_awares.errors import DataError
from lmms_awares.tasks.benchmarks import BENCHMARKS, DRAWN, DRAWN_SUITE, OWN_TASKS, PREFIX

DATA_ROOT = "AWARES_DATA_ROOT"


def task_files(task: str) -> list[str] | None:
    """Return the parquet files of one of our tasks, or None for the hub; draw the mini suite where it is missing.

    Raises:
        DataError: no file, an unreadable one, a missing column, a mini suite that cannot be drawn or written.
    """
    if task not in DRAWN_SUITE:
        return local_files(OWN_TASKS[task])
    from lmms_awares.mini.suite import scored_file

    return [str(scored_file(OWN_TASKS[task], DRAWN[DRAWN_SUITE[task]]))]


def local_files(benchmark: str) -> list[str] | None:
    """Return a benchmark's parquet files below `AWARES_DATA_ROOT`, columns checked; None where that is not set.

    Raises:
        DataError: no file, an unreadable one, or a missing column.
    """
    root = os.environ.get(DATA_ROOT)
    if not root:
        return None
    facts = BENCHMARKS[benchmark]
    pattern = f"{benchmark}/{facts.split}-*.parquet"
    files = sorted(Path(root).glob(pattern))
    if not files:
        raise DataError(
            f"{DATA_ROOT}={root} has no {pattern} (task {PREFIX}{benchmark}); put the file there, or unset "
            f"{DATA_ROOT} to load from the hub"
        )
    for file in files:
        check_columns(benchmark, _columns(file), str(file))
    return [str(file) for file in files]


def host_files(task: str, split: str) -> list[str] | None:
    """Return a wrapped task's parquet files below `AWARES_DATA_ROOT`; None where that is not set.

    Args:
        task: lmms-eval's name.
        split: the one that is scored.

    Raises:
        DataError: no file, or an unreadable one.
    """
    root = os.environ.get(DATA_ROOT)
    if not root:
        return None
    pattern = f"{task}/{split}-*.parquet"
    files = sorted(Path(root).glob(pattern))
    if not files:
        raise DataError(
            f"{DATA_ROOT}={root} has no {pattern} (lmms-eval's {task}); put the file there, or unset {DATA_ROOT} to "
            "load from the hub"
        )
    for file in files:
        _columns(file)
    return [str(file) for file in files]


def content_hash(files: list[str]) -> str:
    """Hash the content of data files, in their order, to a hex sha256."""
    sha = hashlib.sha256()
    for file in files:
        with Path(file).open("rb") as stream:
            sha.update(hashlib.file_digest(stream, "sha256").digest())
    return sha.hexdigest()


def count_rows(files: list[str]) -> int:
    """Count the documents in parquet files."""
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)


def check_hub(benchmark: str) -> None:
    """Check that the hub, or its local cache, has a benchmark's documents; only metadata are downloaded.

    Raises:
        DataError: neither has them, or a column is missing.
    """
    import datasets
    from lmms_eval.utils import load_yaml_config

    config = load_yaml_config(base_yaml_path(benchmark), mode="simple")
    path, name = config["dataset_path"], config.get("dataset_name")
    try:
        features = datasets.load_dataset_builder(path, name).info.features
    except (OSError, ValueError) as error:  # the hub's errors and datasets' own are among these
        reason = str(error).splitlines()[0]
        raise DataError(
            f"the documents of {PREFIX}{benchmark} ({path}) cannot be had from the hub: {reason}; for local files set "
            f"{DATA_ROOT}=DIR"
        ) from None
    if features:  # not every data set declares them before it is read
        check_columns(benchmark, list(features), path)


def base_yaml_path(benchmark: str) -> str:
    """Return the path of the installed lmms-eval's task file of a benchmark."""
    spec = find_spec("lmms_eval.tasks")
    assert spec is not None and spec.submodule_search_locations is not None
    return os.path.join(spec.submodule_search_locations[0], BENCHMARKS[benchmark].base_yaml)  # noqa: PTH118


def require_column(files: list[str], column: str, what: str) -> None:
    """Refuse local documents without a column that a setting needs.

    Raises:
        DataError: names file, column and setting.
    """
    for file in files:
        if column not in _columns(Path(file)):
            raise DataError(f"{what} needs a column '{column}' in the data; {file} has none")


def check_columns(benchmark: str, found: list[str], where: str) -> None:
    """Refuse documents without the columns that prompts and scorers read.

    Raises:
        DataError: names the missing columns.
    """
    missing = [column for column in BENCHMARKS[benchmark].required if column not in found]
    if missing:
        raise DataError(f"{where} lacks column {', '.join(missing)}; it has: {', '.join(found)}")


def _columns(file: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(file).names)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a readable parquet file: {str(error).splitlines()[0]}") from None
