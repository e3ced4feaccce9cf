"""Trajectories as tensors: tokenised turn by turn by what evaluation uses, so that both see the same ids.

system, user: low-res view, question │ call      │ user: crops │ answer │ padding
not trained                          │ weight 5  │ not trained │ 1      │ not trained
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset, List
from datasets import Image as EncodedImage
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.conversation import Segment
from lmms_awares.engine.turns import Message
from lmms_awares.errors import DataError
from lmms_awares.protocol import parse_reply
from lmms_awares.report.curated.read import size_of
from lmms_awares.tokens import count_visual_tokens
from lmms_awares.training.losses import IGNORED
from lmms_awares.training.rows import Part

TOOL_WEIGHT = 5.0  # of the call turn (Table 11)


@dataclass(frozen=True)
class Trajectory:
    """One tokenised dialogue.

    Attributes:
        ids: [T] int64.
        is_image: [T] bool.
        weights: [T] float32; 0 where a token is not trained.
        pixels: [patches, values], of all views in order.
        grids: [views, 3] int64.
    """

    ids: torch.Tensor
    is_image: torch.Tensor
    weights: torch.Tensor
    pixels: torch.Tensor
    grids: torch.Tensor


def tokenize(
    chat: ChatFormat,
    messages: Sequence[Message],
    images: Sequence[Image.Image],
    *,
    part: Part = "whole",
    tool_weight: float = TOOL_WEIGHT,
) -> Trajectory:
    """Tokenise a dialogue of a curated set, assistant turns trained.

    Args:
        chat: of the checkpoint that is trained.
        messages: roles system, user, assistant, then user and assistant again where a call was answered; parts of
            type `image` stand for `images`, in order.
        images: the views as they were rendered.
        part: see `lmms_awares.training.rows`.
        tool_weight: of a call's tokens, its end of turn among them; an answer's have weight 1.

    Raises:
        DataError: roles in another order, or another number of images.
    """
    turns = list(_turns(chat, messages, len(images), part))
    segments, weights = [], []
    for number, turn in enumerate(turns):
        if turn.shown is not None:
            segments.append(chat.segment(turn.text, images[turn.shown]))
            weight = 0.0
        else:
            segments.append(_said(chat, turn.text))
            called = part == "call" or number + 1 < len(turns) or parse_reply(turn.text) is not None
            trained = part != "answer" or number + 1 == len(turns)
            weight = (tool_weight if called else 1.0) if trained else 0.0
        weights.append(torch.full((len(segments[-1].ids),), weight))
    return Trajectory(
        torch.cat([segment.ids for segment in segments]),
        torch.cat([segment.is_image for segment in segments]),
        torch.cat(weights),
        torch.cat([segment.pixels for segment in segments if segment.pixels is not None]),
        torch.cat([segment.grids for segment in segments]),
    )


def count_tokens(
    chat: ChatFormat, messages: Sequence[Message], sizes: Sequence[tuple[int, int]], *, part: Part = "whole"
) -> int:
    """Count the tokens that `tokenize` makes of a dialogue, from the sizes of its views; no pixel is needed.

    Args:
        chat, messages, part: as for `tokenize`.
        sizes: (width, height) in px of the views, upright.

    Raises:
        DataError: as `tokenize`.
        ValueError: sides whose ratio is above 200.
    """
    low, high = chat.pixel_limits
    total = 0
    for turn in _turns(chat, messages, len(sizes), part):
        if turn.shown is None:
            total += len(chat.encode_reply(turn.text))
        else:
            visual = (count_visual_tokens(*size, low, high, token_side=chat.token_side) for size in sizes[turn.shown])
            total += chat.count(turn.text, sum(visual))
    return total


@dataclass(frozen=True)
class _Turn:
    """A turn's text with one placeholder per image; `shown`: its images among the row's, None for the assistant's."""

    text: str
    shown: slice | None


def _turns(chat: ChatFormat, messages: Sequence[Message], images: int, part: Part) -> Iterator[_Turn]:
    roles = [message["role"] for message in messages]
    if roles not in (["system", "user", "assistant"], ["system", "user", "assistant", "user", "assistant"]):
        raise DataError(f"a trajectory is system, user, assistant, and perhaps user, assistant again; got {roles}")
    shown = [sum(part["type"] == "image" for part in message["content"]) for message in messages]
    if sum(shown) != images:
        raise DataError(f"the messages show {sum(shown)} images, the row has {images}")
    system = "".join(part["text"] for part in messages[0]["content"])
    yield _Turn(chat.render(messages[1:2], system), slice(0, shown[1]))
    for message in messages[2 : 3 if part == "call" else None]:
        if message["role"] == "user":
            yield _Turn(chat.user_turn_text(message["content"]), slice(shown[1], None))
        else:
            yield _Turn("".join(part["text"] for part in message["content"]), None)


