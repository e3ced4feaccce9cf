"""`--model_args` of each model: one pydantic class per family. Light to import, so that preflight can check early."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_type_hints

from pydantic import Field, ValidationError, create_model, model_validator
from pydantic_core import PydanticUndefined

from lmms_awares.crops import MIN_CROP_SIDE
from lmms_awares.errors import ConfigError
from lmms_awares.families import FAMILIES
from lmms_awares.models.control_args import ControlArgs
from lmms_awares.models.server_args import ServerArgs, without_server
from lmms_awares.protocol.prompts import PUBLISHED, Prompt, load_prompt
from lmms_awares.protocol.visionthink import OWN_PROMPTS
from lmms_awares.views import LowresBase

if TYPE_CHECKING:
    from lmms_awares.pruning import Pruner

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


class Qwen2_5Args(CommonArgs):  # noqa: N801
    """Arguments of the baselines that are named after Qwen2.5-VL."""

    families: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)


class Qwen3Args(CommonArgs):
    """Arguments of the baselines that are named after Qwen3-VL."""

    families: ClassVar[tuple[str, ...]] = ("qwen3_vl",)


class PruningArgs(CommonArgs):
    """Arguments of every model that can prune.

    Attributes:
        pruner: one of those listed by `awares models`, or `MODULE:CLASS` for one of your own; its options are arguments
            too.
        retain_ratio: nominal share of each image's visual tokens to keep, in (0, 1].
    """

    pruner: str | None = None
    retain_ratio: float | None = Field(default=None, gt=0, le=1)

    def make_pruner(self) -> "Pruner | None":
        """The pruner that the arguments ask for; None where they ask for none.

        Raises:
            PruningError: arguments that it cannot work with.
        """
        from lmms_awares.pruning import find_pruner, options_of

        if self.pruner is None or self.retain_ratio is None:
            return None
        kind = find_pruner(self.pruner)
        return kind(self.retain_ratio, seed=self.seed, **self.model_dump(include=set(options_of(kind))))

    @model_validator(mode="after")
    def _pruner_agrees(self) -> "PruningArgs":
        if self.pruner is None and self.retain_ratio is not None:
            raise ValueError("retain_ratio needs pruner=NAME")
        if self.pruner is not None and self.base_url is not None:
            raise ValueError(f"pruner={self.pruner} acts inside the model, where a server lets nobody in; no base_url")
        if self.pruner is not None and self.retain_ratio is None:
            raise ValueError(f"pruner={self.pruner} needs retain_ratio=..., above 0 and at most 1")
        self.make_pruner()
        return self


def with_options(schema: type[CommonArgs], kind: "type[Pruner]") -> type[CommonArgs]:
    """`schema` with the options of one pruner as further arguments, of the same names, types and defaults.

    Raises:
        ConfigError: an option is named like another argument of the model.
    """
    from lmms_awares.pruning import options_of

    options, types = options_of(kind), get_type_hints(kind, include_extras=True)
    for name in options:
        if name in schema.model_fields:
            raise ConfigError(f"option {name} of pruner {kind.__name__} is a model argument already; rename it")
    made: dict[str, Any] = {name: (types[name], own) for name, own in options.items()}
    return create_model(schema.__name__, __base__=schema, __doc__=schema.__doc__, **made)


class PrunedArgs(PruningArgs):
    """Arguments of `pruned`."""

    pruner: str
    retain_ratio: float = Field(gt=0, le=1)


class VisionZipArgs(PrunedArgs):
    """Arguments of `visionzip`."""

    pruner: Literal["visionzip"] = "visionzip"


class HoloVArgs(PrunedArgs):
    """Arguments of `holov`."""

    pruner: Literal["holov"] = "holov"


class SparseVLMArgs(PrunedArgs):
    """Arguments of `sparsevlm`."""

    pruner: Literal["sparsevlm"] = "sparsevlm"


class AwaresArgs(PruningArgs, ControlArgs):
    """Arguments of `awares`; with `pruner` and `retain_ratio`, every view of both turns is pruned.

    Attributes:
        reuse_cache: false prefills everything again in turn 2, as a reference to test and time against.
        min_crop_side: px that a crop's side has at least; smaller images are not cropped.
    """

    reuse_cache: bool = True
    min_crop_side: int = Field(default=MIN_CROP_SIDE, ge=1)

    @model_validator(mode="after")
    def _second_turn_can_be_pruned(self) -> "AwaresArgs":
        if self.pruner is not None and self.policy != "never":
            from lmms_awares.pruning import PRUNERS, find_pruner

            if not find_pruner(self.pruner).second_prefill:
                able = ", ".join(name for name, kind in PRUNERS.items() if kind.second_prefill)
                raise ValueError(
                    f"pruner={self.pruner} prunes inside the language model and cannot prune the crops of a second "
                    f"turn; with awares use policy=never or one of {able}"
                )
        return self

    @property
    def prompt_spec(self) -> str:
        """Our tool prompt, except under `never`, which offers no tool and so equals the low-res baseline."""
        return self.prompt or ("default" if self.policy == "never" else "own")


class VisionThinkArgs(CommonArgs):
    """Arguments of `visionthink`; a `prompt` that is `default` or a file replaces our system prompt only."""

    default_prompt: ClassVar[str] = "own"

    def load_prompts(self) -> dict[str, Prompt]:
        """The system prompt, and what the user turns say: see `lmms_awares.protocol.VisionThink`."""
        published = self.prompt_spec in PUBLISHED
        parts, spec = (PUBLISHED["visionthink"], self.prompt_spec) if published else (OWN_PROMPTS, "own")
        turns = {part: load_prompt(spec, part, own=OWN_PROMPTS) for part in parts if part != "system"}
        return {"system": load_prompt(self.prompt_spec, own=OWN_PROMPTS), **turns}


ARGS: dict[str, type[CommonArgs]] = {
    "awares": AwaresArgs,
    "qwen2_5_vl_full": Qwen2_5Args,
    "qwen2_5_vl_lowres": Qwen2_5Args,
    "qwen3_vl_full": Qwen3Args,
    "qwen3_vl_lowres": Qwen3Args,
    "visionzip": VisionZipArgs,
    "holov": HoloVArgs,
    "sparsevlm": SparseVLMArgs,
    "pruned": PrunedArgs,
    "visionthink": VisionThinkArgs,
}


def parse_args(model: str, arguments: dict[str, Any]) -> CommonArgs:
    """Validate `--model_args` of model id `model`.

    Raises:
        ConfigError: an unknown argument (lists the known ones), a missing or an ill-typed one.
    """
    schema = schema_of(model, arguments)
    unknown = sorted(set(arguments) - set(schema.model_fields))
    if unknown:
        _refuse_foreign_options(model, unknown, arguments)
        known = ", ".join(sorted(schema.model_fields, key=lambda name: name != "pretrained"))
        raise ConfigError(f"unknown model argument {', '.join(unknown)} for {model}; known: {known}")
    try:
        return schema.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ConfigError(f"model argument {name} of {model} is missing; add {name}=... to --model_args") from None
        if not name:  # several arguments together
            raise ConfigError(f"model arguments of {model}: {first['ctx']['error']}") from None
        raise ConfigError(f"model argument {name} of {model}: {first['msg']} (got {first['input']!r})") from None


def schema_of(model: str, arguments: dict[str, Any]) -> type[CommonArgs]:
    """The class that validates `arguments` of a model: `ARGS[model]`, with the options of the pruner that they name.

    Raises:
        ConfigError: a pruner that there is not.
    """
    schema = ARGS[model]
    if not issubclass(schema, PruningArgs):
        return schema
    pruner = arguments.get("pruner", schema.model_fields["pruner"].default)
    if pruner is None or pruner is PydanticUndefined:
        return schema
    from lmms_awares.pruning import PruningError, find_pruner

    try:
        return with_options(schema, find_pruner(str(pruner)))
    except PruningError as error:
        raise ConfigError(f"model arguments of {model}: {error}") from None


def _refuse_foreign_options(model: str, unknown: list[str], arguments: dict[str, Any]) -> None:
    """Say of an option that it belongs to a pruner that was not asked for.

    Raises:
        ConfigError: one of `unknown` is such an option.
    """
    if not issubclass(ARGS[model], PruningArgs):
        return
    from lmms_awares.pruning import PRUNERS, options_of

    asked = arguments.get("pruner", model if model in PRUNERS else None)
    for name in unknown:
        owners = [pruner for pruner, kind in PRUNERS.items() if name in options_of(kind)]
        if owners and asked is None:
            raise ConfigError(f"model arguments of {model}: {name} needs pruner={' or '.join(owners)}")
        if owners:
            raise ConfigError(
                f"model arguments of {model}: {name} is no option of pruner={asked} but of {' and '.join(owners)}"
            )
