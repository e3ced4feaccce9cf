"""Images of the benchmarks, so that nobody trains on a test set by accident.

An image stands in a benchmark if its pixels do, or if it looks the same in two ways that must agree:

- the perceptual hash `imagehash.phash(image, hash_size=16)` differs in at most 24 of 256 bits, and
- in grey, 64x64 (bilinear), no pixel differs by more than a fifth of what lies between the picture's darkest and
  lightest pixel, so that small print on white counts as much as a photo.

Both limits stand between copies and other images. Measured on the mini suite by `python benchmarks/decontaminate.py`:
all 2,304 copies of its test images (JPEG down to quality 50, from half the size to 1.3 of it) are found, at most 16
bits and 0.12 of the contrast apart; of 1,536 images of its train parts none is taken for one (the nearest 32 bits,
0.54), nor of 1,560 pairs of forms and of short letters with other words. Those letters come as near as 2 bits, which
is why the hash alone would not do, but 0.28 of the contrast. Not found: images cut out of others, and rescaled
pictures of some 40 px.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Value
from PIL import Image

from lmms_awares.curation.pictures import load, pixel_hash
from lmms_awares.curation.records import Records, open_files, open_hub
from lmms_awares.curation.rows import Rejected, stamp_of, write_rows
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.journal import digest
from lmms_awares.tasks.benchmarks import BENCHMARKS, OWN_TASKS, SUITES, TASKS
from lmms_awares.tasks.data import base_yaml_path, task_files

BITS, CONTRAST = 24, 0.2  # that a copy may differ by
_NOISE = 5  # grey levels: what a page has at least for contrast
_SIDE = 64  # px of the small grey image
_VERSION = 1  # of what the file holds
_COLUMNS = Features(
    {"task": Value("string"), "pixels": Value("string"), "phash": Value("binary"), "grey": Value("binary")}
)
Array = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Looks:
    """How an image looks.

    Attributes:
        phash: [32] uint8, 256 bits.
        grey: [4096] uint8, 64x64.
    """

    phash: Array
    grey: Array


def looks(image: Image.Image) -> Looks:
    """Compute how an image looks.

    Raises:
        ConfigError: the library for it is not installed.
    """
    try:
        import imagehash
    except ImportError:
        raise ConfigError("images are compared with imagehash: pip install 'lmms-awares[curate]'") from None
    grey = image.convert("L")
    small = grey.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return Looks(np.packbits(imagehash.phash(grey, hash_size=16).hash.ravel()), np.asarray(small).ravel())


def contrast(one: Array, other: Array) -> float:
    """The largest difference of two small grey images, as a share of the larger of their ranges.

    Args:
        one, other: [4096] uint8.

    Example:
        >>> contrast(np.array([0, 200], dtype=np.uint8), np.array([20, 200], dtype=np.uint8))
        0.1
    """
    ranges = [int(image.max()) - int(image.min()) for image in (one, other)]
    return float(np.abs(one.astype(np.int16) - other).max() / max(*ranges, _NOISE))


@dataclass(frozen=True)
class Benchmarks:
    """Images of benchmarks.

    Attributes:
        tasks: [N] of each image.
        pixels: task by pixel hash.
        phash: [N, 32] uint8.
        grey: [N, 4096] uint8.
        stamp: hash of all of it.
    """

    tasks: tuple[str, ...]
    pixels: dict[str, str]
    phash: Array
    grey: Array
    stamp: str

    def find(self, image: Image.Image, pixels: str) -> str | None:
        """Say which task shows this image, and how that was found; None where none does.

        Args:
            image: upright, RGB.
            pixels: its `pixel_hash`.
        """
        if pixels in self.pixels:
            return f"{self.pixels[pixels]}, the same pixels"
        own = looks(image)
        bits = np.bitwise_count(self.phash ^ own.phash).sum(axis=1)
        for index in np.flatnonzero(bits <= BITS):
            apart = contrast(self.grey[index], own.grey)
            if apart <= CONTRAST:
                return f"{self.tasks[index]}, looks the same ({bits[index]} bits and {apart:.0%} of the contrast apart)"
        return None


def write_hashes(file: Path, tasks: str) -> dict[str, int]:
    """Write what tells the images of benchmarks; does nothing where the file has it.

    Args:
        tasks: of this package, or groups of them, with commas between: `awares_suite`, `awares_mini_chartqa`.

    Returns:
        different images by task.

    Raises:
        ConfigError: an unknown task.
        DataError: documents that cannot be had, or a file that cannot be written.

    Example:
        write_hashes(Path("benchmarks.parquet"), "awares_suite")
    """
    opened = {task: _documents(task) for task in _resolved(tasks)}
    stamp = digest(_VERSION, {task: records.facts for task, records in opened.items()})
    if stamp_of(file) != stamp:
        write_rows(file, [row for task, records in opened.items() for row in _hashed(task, records)], _COLUMNS, stamp)
    found = pq.read_table(file, columns=["task"])["task"].to_pylist()
    return {task: found.count(task) for task in opened}


def _resolved(tasks: str) -> list[str]:
    names = [own for name in tasks.split(",") for own in SUITES.get(name.strip(), [name.strip()])]
    for name in names:
        if name not in OWN_TASKS:
            raise ConfigError(f"unknown task {name}; there are: {', '.join([*OWN_TASKS, *SUITES])}")
    return list(dict.fromkeys(names))


def _documents(task: str) -> Records:
    files = task_files(task)
    if files is not None:
        first = Path(files[0])
        split = BENCHMARKS[OWN_TASKS[task]].split
        return open_files(first.parent, f"{split}-*.parquet")
    from lmms_eval.utils import load_yaml_config

    facts = BENCHMARKS[TASKS[task]]
    config = load_yaml_config(base_yaml_path(TASKS[task]), mode="simple")
    return open_hub(config["dataset_path"], config.get("dataset_name"), facts.split)


def _hashed(task: str, records: Records) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for record, folder in records.read():
        if isinstance(record, Rejected):
            continue
        picture = load(record["image"], folder, "join")
        if isinstance(picture, Rejected):  # what no model is shown, nobody learns
            continue
        pixels = pixel_hash(picture.image)
        if pixels not in seen:
            seen.add(pixels)
            own = looks(picture.image)
            yield {"task": task, "pixels": pixels, "phash": own.phash.tobytes(), "grey": own.grey.tobytes()}


def read_hashes(file: Path) -> Benchmarks:
    """Read what `write_hashes` wrote.

    Raises:
        DataError: no such file, or one of another kind.
    """
    try:
        stamp = stamp_of(file)
        rows = pq.read_table(file, columns=list(_COLUMNS)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"benchmark_hashes {file} cannot be read: {' '.join(str(error).split())[:160]}") from None
    if stamp is None or not rows:
        raise DataError(f"benchmark_hashes {file} holds no images of benchmarks; write it anew")
    return Benchmarks(
        tasks=tuple(row["task"] for row in rows),
        pixels={row["pixels"]: row["task"] for row in rows},
        phash=_stacked([row["phash"] for row in rows]),
        grey=_stacked([row["grey"] for row in rows]),
        stamp=stamp,
    )


def _stacked(rows: Sequence[bytes]) -> Array:
    return np.stack([np.frombuffer(row, dtype=np.uint8) for row in rows])
