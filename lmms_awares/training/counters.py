"""Counting what a training engine can lose without a word: images, tool results, masks.

Every count is of what was really there, in tensors, beside what the environments showed. Any mismatch ends the run.

                 shown          reaches
environment ──► images ──► ids, grids ──► reference pass ──► loss pass ──► gradient
                           mask: call 1 │ crops 0 │ answer 1               0 where the mask is 0
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lmms_awares.errors import UserError

_SAFE = "the run ends here; its last checkpoint is as it was"


class Seen(Protocol):
    """What a rollout's environment knows of it; `environment.CropEnvironment`."""

    @property
    def tokens(self) -> list[int]:
        """Visual tokens of each view that was shown, in order."""

    @property
    def shortest_side(self) -> int:
        """Px of the shortest side of all views."""

    @property
    def token_side(self) -> int:
        """Px of a visual token's side."""


class LostError(UserError):
    """Something that the policy was shown, or said, does not arrive where it is trained on."""


@dataclass(frozen=True)
class Rollouts:
    """A batch of rollouts as tensors, padding included.

    Attributes:
        prompt_ids: [B, P] int64, padded on the left.
        completion_ids: [B, C] int64, padded on the right.
        completion_mask: [B, C], 1 but for padding.
        tool_mask: [B, C], 0 for what a tool showed.
        grids: [images, 3] int64 of all rollouts in order; None where the engine gives none.
        image_token: id of an image's placeholder.
        merge: patches along a visual token's side.
    """

    prompt_ids: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    tool_mask: torch.Tensor
    grids: torch.Tensor | None
    image_token: int
    merge: int

    @property
    def said(self) -> torch.Tensor:
        """[B, C] bool, tokens that the policy sampled."""
        return (self.completion_mask * self.tool_mask).bool()

    @property
    def turns(self) -> list[int]:
        """Assistant turns of each rollout: runs of sampled tokens."""
        said = self.said.int()
        starts = said - torch.nn.functional.pad(said[:, :-1], (1, 0))
        return [int(count) for count in (starts == 1).sum(1)]

    @property
    def observed(self) -> torch.Tensor:
        """[B] tokens that a tool showed."""
        return (self.completion_mask * (1 - self.tool_mask)).sum(1)


def check_rollouts(rollouts: Rollouts, seen: Sequence[Seen]) -> None:
    """Hold a batch of rollouts against what their environments showed.

    Raises:
        LostError: an image that is missing or has another size, a sampled image placeholder, a tool result that was
            dropped, more or fewer turns than were spoken, or a view that is thinner than a visual token.

    Example:
        check_rollouts(rollouts, environments)
    """
    thin = [one.shortest_side for one in seen if one.shortest_side < one.token_side]
    if thin:
        raise LostError(f"{len(thin)} of {len(seen)} rollouts have a view with a side of {min(thin)} px; {_SAFE}")
    sampled = int(((rollouts.completion_ids == rollouts.image_token) & rollouts.said).sum())
    if sampled:
        raise LostError(f"{sampled} image placeholders were sampled by the policy; {_SAFE}")
    dropped = [row for row, one in enumerate(seen) if len(one.tokens) > 1 and not rollouts.observed[row]]
    if dropped:
        raise LostError(
            f"the crops of {len(dropped)} of {len(seen)} rollouts were dropped; max_completion_length or the context "
            f"is too short for them; {_SAFE}"
        )
    _check_turns(rollouts.turns, [1 + (len(one.tokens) > 1) for one in seen])
    _check_images(rollouts, seen)


def _check_turns(found: Sequence[int], expected: Sequence[int]) -> None:
    wrong = [(one, other) for one, other in zip(found, expected, strict=True) if one != other]
    if wrong:
        raise LostError(
            f"{len(wrong)} of {len(found)} rollouts have {wrong[0][0]} assistant turns where {wrong[0][1]} are due; "
            f"{_SAFE}"
        )


def _check_images(rollouts: Rollouts, seen: Sequence[Seen]) -> None:
    expected = [tokens for one in seen for tokens in one.tokens]
    grids = rollouts.grids
    found = [] if grids is None else [int(tokens) for tokens in grids.prod(1) // rollouts.merge**2]
    if found != expected:
        raise LostError(
            f"{len(expected)} images of {sum(expected)} visual tokens were shown, and {len(found)} of {sum(found)} "
            f"reach the loss; {_SAFE}"
        )
    ids = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], 1)
    placed = (ids == rollouts.image_token).sum(1).tolist()
    due = [sum(one.tokens) for one in seen]
    if placed != due:
        raise LostError(f"the rollouts have {sum(placed)} image placeholders for {sum(due)} visual tokens; {_SAFE}")


@dataclass
class Passes:
    """Images that went through the forward passes of one batch of rollouts.

    Attributes:
        shown: by the environments.
        reference: through the reference pass.
        loss: through the passes that the loss is made of.
    """

    shown: int = 0
    reference: int = 0
    loss: int = 0

    def check(self, *, reference: bool) -> None:
        """Raise LostError unless each image that was shown went through each pass once; `reference`: there is one."""
        if self.loss != self.shown or (reference and self.reference != self.shown):
            raise LostError(
                f"{self.shown} images were shown; {self.loss} went through the loss's forward pass and "
                f"{self.reference} through the reference pass; {_SAFE}"
            )


def check_gradient(gradient: torch.Tensor, trained: torch.Tensor) -> None:
    """Refuse a gradient on tokens that the policy did not sample.

    Args:
        gradient: [B, C], of the loss by the tokens' log-probabilities.
        trained: [B, C], tokens that may have one.

    Raises:
        LostError: a token of an observation or of the padding has a gradient.
    """
    stray = (gradient != 0) & ~trained.bool()
    if stray.any():
        raise LostError(f"{int(stray.sum())} tokens that the policy did not sample have a gradient; {_SAFE}")
