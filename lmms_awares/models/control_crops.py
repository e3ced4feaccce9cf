"""Control crops: what the second turn of `awares` shows in the crops' place, so that one sees what it reads.

They have the size of the true ones, and so their visual tokens. What is random is seeded by the sample alone: the same
at every batch size, number of processes and `--limit`.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from lmms_awares.errors import SampleError
from lmms_awares.images import digest
from lmms_awares.models.recovery import is_of_one_sample
from lmms_awares.models.sample import Lent
from lmms_awares.trace import CropContent
from lmms_awares.views import View

GREY = (128, 128, 128)  # RGB of a blank crop
Read = Callable[[int], Sequence[Image.Image]]  # the images of a document, by its number


def control(view: View, content: CropContent, seed: str) -> View:
    """Return what is shown in a crop's place; `true` crops, and those that `other_image` was cut to, as they are.

    Args:
        view: the crop, rendered.
        content: `blank`: every pixel is `GREY`. `shuffled`: the crop's own pixels in a random order.
        seed: of the order.

    Example:
        >>> view = View(Image.new("RGB", (56, 28)), 2)
        >>> control(view, "blank", "").image.getcolors()
        [(1568, (128, 128, 128))]
    """
    if content == "blank":
        return View(Image.new("RGB", view.image.size, GREY), view.tokens)
    if content == "shuffled":
        return View(_shuffled(view.image, seed), view.tokens)
    return view


def _shuffled(image: Image.Image, seed: str) -> Image.Image:
    """Permute the pixels, each with its three channels."""
    pixels = np.asarray(image).reshape(-1, 3)
    generator = np.random.default_rng([*seed.encode()])
    return Image.fromarray(generator.permutation(pixels).reshape(image.height, image.width, 3))


def other_image(own: Image.Image, count: int, read: Read, seed: str) -> Lent:
    """Find the image of another document, resized to the size of `own`, so that its crops have the same boxes.

    Documents are tried in an order that the seed decides. Those without a readable image, and those with the same
    pixels (the document itself is one), are passed over.

    Args:
        own: the document's image, RGB.
        count: of all documents.
        read: the images of a document; raises what is wrong with one that has none.
        seed: of the choice.

    Raises:
        SampleError: there is no such document.
    """
    known = digest(own)
    for number in random.Random(seed).sample(range(count), count):
        image = _first(read, number)
        if image is not None and digest(image) != known:
            return Lent(number, image.resize(own.size, Image.Resampling.LANCZOS))
    raise SampleError(f"crops=other needs a second image, and none of the {count} documents has another one")


def _first(read: Read, number: int) -> Image.Image | None:
    try:
        return next(iter(read(number)), None)
    except Exception as error:  # of somebody else's sample, which fails by itself
        if not is_of_one_sample(error):
            raise
        return None
