"""`--model_args` of each model: one pydantic class per family. Light to import, so that preflight can check early."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_type_hints

from pydantic import Field, ValidationError, create_model, model_validator
from pydantic_core import PydanticUndefined

from lmms_awares.crops import MIN_CROP_SIDE
from lmms_awares.errors import ConfigError
from lmms_awares.models.common_args import CommonArgs
from lmms_awares.models.control_args import ControlArgs
from lmms_awares.models.protocol_args import AdaptVisionArgs, ErgoArgs, VisionThinkArgs
from lmms_awares.protocol.free_box import OWN_PROMPT as FREE_BOX_PROMPT
from lmms_awares.protocol.get_crops import OWN_PROMPT
from lmms_awares.protocol.prompts import Prompt, load_prompt

if TYPE_CHECKING:
    from lmms_awares.pruning import Pruner

__all__ = ["ARGS", "AwaresArgs", "CommonArgs", "PrunedArgs", "PruningArgs", "parse_args", "schema_of", "with_options"]


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
        boxes: what a call names: `ten`, ids of the ten crops; `free`, a box of any place and size, for policies trained
            so; `random` then asks for a box drawn at random, and `oracle` for the `evidence_box` itself.
    """

    reuse_cache: bool = True
    min_crop_side: int = Field(default=MIN_CROP_SIDE, ge=1)
    boxes: Literal["ten", "free"] = "ten"

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

    def load_prompts(self) -> dict[str, Prompt]:
        """The system prompt; our own is the one for what `boxes` says."""
        own = FREE_BOX_PROMPT if self.boxes == "free" else OWN_PROMPT
        return {"system": load_prompt(self.prompt_spec, own={"system": own})}


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
    "adaptvision": AdaptVisionArgs,
    "ergo": ErgoArgs,
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
