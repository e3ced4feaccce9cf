"""Pruning inside the language model: hooks that shorten the sequence behind some layers during prefill.

Every row of a left-padded batch is pruned for itself and the batch is padded again, so the KV cache gets shorter from
stage to stage. Decoding continues on it: the first layer's cache is whole, which is where positions and mask lengths
come from, and each layer behind a stage gets the mask of its own cache.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.hooks import RemovableHandle
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import rotate_half

from lmms_awares.families import Family, Model, family_of
from lmms_awares.pruning.base import Pruner, PruningError
from lmms_awares.pruning.layout import Layout, Rope, left_of
from lmms_awares.pruning.prefill import Keywords, cache_of, is_prefill
from lmms_awares.pruning.schedule import Stage
from lmms_awares.tokens import VisualTokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Reduced:
    """The result of a stage on one row's n visual tokens.

    Attributes:
        kept: [k] int64 ascending, of n.
        sources: [c] int64, of n: the tokens whose positions the merged ones take.
        merged: [c, d] hidden states, put behind the last visual token.
    """

    kept: torch.Tensor
    sources: torch.Tensor
    merged: torch.Tensor


@dataclass
class StagedPruner(Pruner, ABC):
    """Base of pruners that act at the output of some layers, guided by the text behind the images."""

    second_prefill: ClassVar[bool] = False
    attention: ClassVar[tuple[str, ...]] = ("sdpa", "eager")

    _layouts: list[Layout] = field(default_factory=list, init=False, repr=False, compare=False)
    _plan: tuple[Stage, ...] = field(default=(), init=False, repr=False, compare=False)
    # Per row, columns counted from the right end: -1 is the last.
    _raters: list[torch.Tensor] = field(default_factory=list, init=False, repr=False, compare=False)
    _generators: list[torch.Generator] = field(default_factory=list, init=False, repr=False, compare=False)
    _prefilling: bool = field(default=False, init=False, repr=False, compare=False)
    _family: Family = field(init=False, repr=False, compare=False)

    @abstractmethod
    def stages(self, depth: int, levels: int = 0) -> tuple[Stage, ...]:
        """Return the stages, none before layer `levels`, for a model of `depth` layers.

        DeepStack adds its levels to every visual token at the outputs of that many first layers.
        """

    @abstractmethod
    def raters(self, visual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Return the rows of the [t, d] text embeddings whose attention scores the [n, d] visual ones."""

    @abstractmethod
    def reduce(self, scores: torch.Tensor, hidden: torch.Tensor, target: int, generator: torch.Generator) -> Reduced:
        """Reduce n visual tokens with [n] scores and [n, d] hidden states to `target`."""

    def check_config(self, config: "PretrainedConfig") -> None:
        """Refuse, besides what `Pruner` does, sliding-window attention and a ratio that no stages can meet.

        Raises:
            PruningError: names the setting.
        """
        super().check_config(config)
        text = config.text_config
        if family_of(config).has_sliding_window(text):
            raise PruningError(f"{self.name} cannot serve sliding-window attention; set use_sliding_window to false")
        self.stages(text.num_hidden_layers, family_of(config).levels(config))

    def hooks(self, model: Model) -> Iterator[RemovableHandle]:
        """Install hooks on the model, its first layer, the layers that prune, and those behind them; yield each."""
        layers = model.model.language_model.layers
        self._family = family_of(model.config)
        self._plan = self.stages(len(layers), self._family.levels(model.config))
        if not self._plan:
            return
        eager = model.config.text_config._attn_implementation == "eager"
        yield model.model.register_forward_pre_hook(self._begin, with_kwargs=True)
        yield layers[0].register_forward_pre_hook(self._choose_raters, with_kwargs=True)
        for number, stage in enumerate(self._plan):
            yield layers[stage.layer].register_forward_hook(partial(self._prune, stage), with_kwargs=True)
            behind = self._plan[number + 1].layer if number + 1 < len(self._plan) else len(layers) - 1
            for index in range(stage.layer + 1, behind + 1):
                enter = partial(self._enter, index=index, number=number + 1, eager=eager)
                yield layers[index].register_forward_pre_hook(enter, with_kwargs=True)

    def ledger(self, entering: Sequence[VisualTokens]) -> list[VisualTokens]:
        """Return the token counts per layer as the stages of this batch left them, and the tokens that they left."""
        if not self._layouts:
            return list(entering)
        visual = torch.stack([layout.visual.sum(1) for layout in self._layouts]).tolist()
        valid = torch.stack([layout.valid.sum(1) for layout in self._layouts]).tolist()
        layers = range(len(entering[0].entering))
        before = [sum(stage.layer < layer for stage in self._plan) for layer in layers]
        after = [sum(stage.layer <= layer for stage in self._plan) for layer in layers]
        left = left_of(self._layouts, [stage.layer for stage in self._plan])
        return [
            replace(
                tokens,
                entering=tuple(visual[stage][row] for stage in before),
                leaving=tuple(visual[stage][row] for stage in after),
                cached=tuple(valid[stage][row] for stage in before),
                left=left[row] if tokens.left else (),
            )
            for row, tokens in enumerate(entering)
        ]

    def reset(self) -> None:
        """Forget the state of the current batch."""
        super().reset()
        self._layouts.clear()
        self._raters.clear()
        self._generators.clear()

    # Hooks --------------------------------------------------------------------------------------------------------

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: Keywords) -> None:
        """Note, at the model's entry, whether this pass is a prefill, and then where the visual tokens are."""
        ids = kwargs["input_ids"]
        self._prefilling = is_prefill(self.name, ids.shape[1], cache_of(kwargs))
        if self._prefilling:
            self.reset()
            mask = kwargs["attention_mask"]
            valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
            origin = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
            self._layouts.append(Layout(valid, valid & (ids == module.config.image_token_id), origin, mask is not None))
            self._generators = [torch.Generator().manual_seed(self.seed) for _ in ids]

    def _choose_raters(self, module: nn.Module, args: tuple[Any, ...], kwargs: Keywords) -> None:
        """Choose the raters from the input embeddings, at the first layer's entry.

        Text behind the last image is never pruned.
        """
        if not self._prefilling:
            return
        for embeds, visual in zip(args[0], self._layouts[0].visual, strict=True):
            text = len(visual) - 1 - int(visual.nonzero().amax()) if visual.any() else 0
            chosen = self.raters(embeds[visual], embeds[-text:]) if text else torch.zeros(0, dtype=torch.long)
            self._raters.append(chosen - text)

    def _prune(
        self,
        stage: Stage,
        module: Any,
        args: tuple[Any, ...],
        kwargs: Keywords,
        output: torch.Tensor,
    ) -> torch.Tensor:
        """Prune at a stage's exit: scores come from the layer's own input, merging acts on its output."""
        if not self._prefilling:
            return output
        rows = [
            self._prune_row(stage, module, row, inputs, outputs, rope=rope)
            for row, (inputs, outputs, *rope) in enumerate(
                zip(args[0], output, *kwargs["position_embeddings"], strict=True)
            )
        ]
        hidden, visual, origin, *tables = (
            pad_sequence(list(parts), batch_first=True, padding_side="left") for parts in zip(*rows, strict=True)
        )
        lengths = [len(parts[0]) for parts in rows]
        pads = hidden.shape[1] - torch.tensor(lengths, device=hidden.device)
        valid = torch.arange(hidden.shape[1], device=hidden.device) >= pads[:, None]
        self._layouts.append(Layout(valid, visual, origin, len(set(lengths)) > 1, (tables[0], tables[1])))
        return hidden

    def _prune_row(
        self,
        stage: Stage,
        layer: Any,
        row: int,
        inputs: torch.Tensor,
        outputs: torch.Tensor,
        *,
        rope: Rope,
    ) -> tuple[torch.Tensor, ...]:
        """Return hidden states, visual flags, origins and rotary tables of a row's columns behind the stage."""
        layout, raters = self._layouts[-1], self._raters[row]
        columns = layout.valid[row].nonzero().flatten()
        visual = layout.visual[row].nonzero().flatten()
        target = stage.target(int(self._layouts[0].visual[row].sum()))
        if target >= len(visual) or not len(raters):
            source, hidden = columns, outputs[columns]
            return hidden, layout.visual[row, source], layout.origin[row, source], *(table[source] for table in rope)
        scores = rater_attention(layer, inputs, rope, layout.valid[row], raters % len(inputs), family=self._family)[
            visual
        ]
        reduced = self.reduce(scores, outputs[visual], target, self._generators[row])
        stays = layout.valid[row] & ~layout.visual[row]
        stays[visual[reduced.kept]] = True
        last = int(visual[-1])
        before, behind = stays[: last + 1].nonzero().flatten(), columns[columns > last]
        source = torch.cat([before, visual[reduced.sources], behind])
        hidden = torch.cat([outputs[before], reduced.merged, outputs[behind]])
        return hidden, layout.visual[row, source], layout.origin[row, source], *(table[source] for table in rope)

    def _enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Keywords, *, index: int, number: int, eager: bool
    ) -> tuple[tuple[Any, ...], Keywords]:
        """Set mask and positions of the shortened sequence, at the entry of layer `index` behind `number` stages."""
        layout, cache, hidden = self._layouts[number], cache_of(kwargs), args[0]
        valid = layout.valid
        if self._prefilling:
            changed: Keywords = {"position_embeddings": layout.rope, "position_ids": None}
        else:
            assert cache is not None  # what is decoded continues on one
            changed = {}
            spoken = cache.get_seq_length(index) + hidden.shape[1] - valid.shape[1]
            valid = torch.cat([valid, valid.new_ones(len(valid), spoken)], 1)
        # Without pads sdpa's own causal mask is right.
        needed = eager or layout.padded
        mask = causal_mask(valid, hidden.shape[1], hidden.dtype if eager else None) if needed else None
        return args, {**kwargs, **changed, "attention_mask": mask}


