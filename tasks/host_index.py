"""What the installed lmms-eval has for tasks, read from its YAML files as text: nothing of it is imported or run."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lmms_awares.errors import ConfigError

HOST_PREFIX = "awares:"
_TAGS = ("tag", "group")  # keys by which a task's file puts the task into a collection


@dataclass(frozen=True)
class Function:
    """What `!function` names in a YAML file.

    Attributes:
        name: as it is written, e.g. `utils.chartqa_doc_to_text`.
        folder: of the file that names it; modules are looked for there first.
    """

    name: str
    folder: Path

    @property
    def attribute(self) -> str:
        """The function's own name."""
        return self.name.rpartition(".")[2]

    @property
    def module(self) -> Path | None:
        """File of its module: beside the YAML, or below the installed lmms-eval's tasks; None where there is none."""
        dotted = self.name.rpartition(".")[0]
        return module_file(dotted, self.folder)


@dataclass(frozen=True)
class Index:
    """The tasks of an lmms-eval.

    Attributes:
        files: each task's YAML file.
        settings: each task's settings, `include` resolved; functions as `Function`.
        collections: the tasks of each group and tag, as lmms-eval lists them; a group's entry may be a group again,
            or None where it is no plain name.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    collections: Mapping[str, list[str | None]] = field(default_factory=dict)


def root() -> Path:
    """Return the folder of the installed lmms-eval."""
    spec = find_spec("lmms_eval")
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


@cache
def module_file(dotted: str, folder: Path) -> Path | None:
    """Return the file of a module beside `folder`'s files or below lmms-eval's tasks; None for any other module."""
    bases = [folder.joinpath(*dotted.split("."))]
    if dotted.startswith("lmms_eval.tasks"):
        bases.append(root().parent.joinpath(*dotted.split(".")))
    files = (file for base in bases for file in (base.with_name(f"{base.name}.py"), base / "__init__.py"))
    return next((Path(os.path.normpath(file)) for file in files if file.is_file()), None)


@cache
def installed() -> Index:
    """Read the installed lmms-eval's task files, about 2,000, once.

    Example:
        installed().settings["chartqa"]["test_split"]
    """
    files, settings = {}, {}
    collections: dict[str, list[str | None]] = {}
    for file in _yaml_files(root() / "tasks"):
        found = _settings(file)
        task = found.get("task")
        if isinstance(task, str):
            files[task], settings[task] = file, found
            for key in _TAGS:
                named = found.get(key) or []
                for tag in [named] if isinstance(named, str) else named:
                    collections.setdefault(tag, []).append(task)
        elif isinstance(task, list) and isinstance(found.get("group"), str):
            collections[found["group"]] = [one if isinstance(one, str) else None for one in task]
    return Index(files, settings, collections)


def _yaml_files(folder: Path) -> Iterator[Path]:
    """Yield YAML files in the order in which lmms-eval finds them: of two tasks of one name the last counts."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", ".ipynb_checkpoints")]
        yield from (Path(where, name) for name in names if name.endswith(".yaml"))


@cache
def _settings(file: Path) -> dict[str, Any]:
    """Read one file with what it includes. A file that cannot be read holds a key `unreadable`, the reason."""
    import yaml

    class Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
        pass

    def function(loader: Any, node: Any) -> Function:
        return Function(str(node.value), file.parent)

    Loader.add_constructor("!function", function)
    try:
        own = yaml.load(file.read_text(encoding="utf-8"), Loader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return {"unreadable": f"{file.name}: {str(error).splitlines()[0]}"}
    if not isinstance(own, dict):
        return {}
    included = own.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in reversed([included] if isinstance(included, str) else included):
        path = Path(name) if Path(name).is_file() else file.parent / name
        merged |= _settings(path)
    return merged | own


def tasks_of(name: str) -> list[str]:
    """Return the tasks that a name of lmms-eval stands for: itself, or those of a group or tag.

    Raises:
        ConfigError: lmms-eval has no task, group or tag of the name, or a group sets up its tasks in its own way.
    """
    index = installed()
    if name in index.settings:
        return [name]
    if name not in index.collections:
        from difflib import get_close_matches

        near = get_close_matches(name, [*index.settings, *index.collections], n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ConfigError(f"lmms-eval has no task {name!r}{hint}; awares tasks list --host lists what can be wrapped")
    found: list[str] = []
    for member in index.collections[name]:
        if member is None or member == name:
            raise ConfigError(f"the group {name} of lmms-eval sets up its tasks itself; name the tasks one by one")
        found += tasks_of(member)
    return list(dict.fromkeys(found))
