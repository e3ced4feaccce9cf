"""What one evaluation is asked to do: the command line of `awares eval`, or lmms-eval's `--config` file, as a plan."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from lmms_awares import host_arguments
from lmms_awares.errors import ConfigError
from lmms_awares.plugin import tasks_dir
from lmms_awares.tasks import benchmarks

DEFAULT_OUTPUT = "results/runs"
LISTINGS = ("list", "list_groups", "list_tags", "list_subtasks")


@dataclass
class Plan:
    """What one evaluation is asked to do; the keys of lmms-eval that the preflight looks at or sets."""

    model: str = ""
    model_args: str = ""
    tasks: str = ""
    output_path: str = DEFAULT_OUTPUT
    include_path: list[str] = field(default_factory=list)
    batch_size: str = "1"
    use_cache: str | None = None

    @property
    def own_tasks(self) -> list[str]:
        """Our tasks among those asked for, groups opened."""
        patterns = self.tasks.split(",")

        def asked(name: str) -> bool:
            return any(fnmatch(name, pattern) for pattern in patterns)

        return [task for group, tasks in benchmarks.SUITES.items() for task in tasks if asked(group) or asked(task)]


def plan_of(arguments: Sequence[str]) -> tuple[Plan, list[str]]:
    """Split the command line into the plan and the arguments that pass through to lmms-eval untouched.

    Raises:
        ConfigError: a missing --model or --tasks, or a --config file that cannot be read.
    """
    # Abbreviations are allowed as lmms-eval allows them.
    parser = host_arguments.Parser(prog="awares eval", add_help=False)
    for name in ("--config", "--model", "--model_args", "--tasks", "--output_path", "--include_path"):
        parser.add_argument(name)
    parser.add_argument("--batch_size", "-b")
    parser.add_argument("--use_cache", "-c")
    found, rest = parser.parse_known_args(list(arguments))
    given = {key: value for key, value in vars(found).items() if value is not None}
    if "config" in given:
        given = _from_config(Path(given.pop("config")), rest) | given
    given["tasks"] = ",".join(name.strip() for name in given.get("tasks", "").split(",") if name.strip())
    for name in ("tasks",) if given["tasks"] in LISTINGS else ("model", "tasks"):
        if not given.get(name):
            raise ConfigError(f"--{name} is missing; e.g. awares eval --model awares --tasks awares_suite ...")
    # lmms-eval reads the path as a setting: a bare number would become one, and a comma ends it.
    given["output_path"] = str(Path(given.get("output_path") or DEFAULT_OUTPUT).absolute())
    if "," in given["output_path"]:
        raise ConfigError(f"--output_path {given['output_path']} holds a comma, which lmms-eval cannot take")
    own = given.pop("include_path", None)
    if own and not os.path.isdir(own):  # noqa: PTH112 - a name may be too long to ask for
        raise ConfigError(f"--include_path {own} is no folder")
    return Plan(**given, include_path=[*([own] if own else []), tasks_dir()]), rest


def _from_config(file: Path, rest: list[str]) -> dict[str, str]:
    """Settings of a YAML file; keys that are not the plan's are appended to `rest` as arguments."""
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {file} cannot be read: {str(error).splitlines()[0]}") from None
    if isinstance(settings, list) and len(settings) == 1:
        settings = settings[0]
    if not isinstance(settings, dict):
        raise ConfigError(f"--config {file} must hold the settings of one run; run several one by one")
    environment = settings.pop("env", {})
    if not isinstance(environment, dict):
        raise ConfigError(f"--config {file}: env must map names to values")
    os.environ.update({key: os.path.expandvars(str(value)) for key, value in environment.items()})
    known = set(Plan.__dataclass_fields__)
    for key in settings.keys() - known:
        value = settings[key]
        given = any(argument == f"--{key}" or argument.startswith(f"--{key}=") for argument in rest)
        if not given and value is not False and value is not None:
            rest += [f"--{key}"] if value is True else [f"--{key}", _as_argument(value)]
    return {key: _as_argument(settings[key]) for key in settings.keys() & known}


def _as_argument(value: Any) -> str:
    """A YAML value as it would be written on the command line."""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
