"""A finished training as a plain Hugging Face folder: the adapter merged, or the weights, with all else as in the base.

RUN/adapter_model.safetensors ─┐                 ┌─ model.safetensors, in the dtype of the base's file
base ──────────────────────────┴─► merged ─► OUT ┼─ config, generation config, tokenizer, processor, template: copies
RUN/training.json, validation ───────────────────┴─ README.md
"""

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors import safe_open

from lmms_awares.engine import checkpoint
from lmms_awares.engine.adapters import ADAPTER_WEIGHTS
from lmms_awares.engine.weights import WEIGHTS, check_weights, weight_files
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.families import Model
from lmms_awares.models.config import CommonArgs
from lmms_awares.report.curated.read import open_set
from lmms_awares.training import best, conditions
from lmms_awares.training.validation import FOLDER, last_evaluation

_CARD = "model_card.md.jinja"
# Settings that say where things lie, or are filled in by transformers.
_HERE = ("output_dir", "logging_dir", "run_name", "curated", "pretrained", "accelerator_config", "disable_tqdm")
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}  # as safetensors names them


@dataclass(frozen=True)
class Trained:
    """Weights of a training.

    Attributes:
        folder: holds them: the training's output folder, or its `best`.
        output: the training's output folder.
        starts: conditions of its starts, see `conditions.read_conditions`; one or more.
        is_adapter: an adapter, not all weights.
    """

    folder: Path
    output: Path
    starts: list[dict[str, Any]]
    is_adapter: bool

    @property
    def base(self) -> str:
        """Folder or hub id of the checkpoint that was trained."""
        return str(self.starts[-1]["pretrained"])

    @property
    def is_best(self) -> bool:
        """It is the best checkpoint, not the last one."""
        return self.folder != self.output


def export(run: Path, out: Path, curated: Path | None = None) -> Path:
    """Write a training's weights as a checkpoint that loads like its base.

    Args:
        run: output folder of a finished training, or its `best`.
        out: a new or empty folder.
        curated: the set that it was trained on, for the card; its content must be the same.

    Returns:
        `out`.

    Raises:
        ConfigError: no training, one that is not finished, a base that is not there or not the one that was trained,
            another set, a folder that is not empty.
        DataError: a set that cannot be read, a folder that cannot be written.

    Example:
        export(Path("results/sft/best"), Path("awares-7b"))
    """
    trained = find(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty; give a new folder")
    _check_base(trained)
    rows = None if curated is None else _rows_of(trained, curated)
    card = _card(trained, rows)
    try:
        out.mkdir(parents=True, exist_ok=True)
        try:
            _write(trained, out)
            (out / "README.md").write_text(card, encoding="utf-8")
        except BaseException:
            shutil.rmtree(out)  # it was empty: what is there now is half a checkpoint, which a retry would refuse
            raise
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}; give another folder") from None
    return out


def find(run: Path) -> Trained:
    """Find the weights of a finished training.

    Args:
        run: its output folder, or its `best`.

    Raises:
        ConfigError: no training, or one that is not finished.
    """
    output = run.parent if (run / best.FILE).is_file() else run
    starts = conditions.read_conditions(output)
    if not starts:
        raise ConfigError(
            f"{run} holds no training ({conditions.FILE}); give the output_dir of `awares train`, or its {best.NAME}"
        )
    is_adapter = any((run / name).is_file() for name in ADAPTER_WEIGHTS)
    if not is_adapter and not any((run / name).is_file() for name in WEIGHTS):
        raise ConfigError(
            f"{run} is not finished: it has no weights ({ADAPTER_WEIGHTS[0]} or {WEIGHTS[0]}); train again, and it "
            f"goes on from its last checkpoint, or give {run / best.NAME} where there is one"
        )
    return Trained(run, output, starts, is_adapter)


def _check_base(trained: Trained) -> None:
    base, folder = trained.base, trained.folder
    config = checkpoint.check_checkpoint(base, str(folder) if trained.is_adapter else None)
    if not trained.is_adapter:
        try:
            check_weights(folder, config, str(folder))
        except ConfigError as error:
            raise ConfigError(f"the base pretrained={base} is another model than the one trained: {error}") from None
    if checkpoint.fingerprint(base) != trained.starts[-1]["content"]:
        raise ConfigError(
            f"the base pretrained={base} is not what it was when {trained.output} was trained; put its files back"
        )


def _write(trained: Trained, out: Path) -> None:
    """The weights in the base's dtype, and everything else as the base has it."""
    merged = str(trained.folder) if trained.is_adapter else None
    args = CommonArgs(pretrained=trained.base if trained.is_adapter else str(trained.folder), adapter=merged)
    model, _ = checkpoint.load(args, "cpu")
    base = checkpoint.format_folder(trained.base)
    _cast(model, weight_files(base, f"pretrained={trained.base}"))
    model.save_pretrained(out)
    for name in ("config.json", "generation_config.json"):
        (out / name).unlink(missing_ok=True)
    for file in {file for pattern in checkpoint.FORMAT for file in base.glob(pattern)}:
        if not file.name.endswith(".index.json"):  # which names the files of the weights
            shutil.copyfile(file, out / file.name)


def _cast(model: Model, files: list[Path]) -> None:
    """Give the weights the dtype of the base's files, where these have one alone; it may be another than it runs in."""
    found = set()
    for file in files:
        if file.suffix != ".safetensors":
            return
        with safe_open(file, framework="pt") as opened:
            found |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    if len(found) == 1 and (dtype := _DTYPES.get(found.pop())):
        model.to(dtype)


def _rows_of(trained: Trained, curated: Path) -> list[tuple[str, str, int, int]]:
    """(split, source, LR rows, HR rows) of the set."""
    if conditions.data_hash(curated) != trained.starts[-1]["data"]:
        raise ConfigError(f"{curated} is not the set that {trained.output} was trained on; leave --curated out")
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in open_set(curated, finished=True).rows(("label",), with_rejected=False):
        counts[row["split"], row["source"], row["label"]] += 1
    pairs = sorted({(split, source) for split, source, _ in counts})
    return [(*pair, counts[*pair, "LR"], counts[*pair, "HR"]) for pair in pairs]


def _card(trained: Trained, rows: list[tuple[str, str, int, int]] | None) -> str:
    """README.md: what it is made of, how it was trained, and what was measured."""
    pages = Environment(
        loader=PackageLoader("lmms_awares.training", "."), undefined=StrictUndefined, trim_blocks=True, autoescape=False
    )
    adapter, now = trained.folder / "adapter_config.json", trained.starts[-1]
    is_local = Path(trained.base).is_dir()
    return pages.get_template(_CARD).render(
        trained=trained,
        now=now,
        published=not is_local,
        name=Path(trained.base).resolve().name if is_local else trained.base,
        settings={
            name: value for name, value in now["settings"].items() if name not in _HERE and value not in ([], {})
        },
        adapter=json.loads(adapter.read_text(encoding="utf-8")) if trained.is_adapter else None,
        evaluation=_evaluation(trained),
        rows=rows,
    )


def _evaluation(trained: Trained) -> dict[str, Any] | None:
    """What the evaluation of these weights measured; None where there was none."""
    if not trained.is_best:
        return last_evaluation(trained.output)
    told = json.loads((trained.folder / best.FILE).read_text(encoding="utf-8"))
    file = trained.output / FOLDER / f"step-{told['step']}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    return {"step": told["step"], "summary": told["numbers"], "sources": {}}
