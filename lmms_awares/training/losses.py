"""The loss of supervised fine-tuning (Eq. 4)."""

import torch
from torch.nn.functional import cross_entropy

IGNORED = -100  # label of a token that is not trained


def weighted_nll(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted negative log-likelihood of the trained tokens, by their number (Eq. 4).

    The paper's sum has no denominator; here it is the number of trained tokens, weights apart, as in the unweighted
    loss of TRL: with all weights 1 both losses are the same, and a weight of 5 makes a token's gradient five times as
    large.

    Args:
        logits: [B, T, V]; place t tells of the token at t + 1.
        labels: [B, T] int64, the token at each place, -100 where it is not trained.
        weights: [B, T], of the token at each place.

    Returns:
        scalar, float32; 0 where nothing is trained.

    Example:
        >>> logits, labels = torch.zeros(1, 3, 4), torch.tensor([[-100, 2, 1]])
        >>> round(weighted_nll(logits, labels, torch.tensor([[0.0, 5.0, 1.0]])).item(), 4)  # 3 log 4
        4.1589
    """
    ahead = labels[:, 1:].to(logits.device)
    nll = cross_entropy(logits[:, :-1].float().transpose(1, 2), ahead, ignore_index=IGNORED, reduction="none")
    return (nll * weights[:, 1:].to(nll)).sum() / (ahead != IGNORED).sum().clamp(min=1)