def rater_attention(
    layer: Any, hidden: torch.Tensor, rope: Rope, valid: torch.Tensor, raters: torch.Tensor, *, family: Family
) -> torch.Tensor:
    """Return the [T] float32 attention that each column gets from the raters in `layer`, mean over heads and raters.

    Only the raters' rows are computed, so the layer itself may run any attention implementation.

    Args:
        layer: a decoder layer of the language model.
        hidden: [T, d] the layer's input.
        rope: cos and sin, [T, head_dim] each.
        valid: [T] bool, False at pads.
        raters: [R] int64 columns.
        family: of the model.
    """
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    cos, sin = (table[:, None].float() for table in rope)

    def rotated(projected: torch.Tensor, rows: slice | torch.Tensor) -> torch.Tensor:
        x = projected.float()
        return x * cos[rows] + rotate_half(x) * sin[rows]

    queries = rotated(family.query(attention, normed[raters]), raters).transpose(0, 1)
    keys = rotated(family.key(attention, normed), slice(None)).transpose(0, 1)
    keys = keys.repeat_interleave(attention.num_key_value_groups, dim=0)
    logits = queries @ keys.transpose(1, 2) * attention.scaling
    seen = valid & (torch.arange(len(hidden), device=hidden.device) <= raters[:, None])
    return logits.masked_fill(~seen, -torch.inf).softmax(-1).mean((0, 1))


def causal_mask(valid: torch.Tensor, queries: int, additive: torch.dtype | None) -> torch.Tensor:
    """Make the [B, 1, queries, T] mask of the last `queries` of T columns: bool, or additive, as eager needs it.

    A pad sees itself, so that no row is empty.

    Args:
        valid: [B, T] bool, False at pads.
        queries: number of columns at the end that attend.
        additive: dtype of a mask to add to the logits; None for a bool mask.

    Example:
        >>> causal_mask(torch.tensor([[False, True, True]]), 2, None).int().tolist()
        [[[[0, 1, 0], [0, 1, 1]]]]
    """
    columns = torch.arange(valid.shape[1], device=valid.device)
    rows = columns[-queries:, None]
    allowed = ((valid[:, None] & (columns <= rows)) | (columns == rows))[:, None]
    if additive is None:
        return allowed
    blocked = torch.finfo(additive).min
    return torch.zeros(allowed.shape, dtype=additive, device=valid.device).masked_fill(~allowed, blocked)
