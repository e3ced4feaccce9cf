"""`awares:NAME` among a run's tasks: tasks of the installed lmms-eval, checked, and written for its TaskManager."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lmms_awares.errors import ConfigError, DataError, UserError
from lmms_awares.labels import EVIDENCE
from lmms_awares.plan import Plan
from lmms_awares.tasks.data import DATA_ROOT, host_files, require_column
from lmms_awares.tasks.host_index import HOST_PREFIX, installed
from lmms_awares.tasks.host_survey import wrapped
from lmms_awares.trace import reason_of

if TYPE_CHECKING:
    from lmms_awares.tasks.host_task import HostTask

_LOOKED_AT = 64  # documents of a task whose images differ in number


def expand(plan: Plan) -> list[str]:
    """Replace groups and tags behind `awares:` by their tasks in the plan; return lmms-eval's names of all.

    Raises:
        ConfigError: an unknown task, or one that cannot be wrapped.
    """
    tasks: list[str] = []
    for name in plan.tasks.split(","):
        host = name.removeprefix(HOST_PREFIX)
        tasks += [name] if host == name else [f"{HOST_PREFIX}{facts.name}" for facts in wrapped(host)]
    plan.tasks = ",".join(dict.fromkeys(tasks))
    return [name.removeprefix(HOST_PREFIX) for name in plan.tasks.split(",") if name.startswith(HOST_PREFIX)]


def check(names: Sequence[str], model: str, *, oracle: bool, offset: int) -> None:
    """Load the tasks and look at their documents, as lmms-eval will when the model is there.

    Args:
        names: lmms-eval's.
        model: lmms-eval's model id.
        oracle: policy=oracle is asked for.
        offset: first document.

    Raises:
        ConfigError: a task that does not load, whose documents show several images, or that ends before `offset`.
        DataError: documents that are not there, or lack a column.
    """
    for name in names:
        files = host_files(name, wrapped(name)[0].split)
        if oracle and files is not None:
            require_column(files, EVIDENCE, "policy=oracle")
        task = _loaded(name, model)
        if offset and offset >= (rows := len(task.eval_docs_no_media)):
            raise ConfigError(f"--offset {offset} leaves no document of {HOST_PREFIX}{name}, which has {rows}")
        if not task.facts.one_image:
            _check_images(task)


def _loaded(name: str, model: str) -> "HostTask":
    from lmms_awares.tasks.host_task import HostTask

    try:
        return HostTask(_settings(name, model) | {"class": HostTask})
    except UserError:
        raise
    except (OSError, ValueError) as error:  # the hub's errors and datasets' own are among these
        where = installed().settings[name].get("dataset_path")
        raise DataError(
            f"the documents of {HOST_PREFIX}{name} ({where}) cannot be had: {reason_of(error)}; for local files set "
            f"{DATA_ROOT}=DIR"
        ) from None
    except Exception as error:  # the task's own code
        raise ConfigError(f"{HOST_PREFIX}{name} does not load: {reason_of(error)}") from None


def _check_images(task: "HostTask") -> None:
    """Refuse a task none of whose first documents shows exactly one image."""
    counts: list[int] = []
    for doc in task.eval_docs.select(range(min(_LOOKED_AT, len(task.eval_docs)))):
        try:
            counts.append(task.count_images(doc))
        except Exception:  # of this document alone; the run will say what is wrong with it
            return
        if counts[-1] == 1:
            return
    if counts:
        raise ConfigError(
            f"{task.config.task} cannot be wrapped: none of its first {len(counts)} documents shows exactly one image "
            f"(document 0 shows {counts[0]})"
        )


@contextmanager
def written(names: Sequence[str], model: str) -> Iterator[list[str]]:
    """A folder with a task file for each name, for lmms-eval's include path; no folder where there is no name."""
    if not names:
        yield []
        return
    with TemporaryDirectory(prefix="awares-tasks-") as folder:
        write(names, Path(folder), model)
        yield [folder]


def write(names: Sequence[str], folder: Path, model: str | None = None) -> list[Path]:
    """Write a task file for each of lmms-eval's tasks.

    Raises:
        ConfigError: a file cannot be written.
    """
    files = []
    for name in names:
        file = folder / f"{name}.yaml"
        settings = [f"{key}: {value}\n" for key, value in _settings(name, model).items()]
        text = "".join([settings[0], "class: !function lmms_awares.tasks.host_task.HostTask\n", *settings[1:]])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}; give another folder") from None
        files.append(file)
    return files


def _settings(name: str, model: str | None) -> dict[str, Any]:
    return {"task": f"{HOST_PREFIX}{name}", "host_task": name} | ({"model": model} if model else {})
