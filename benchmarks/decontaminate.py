"""How well images of a benchmark are told from others: copies that are found, others that are taken for copies.

    python benchmarks/decontaminate.py [--documents 256]

The mini suite's own test sets are the benchmarks. Their images are changed as those of a mirror are, and must be found;
its train parts have other images of the same make, which must not be. Neither must pages of one form, or short letters,
with other words on them. What is compared, and the limits: `lmms_awares.curation.decontaminate`.
"""

import argparse
import io
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from lmms_awares import images
from lmms_awares.curation.decontaminate import (
    BITS,
    CONTRAST,
    Benchmarks,
    Looks,
    contrast,
    looks,
    read_hashes,
    write_hashes,
)
from lmms_awares.curation.pictures import pixel_hash
from lmms_awares.mini.suite import document, test_file
from lmms_awares.tasks.benchmarks import MINI_TASKS

COPIES = {  # JPEG quality, and the share of each side
    "JPEG 75": (75, 1.0),
    "JPEG 50": (50, 1.0),
    "JPEG 90, 0.9 of its size": (90, 0.9),
    "JPEG 75, 0.75 of its size": (75, 0.75),
    "JPEG 75, half its size": (75, 0.5),
    "JPEG 85, 1.3 of its size": (85, 1.3),
}


def copy(image: Image.Image, quality: int, scale: float) -> Image.Image:
    """Make a copy as another site would store it."""
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    file = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=quality)
    return images.decode(file.getvalue())


def distances(one: Looks, other: Looks) -> tuple[int, float]:
    """Return differing bits, and the difference in contrast."""
    return int(np.bitwise_count(one.phash ^ other.phash).sum()), contrast(one.grey, other.grey)


def page(seed: int, form: bool) -> Image.Image:
    """Draw a page of 850x1100 px: a form that is filled in, or a letter of a few lines."""
    generator, font = random.Random(seed), ImageFont.load_default(14)
    image = Image.new("RGB", (850, 1100), "white")
    drawing = ImageDraw.Draw(image)
    for y in range(60, 1000, 40) if form else range(100, 100 + 24 * generator.choice((2, 3)), 24):
        words = ("".join(generator.choices("abcdefghij 0123", k=generator.randint(2, 9))) for _ in range(4))
        if form:
            drawing.text((60, y), f"Field {y // 40}:", fill="black", font=font)
            drawing.line((160, y + 18, 700, y + 18), fill="gray")
        drawing.text((170 if form else 100, y), " ".join(words), fill="black", font=font)
    return image


def shown(name: str, count: int, found: int, apart: Iterable[tuple[int, float]], worst: Callable[..., float]) -> str:
    """Format a row of the table."""
    bits, share = zip(*apart, strict=True)
    return f"| {name} | {count} | {found} | {worst(bits)} | {worst(share):.3f} |"


def rows(benchmarks: Benchmarks, documents: int) -> Iterator[str]:
    """Measure, row by row."""
    own = [row["image"]["bytes"] for one in MINI_TASKS.values() for row in pq.read_table(test_file(one)).to_pylist()]
    tests = [images.decode(one) for one in own]
    for name, (quality, scale) in COPIES.items():
        copies = [copy(image, quality, scale) for image in tests]
        found = sum(benchmarks.find(image, pixel_hash(image)) is not None for image in copies)
        apart = [distances(looks(one), looks(other)) for one, other in zip(tests, copies, strict=True)]
        yield shown(f"copies: {name}", len(copies), found, apart, max)
    for one in MINI_TASKS.values():
        others = [document(one, "train", index)["image"] for index in range(documents)]
        found = sum(benchmarks.find(image, pixel_hash(image)) is not None for image in others)
        known = [Looks(*pair) for pair in zip(benchmarks.phash, benchmarks.grey, strict=True)]
        apart = [distances(image, test) for image in map(looks, others) for test in known]
        yield shown(f"others: train part of {one}", documents, found, apart, min)
    for name, form in (("forms", True), ("short letters", False)):
        drawn = [looks(page(seed, form)) for seed in range(40)]
        apart = [distances(one, other) for index, one in enumerate(drawn) for other in drawn[:index]]
        found = sum(bits <= BITS and share <= CONTRAST for bits, share in apart)
        yield shown(f"others: pairs of {name}", len(apart), found, apart, min)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=256, help="images of each train part")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "benchmarks.parquet")
        write_hashes(file, "awares_mini")
        benchmarks = read_hashes(file)
    print(f"limits: {BITS} bits, {CONTRAST} of the contrast. Copies: the farthest; others: the nearest.\n")
    print("| images | count | found | bits | contrast |\n|:--|--:|--:|--:|--:|")
    for row in rows(benchmarks, arguments.documents):
        print(row, flush=True)


if __name__ == "__main__":
    main()
