"""Control: visual tokens kept at random. A method that is no better than this one gains nothing by its choice."""

import zlib
from dataclasses import dataclass
from typing import ClassVar

import torch

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import EncodedImage
from lmms_awares.pruning.scored import ScoredPruner


@dataclass
class Random(ScoredPruner):
    """Acts between the tower and the language model; the image's pixels seed it, so that batches do not matter."""

    name: ClassVar[str] = "random"

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """None: it draws."""
        return 0

    def score(self, image: EncodedImage) -> torch.Tensor:
        """Return [N] int64 scores: 0 for the token drawn first, -1 for the next, and so on, without replacement."""
        # torch's CPU generator looks at the low 32 bits of its seed only, so both go into those.
        seed = zlib.crc32(image.pixels.cpu().numpy().data, self.seed % 2**32)
        drawn = torch.randperm(len(image.embeds), generator=torch.Generator().manual_seed(seed))
        return -drawn.argsort().to(image.embeds.device)
