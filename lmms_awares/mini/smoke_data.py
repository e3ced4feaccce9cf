"""Tiny benchmarks in the real formats, for trying the program without a hub. Their scores mean nothing.

`python -m lmms_awares.mini.smoke_data DIR` writes `DIR/<benchmark>/<split>-00000-of-00001.parquet`.
"""

import argparse
import random
from pathlib import Path

import datasets
from PIL import Image, ImageDraw, ImageFont

from lmms_awares.labels import EVIDENCE, SUFFICES
from lmms_awares.tasks.benchmarks import BENCHMARKS

_SIZES = ((640, 480), (850, 600), (600, 850), (336, 336), (1120, 420), (96, 64))


def _picture(text: str, size: tuple[int, int], generator: random.Random) -> tuple[Image.Image, list[int]]:
    """Draw a coloured page with `text` somewhere on it; return it with the text's (left, top, right, bottom) in px."""
    page = Image.new("RGB", size, tuple(generator.randrange(150, 256) for _ in range(3)))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=generator.choice((12, 18, 28)))
    width, height = (round(side) for side in draw.textbbox((0, 0), text, font=font)[2:])
    left = generator.randrange(max(1, size[0] - width))
    top = generator.randrange(max(1, size[1] - height))
    draw.text((left, top), text, fill=(20, 20, 60), font=font)
    return page, [left, top, min(size[0], left + width), min(size[1], top + height)]


def write(root: Path, documents: int = 6, seed: int = 0) -> Path:
    """Write `documents` documents for each benchmark below `root`, and return `root`.

    Example:
        write(Path("smoke"))  # then: AWARES_DATA_ROOT=smoke awares eval ...
    """
    for name, facts in BENCHMARKS.items():
        generator = random.Random(f"{seed}/{name}")
        rows = []
        for index in range(documents):
            word = "".join(generator.choices("ABCDEFGHKLMNPRSTUVWXYZ23456789", k=4))
            image, box = _picture(word, _SIZES[index % len(_SIZES)], generator)
            rows.append({"image": image, **facts.sample(word, index), EVIDENCE: box, SUFFICES: index % 3 == 0})
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
        data.to_parquet(folder / f"{facts.split}-00000-of-00001.parquet")
    return root


def main() -> None:
    """Write the data from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--documents", type=int, default=6, help="per benchmark")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(write(arguments.root, arguments.documents, arguments.seed))


if __name__ == "__main__":
    main()
