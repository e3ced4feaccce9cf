"""Checking, fingerprinting and loading checkpoints of `lmms_awares.families` and PEFT adapters."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmms_awares.engine.adapters import ADAPTER_WEIGHTS, check_adapter, merge
from lmms_awares.engine.weights import check_weights, refuse_misfits, weight_files
from lmms_awares.errors import ConfigError
from lmms_awares.families import FAMILIES, family_of
from lmms_awares.journal import digest
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol.prompts import Prompt
from lmms_awares.provenance import code_hash

if TYPE_CHECKING:
    from transformers import PretrainedConfig, Qwen2_5_VLProcessor, Qwen3VLProcessor

    from lmms_awares.families import Model

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What decides answers: weights, configuration, tokenizer, template. Everything else may change freely.
FORMAT = ("*.json", "*.jinja", "merges.txt")
_CONTENT = ("*.safetensors", *FORMAT)
_OLD_WEIGHTS = "*.bin"
_PARTS = {
    "tokenizer": ("tokenizer.json", "vocab.json"),
    "processor": ("processor_config.json", "preprocessor_config.json"),
}


def check_checkpoint(
    pretrained: str,
    adapter: str | None = None,
    families: Collection[str] = FAMILIES,
    *,
    weights: bool = True,
) -> "PretrainedConfig":
    """Look at configurations and at the names and shapes of weights, so that what is wrong fails before it loads.

    A hub id whose weights are not in the cache yet is looked at in full when `load` has fetched it.

    Args:
        families: model types that will do.
        weights: they are needed, too; a server has its own.

    Returns:
        the checkpoint's configuration.

    Raises:
        ConfigError: nothing there, another model type, an adapter given as checkpoint or the reverse, weights that are
            missing or do not fit, of the checkpoint or of the adapter.
    """
    config_file = _find(pretrained, "config.json", "pretrained")
    try:
        found = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise ConfigError(f"{config_file} is not a JSON object; copy the checkpoint again") from None
    if found not in families:
        known = " or ".join(families)
        raise ConfigError(f"pretrained={pretrained} is a {found!r} model; what is asked for runs {known} only")
    folder = config_file.parent
    if Path(pretrained).is_dir():
        if weights:
            weight_files(folder, f"pretrained={pretrained}")
        if (folder / "adapter_config.json").is_file():
            raise ConfigError(
                f"pretrained={pretrained} holds an adapter_config.json beside its config.json, and transformers would "
                "load that adapter's base; move the adapter to a folder of its own"
            )
        for part, names in _PARTS.items():
            if not any((folder / name).is_file() for name in names):
                raise ConfigError(f"pretrained={pretrained} has no {part} ({' or '.join(names)}); copy it there")
    config = _configuration(folder, pretrained)
    if weights and (Path(pretrained).is_dir() or _are_cached(folder)):
        check_weights(folder, config, f"pretrained={pretrained}")
    if adapter is not None:
        check_adapter(_adapter_folder(adapter), config, f"adapter={adapter}")
    return config


def _configuration(folder: Path, pretrained: str) -> "PretrainedConfig":
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder)
    except (StrictDataclassError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"pretrained={pretrained}: its config.json cannot be used ({reason})") from None


def _are_cached(folder: Path) -> bool:
    """The cache holds all weights of a hub id, not only its configuration."""
    try:
        return bool(weight_files(folder, str(folder)))
    except ConfigError:
        return False


def _adapter_folder(adapter: str) -> Path:
    config_file = _find(adapter, "adapter_config.json", "adapter")
    if not Path(adapter).is_dir():
        _find(adapter, ADAPTER_WEIGHTS[0], "adapter")
    return config_file.parent


def check_hashes(args: CommonArgs, revision: str, setup: str) -> None:
    """Compare `rev` and `setup` with what is really there.

    Raises:
        ConfigError: one differs.
    """
    for name, wanted, found in (("rev", args.rev, revision), ("setup", args.setup, setup)):
        if wanted and not found.startswith(wanted.removeprefix("sha-")):
            raise ConfigError(f"{name}={wanted} was expected, but this is {name}=sha-{found[:12]}")


def setup_hash(prompts: Mapping[str, Prompt]) -> str:
    """Hex digest of what else decides answers besides the checkpoint: the package's sources and the prompts."""
    return digest(code_hash(), *(prompt.text for prompt in prompts.values()))


def _find(location: str, name: str, argument: str) -> Path:
    folder = Path(location)
    if folder.is_file():
        raise ConfigError(f"{argument}={location} is a file; give the folder that holds it, {folder.parent}")
    if folder.is_dir():
        if (folder / name).is_file():
            return folder / name
        if name == "config.json" and (folder / "adapter_config.json").is_file():
            raise ConfigError(
                f"pretrained={location} is a PEFT adapter; pass its base as pretrained and this as adapter={location}"
            )
        raise ConfigError(f"{argument}={location} has no {name}; point it at a saved checkpoint")
    if not _HUB_ID.fullmatch(location):
        raise ConfigError(f"{argument}={location} does not exist; give a folder or a hub id such as Qwen/NAME")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(location, name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{argument}={location} is no local folder, and the hub did not give its {name}: {reason}"
        ) from None


