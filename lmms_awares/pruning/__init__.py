"""Pruners: fewer visual tokens from the same image. One file per method; only the registry `PRUNERS` names them all."""

from lmms_awares.pruning.base import Pruner, PruningError, options_of
from lmms_awares.pruning.cdpruner import CDPruner
from lmms_awares.pruning.divprune import DivPrune
from lmms_awares.pruning.downsample import Downsample
from lmms_awares.pruning.fastv import FastV
from lmms_awares.pruning.holov import HoloV
from lmms_awares.pruning.outside import load_pruner
from lmms_awares.pruning.random import Random
from lmms_awares.pruning.sparsevlm import SparseVLM
from lmms_awares.pruning.visionzip import VisionZip

__all__ = ["PRUNERS", "Pruner", "PruningError", "find_pruner", "options_of"]

PRUNERS: dict[str, type[Pruner]] = {
    "visionzip": VisionZip,
    "holov": HoloV,
    "sparsevlm": SparseVLM,
    "fastv": FastV,
    "divprune": DivPrune,
    "cdpruner": CDPruner,
    "random": Random,
    "downsample": Downsample,
}


def find_pruner(name: str) -> type[Pruner]:
    """Return the pruner class that an argument names: a key of `PRUNERS`, or `module:Class` from outside.

    Raises:
        PruningError: no such pruner, or a class that cannot be used as one.

    Example:
        >>> find_pruner("visionzip")(0.5).budget(100)
        50
    """
    if ":" in name:
        kind = load_pruner(name)
        if PRUNERS.get(kind.name, kind) is not kind:
            raise PruningError(f"pruner={name}: its name {kind.name!r} is that of a built-in pruner; give it another")
        return kind
    if name not in PRUNERS:
        raise PruningError(f"unknown pruner {name!r}; known: {', '.join(PRUNERS)}; your own: MODULE:CLASS")
    return PRUNERS[name]
