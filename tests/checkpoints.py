"""The shipped checkpoint and adapter, and copies of them whose weights are changed by name."""

import json
import re
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from lmms_awares.mini.demo import checkpoint

SHIPPED = checkpoint()
ADAPTER = SHIPPED / "visionthink"


def copy_of(folder, into, *, change=None, config=None, weights="model.safetensors"):
    """A copy of a checkpoint.

    Args:
        change: dict of tensors to dict of tensors.
        config: what is merged into config.json, one level deep.
    """
    shutil.copytree(folder, into, ignore=shutil.ignore_patterns("visionthink"))
    if change:
        save_file(change(load_file(into / weights)), into / weights, {"format": "pt"})
    if config:
        edit(into / "config.json", **config)
    return into


def adapter_copy(into, *, change=None, folder=ADAPTER, **config):
    """A copy of an adapter, see `copy_of`; `config` goes into adapter_config.json."""
    copy_of(folder, into, change=change, weights="adapter_model.safetensors")
    if config:
        edit(into / "adapter_config.json", **config)
    return into


def edit(file: Path, **values):
    """Set values of a JSON file; dictionaries are merged."""
    data = json.loads(file.read_text())
    for name, value in values.items():
        data[name] = data[name] | value if isinstance(value, dict) and isinstance(data.get(name), dict) else value
    file.write_text(json.dumps(data))


def renamed(pattern, replacement):
    """A change that renames weights."""
    return lambda tensors: {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items()}


def without(pattern):
    """A change that leaves weights out."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not re.search(pattern, name)}


def to_new_names(tensors):
    """A checkpoint's weights under the names of transformers 4.52 and later."""
    parts = {r"^visual\.": "model.visual.", r"^model\.": "model.language_model."}
    made = {}
    for name, tensor in tensors.items():
        pattern = next(pattern for pattern in parts if re.match(pattern, name))
        made[re.sub(pattern, parts[pattern], name)] = tensor
    return made


to_old_adapter_names = renamed(r"^base_model\.model\.model\.language_model\.", "base_model.model.model.")
