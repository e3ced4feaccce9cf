"""Dialogues as tensors, and the language model's loss on them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from lmms_awares.mini.training.dialogues import Dialogue, View
from lmms_awares.mini.training.features import PATCH, encode, patchify
from lmms_awares.tokens import TOKEN_SIDE

_PAD = "<|image_pad|>"
_IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Right-padded dialogues.

    Attributes:
        ids: [B, L] int64.
        labels: [B, L] int64, the id at each place of a reply that is to be learnt, else -100.
        replies: [B, L] int64, number of the reply within its dialogue, from 1; 0 elsewhere.
        is_image: [B, L] bool.
        views: in row order.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    replies: torch.Tensor
    is_image: torch.Tensor
    views: list[View]

    @property
    def grids(self) -> torch.Tensor:
        """[views, 3] int64, (1, rows, columns) in patches."""
        return torch.tensor([[1, view.image.height // PATCH, view.image.width // PATCH] for view in self.views])


@dataclass(frozen=True)
class Row:
    """One dialogue, tokenised.

    Attributes:
        ids: of text, visual tokens and replies.
        replies: for each id the number of the reply that it is a learnt part of, or 0.
        views: what it shows.
    """

    ids: list[int]
    replies: list[int]
    views: tuple[View, ...]


def tokenize(tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue) -> Row:
    """Tokenise a dialogue turn by turn, as evaluation does."""
    ids: list[int] = []
    replies: list[int] = []
    for number, turn in enumerate(dialogue, 1):
        text = turn.text
        for view in turn.views:
            width, height = view.image.size
            text = text.replace(_PAD, "\0" * (width * height // TOKEN_SIDE**2), 1)
        said = tokenizer.encode(text.replace("\0", _PAD), add_special_tokens=False)
        reply = [*tokenizer.encode(turn.reply, add_special_tokens=False), tokenizer.eos_token_id]
        ids += said + reply
        replies += [0] * len(said) + [number if turn.learn else 0] * len(reply)
    return Row(ids, replies, tuple(view for turn in dialogue for view in turn.views))


def collate(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row]) -> Batch:
    """Pad rows on the right to one batch."""
    ids = pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True)
    replies = pad_sequence([torch.tensor(row.replies) for row in rows], batch_first=True)
    is_image = ids == tokenizer.convert_tokens_to_ids(_PAD)
    labels = ids.masked_fill(replies == 0, _IGNORED)
    return Batch(ids, labels, replies, is_image, [view for row in rows for view in row.views])


def visual_tokens(model: Qwen2_5_VLForConditionalGeneration, views: Sequence[View], *, keep: bool) -> torch.Tensor:
    """Return the [T, D] visual tokens of all views, view after view.

    Args:
        model: whose tower encodes them.
        views: a view that holds its tokens already is not encoded again.
        keep: store the tokens in the views.
    """
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, view in enumerate(views):
        if view.tokens is None:
            by_size[view.image.size].append(index)
    made: dict[int, torch.Tensor] = {}
    for size, indices in by_size.items():
        patches = patchify([views[index].image for index in indices]).to(model.device)
        made |= zip(indices, encode(model.model.visual, patches, size), strict=True)
    parts = [made[index] if view.tokens is None else view.tokens for index, view in enumerate(views)]
    if keep:
        for view, part in zip(views, parts, strict=True):
            view.tokens = part
    return torch.cat(parts)


def loss(model: Qwen2_5_VLForConditionalGeneration, batch: Batch, *, tower: bool) -> tuple[torch.Tensor, float]:
    """Return the mean cross-entropy over the replies' tokens, and the share (0..1) of replies with every token right.

    Args:
        model: in float32.
        batch: of `collate`.
        tower: let gradients into the vision tower; else the views keep their visual tokens.
    """
    ids, is_image = batch.ids.to(model.device), batch.is_image.to(model.device)
    with torch.set_grad_enabled(tower and torch.is_grad_enabled()):
        visual = visual_tokens(model, batch.views, keep=not tower)
    embeds = model.get_input_embeddings()(ids).masked_scatter(is_image[..., None], visual)
    positions, _ = model.model.get_rope_index(ids, is_image.int(), image_grid_thw=batch.grids.to(ids.device))
    hidden = model.model.language_model(inputs_embeds=embeds, position_ids=positions).last_hidden_state
    asked = batch.labels[:, 1:] != _IGNORED
    logits = model.lm_head(hidden[:, :-1][asked.to(ids.device)])
    labels = batch.labels[:, 1:][asked].to(ids.device)
    wrong = (logits.argmax(-1) != labels).float().cpu()
    reply = (batch.replies[:, 1:] + torch.arange(len(ids))[:, None] * 1000)[asked]
    _, which = reply.unique(return_inverse=True)
    failed = torch.zeros(int(which.max()) + 1).index_add(0, which, wrong) > 0
    return cross_entropy(logits, labels), 1 - failed.float().mean().item()
