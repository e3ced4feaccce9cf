"""What differs between the architectures that this package drives: one frozen object each, picked by `model_type`.

                     Qwen2.5-VL                          Qwen3-VL (dense)
    visual token     28 px: patches of 14, merged 2x2    32 px: patches of 16, merged 2x2
    vision tower     windows; some blocks see all        every block sees the whole image, raster order
    DeepStack        none                                3 levels, added behind the first 3 layers
    query and key    as projected                        each head normalised before RoPE

Everything else (chat format, M-RoPE, KV cache, decoding) is one code path. Light to import: torch and transformers load
when a function is called.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from lmms_awares.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import (
        PretrainedConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen3VLForConditionalGeneration,
    )

    Model: TypeAlias = Qwen2_5_VLForConditionalGeneration | Qwen3VLForConditionalGeneration
else:
    Model = Any  # so that other modules can name the type without loading transformers


class Features(Protocol):
    """Visual tokens as `forward` takes them: `lmms_awares.pruning.base.Kept` is one."""

    @property
    def embeds(self) -> "torch.Tensor":
        """[K, D] visual tokens of one image."""

    @property
    def levels(self) -> "tuple[torch.Tensor, ...]":
        """[K, D] each: what DeepStack adds to these tokens behind the first layers."""


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        model_type: as a checkpoint's `config.json` has it.
        architecture: transformers' class for it.
        patch: px of a patch's side.
        merge: patches along each side of a visual token.
        levels: DeepStack levels of a configuration, which the first layers of the language model add; a stage that
            drops tokens inside it must lie behind them.
        split: (embeds [N, D], levels) per image out of the tower's output.
        output: the tower's output again, for `forward`'s `mm_encoder_outputs`, out of what is left of the images.
        tower_order: [rows * columns] raster index of each visual token in the order in which the tower holds them.
        sees_whole_image: the tower's last block attends to whole images, not to windows.
        has_windows: some blocks of the tower attend to windows.
        tower_matrices: of the MLP in each of the tower's blocks; 3 where it is gated.
        has_sliding_window: some layer of the language model does not attend to everything.
        query, key: [T, H, d] heads of a language model's attention for its [T, D] input, before RoPE.

    Example:
        >>> FAMILIES["qwen3_vl"].token_side
        32
    """

    model_type: str
    architecture: str
    patch: int
    merge: int
    levels: "Callable[[PretrainedConfig], int]"
    split: "Callable[[Any], list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]]"
    output: Callable[[Sequence[Features]], Any]
    tower_order: "Callable[[PretrainedConfig, int, int], torch.Tensor]"
    sees_whole_image: "Callable[[PretrainedConfig], bool]"
    has_windows: bool
    tower_matrices: int
    has_sliding_window: "Callable[[PretrainedConfig], bool]"
    query: "Callable[[Any, torch.Tensor], torch.Tensor]"
    key: "Callable[[Any, torch.Tensor], torch.Tensor]"

    @property
    def token_side(self) -> int:
        """Px of a visual token's side."""
        return self.patch * self.merge

    def model_class(self) -> "type[Model]":
        """transformers' class, imported now."""
        import transformers

        found: type[Model] = getattr(transformers, self.architecture)
        return found

    def encode(
        self, model: "Model", pixels: "torch.Tensor", grids: "torch.Tensor"
    ) -> "list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]":
        """Run the vision tower.

        Args:
            pixels: [P, 3 * 2 * patch²] float32 patches of all images.
            grids: [n, 3] int64 (t, h, w) patch grids.

        Returns:
            per image its [N, D] visual tokens and their DeepStack levels, [N, D] each.
        """
        device = model.device
        return self.split(model.model.get_image_features(pixels.to(device), grids.to(device), return_dict=True))


def check_model(model: object) -> None:
    """Refuse what is no loaded model of one of `FAMILIES`.

    Raises:
        ConfigError: names the classes that will do.
    """
    if isinstance(model, tuple(family.model_class() for family in FAMILIES.values())):
        return
    known = " or ".join(family.architecture for family in FAMILIES.values())
    raise ConfigError(
        f"the model must be a {known}, not a {type(model).__name__}; of a PEFT wrapper give model.merge_and_unload(), "
        "of another wrapper the model inside"
    )


def window_order(rows: int, columns: int, side: int) -> "torch.Tensor":
    """[rows * columns] raster indices in the order of windows of `side` x `side` tokens, raster inside each."""
    import torch

    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    across = -(-columns // side)
    window = row // side * across + column // side
    return ((window * side + row % side) * side + column % side).argsort()


def _heads(projected: "torch.Tensor", attention: Any) -> "torch.Tensor":
    return projected.view(len(projected), -1, attention.head_dim)


def _plain_output(images: Sequence[Features]) -> Any:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    return BaseModelOutputWithPooling(pooler_output=tuple(image.embeds for image in images))


def _deepstack_output(images: Sequence[Features]) -> Any:
    from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

    levels = zip(*(image.levels for image in images), strict=True)
    return BaseModelOutputWithDeepstackFeatures(
        pooler_output=tuple(image.embeds for image in images), deepstack_features=list(levels)
    )


def _raster_order(tower: "PretrainedConfig", rows: int, columns: int) -> "torch.Tensor":
    import torch

    return torch.arange(rows * columns)


QWEN2_5_VL = Family(
    model_type="qwen2_5_vl",
    architecture="Qwen2_5_VLForConditionalGeneration",
    patch=14,
    merge=2,
    levels=lambda config: 0,
    split=lambda output: [(embeds, ()) for embeds in output.pooler_output],
    output=_plain_output,
    tower_order=lambda tower, rows, columns: window_order(
        rows, columns, tower.window_size // tower.patch_size // tower.spatial_merge_size
    ),
    sees_whole_image=lambda tower: tower.depth - 1 in tower.fullatt_block_indexes,
    has_windows=True,
    tower_matrices=3,
    has_sliding_window=lambda text: set(text.layer_types) != {"full_attention"},
    query=lambda attention, hidden: _heads(attention.q_proj(hidden), attention),
    key=lambda attention, hidden: _heads(attention.k_proj(hidden), attention),
)

QWEN3_VL = Family(
    model_type="qwen3_vl",
    architecture="Qwen3VLForConditionalGeneration",
    patch=16,
    merge=2,
    levels=lambda config: len(config.vision_config.deepstack_visual_indexes),
    split=lambda output: list(
        zip(output.pooler_output, zip(*output.deepstack_features, strict=True), strict=True)
        if output.deepstack_features
        else ((embeds, ()) for embeds in output.pooler_output)
    ),
    output=_deepstack_output,
    tower_order=_raster_order,
    sees_whole_image=lambda tower: True,
    has_windows=False,
    tower_matrices=2,
    has_sliding_window=lambda text: False,
    query=lambda attention, hidden: attention.q_norm(_heads(attention.q_proj(hidden), attention)),
    key=lambda attention, hidden: attention.k_norm(_heads(attention.k_proj(hidden), attention)),
)

FAMILIES: dict[str, Family] = {family.model_type: family for family in (QWEN2_5_VL, QWEN3_VL)}


def family_of(config: "PretrainedConfig") -> Family:
    """The family of a loaded checkpoint's configuration."""
    return FAMILIES[config.model_type]