def fingerprint(pretrained: str, adapter: str | None = None) -> str:
    """Hex sha256 over the content of every file that decides answers, checkpoint first, adapter second."""
    sha = hashlib.sha256()
    for location in (pretrained, adapter):
        if location is not None:
            sha.update(_listing(_folder(location), _patterns(location)))
    return sha.hexdigest()


def format_fingerprint(pretrained: str) -> str:
    """Hex sha256 over the content of a checkpoint's configuration, tokenizer and template, without its weights."""
    return hashlib.sha256(_listing(format_folder(pretrained), FORMAT)).hexdigest()


def _listing(folder: Path, patterns: Sequence[str]) -> bytes:
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return "".join(f"{file.name}\0{_file_hash(file)}\n" for file in files).encode()


def _patterns(location: str) -> tuple[str, ...]:
    # Hub repositories may hold old weights beside the new ones, which nobody loads: they are neither fetched nor read.
    return (*_CONTENT, _OLD_WEIGHTS) if Path(location).is_dir() else _CONTENT


def _folder(location: str, patterns: Sequence[str] | None = None) -> Path:
    if Path(location).is_dir():
        return Path(location)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(location, allow_patterns=list(patterns or _patterns(location))))


def format_folder(pretrained: str) -> Path:
    """Folder with a checkpoint's configuration, tokenizer and template; its weights, too, where they are here."""
    return _folder(pretrained, FORMAT)


def _file_hash(file: Path) -> str:
    # The hub's cache names the blob of a large file by its sha256, which saves reading 15 GB again.
    blob = file.resolve().name
    if _SHA256.fullmatch(blob):
        return blob
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load(args: CommonArgs, device: str) -> "tuple[Model, Qwen2_5_VLProcessor | Qwen3VLProcessor]":
    """Load weights (adapter merged) and processor.

    The checkpoint's generation defaults, repetition penalty included, are dropped: decoding is what the task asks. Only
    the ids that end a turn stay, see `end_ids`.

    Raises:
        ConfigError: see `check_checkpoint`; pixel limits that contradict each other; weights that did not arrive.
    """
    check_checkpoint(args.pretrained, args.adapter, args.families)
    from transformers import GenerationConfig

    processor = _processor(args)
    options: dict[str, Any] = {"dtype": args.dtype, "device_map": args.device_map or device}
    if args.attn_implementation:
        options["attn_implementation"] = args.attn_implementation
    model = _load_model(args.pretrained, options)
    if args.adapter:
        model = merge(model, _adapter_folder(args.adapter), f"adapter={args.adapter}")
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return model.eval(), processor


def load_format(args: CommonArgs) -> "tuple[PretrainedConfig, Qwen2_5_VLProcessor | Qwen3VLProcessor]":
    """Load configuration and processor alone, for weights that a server has.

    Raises:
        ConfigError: as `load`, but for the weights.
    """
    check_checkpoint(args.pretrained, families=args.families, weights=False)
    return _configuration(format_folder(args.pretrained), args.pretrained), _processor(args)


def _processor(args: CommonArgs) -> "Qwen2_5_VLProcessor | Qwen3VLProcessor":
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(args.pretrained)
    low, high = _limits(args, processor.image_processor.size)
    processor.image_processor.size = {"shortest_edge": low, "longest_edge": high}
    return processor


def check_limits(args: CommonArgs) -> None:
    """Compare pixel limits with the checkpoint's own, where only one is given.

    Raises:
        ConfigError: they contradict each other.
    """
    if (args.min_pixels is None) != (args.max_pixels is None):
        from transformers import AutoImageProcessor

        _limits(args, AutoImageProcessor.from_pretrained(args.pretrained).size)


def _limits(args: CommonArgs, own: Mapping[str, int]) -> tuple[int, int]:
    low, high = args.min_pixels or own["shortest_edge"], args.max_pixels or own["longest_edge"]
    if not 0 < low <= high:
        raise ConfigError(
            f"pixel limits need 0 < min_pixels <= max_pixels, got {low} and {high}; what is not given is the "
            "checkpoint's own"
        )
    return low, high


def _load_model(pretrained: str, options: dict[str, Any]) -> "Model":
    """transformers' `from_pretrained`, which otherwise makes up the weights that it does not find."""
    import torch
    from transformers import AutoConfig

    try:
        family = family_of(AutoConfig.from_pretrained(pretrained))
        model, info = family.model_class().from_pretrained(
            pretrained, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError) as error:  # a download, a broken file, a conversion
        raise ConfigError(f"pretrained={pretrained} cannot be loaded: {str(error).splitlines()[0]}") from error
    refuse_misfits(info, f"pretrained={pretrained}")
    return model


def end_ids(model: "Model") -> tuple[int, ...]:
    """Ids that end a turn by the checkpoint's generation config; the published ones list two."""
    return _as_ids(model.generation_config.eos_token_id)


def end_ids_of(pretrained: str) -> tuple[int, ...]:
    """The same of a checkpoint whose weights are not here."""
    file = format_folder(pretrained) / "generation_config.json"
    return _as_ids(json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")) if file.is_file() else ()


def _as_ids(found: int | Sequence[int] | None) -> tuple[int, ...]:
    if found is None:
        return ()
    return (found,) if isinstance(found, int) else tuple(found)
