"""The file that describes a suite, and the rows that it asks for."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from lmms_awares.models import MODELS
from lmms_awares.pruning import PRUNERS
from lmms_awares.yaml_settings import Strict, named_file, read_settings_file

CONFIGS = Path(__file__).parent / "configs"
ALL = "all"
Value = str | int | float | bool
_SET_HERE = ("pretrained", "adapter", "journal")


class Row(Strict):
    """One row of the table, or several: an argument with a list of values makes a row of each.

    Attributes:
        model: one of `awares models`, or a model of lmms-eval.
        name: its name and its folder's; default: made of model and arguments.
        checkpoint: a name in `checkpoints`; default: the first one.
        adapter: a name in `checkpoints`, or a folder inside the checkpoint.
        args: of `--model_args`. `pruner: all` makes a row of each registered pruner, under its own model id where it
            has one.
    """

    model: str
    name: str = Field(default="", pattern=r"^[\w.+@-]*$")
    checkpoint: str = ""
    adapter: str = ""
    args: dict[str, Value | list[Value]] = Field(default_factory=dict)

    @field_validator("args")
    @classmethod
    def _not_set_here(cls, args: dict[str, Value | list[Value]]) -> dict[str, Value | list[Value]]:
        for name in _SET_HERE:
            if name in args:
                raise ValueError(f"{name} is set by checkpoint, by adapter, and by the output folder; leave it out")
        return args

    def opened(self) -> "Iterator[Row]":
        """One row for each combination of listed values."""
        given = {name: value if isinstance(value, list) else [value] for name, value in self.args.items()}
        if given.get("pruner") == [ALL]:
            given["pruner"] = list(PRUNERS)
        for values in product(*given.values()):
            args: dict[str, Value | list[Value]] = dict(zip(given, values, strict=True))
            model = self.model
            if self.args.get("pruner") == ALL and args["pruner"] in MODELS:
                model = str(args.pop("pruner"))
            name = self.name or "_".join([model, *(f"{key}-{value}" for key, value in args.items())])
            yield self.model_copy(update={"model": model, "args": args, "name": name})


class Suite(Strict):
    """A table's rows, and on what they are measured.

    Attributes:
        checkpoints: folder or hub id by name; `mini` is the tiny one that ships.
        tasks: tasks or groups, with commas between.
        rows: of the table, in its order.
        args: of `--model_args`, for every row that does not set them itself.
        batch_size, device, limit: as lmms-eval's options.
        jobs: rows at a time, in a process each; not more than there are cores.
        labels: for the figures, as `awares plot --labels`.
        paper: the published rows beside them.
        report: rows of the sample explorer; default: all.
    """

    checkpoints: dict[str, str] = Field(min_length=1)
    tasks: str
    rows: list[Row] = Field(min_length=1)
    args: dict[str, Value] = Field(default_factory=dict)
    batch_size: int = Field(default=1, ge=1)
    device: str | None = None
    limit: int | None = Field(default=None, ge=1)
    jobs: int = Field(default=1, ge=1)
    labels: str | None = None
    paper: bool = False
    report: list[str] | None = None

    @model_validator(mode="after")
    def _open(self) -> "Suite":
        self.rows = [opened for row in self.rows for opened in row.opened()]
        names = [row.name for row in self.rows]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two rows are called {twice[0]}; give one of them a name")
        first = next(iter(self.checkpoints))
        for row in self.rows:
            row.checkpoint = row.checkpoint or first
            if row.checkpoint not in self.checkpoints:
                known = ", ".join(self.checkpoints)
                raise ValueError(f"row {row.name}: no checkpoint is called {row.checkpoint}; there are: {known}")
        if unknown := [name for name in self.report or () if name not in names]:
            raise ValueError(f"report: no row is called {unknown[0]}; there are: {', '.join(names)}")
        return self


def read_suite(file: Path) -> Suite:
    """Read a suite: a file, or one that ships, by name; rows opened.

    Raises:
        ConfigError: no file, no YAML, or a setting that is unknown or cannot work; one line that names it.

    Example:
        [row.name for row in read_suite(Path("mini")).rows]  # ["qwen2_5_vl_full", "visionzip_retain_ratio-0.7", ...]
    """
    return read_settings_file(named_file(file, CONFIGS), Suite)
