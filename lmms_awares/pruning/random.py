"""Control: visual tokens kept at random. A method that does not beat it has chosen nothing."""

import zlib
from typing import ClassVar

import torch

from lmms_awares.pruning.base import EncodedImage, Kept, Pruner


def select(tokens: int, keep: int, seed: int) -> torch.Tensor:
    """[keep] int64, ascending: a subset of `tokens` drawn without replacement; the same seed gives the same."""
    return torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))[:keep].sort().values


class Random(Pruner):
    """Between the tower and the language model; seeded by the image's pixels, so that the batch does not matter."""

    name: ClassVar[str] = "random"

    def keep(self, image: EncodedImage) -> Kept:
        """`select` of `budget` tokens."""
        tokens = len(image.embeds)
        # torch's CPU generator looks at the low 32 bits of its seed only, so both go into those.
        seed = zlib.crc32(image.pixels.cpu().numpy().data, self.seed % 2**32)
        index = select(tokens, self.budget(tokens), seed)
        index = index.to(image.embeds.device)
        return Kept(index, image.embeds[index])
