"""FastV (arXiv 2403.06764), carried over to Qwen2.5-VL: drops tokens that the prompt's last token hardly attends to."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import PruningError
from lmms_awares.pruning.schedule import Schedule, Stage
from lmms_awares.pruning.scored import highest
from lmms_awares.pruning.stages import Reduced, StagedPruner


def select(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """Choose the visual tokens with the highest score; of equals, the first.

    Args:
        scores: [N] attention that each visual token receives from the prompt's last token, mean over heads.
        keep: K, 1..N.

    Returns:
        [K] int64 ascending.

    Raises:
        PruningError: `keep` outside 1..N.

    Example:
        >>> select(torch.tensor([0.1, 0.6, 0.3]), 2).tolist()
        [1, 2]
    """
    return highest(scores, keep)


def share_behind(ratio: Fraction, depth: int, whole_layers: int) -> Fraction:
    """Return the share of tokens to keep behind `whole_layers` of `depth` layers for a mean over layers of `ratio`.

    The mean is of the count at each layer's output, and the output of the last whole layer is already short. Zero or
    less where the layers in front of that one alone exceed the ratio.

    Example:
        >>> share_behind(Fraction(1, 2), depth=28, whole_layers=3)
        Fraction(6, 13)
    """
    before = whole_layers - 1
    return (ratio * depth - before) / (depth - before)


@dataclass
class FastV(StagedPruner):
    """Text-guided; acts once, inside the language model, which all visual tokens enter.

    Args:
        schedule: `layer_mean` keeps `retain_ratio` of the tokens on average over layers; `single` keeps it behind the
            whole layers, as the release's 1 - R does.
        whole_layers: layers that run on all tokens, the release's K; the last of them gives the scores. On a model with
            DeepStack at least the layers that add its levels and one more.

    Raises:
        PruningError: an unknown schedule, or no whole layer to take scores from.
    """

    name: ClassVar[str] = "fastv"

    schedule: Schedule = "layer_mean"
    whole_layers: int = 2

    def __post_init__(self) -> None:
        """Check that there is a whole layer to take scores from; errors as the class."""
        super().__post_init__()
        if self.whole_layers < 1:
            raise PruningError(f"whole_layers must be at least 1, got {self.whole_layers}")

    def stages(self, depth: int, levels: int = 0) -> tuple[Stage, ...]:
        """Return one stage, at the last whole layer's output; none where everything is kept.

        Raises:
            PruningError: no layer behind it, or a ratio that the layers before it alone exceed.
        """
        if self.retain_ratio == 1:
            return ()
        whole = max(self.whole_layers, levels + 1)
        if whole >= depth:
            raise PruningError(f"whole_layers={whole} must be below the model's {depth} layers")
        share = self.exact_ratio
        if self.schedule == "layer_mean":
            share = share_behind(self.exact_ratio, depth, whole)
        if share <= 0:
            before = whole - 1
            raise PruningError(
                f"retain_ratio={self.retain_ratio} cannot be met by fastv: {before} of {depth} layers put out all "
                f"visual tokens, which is {before / depth:.3f} of the mean already; use a larger one or schedule=single"
            )
        return (Stage(whole - 1, float(share)),)

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """Left out: the last token's attention in one layer."""
        return 0

    def raters(self, visual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Return the row of the prompt's last token."""
        return torch.tensor([len(text) - 1], device=text.device)

    def reduce(self, scores: torch.Tensor, hidden: torch.Tensor, target: int, generator: torch.Generator) -> Reduced:
        """Keep tokens by `select`; nothing is merged."""
        kept = select(scores, target)
        return Reduced(kept, kept[:0], hidden[:0])
