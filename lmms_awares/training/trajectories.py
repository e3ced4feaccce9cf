"""Trajectories as tensors: tokenised turn by turn by what evaluation uses, so that both see the same ids.

system, user: low-res view, question │ call      │ user: crops │ answer │ padding
not trained                          │ weight 5  │ not trained │ 1      │ not trained
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.conversation import Segment
from lmms_awares.engine.turns import Message
from lmms_awares.errors import DataError
from lmms_awares.protocol import parse_reply
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
    roles = [message["role"] for message in messages]
    if roles not in (["system", "user", "assistant"], ["system", "user", "assistant", "user", "assistant"]):
        raise DataError(f"a trajectory is system, user, assistant, and perhaps user, assistant again; got {roles}")
    shown = [sum(part["type"] == "image" for part in message["content"]) for message in messages]
    if sum(shown) != len(images):
        raise DataError(f"the messages show {sum(shown)} images, the row has {len(images)}")
    if part == "call":
        messages, images = messages[:3], images[: shown[1]]
    trained = (len(messages) - 1,) if part == "answer" else range(len(messages))
    system = "".join(part["text"] for part in messages[0]["content"])
    segments = [chat.segment(chat.render(messages[1:2], system), images[: shown[1]])]
    weights = [torch.zeros(len(segments[0].ids))]
    for place in range(2, len(messages)):
        if messages[place]["role"] == "user":
            segments.append(chat.user_turn(messages[place]["content"], images[shown[1] :], ended=True))
            weights.append(torch.zeros(len(segments[-1].ids)))
        else:
            text = "".join(part["text"] for part in messages[place]["content"])
            segments.append(_said(chat, text))
            called = place + 1 < len(messages) or parse_reply(text) is not None
            weight = (tool_weight if called else 1.0) if place in trained else 0.0
            weights.append(torch.full((len(segments[-1].ids),), weight))
    return Trajectory(
        torch.cat([segment.ids for segment in segments]),
        torch.cat([segment.is_image for segment in segments]),
        torch.cat(weights),
        torch.cat([segment.pixels for segment in segments if segment.pixels is not None]),
        torch.cat([segment.grids for segment in segments]),
    )


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
        if self.max_length is not None and len(one.ids) > self.max_length:
            raise DataError(
                f"row {row['id']} has {len(one.ids)} tokens, more than max_length={self.max_length}; allow more, or "
                "make the set with a lower max_pixels"
            )
        return one
