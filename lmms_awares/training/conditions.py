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
from lmms_awares.journal import digest
from lmms_awares.protocol import GetCrops
from lmms_awares.provenance import code_hash
from lmms_awares.report.curated.read import open_set

FILE = "training.json"
_PACKAGES = ("lmms-awares", "torch", "transformers", "trl", "peft", "accelerate", "datasets")


def write_conditions(output: Path, stage: str, settings: TrainingArguments, *, pretrained: str, curated: Path) -> None:
    """Write what a training is done with; a run that goes on under other conditions keeps the earlier ones.

    Args:
        output: folder of the training.
        stage: `sft` or `grpo`.
        settings: of the trainer; those that are not their defaults are kept.
        pretrained: folder or hub id of the checkpoint that is trained.
        curated: folder of the curated set.

    Raises:
        DataError: no finished set.
        OSError: the folder cannot be written.

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
    earlier = read_conditions(output)
    if earlier and earlier[-1] == now:
        return
    output.mkdir(parents=True, exist_ok=True)
    unfinished = output / f"{FILE}.tmp"
    unfinished.write_text(json.dumps([*earlier, now], indent=1) + "\n", encoding="utf-8")
    unfinished.replace(output / FILE)


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
