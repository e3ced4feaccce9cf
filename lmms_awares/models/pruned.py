"""The fixed-budget baselines: the full view, with fewer of its visual tokens."""

from lmms_awares.models.config import PrunedArgs
from lmms_awares.models.resolution import FullResolution


class Pruned(FullResolution):
    """`pruned`: any pruner of `lmms_awares.pruning.PRUNERS`, named by the argument `pruner`."""

    model_id = "pruned"
    args: PrunedArgs


class VisionZip(Pruned):
    """`visionzip`: `pruned` with that pruner."""

    model_id = "visionzip"


class HoloV(Pruned):
    """`holov`: `pruned` with that pruner."""

    model_id = "holov"


class SparseVLM(Pruned):
    """`sparsevlm`: `pruned` with that pruner."""

    model_id = "sparsevlm"
