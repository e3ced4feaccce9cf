"""What a sample costs, from a configuration and counts: FLOPs of tower and language model, bytes of the KV cache.

The convention. A multiply-add is 2 FLOPs. Matrix products, convolutions and attention count; norms, activations,
softmax, rotary embeddings and look-ups do not. Attention counts the whole rectangle of queries and keys, as
`torch.utils.flop_counter` does: a causal mask halves nothing, and a window of the vision tower counts for itself. The
language head counts for one position per forward pass, which is where transformers' `generate` computes logits, in the
prefill too.

A sample counts as if it were generated alone: nothing is padded. What it generated counts, also where a turn was cut
afterwards (`Meter.turn`). What a pruner computes to choose tokens is its own `selection_flops`. Left out there is what
lies below 1 %: for an 850x600 image on the 7B's shape 0.15 % of a sample for sparsevlm, 0.03 % for fastv.

Nothing here needs torch. tests/test_cost.py holds the formulas against counted operations of real models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmms_awares.errors import ConfigError
from lmms_awares.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Grid = tuple[int, int, int]  # (t, h, w) in patches, as the image processor gives it


@dataclass(frozen=True)
class Tower:
    """Sizes of a vision tower.

    Attributes:
        depth: blocks.
        matrices: of each block's MLP; 3 where it is gated.
        patch_values: numbers that make up one patch.
        merge: patches along each side of a visual token.
        out: width of a visual token.
        mergers: 1, and one for each DeepStack level.
        window: visual tokens along each side of an attention window; None where no block has windows.
        whole: blocks that attend to whole images.
    """

    depth: int
    hidden: int
    intermediate: int
    matrices: int
    patch_values: int
    merge: int
    out: int
    mergers: int
    window: int | None
    whole: int


@dataclass(frozen=True)
class Shape:
    """Sizes of a checkpoint that decide what it costs.

    Example:
        >>> from transformers import AutoConfig
        >>> shape = Shape.of(AutoConfig.from_pretrained("lmms_awares/mini/checkpoint"))
        >>> prefill_flops(shape, 300) < vision_flops(shape, [(1, 34, 46)])
        True
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    intermediate: int
    vocabulary: int
    tower: Tower

    @classmethod
    def of(cls, config: "Mapping[str, Any] | PretrainedConfig") -> "Shape":
        """Read a configuration: transformers' object, or what `config.json` holds, in its older flat form too.

        Raises:
            ConfigError: of none of `lmms_awares.families`, or without a size that is needed.
        """
        data = config if isinstance(config, Mapping) else config.to_dict()
        model_type = data.get("model_type")
        if model_type not in FAMILIES:
            raise ConfigError(f"model_type {model_type!r} has no cost model; known: {', '.join(FAMILIES)}")
        text = data.get("text_config", data)
        try:
            return cls(
                hidden=text["hidden_size"],
                layers=text["num_hidden_layers"],
                heads=text["num_attention_heads"],
                kv_heads=text["num_key_value_heads"],
                head_width=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
                intermediate=text["intermediate_size"],
                vocabulary=text["vocab_size"],
                tower=_tower_of(model_type, data["vision_config"]),
            )
        except KeyError as error:
            raise ConfigError(
                f"the configuration has no {error.args[0]}; pass a checkpoint's whole config.json"
            ) from None


def _tower_of(model_type: str, vision: Mapping[str, Any]) -> Tower:
    family, depth = FAMILIES[model_type], vision["depth"]
    # Published files leave these two to transformers' defaults.
    values = vision.get("in_channels", 3) * vision.get("temporal_patch_size", 2) * vision["patch_size"] ** 2
    window, whole = None, depth
    if family.has_windows:
        window = vision["window_size"] // vision["patch_size"] // vision["spatial_merge_size"]
        whole = sum(block < depth for block in vision["fullatt_block_indexes"])
    return Tower(
        depth=depth,
        hidden=vision["hidden_size"],
        intermediate=vision["intermediate_size"],
        matrices=family.tower_matrices,
        patch_values=values,
        merge=vision["spatial_merge_size"],
        out=vision["out_hidden_size"],
        mergers=1 + len(vision.get("deepstack_visual_indexes", ())),
        window=window,
        whole=whole,
    )


def vision_flops(shape: Shape, grids: Sequence[Grid]) -> int:
    """FLOPs of encoding images: patch embedding, blocks, mergers.

    Args:
        grids: (t, h, w) in patches of each image.
    """
    return sum(_image_flops(shape.tower, grid) for grid in grids)


def _image_flops(tower: Tower, grid: Grid) -> int:
    frames, rows, columns = grid
    patches, width = frames * rows * columns, tower.hidden
    block = 4 * width**2 + tower.matrices * width * tower.intermediate
    joined = width * tower.merge**2
    tokens = patches // tower.merge**2
    weights = patches * (tower.patch_values * width + tower.depth * block)
    weights += tokens * tower.mergers * (joined**2 + joined * tower.out)
    pairs = tower.whole * (rows * columns) ** 2
    if tower.window is not None:
        across = [_squares(side, tower.window * tower.merge) for side in (rows, columns)]
        pairs += (tower.depth - tower.whole) * across[0] * across[1]
    return 2 * weights + 4 * width * frames * pairs


