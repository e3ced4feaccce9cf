"""Sizes of a document's images, from their files' headers where that can be: no pixel is decoded."""

import io
from contextlib import suppress
from typing import Any

import datasets
from PIL import Image


class Headers:
    """Opens images without decoding them, so that their `size` is all there is to them."""

    def __init__(self) -> None:
        self._tables: dict[int, tuple[Any, datasets.Dataset | None]] = {}  # by id; holding the key keeps the id its own

    def images(self, documents: Any, doc_id: int) -> list[Image.Image]:
        """What is in the image columns of a document.

        Args:
            documents: a split as lmms-eval has it.

        Returns:
            unread images; none where the documents are no table with image columns, or a file cannot be opened.

        Raises:
            Image.DecompressionBombError: an image that is too large to be opened.
        """
        if id(documents) not in self._tables:
            self._tables[id(documents)] = documents, _image_columns(documents)
        columns = self._tables[id(documents)][1]
        if columns is None:
            return []
        cells = columns[doc_id].to_pylist()[0].values()
        stored = [one for cell in cells for one in (cell if isinstance(cell, list) else [cell]) if one is not None]
        with suppress(OSError):  # whoever decodes it says what is wrong
            return [Image.open(io.BytesIO(one["bytes"]) if one["bytes"] is not None else one["path"]) for one in stored]
        return []


def _image_columns(documents: Any) -> datasets.Dataset | None:
    """The columns with images, as they are stored: `datasets` decodes what is read from them in any other format."""
    if not isinstance(documents, datasets.Dataset):
        return None
    names = [name for name, feature in documents.features.items() if _holds_images(feature)]
    return documents.select_columns(names).with_format("arrow") if names else None


def _holds_images(feature: Any) -> bool:
    inner = feature.feature if isinstance(feature, datasets.List) else feature
    return isinstance(inner, datasets.Image)
