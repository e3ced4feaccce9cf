"""PEFT adapters: whether every one of their weights finds its place in the model, and merging them into it.

peft warns of weights that it does not find, says nothing of those that it has no place for, and merges what is left.
"""

import copy
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from lmms_awares.engine.weights import misfit, quiet, stored
from lmms_awares.errors import ConfigError
from lmms_awares.families import family_of

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig

    from lmms_awares.families import Model

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Types whose merged weights are tested to answer as the adapter does.
MERGED_TYPES = ("LORA", "LOHA", "LOKR", "IA3", "OFT")
_PREFIX = "base_model.model."
# Names from before transformers 4.52, and what they are now. transformers maps them for whole checkpoints only.
_NEW_NAMES = {r"^visual\.": "model.visual.", r"^model\.(?!language_model\.|visual\.)": "model.language_model."}
_OLD_PARTS = {"model.visual.": "visual.", "model.language_model.": "model."}


def check_adapter(folder: Path, model: "PretrainedConfig", argument: str) -> "PeftConfig":
    """Put the adapter on an empty model of that configuration and compare names and shapes.

    Args:
        folder: of the adapter.
        model: configuration of the checkpoint that it is merged into.
        argument: names the adapter in messages, as in `adapter=DIR`.

    Returns:
        the adapter's settings, in today's module names.

    Raises:
        ConfigError: a type that cannot be merged; a weight that is missing, has no place, or has another shape.
    """
    import torch

    config, stored_weights = _read(folder, argument)
    found = {_new_name(name): tensor for name, tensor in stored_weights.items()}
    if len(found) < len(stored_weights):
        raise ConfigError(f"{argument} holds weights twice, under names from before transformers 4.52 and new ones")
    with torch.device("meta"):
        names = [name for name, _ in family_of(model).model_class()(model).named_modules()]
    settings = [config]
    if found.keys() != stored_weights.keys():
        # Old weights may come with settings in old names, or with new ones where somebody renamed the weights alone.
        settings = [*_in_new_names(config, names), config]
    problems = []
    for candidate in settings:
        problem = _problem(candidate, found, model)
        if not problem:
            return candidate
        problems.append(problem)
    raise ConfigError(
        f"{argument} does not fit the checkpoint: {problems[0]}; give the checkpoint that it was trained on"
    )


def merge(model: "Model", folder: Path, argument: str) -> "Model":
    """The model with an adapter in its weights.

    Raises:
        ConfigError: see `check_adapter`.
    """
    from peft import PeftModel

    config = check_adapter(folder, model.config, argument)
    return PeftModel.from_pretrained(model, str(folder), config=config, key_mapping=_NEW_NAMES).merge_and_unload()


def _read(folder: Path, argument: str) -> "tuple[PeftConfig, dict[str, torch.Tensor]]":
    """An adapter's settings, and its weights on the meta device, as they are in its files."""
    from peft import PeftConfig, PeftType

    file = next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise ConfigError(f"{argument} holds no weights ({ADAPTER_WEIGHTS[0]}); copy them there")
    try:
        with quiet():
            config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{argument}: its adapter_config.json cannot be used ({error!r})") from None
    if config.peft_type not in MERGED_TYPES:
        raise ConfigError(
            f"{argument} is of type {PeftType(config.peft_type).value}, which is not merged into weights here; use one "
            f"of {', '.join(MERGED_TYPES)}"
        )
    return config, stored([file], argument)


def _problem(config: "PeftConfig", found: "dict[str, torch.Tensor]", model: "PretrainedConfig") -> str:
    """What does not fit where these settings are put on an empty model; empty where all does."""
    import torch
    from peft import PeftModel, get_peft_model_state_dict

    with torch.device("meta"):
        base = family_of(model).model_class()(model)
    try:
        with quiet():
            tuned = PeftModel(base, copy.deepcopy(config), low_cpu_mem_usage=True)
            wanted = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    except (ValueError, TypeError, RuntimeError) as error:
        return str(error).splitlines()[0].rstrip(".")
    tied = [name for name in tuned.base_model.targeted_module_names if name.endswith(("embed_tokens", "lm_head"))]
    if model.tie_word_embeddings and tied:
        return (
            f"it adapts {tied[0]} alone, which the checkpoint ties to its other end, so that merging would change both"
        )
    places = {**tuned.state_dict(), **wanted}  # whole embeddings and the like stand beside an adapter's own weights
    mismatched = {
        name: (tuple(found[name].shape), tuple(places[name].shape))
        for name in found.keys() & places.keys()
        if found[name].shape != places[name].shape
    }
    problem = misfit(wanted.keys() - found.keys(), found.keys() - places.keys(), mismatched)
    return problem and f"of its {len(found)} weights and the {len(wanted)} that its settings ask for, {problem}"


def _new_name(weight: str) -> str:
    """The name that a weight has today; names that are not of before transformers 4.52 stay."""
    if not weight.startswith(_PREFIX):
        return weight
    name = weight.removeprefix(_PREFIX)
    for pattern, replacement in _NEW_NAMES.items():
        name, count = re.subn(pattern, replacement, name)
        if count:
            break
    return _PREFIX + name


def _old_name(module: str) -> str:
    """The name that a module had before transformers 4.52."""
    for new, old in _OLD_PARTS.items():
        if module.startswith(new):
            return old + module.removeprefix(new)
    return module


def _in_new_names(config: "PeftConfig", modules: Collection[str]) -> "list[PeftConfig]":
    """Settings that choose among today's `modules` what `config` chose when they had their old names; [] for nothing.

    That is known for certain: its patterns are matched against the names that the modules had.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND
    from peft.utils.other import get_pattern_key

    if not isinstance(config, LoraConfig) or config.target_modules == INCLUDE_LINEAR_LAYERS_SHORTHAND:
        return []
    olds = {name: _old_name(name) for name in modules}
    targets = {new for new, old in olds.items() if check_target_module_exists(config, old)}
    made = copy.deepcopy(config)
    made.target_modules = targets
    made.exclude_modules = made.layers_to_transform = made.layers_pattern = None
    for patterns in (made.rank_pattern, made.alpha_pattern):
        keys = {new: get_pattern_key(list(patterns), olds[new]) for new in targets}
        chosen = {f"^{re.escape(new)}": patterns[key] for new, key in keys.items() if key in patterns}
        patterns.clear()
        patterns.update(chosen)
    if config.modules_to_save:
        made.modules_to_save = [new for new, old in olds.items() if old.endswith(tuple(config.modules_to_save))]
    return [made] if targets else []
