"""Checking, fingerprinting and loading Qwen2.5-VL checkpoints and PEFT adapters."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmms_awares.journal import digest
from lmms_awares.models.config import CommonArgs, ConfigError
from lmms_awares.prompts import Prompt
from lmms_awares.provenance import code_hash

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

MODEL_TYPE = "qwen2_5_vl"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What decides answers: weights, configuration, tokenizer, template. Everything else may change freely.
_CONTENT = ("*.safetensors", "*.json", "*.jinja", "merges.txt")
_OLD_WEIGHTS = "*.bin"
_PARTS = {
    "tokenizer": ("tokenizer.json", "vocab.json"),
    "processor": ("processor_config.json", "preprocessor_config.json"),
}


def check_checkpoint(pretrained: str, adapter: str | None = None) -> None:
    """Look at the configuration files only; quick, so that a wrong path fails before anything loads.

    Raises:
        ConfigError: nothing there, not a Qwen2.5-VL, no weights, an adapter given as checkpoint or the reverse.
    """
    config_file = _find(pretrained, "config.json", "pretrained")
    try:
        found = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise ConfigError(f"{config_file} is not a JSON object; copy the checkpoint again") from None
    if found != MODEL_TYPE:
        raise ConfigError(f"pretrained={pretrained} is a {found!r} model; this plugin runs {MODEL_TYPE!r} only")
    weights = [file for pattern in (_CONTENT[0], _OLD_WEIGHTS) for file in Path(pretrained).glob(pattern)]
    if Path(pretrained).is_dir() and not weights:
        raise ConfigError(f"pretrained={pretrained} holds no weights (*.safetensors); copy them there")
    if Path(pretrained).is_dir():
        for part, names in _PARTS.items():
            if not any((Path(pretrained) / name).is_file() for name in names):
                raise ConfigError(f"pretrained={pretrained} has no {part} ({' or '.join(names)}); copy it there")
    if adapter is not None:
        _find(adapter, "adapter_config.json", "adapter")
        if Path(adapter).is_dir() and not list(Path(adapter).glob("adapter_model.*")):
            raise ConfigError(f"adapter={adapter} holds no weights (adapter_model.safetensors); copy them there")


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
        if location is None:
            continue
        folder = _folder(location)
        for file in sorted({file for pattern in _patterns(location) for file in folder.glob(pattern)}):
            sha.update(f"{file.name}\0{_file_hash(file)}\n".encode())
    return sha.hexdigest()


def _patterns(location: str) -> tuple[str, ...]:
    # Hub repositories may hold old weights beside the new ones, which nobody loads: they are neither fetched nor read.
    return (*_CONTENT, _OLD_WEIGHTS) if Path(location).is_dir() else _CONTENT


def _folder(location: str) -> Path:
    if Path(location).is_dir():
        return Path(location)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(location, allow_patterns=list(_patterns(location))))


def _file_hash(file: Path) -> str:
    # The hub's cache names the blob of a large file by its sha256, which saves reading 15 GB again.
    blob = file.resolve().name
    if _SHA256.fullmatch(blob):
        return blob
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load(args: CommonArgs, device: str) -> "tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]":
    """Load weights (adapter merged) and processor.

    The checkpoint's generation defaults, repetition penalty included, are dropped: decoding is what the task asks. Only
    the ids that end a turn stay, see `end_ids`.

    Raises:
        ConfigError: see `check_checkpoint`, and pixel limits that contradict each other.
    """
    check_checkpoint(args.pretrained, args.adapter)
    from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration

    processor = AutoProcessor.from_pretrained(args.pretrained)
    size = processor.image_processor.size
    limits = (args.min_pixels or size["shortest_edge"], args.max_pixels or size["longest_edge"])
    if not 0 < limits[0] <= limits[1]:
        raise ConfigError(f"pixel limits need 0 < min_pixels <= max_pixels, got {limits[0]} and {limits[1]}")
    processor.image_processor.size = {"shortest_edge": limits[0], "longest_edge": limits[1]}
    options: dict[str, Any] = {"dtype": args.dtype, "device_map": args.device_map or device}
    if args.attn_implementation:
        options["attn_implementation"] = args.attn_implementation
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.pretrained, **options)
    if args.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, args.adapter).merge_and_unload()
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return model.eval(), processor


def end_ids(model: "Qwen2_5_VLForConditionalGeneration") -> tuple[int, ...]:
    """Ids that end a turn by the checkpoint's generation config; the published ones list two."""
    found = model.generation_config.eos_token_id
    if found is None:
        return ()
    return (found,) if isinstance(found, int) else tuple(found)