def _squares(length: int, piece: int) -> int:
    """Sum of the squares of the pieces that `length` is cut into; the last one may be shorter."""
    return length // piece * piece**2 + (length % piece) ** 2


def layer_flops(shape: Shape, new: int, past: int) -> int:
    """FLOPs of one layer of the language model for `new` tokens behind `past` cached ones."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    weights = shape.hidden * (2 * queries + 2 * keys + 3 * shape.intermediate)
    return new * (2 * weights + 4 * queries * (past + new))


def head_flops(shape: Shape) -> int:
    """FLOPs of the logits of one position."""
    return 2 * shape.hidden * shape.vocabulary


def prefill_flops(shape: Shape, new: int | Sequence[int], past: int | Sequence[int] = 0) -> int:
    """FLOPs of the language model up to the first token of a reply.

    Args:
        new: tokens that enter, or how many enter each layer, where a pruner drops some inside the model.
        past: tokens that the cache holds before, or how many at each layer.
    """
    layers = zip(_per_layer(shape, new), _per_layer(shape, past), strict=True)
    return sum(layer_flops(shape, *layer) for layer in layers) + head_flops(shape)


def decode_flops(shape: Shape, steps: int, past: int | Sequence[int]) -> int:
    """FLOPs of `steps` further tokens, one forward pass each. A reply of n tokens takes n - 1: the prefill gives one.

    Args:
        past: tokens that the cache holds behind the prefill, or how many at each layer.
    """
    if steps < 1:
        return 0
    # Attention to the cache grows by one column per step; the sum over steps is that of the mean step.
    once = sum(layer_flops(shape, 1, held) for held in _per_layer(shape, past)) + head_flops(shape)
    growth = 4 * shape.heads * shape.head_width * shape.layers
    return steps * once + growth * steps * (steps - 1) // 2


def kv_bytes(shape: Shape, lengths: int | Sequence[int], bytes_per_value: int) -> int:
    """Bytes of a KV cache with so many columns, or so many at each layer."""
    return 2 * shape.kv_heads * shape.head_width * bytes_per_value * sum(_per_layer(shape, lengths))


def _per_layer(shape: Shape, counts: int | Sequence[int]) -> Sequence[int]:
    return (counts,) * shape.layers if isinstance(counts, int) else counts


@dataclass(frozen=True)
class Cost:
    """What a conversation has cost so far.

    Attributes:
        flops: of all turns; vision tower, pruning and language model.
        kv_bytes: of the KV cache behind the last turn.
    """

    flops: int
    kv_bytes: int


class Meter:
    """Adds up what one conversation costs, turn by turn, as if it were generated alone.

    Args:
        shape: the checkpoint's.
        bytes_per_value: of the model's dtype.
        reuse_cache: False where every turn encodes and prefills the whole conversation again.

    Example:
        meter = Meter(shape, 2)
        meter.show([(1, 34, 46)])
        print(meter.turn([451] * shape.layers, spoken=16, kept=16).flops)
    """

    def __init__(self, shape: Shape, bytes_per_value: int, *, reuse_cache: bool = True) -> None:
        self._shape, self._bytes, self._reuse = shape, bytes_per_value, reuse_cache
        self._flops = self._shown = 0
        self._held = (0,) * shape.layers  # columns of the cache
        self._holes = 0  # generated, and not part of the conversation: columns that nothing attends to, but there

    def show(self, grids: Sequence[Grid], selection: int = 0) -> None:
        """Images that the next turn encodes. `selection`: FLOPs of a pruner that chooses among their tokens."""
        self._shown += vision_flops(self._shape, grids) + selection

    def turn(self, lengths: Sequence[int], spoken: int, kept: int) -> Cost:
        """One generated turn; what the conversation has cost with it.

        Args:
            lengths: tokens of the conversation at each layer behind the turn's prefill, without holes.
            spoken: tokens that were generated, at least 1.
            kept: of these, how many stay in the conversation.
        """
        holes = self._holes if self._reuse else 0
        held = self._held if self._reuse else (0,) * self._shape.layers
        behind = tuple(length + holes for length in lengths)
        new = [after - before for after, before in zip(behind, held, strict=True)]
        self._flops += (
            self._shown + prefill_flops(self._shape, new, held) + decode_flops(self._shape, spoken - 1, behind)
        )
        if self._reuse:
            self._shown = 0
        self._held = tuple(length + spoken - 1 for length in behind)  # what was generated last is not in it
        self._holes += spoken - kept
        return Cost(self._flops, kv_bytes(self._shape, self._held, self._bytes))