def _said(chat: ChatFormat, text: str) -> Segment:
    """An assistant's turn, its end included."""
    ids = torch.tensor(chat.encode_reply(text))
    return Segment(ids, torch.zeros_like(ids, dtype=torch.bool), None, torch.zeros(0, 3, dtype=torch.long), ())


@dataclass(frozen=True)
class Collator:
    """Rows of a curated set to a batch for `WeightedSFTTrainer`.

    Args:
        chat: of the checkpoint that is trained.
        tool_weight: see `tokenize`.
        max_length: tokens of a row at most; None for any number.

    Example:
        batch = Collator(ChatFormat(processor))(rows)
        batch["input_ids"].shape == batch["loss_weights"].shape
    """

    chat: ChatFormat
    tool_weight: float = TOOL_WEIGHT
    max_length: int | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Tokenise and pad rows with the columns `id, messages, images, part`.

        Return `input_ids`, `attention_mask`, `labels` and `mm_token_type_ids` [B, T] int64, `loss_weights` [B, T]
        float32, `pixel_values` and `image_grid_thw`; padded on the right.

        Raises:
            DataError: a row that `tokenize` refuses, or one that is too long: cutting it would cut its answer off.
        """
        made = [self._tokenized(row) for row in rows]
        pad = self.chat.tokenizer.pad_token_id

        def padded(parts: list[torch.Tensor], value: float) -> torch.Tensor:
            return pad_sequence(parts, batch_first=True, padding_value=value)

        weights = padded([one.weights for one in made], 0.0)
        ids = padded([one.ids for one in made], pad)
        return {
            "input_ids": ids,
            "attention_mask": padded([torch.ones_like(one.ids) for one in made], 0),
            "labels": ids.masked_fill(weights == 0, IGNORED),
            "loss_weights": weights,
            "mm_token_type_ids": padded([one.is_image.long() for one in made], 0),
            "pixel_values": torch.cat([one.pixels for one in made]),
            "image_grid_thw": torch.cat([one.grids for one in made]),
        }

    def _tokenized(self, row: Mapping[str, Any]) -> Trajectory:
        try:
            one = tokenize(self.chat, row["messages"], row["images"], part=row["part"], tool_weight=self.tool_weight)
        except DataError as error:
            raise DataError(f"row {row['id']}: {error}") from None
        if self.max_length is not None:
            _check_length(row["id"], len(one.ids), self.max_length)
        return one


def check_lengths(rows: Dataset, layout: Sequence[tuple[int, Part]], chat: ChatFormat, max_length: int) -> None:
    """Hold every row of a layout against `max_length`, as the collator would, before anything is trained.

    Args:
        rows: of `lmms_awares.training.rows.read_rows`.
        layout: of `lmms_awares.training.rows.lay_out`.
        chat: of the checkpoint that is trained.
        max_length: tokens of a row at most.

    Raises:
        DataError: a row that is too long, that `tokenize` refuses, or whose images cannot be read.

    Example:
        check_lengths(rows, lay_out(rows["label"]), ChatFormat(processor), 8192)
    """
    longest = dict(layout)  # a row's call comes before its answer, which is as long as the whole
    encoded = rows.cast_column("images", List(EncodedImage(decode=False))).select(list(longest))
    for row, part in zip(encoded, longest.values(), strict=True):
        sizes = [size for image in row["images"] if (size := size_of(image)) is not None]
        if len(sizes) < len(row["images"]):
            raise DataError(f"row {row['id']} has an image that cannot be read; leave it out")
        try:
            tokens = count_tokens(chat, row["messages"], sizes, part=part)
        except (DataError, ValueError) as error:
            raise DataError(f"row {row['id']}: {error}") from None
        _check_length(row["id"], tokens, max_length)


def _check_length(id: str, tokens: int, max_length: int) -> None:
    if tokens > max_length:
        raise DataError(
            f"row {id} has {tokens} tokens, more than max_length={max_length}; allow more, or make the set with a "
            "lower max_pixels"
        )
