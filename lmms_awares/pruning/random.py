"""Control: visual tokens kept at random. A method that does not beat it has chosen nothing."""

import zlib
from dataclasses import dataclass
from typing import ClassVar

import torch

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import EncodedImage
from lmms_awares.pruning.scored import ScoredPruner


@dataclass
class Random(ScoredPruner):
    """Between the tower and the language model; seeded by the image's pixels, so that the batch does not matter."""

    name: ClassVar[str] = "random"

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """None: it draws."""
        return 0

    def score(self, image: EncodedImage) -> torch.Tensor:
        """[N] int64: 0 for the token drawn first, -1 for the next, and so on, without replacement."""
        # torch's CPU generator looks at the low 32 bits of its seed only, so both go into those.
        seed = zlib.crc32(image.pixels.cpu().numpy().data, self.seed % 2**32)
        drawn = torch.randperm(len(image.embeds), generator=torch.Generator().manual_seed(seed))
        return -drawn.argsort().to(image.embeds.device)
