"""`--model_args` that every model takes. Light to import, so that preflight can check early."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from lmms_awares.families import FAMILIES
from lmms_awares.models.server_args import ServerArgs, without_server
from lmms_awares.protocol.prompts import Prompt, load_prompt
from lmms_awares.views import LowresBase

# The prefix keeps lmms-eval's argument parser from reading hex digits as a number.
_HASH = r"^sha-[0-9a-f]{4,64}$"


class CommonArgs(ServerArgs):
    """Arguments that every model takes, with those of `ServerArgs`.

    Attributes:
        pretrained: folder or hub id of a checkpoint of one of `lmms_awares.families`.
        adapter: folder or hub id of a PEFT adapter, merged into the weights at load.
        dtype: weights' dtype; `auto` takes the checkpoint's.
        device_map: passed to transformers (`auto`, `cuda:0`, ...); default: the process's own device.
        attn_implementation: `sdpa`, `eager` or `flash_attention_2`; default: transformers' choice.
        min_pixels, max_pixels: limits of every view, in px; default: the checkpoint's own.
        lowres_base: what the low-res view halves, see `lmms_awares.views.ViewPlan`.
        prompt: system prompt: `own`, `default` (the template's), a published name, or a file.
        seed: of sampling (temperature > 0), of policy=random, of control crops, and of pruners that draw.
        workers: processes that load, resize and patch images ahead; default: up to 4 with a GPU where there are cores
            for them, else 0.
        journal: file (or folder) that records finished samples; a rerun with the same one resumes.
        rev: expected content hash of checkpoint and adapter, `sha-` and hex as `awares doctor` prints it; loading
            another fails.
        setup: expected hash of plugin version and system prompt, likewise. `awares eval --use_cache` sets both, which
            makes them part of the key of lmms-eval's response cache.
    """

    default_prompt: ClassVar[str] = "default"
    families: ClassVar[tuple[str, ...]] = tuple(FAMILIES)

    pretrained: str
    adapter: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device_map: str | None = None
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    min_pixels: int | None = Field(default=None, ge=1)
    max_pixels: int | None = Field(default=None, ge=1)
    lowres_base: LowresBase = "processed"
    prompt: str | None = None
    seed: int = 0
    workers: int | None = Field(default=None, ge=0)
    journal: Path | None = None
    rev: str | None = Field(default=None, pattern=_HASH)
    setup: str | None = Field(default=None, pattern=_HASH)

    @model_validator(mode="after")
    def _limits_agree(self) -> "CommonArgs":
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"needs min_pixels <= max_pixels, got {self.min_pixels} and {self.max_pixels}")
        return self

    @property
    def prompt_spec(self) -> str:
        """The prompt to load: the one asked for, else the model's default."""
        return self.prompt or self.default_prompt

    def load_prompts(self) -> dict[str, Prompt]:
        """What the model is told besides the task's own words, by part; `system` is one. Raises PromptError."""
        return {"system": load_prompt(self.prompt_spec)}

    def answer_settings(self) -> dict[str, Any]:
        """Settings that an answer depends on, for the journal's key; what loading resolves is added there."""
        resolved = {"pretrained", "adapter", "prompt", "dtype", "attn_implementation", "min_pixels", "max_pixels"}
        without_effect = {"device_map", "workers", "journal", "rev", "setup"}
        return without_server(self.model_dump(mode="json", exclude=resolved | without_effect))
