"""What Python callers hand over, looked at before anything works on it."""

from pathlib import Path
from typing import Any

from PIL import Image

from lmms_awares.errors import ConfigError
from lmms_awares.families import Model, check_model, family_of
from lmms_awares.images import decode, from_pillow
from lmms_awares.pruning import Pruner


def picture_of(given: object) -> Image.Image:
    """Return the upright RGB pixels of a Pillow image, a file's path or encoded bytes.

    Raises:
        ConfigError: something else.
        OSError, ValueError: see `lmms_awares.images`.
    """
    if isinstance(given, Image.Image):
        return from_pillow(given)
    if isinstance(given, (str, Path, bytes)):
        return decode(given)
    raise ConfigError(
        f"image must be a Pillow image, a path or encoded bytes, not a {type(given).__name__}; of an array of pixels "
        "give PIL.Image.fromarray(...), of several images one at a time"
    )


def check_question(question: object) -> None:
    """Refuse what no tokenizer takes.

    Raises:
        ConfigError: no text, or half of a surrogate pair.
    """
    if not isinstance(question, str):
        raise ConfigError(f"question must be a str, not a {type(question).__name__}")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"question holds a lone surrogate, {question[error.start]!r} at {error.start}, which is no character"
        ) from None


def check_limit(max_new_tokens: object) -> None:
    """Refuse a limit that is no count.

    Raises:
        ConfigError: no whole number, or one below 1.
    """
    if not isinstance(max_new_tokens, int) or isinstance(max_new_tokens, bool) or max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens must be a whole number, 1 or more, not {max_new_tokens!r}")


def check_pruner(pruner: Pruner | None) -> None:
    """Refuse a pruner's name or class.

    Raises:
        ConfigError: no pruner.
    """
    if pruner is not None and not isinstance(pruner, Pruner):
        raise ConfigError(f"pruner must be one with its ratio, such as VisionZip(0.5), not {pruner!r}")


def check_loaded(model: Model, processor: Any) -> None:
    """Refuse a model that is not driven here, and a processor that is not that model's.

    Raises:
        ConfigError: says which will do.
    """
    from transformers import Qwen2_5_VLProcessor, Qwen2VLProcessor, Qwen3VLProcessor

    check_model(model)
    if not isinstance(processor, (Qwen2_5_VLProcessor, Qwen2VLProcessor, Qwen3VLProcessor)):
        raise ConfigError(
            "the processor must be the checkpoint's, from AutoProcessor.from_pretrained, not a "
            f"{type(processor).__name__}"
        )
    family, made = family_of(model.config), processor.image_processor
    if (made.patch_size, made.merge_size) != (family.patch, family.merge):
        raise ConfigError(
            f"the processor makes patches of {made.patch_size} px, {made.merge_size} x {made.merge_size} to a token, "
            f"and a {family.model_type} model has patches of {family.patch} px, {family.merge} x {family.merge}; give "
            "the model's own processor"
        )
