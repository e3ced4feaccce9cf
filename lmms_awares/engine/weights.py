"""Whether weights fit the model that a configuration describes, told from names and shapes: nothing is loaded.

transformers fills what it does not find with random numbers, and a score of those looks like any other.
"""

import json
import pickle
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmms_awares.errors import ConfigError
from lmms_awares.families import family_of

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def weight_files(folder: Path, argument: str) -> list[Path]:
    """The files that transformers reads a checkpoint from; of several formats the first of `WEIGHTS`.

    Args:
        folder: of the checkpoint.
        argument: names it in messages, as in `pretrained=DIR`.

    Raises:
        ConfigError: none, a shard that is missing, or an index that cannot be read.
    """
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise ConfigError(f"{argument} holds no weights ({' or '.join(WEIGHTS[:2])}); copy them there")
    if found.suffix != ".json":
        return [found]
    try:
        names = sorted(set(json.loads(found.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{argument}: {found.name} is no index of weights; copy the checkpoint again") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{argument} lacks {missing[0]}: {len(missing)} of the {len(names)} files that its {found.name} names are "
            "missing; copy them there"
        )
    return [folder / name for name in names]


def stored(files: Collection[Path], argument: str) -> "dict[str, torch.Tensor]":
    """Every tensor in `files` by name, on the meta device: a shape without content.

    Raises:
        ConfigError: a file that is cut off or holds something else.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    found: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as opened:
                    shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
                found |= {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
            else:
                found |= torch.load(file, map_location="meta", weights_only=True)
        except (SafetensorError, OSError, EOFError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
            raise ConfigError(f"{argument}: {file.name} cannot be read ({_first_line(error)}); copy it again") from None
    return found


def check_weights(folder: Path, config: "PretrainedConfig", argument: str) -> None:
    """Place every name that a checkpoint's files hold, as transformers will when it loads them.

    Names from before transformers 4.52 are mapped there, not here. Quantised weights are judged when they are loaded.

    Raises:
        ConfigError: weights that are missing, have no place, or have another shape; files that cannot be read.
    """
    found = stored(weight_files(folder, argument), argument)
    if "quantization_config" in config.to_dict():
        return
    with quiet():
        _, info = (
            family_of(config)
            .model_class()
            .from_pretrained(
                None,
                config=config,
                state_dict=found,
                device_map="meta",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        )
    refuse_misfits(info, argument)


def refuse_misfits(info: Mapping[str, Any], argument: str) -> None:
    """Read transformers' loading info.

    Args:
        info: `missing_keys`, `unexpected_keys`, `mismatched_keys` (name, shape in the files, shape in the model) and
            `error_msgs`, as `from_pretrained` gives them.

    Raises:
        ConfigError: anything in there.
    """
    mismatched = {name: (tuple(stored), tuple(wanted)) for name, stored, wanted in info["mismatched_keys"]}
    problem = misfit(info["missing_keys"], info["unexpected_keys"], mismatched)
    if info["error_msgs"]:
        problem = str(info["error_msgs"][0]).splitlines()[0]
    if problem:
        raise ConfigError(
            f"{argument} does not fit its config.json: {problem}; save it again with save_pretrained, from the "
            "unwrapped model"
        )


def misfit(
    missing: Collection[str],
    unexpected: Collection[str],
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    """What is wrong, with the count and the first name of each kind; empty where nothing is.

    Args:
        mismatched: (shape in the files, shape in the model) by name.
    """
    problems = []
    if missing:
        problems.append(f"{_count(missing)} missing, first {min(missing)}")
    if unexpected:
        problems.append(f"{_count(unexpected)} without a place in the model, first {min(unexpected)}")
    if mismatched:
        first = min(mismatched)
        found, wanted = (list(shape) for shape in mismatched[first])
        problems.append(f"{_count(mismatched)} of another shape, first {first}, which is {found} and must be {wanted}")
    return ", ".join(problems)


def _count(names: Collection[str]) -> str:
    return f"{len(names)} weight is" if len(names) == 1 else f"{len(names)} weights are"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """No reports, warnings or progress bars of transformers and peft: they would speak of an attempt."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
