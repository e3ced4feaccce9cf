"""FastV (arXiv 2403.06764), carried over to Qwen2.5-VL: what the prompt's last token hardly attends to goes early."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import PruningError
from lmms_awares.pruning.schedule import Schedule, Stage, check_schedule
from lmms_awares.pruning.scored import highest
from lmms_awares.pruning.stages import Reduced, StagedPruner


def select(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """[K] int64 ascending: the visual tokens with the highest score; of equals, the first.

    Args:
        scores: [N] attention that each visual token receives from the prompt's last token, mean over heads.
        keep: K, 1..N.

    Raises:
        PruningError: `keep` outside 1..N.
    """
    return highest(scores, keep)


def share_behind(ratio: Fraction, depth: int, whole_layers: int) -> Fraction:
    """Share of the tokens to keep behind `whole_layers` of `depth` layers, so that their mean over layers is `ratio`.

    The mean is of the count after each layer, and the last whole layer's output is already short; not above 0 where
    the layers before it alone exceed the ratio.
    """
    before = whole_layers - 1
    return (ratio * depth - before) / (depth - before)


@dataclass
class FastV(StagedPruner):
    """Text-guided, once, inside the language model; all visual tokens enter it.

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
        """Also: a schedule that there is, and a layer to take scores from."""
        super().__post_init__()
        check_schedule(self.schedule)
        if self.whole_layers < 1:
            raise PruningError(f"whole_layers must be at least 1, got {self.whole_layers}")

    def stages(self, depth: int, levels: int = 0) -> tuple[Stage, ...]:
        """One, at the last whole layer's output; none where everything is kept.

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
        """The prompt's last token."""
        return torch.tensor([len(text) - 1], device=text.device)

    def reduce(self, scores: torch.Tensor, hidden: torch.Tensor, target: int, generator: torch.Generator) -> Reduced:
        """`select`; nothing is merged."""
        kept = select(scores, target)
        return Reduced(kept, kept[:0], hidden[:0])
