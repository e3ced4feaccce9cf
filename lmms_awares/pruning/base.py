"""The base class of all pruners: budget and checks, hooks that are always removed again, and the call to `keep`.

A pruner acts at one of three places, and overrides one method for it: `grid` (pixels, before the vision tower), `keep`
(tokens, between the tower and the language model) or `hooks` (inside the language model).
"""

import reprlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, Field, dataclass, field, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints
from weakref import WeakSet

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch.utils.hooks import RemovableHandle

from lmms_awares.cost import Shape
from lmms_awares.errors import ConfigError
from lmms_awares.families import Model, check_model, family_of
from lmms_awares.pruning.encoded import EncodedImage, Kept, PruningError, check_count
from lmms_awares.pruning.prefill import PlainPrefill
from lmms_awares.pruning.tower import Received, capture
from lmms_awares.tokens import VisualTokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["EncodedImage", "Kept", "Pruner", "PruningError", "check_count", "options_of"]

_PRUNED: WeakSet[torch.nn.Module] = WeakSet()  # models inside a `with pruner(model)` block


@dataclass
class Pruner:
    """Base of all pruners; the base itself keeps every token. Used as `with pruner(model): model.generate(...)`.

    A dataclass: the fields that a subclass adds are its options, and each is a model argument of the same name.

    Args:
        retain_ratio: nominal share of the visual tokens to keep, in (0, 1].
        seed: of whatever is random about the choice.

    Raises:
        PruningError: a ratio outside (0, 1], or an option of another type than its field states.
    """

    name: ClassVar[str] = "none"
    reads_attention: ClassVar[bool] = False  # needs `EncodedImage.received`
    reads_question: ClassVar[bool] = False  # needs `EncodedImage.question`
    second_prefill: ClassVar[bool] = True  # can prune what is appended to a filled KV cache
    attention: ClassVar[tuple[str, ...]] = ("sdpa", "eager", "flash_attention_2")

    retain_ratio: float
    _: KW_ONLY
    seed: int = 0
    _received: list[Received] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the arguments; a pruner with options of its own checks those after `super().__post_init__()`.

        Raises:
            PruningError: a ratio outside (0, 1], or an option of another type than its field states.
        """
        _check_types(self)
        if not 0 < self.retain_ratio <= 1:
            raise PruningError(f"retain_ratio must be above 0 and at most 1, got {self.retain_ratio}")

    @property
    def exact_ratio(self) -> Fraction:
        """The ratio as it was written: 0.7 is 7/10, so that budgets do not depend on binary rounding."""
        return Fraction(str(self.retain_ratio))

    def budget(self, tokens: int) -> int:
        """Return how many of `tokens` visual tokens to keep: round(ratio * N), half to even, and at least 1.

        Example:
            >>> Pruner(0.5).budget(5), Pruner(0.01).budget(5)
            (2, 1)
        """
        return max(1, round(self.exact_ratio * tokens))

    def check(self, model: Model) -> None:
        """Refuse a model that this pruner cannot serve.

        Raises:
            PruningError: another architecture or a wrapper, or an attention implementation, KV cache, vision tower or
                language model that does not fit.
        """
        try:
            check_model(model)
        except ConfigError as error:
            raise PruningError(f"{self.name}: {error}") from None
        found = model.config._attn_implementation
        if found not in self.attention:
            raise PruningError(f"{self.name} runs with attn_implementation {' or '.join(self.attention)}, not {found}")
        cache = model.generation_config.cache_implementation
        if cache not in (None, "dynamic"):
            raise PruningError(f"{self.name} needs a dynamic KV cache, not cache_implementation={cache}")
        self.check_config(model.config)

    def check_config(self, config: "PretrainedConfig") -> None:
        """Refuse a checkpoint that this pruner cannot serve, as far as its configuration tells.

        Raises:
            PruningError: a vision tower or language model that does not fit.
        """
        sees_all = family_of(config).sees_whole_image(config.vision_config)
        if self.reads_attention and not sees_all:
            raise PruningError(
                f"{self.name} reads the attention of the vision tower's last block, which in this model is windowed; "
                "use a checkpoint whose last block attends to the whole image"
            )

    def grid(self, columns: int, rows: int) -> tuple[int, int]:
        """Return (columns, rows) of visual tokens to resize a view of `columns` x `rows` to, before it is encoded."""
        return columns, rows

    @property
    def resizes(self) -> bool:
        """True where `grid` changes anything."""
        return False

    def keep(self, image: EncodedImage) -> Kept:
        """Return the tokens of an image that enter the language model; all of them here."""
        return Kept.of(image, torch.arange(len(image.embeds), device=image.embeds.device))

    def selection_flops(self, shape: Shape, tokens: int) -> int | None:
        """FLOPs of choosing among one image's `tokens` visual tokens, by the convention of `lmms_awares.cost`.

        What is below 1 % of a sample's FLOPs may be left out. None: unknown, and so is what a sample costs.
        """
        return None

    def hooks(self, model: Model) -> Iterator[RemovableHandle]:
        """Install the hooks for encoding, prefill and decoding, and yield each as soon as it is in place."""
        if self.reads_attention:
            yield from capture(family_of(model.config), model.model.visual, self._received)

    def ledger(self, entering: Sequence[VisualTokens]) -> list[VisualTokens]:
        """Return token counts per layer for each row just prefilled; `entering` has those without pruning inside."""
        return list(entering)

    def reset(self) -> None:
        """Forget the state of the current batch."""
        self._received.clear()

    @contextmanager
    def __call__(self, model: Model) -> Iterator["Pruner"]:
        """Prune a plain `model.generate(**inputs)` or `model(**inputs)` of transformers inside the `with` block.

        A prompt with its images is prefilled at its pruned length, and decoding continues on the shorter KV cache. One
        prefill at a time: a further turn on the same cache takes `lmms_awares.engine.conversation.Conversation`, and so
        do pruners that resize images.

        Raises:
            PruningError: a model that `check` refuses or that another block prunes already, or a pruner that resizes
                images; inside the block, inputs that cannot be pruned.

        Example:
            with VisionZip(0.5)(model):
                out = model.generate(**processor(text=text, images=images, return_tensors="pt"), max_new_tokens=64)
        """
        self.check(model)
        if self.resizes:
            raise PruningError(
                f"{self.name} makes images smaller before the processor sees them, so it cannot act inside generate; "
                f"resize them yourself ({type(self).__name__}.grid), or run it through lmms_awares"
            )
        prefill = PlainPrefill(
            model, self.name, self.prune, reads_question=self.reads_question, once=not self.second_prefill
        )
        with ExitStack() as stack:
            for handle in prefill.hooks():
                stack.callback(handle.remove)
            stack.enter_context(self.attached(model))
            _PRUNED.add(model)
            stack.callback(_PRUNED.remove, model)
            yield self

    @contextmanager
    def attached(self, model: Model) -> Iterator["Pruner"]:
        """Install the hooks for the `with` block and remove them behind it, after an error too.

        Hooks inside the language model prune by themselves; for `keep` the caller calls `prune` and packs the result.

        Raises:
            PruningError: inside a `with pruner(model)` block on the same model.
        """
        if model in _PRUNED:
            raise PruningError(
                "this model is inside a `with pruner(model)` block, and one pruner acts at a time; leave it first"
            )
        with ExitStack() as stack:
            stack.callback(self.reset)
            for handle in self.hooks(model):
                stack.callback(handle.remove)
            yield self

    def prune(
        self,
        model: Model,
        encoded: Sequence[tuple[torch.Tensor, tuple[torch.Tensor, ...]]],
        pixels: torch.Tensor,
        grids: torch.Tensor,
        questions: Sequence[torch.Tensor],
    ) -> list[Kept]:
        """Prune the images that the tower has just encoded, by `keep` of each.

        Args:
            model: the model whose tower encoded them, inside `attached`.
            encoded: [N_i, D] tokens and their DeepStack levels per image, as `Family.encode` gives them.
            pixels: [sum 4N_i, 3 * 2 * patch²] patches of the same images.
            grids: [n, 3] int64 (t, h, w) patch grids of the same images.
            questions: ids of the question that each image is asked about, [t_i] int64, see
                `lmms_awares.engine.conversation.question_of`.

        Returns:
            one `Kept` per image.
        """
        table = model.get_input_embeddings()
        before = table.weight[model.config.vision_start_token_id]
        patches = pixels.split(grids.prod(1).tolist())
        merge = family_of(model.config).merge
        sides = [(rows // merge, columns // merge) for _, rows, columns in grids.tolist()]
        received = self._received if self.reads_attention else [None] * len(encoded)
        asked = [table(ids.to(before.device)) if self.reads_question else None for ids in questions]
        kept = [
            self.keep(EncodedImage(embeds, own, before, grid, attention, question, levels))
            for (embeds, levels), own, grid, attention, question in zip(
                encoded, patches, sides, received, asked, strict=True
            )
        ]
        self._received.clear()
        return kept


def _schema_of(kind: type[Pruner]) -> type[BaseModel]:
    """Return a pydantic model of a pruner's arguments, each of the type that the dataclass states."""
    hints = get_type_hints(kind, include_extras=True)
    types: dict[str, Any] = {own.name: (hints[own.name], ...) for own in fields(kind) if own.init}
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(kind.__name__, __config__=config, **types)


def _check_types(pruner: Pruner) -> None:
    """Refuse "false" for a bool, or True for a number: Python would take them, and mean something else.

    Raises:
        PruningError: names option, value and type.
    """
    schema, given = _schema_of(type(pruner)), vars(pruner)
    try:
        schema.model_validate({name: given[name] for name in schema.model_fields})
    except ValidationError as error:
        first = error.errors()[0]
        name, value = first["loc"][0], first["input"]
        shown = " ".join(reprlib.repr(value).split())
        raise PruningError(f"{pruner.name}: {name}={shown} is a {type(value).__name__}; {first['msg']}") from None


def options_of(kind: type[Pruner]) -> dict[str, Field[Any]]:
    """Return a pruner's options besides ratio and seed: the dataclass fields that it adds to `Pruner`, by name.

    Example:
        >>> from lmms_awares.pruning.holov import HoloV
        >>> list(options_of(HoloV))
        ['official_wiring']
    """
    shared = {own.name for own in fields(Pruner)}
    return {own.name: own for own in fields(kind) if own.init and own.name not in shared}
