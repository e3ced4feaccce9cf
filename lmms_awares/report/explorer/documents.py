"""The documents of a run: pictures, questions, and labels of where the answer lies."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from PIL import Image

from lmms_awares import images
from lmms_awares.crops import Box, target_crops
from lmms_awares.errors import DataError
from lmms_awares.labels import EVIDENCE, ORACLE_CROPS, SUFFICES
from lmms_awares.report.read.content import Content, question_column, target_column, target_text
from lmms_awares.tasks.benchmarks import OWN_TASKS
from lmms_awares.tasks.data import host_files, task_files
from lmms_awares.tasks.host_index import HOST_PREFIX
from lmms_awares.tasks.values import image_file

_COLUMNS = (EVIDENCE, SUFFICES, ORACLE_CROPS)  # beside those with image, question and target


@dataclass(frozen=True)
class Document:
    """One row of a task's data. `image`: encoded bytes, None where there are none. Other fields: None where unknown."""

    image: bytes | None
    question: str | None
    answer: str | None
    evidence: Box | None
    suffices: bool | None
    oracle: tuple[str, ...] | None

    @property
    def digest(self) -> str:
        """16 hex digits that are equal for equal encoded images."""
        return blake2b(self.image or b"", digest_size=8).hexdigest()

    def picture(self) -> Image.Image:
        """Decode the image, upright, in RGB.

        Raises:
            OSError: no image, or one that Pillow cannot read.
        """
        if self.image is None:
            raise OSError("the document has no image")
        return images.decode(self.image)

    def content(self, image: Image.Image) -> Content:
        """Return the content that identifies the document. `image`: its picture."""
        return Content(self.question, self.answer, image.size, images.digest(image))

    def target(self, size: tuple[int, int]) -> tuple[str, ...]:
        """Return the crops of an oracle for an image of `size` px.

        Empty where the low-res view suffices, or where neither crops nor evidence are known.
        """
        if self.oracle is not None:
            return self.oracle
        if self.evidence is None or self.suffices:
            return ()
        return target_crops(self.evidence, size)[0]


def read(config: dict[str, Any]) -> Iterator[Document]:
    """Yield the documents of a task in the order of their `doc_id`.

    Args:
        config: the task's entry under `configs` in a results file.

    Raises:
        DataError: neither local files nor the hub have them, or the task makes documents of them itself.
    """
    if not (columns := _image_columns(config)):
        raise DataError(f"the images of {config.get('task')} are in no image column of its data")
    if config.get("process_docs"):
        raise DataError(f"{config.get('task')} makes its documents of the data's rows itself; only a run knows them")
    for row, folder in _rows(config):
        box, oracle = row.get(EVIDENCE), row.get(ORACLE_CROPS)
        yield Document(
            image=_first_image(row, columns, folder),
            question=row.get(question_column(config.get("task", ""))),
            answer=target_text(row.get(target_column(config) or "")),
            evidence=tuple(box) if box is not None else None,
            suffices=row.get(SUFFICES),
            oracle=tuple(oracle) if oracle is not None else None,
        )


def _image_columns(config: dict[str, Any]) -> list[str]:
    """Return the data's columns with images; a wrapped task of lmms-eval says which."""
    columns: list[str] = (config.get("metadata") or {}).get("awares_images", ["image"])
    return columns


def _first_image(row: dict[str, Any], columns: list[str], folder: Path | None) -> bytes | None:
    """Return the encoded image of a row: where several columns may hold one, the first that does."""
    cells = (row.get(name) for name in columns)
    images = [one for cell in cells for one in (cell if isinstance(cell, list) else [cell]) if one is not None]
    return _bytes(images[0], folder) if images else None


def _bytes(stored: dict[str, Any] | bytes | str | None, folder: Path | None) -> bytes | None:
    """Return the encoded image that a row holds or names."""
    if isinstance(stored, bytes) or stored is None:
        return stored
    if isinstance(stored, dict) and stored.get("bytes") is not None:
        return bytes(stored["bytes"])
    path = stored.get("path") if isinstance(stored, dict) else stored
    try:
        return image_file(path, folder).read_bytes() if path else None
    except (OSError, ValueError):
        return None  # the row then shows no picture, as it had none for the model


def _rows(config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Path | None]]:
    """Yield rows, each with the folder from which its relative paths start."""
    files = _files(config)
    if files is None:
        if "dataset_path" not in config:
            raise DataError("the results do not say where the documents came from")
        for row in _from_hub(config):
            yield row, None
        return
    import pyarrow
    import pyarrow.parquet

    for file in files:
        try:
            source = pyarrow.parquet.ParquetFile(file)
            columns = [name for name in _columns(config) if name in source.schema_arrow.names]
            for batch in source.iter_batches(batch_size=32, columns=columns):
                for row in batch.to_pylist():
                    yield row, Path(file).parent
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise DataError(f"{file} is not a readable parquet file: {str(error).splitlines()[0]}") from None


def _files(config: dict[str, Any]) -> list[str] | None:
    """Return the run's parquet files, else the task's own on this machine; None for data of the hub."""
    recorded = (config.get("dataset_kwargs") or {}).get("data_files")
    if not recorded:
        return None
    files: list[str] = recorded[_split(config)]
    missing = [file for file in files if not Path(file).is_file()]
    if not missing:
        return files
    found = _local_files(config["task"], _split(config))
    if found is None:
        raise DataError(
            f"{missing[0]}, which the run read, is not here; set AWARES_DATA_ROOT to the folder of the data"
        )
    return found


def _local_files(task: str, split: str) -> list[str] | None:
    if task in OWN_TASKS:
        return task_files(task)
    host = (task.removeprefix(HOST_PREFIX), split)
    return host_files(*host) if task.startswith(HOST_PREFIX) else None


def _split(config: dict[str, Any]) -> str:
    return str(config.get("test_split") or config["validation_split"])


def _columns(config: dict[str, Any]) -> set[str]:
    """Return the columns that identify a task's documents; its data need not have all of them."""
    named = question_column(config.get("task", "")), *([target] if (target := target_column(config)) else [])
    return {*_COLUMNS, *_image_columns(config), *named}


def _from_hub(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    import datasets

    path = config["dataset_path"]
    try:
        rows = datasets.load_dataset(path, config.get("dataset_name"), split=_split(config))
    except (OSError, ValueError) as error:  # the hub's errors and datasets' own are among these
        raise DataError(f"{path} cannot be had from the hub: {str(error).splitlines()[0]}") from None
    keep = [column for column in rows.column_names if column in _columns(config)]
    rows = rows.select_columns(keep)
    for name in _image_columns(config):
        if isinstance(rows.features[name], datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    yield from rows
