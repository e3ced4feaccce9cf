"""What a training was done with: `training.json` in its output folder, written when it starts."""

import dataclasses
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from lmms_awares.engine import checkpoint
from lmms_awares.errors import ConfigError
from lmms_awares.journal import digest
from lmms_awares.protocol import GetCrops
from lmms_awares.provenance import code_hash
from lmms_awares.report.curated.read import open_set

FILE = "training.json"
_DECISIVE = {"stage": "stage", "content": "base", "data": "data", "prompt": "prompt", "adapter": "adapter"}
# Settings that a training may go on without: how long, what is written, where, and on what machine.
_FREE = {
    *("max_steps", "num_train_epochs", "output_dir", "pretrained", "curated", "adapter", "run_name"),
    *("save_steps", "save_strategy", "save_total_limit", "report_to", "disable_tqdm", "use_cpu", "logging_dir"),
    *("logging_steps", "logging_strategy", "logging_first_step", "log_completions", "num_completions_to_print"),
    *("eval_every", "eval_rows", "best", "per_device_eval_batch_size", "dataloader_num_workers"),
    *("dataloader_pin_memory", "accelerator_config", "ddp_timeout", "judge_url", "judge_key_env"),
}
_DEFAULT = "the default"
_PACKAGES = ("lmms-awares", "torch", "transformers", "trl", "peft", "accelerate", "datasets")


def write_conditions(
    output: Path, stage: str, settings: TrainingArguments, *, pretrained: str, curated: Path, adapter: str = ""
) -> None:
    """Write what a training is done with; a run that goes on with other code or versions keeps the earlier ones.

    Args:
        output: folder of the training.
        stage: `sft` or `grpo`.
        settings: of the trainer; those that are not their defaults are kept.
        pretrained: folder or hub id of the checkpoint that is trained.
        curated: folder of the curated set.
        adapter: folder or hub id of the adapter that it starts from.

    Raises:
        ConfigError: the folder cannot be written, or holds checkpoints of a training that this one does not go on with.
        DataError: no finished set.

    Example:
        write_conditions(Path("sft"), "sft", settings, pretrained="checkpoint", curated=Path("set"))
    """
    now = {
        "stage": stage,
        "pretrained": pretrained,
        "content": checkpoint.fingerprint(pretrained),
        "curated": str(curated),
        "data": data_hash(curated),
        "prompt": digest(GetCrops.own["system"]),
        "code": code_hash(),
        "settings": _changed(settings),
        "versions": {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": settings.world_size,
    }
    if adapter:
        now["adapter"] = checkpoint.fingerprint(adapter)
    goes_on = next(output.glob("**/checkpoint-*/trainer_state.json"), None) is not None
    earlier = read_conditions(output) if goes_on else []
    if earlier:
        _check_the_same(output, earlier[-1], now)
    if earlier and earlier[-1] == now:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        unfinished = output / f"{FILE}.tmp"
        unfinished.write_text(json.dumps([*earlier, now], indent=1) + "\n", encoding="utf-8")
        unfinished.replace(output / FILE)
    except OSError as error:
        raise ConfigError(f"output_dir={output} cannot be written: {error.strerror}; give another folder") from None


def _check_the_same(output: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on from checkpoints that were trained with something else; their state would win."""
    for name, what in _DECISIVE.items():
        if name in then and then[name] != now.get(name, then[name]):
            _refuse(output, f"{what} {str(then[name])[:12]}, not {str(now[name])[:12]}")
    was, wanted = then["settings"], now["settings"]
    for name in sorted({*was, *wanted} - _FREE):
        if was.get(name, _DEFAULT) != wanted.get(name, _DEFAULT):
            _refuse(output, f"{name}={was.get(name, _DEFAULT)}, not {wanted.get(name, _DEFAULT)}")


def _refuse(output: Path, difference: str) -> None:
    raise ConfigError(f"{output} holds a training with {difference}; give another output_dir, or delete that one")


def read_conditions(output: Path) -> list[dict[str, Any]]:
    """Return the conditions of a training's starts, oldest first, equal ones once; empty where there are none."""
    file = output / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def data_hash(curated: Path) -> str:
    """Hash the trajectories of a curated set, as its `provenance.json` does; a hex sha256.

    Raises:
        DataError: no finished set.
    """
    files = open_set(curated, finished=True).files
    return digest(*(_sha256(file) for file in files))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _changed(settings: TrainingArguments) -> dict[str, Any]:
    """The settings that are not what their class declares; tokens for a hub stay out."""
    values = settings.to_dict()
    return {
        field.name: values[field.name]
        for field in dataclasses.fields(settings)
        if not field.name.endswith("_token") and values[field.name] != _declared(field)
    }


def _declared(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
