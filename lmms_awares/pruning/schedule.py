"""SparseVLM's schedule: which layers prune, and how much each leaves; published budgets at other depths and ratios."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lmms_awares.pruning.encoded import PruningError

Schedule = Literal["layer_mean", "single"]

# The release: of 576 visual tokens in a model of 32 layers, left after layers 2, 6 and 15 under its budget "192".
LAYERS = (2, 6, 15)
PROFILE = (309 / 576, 204 / 576, 113 / 576)
REFERENCE_DEPTH = 32
MIN_DEPTH = 24  # shallower models get the layers in proportion
_STEPS = 60


@dataclass(frozen=True)
class Stage:
    """Pruning at the output of `layer` (0-based), where `share` (0..1) of the original visual tokens is left."""

    layer: int
    share: float

    def target(self, tokens: int) -> int:
        """Return the number of tokens left of `tokens`, at least 1."""
        return max(1, round(tokens * self.share))


def plan_stages(ratio: float, depth: int, schedule: Schedule, levels: int = 0) -> tuple[Stage, ...]:
    """Plan the stages for a nominal `ratio` in a model of `depth` layers; none where everything is kept.

    `layer_mean`: the published profile, raised to the one power at which the mean over layers of the count at the
    layer's output equals the ratio. `single`: everything at the first stage.

    No stage lies before layer `levels`: DeepStack adds to all visual tokens at the outputs of that many first layers.

    Raises:
        PruningError: a ratio that the layers before the first stage alone exceed; no layer for a stage.

    Example:
        >>> plan_stages(0.5, depth=28, schedule="single")
        (Stage(layer=2, share=0.5),)
    """
    if ratio == 1:
        return ()
    if levels and levels >= depth - 1:
        raise PruningError(f"{levels} DeepStack levels leave none of {depth} layers for a stage to prune behind")
    profile = {layer: share for layer, share in zip(_layers(depth, levels), PROFILE, strict=True) if layer < depth - 1}
    if schedule == "single":
        return (Stage(min(profile, default=0), ratio),)
    layers = [*profile, depth]
    spans = [end - start for start, end in pairwise(layers)]

    def mean(power: float) -> float:
        shares = (share**power for share in profile.values())
        return (layers[0] + sum(span * share for span, share in zip(spans, shares, strict=True))) / depth

    if ratio <= layers[0] / depth:
        raise PruningError(
            f"retain_ratio={ratio} cannot be met by sparsevlm: the first {layers[0]} of {depth} layers hold all visual "
            f"tokens, which is {layers[0] / depth:.3f} of the mean already; use a larger one or schedule=single"
        )
    low, high = 0.0, 64.0
    for _ in range(_STEPS):  # the mean falls with the power
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) > ratio else (low, middle)
    return tuple(Stage(layer, share**low) for layer, share in profile.items())


def _layers(depth: int, levels: int) -> tuple[int, ...]:
    """Return the layers of the stages, none before layer `levels`; where two fall together, the later one moves on."""
    layers: list[int] = []
    for layer in LAYERS:
        scaled = layer if depth >= MIN_DEPTH else round(layer * depth / REFERENCE_DEPTH)
        layers.append(max(scaled, layers[-1] + 1 if layers else levels))
    return tuple(layers)
