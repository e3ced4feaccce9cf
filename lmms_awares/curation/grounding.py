"""Stage 2, where: which part of the image an HR row needs, as boxes, and as the crops that Eq. 3 makes of them.

LR rows need none: their boxes and targets are empty.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

from datasets import Features
from PIL import ExifTags, Image

from lmms_awares import images
from lmms_awares.crops import target_crops
from lmms_awares.curation.asking import Log, Meter, Request, Said
from lmms_awares.curation.boxes import KINDS, SCALE, Box, Boxes, hull, read_boxes
from lmms_awares.curation.config import Config, LlmOracle, SourceOracle
from lmms_awares.curation.rows import GROUND, Rejected, Row
from lmms_awares.curation.served_model import ServedModel
from lmms_awares.curation.stage import Stage
from lmms_awares.engine.server.messages import as_png_url
from lmms_awares.journal import digest

_MAX_TOKENS = 512
_AS_STORED = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}  # what every server decodes
_UPRIGHT, _LYING = (None, 1), (5, 6, 7, 8)  # values of the orientation tag
_NEEDED = {"answer": ("answer",), "question": ("question",), "union": ("question", "answer")}

PROMPT = """\
A question about this image, and the right answer:

<question>
{question}
</question>
<answer>
{answer}
</answer>

Find two kinds of regions:
- question: what the question speaks of, such as the row, object, person or part of a figure that it names
- answer: what one has to see or read to know that the answer is right, as tightly as possible

Reply with one JSON object and nothing else. Each region is [left, top, right, bottom] in whole numbers from 0 to \
1000: 0 is the left or top edge of the image, 1000 the right or bottom edge, whatever its size. List several regions \
where what is asked for stands in several places.
{{"question": [[left, top, right, bottom]], "answer": [[left, top, right, bottom]]}}
"""


class Grounding(Stage):
    """Gives HR rows their boxes and target crops.

    Args:
        log: finished requests.
        meter: counts them.
    """

    name: ClassVar[str] = "ground"
    adds: ClassVar[Features] = GROUND

    def __init__(self, config: Config, log: Log, meter: Meter) -> None:
        settings = config.oracle
        self._oracle = _Llm(settings, log, meter) if isinstance(settings, LlmOracle) else _Source(settings)

    def depends_on(self) -> dict[str, Any]:
        """See `Stage.depends_on`."""
        return self._oracle.depends_on()

    def open(self) -> None:
        """See `Stage.open`."""
        self._oracle.open()

    def close(self) -> None:
        """See `Stage.close`."""
        self._oracle.close()

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """See `Stage.process`."""
        grounded = iter(self._oracle.process([row for row in rows if row["label"] == "HR"]))
        return [next(grounded) if row["label"] == "HR" else _columns({}, (), None, None, None) for row in rows]


class _Source:
    """Evidence boxes that the source knows."""

    def __init__(self, settings: SourceOracle) -> None:
        self._settings = settings

    def depends_on(self) -> dict[str, Any]:
        return {"oracle": self._settings.model_dump(mode="json")}

    def open(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to end."""

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        return [self._of(row) for row in rows]

    def _of(self, row: Row) -> Row | Rejected:
        if row["evidence_box"] is None:
            return Rejected("no evidence box", "oracle: source needs one in every HR row; name a model as oracle")
        left, top, right, bottom = row["evidence_box"]
        try:
            width, height = Picture.of(row["image"]["bytes"]).size
            targets, rule = target_crops((left, top, right, bottom), (width, height), self._settings.tau)
        except OSError as error:
            return Rejected("unreadable image", str(error))
        except ValueError as error:
            return Rejected("bad evidence box", str(error))
        sides = left / width, top / height, right / width, bottom / height
        box = [min(max(side * SCALE, 0.0), SCALE) for side in sides]
        model = {"name": "source", "revision": None, "prompt": None}
        return _columns({"answer": [box]}, targets, rule, None, model)


class _Llm(ServedModel):
    """A model that points."""

    def __init__(self, settings: LlmOracle, log: Log, meter: Meter) -> None:
        self._needed, self._tau = _NEEDED[settings.box], settings.tau
        white = as_png_url(Image.new("RGB", (56, 56), (255, 255, 255)))
        probe = _content(white, "Is anybody there?")  # it has to take an image
        version = digest(PROMPT, _MAX_TOKENS)
        super().__init__(settings, "oracle", Grounding.name, version, log, meter, probe)

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        pictures = [_opened(row) for row in rows]
        requests = [_request(row, seen) for row, seen in zip(rows, pictures, strict=True) if isinstance(seen, Picture)]
        said = iter(self.ask(requests, lambda text: read_boxes(text, self._needed)))
        return [seen if isinstance(seen, Rejected) else self._pointed(seen, next(said)) for seen in pictures]

    def _pointed(self, picture: "Picture", said: Said[dict[str, list[Box]]] | Rejected) -> Row | Rejected:
        if isinstance(said, Rejected):
            return said
        width, height = picture.size
        left, top, right, bottom = hull([box for kind in self._needed for box in said.value[kind]])
        pixels = left * width / SCALE, top * height / SCALE, right * width / SCALE, bottom * height / SCALE
        targets, rule = target_crops(pixels, picture.size, self._tau)
        return _columns(said.value, targets, rule, said.text, self.name)


@dataclass(frozen=True)
class Picture:
    """A stored image.

    Attributes:
        stored: its encoded bytes.
        size: width and height in px, upright.
        kind: media type under which the bytes may be sent as they are; None where servers would see other pixels than
            this project's models do: another format, a turned camera, transparency.
    """

    stored: bytes
    size: tuple[int, int]
    kind: str | None

    @classmethod
    def of(cls, stored: bytes) -> "Picture":
        """Read an image's header.

        Raises:
            OSError: no image.
        """
        with Image.open(io.BytesIO(stored)) as image:
            turn = image.getexif().get(ExifTags.Base.Orientation)
            width, height = image.size
            plain = image.mode in ("RGB", "L") and not image.has_transparency_data and turn in _UPRIGHT
            kind = _AS_STORED.get(str(image.format)) if plain else None
        return cls(stored, (height, width) if turn in _LYING else (width, height), kind)

    def url(self) -> str:
        """Return it as a data URL: its own bytes where they may be sent, else a lossless PNG of its pixels."""
        if self.kind is None:
            return as_png_url(images.decode(self.stored))
        return f"data:{self.kind};base64,{base64.b64encode(self.stored).decode()}"


def _opened(row: Row) -> Picture | Rejected:
    try:
        return Picture.of(row["image"]["bytes"])
    except OSError as error:
        return Rejected("unreadable image", str(error))


def _request(row: Row, picture: Picture) -> Request:
    text = PROMPT.format(question=row["question"], answer=row["answers"][0])
    return Request(lambda: _content(picture.url(), text), (sha256(picture.stored).hexdigest(), text), _MAX_TOKENS)


def _content(url: str, text: str) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]


def _columns(
    boxes: Boxes, targets: Sequence[str], rule: str | None, reply: str | None, model: dict[str, Any] | None
) -> Row:
    return {
        "boxes": {kind: boxes.get(kind, []) for kind in KINDS},
        "targets": list(targets),
        "rule": rule,
        "grounding": reply,
        "oracle_model": model,
    }
