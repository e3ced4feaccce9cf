"""Supervised fine-tuning on trajectories, with a weight per turn (section 3.3, Eq. 4). A collator and a loss on TRL."""

from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer


class WeightedSFTTrainer(SFTTrainer):
    """TRL's trainer with the weights that `trajectories.Collator` gives.

    The loss is `losses.weighted_nll`, from TRL's chunked head, which never holds the logits of a whole batch.
    """

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Return the loss of a batch, or with `return_outputs` (loss, outputs).

        Args:
            num_items_in_batch: trained tokens of the whole step, over all processes.
        """
        weights = inputs["loss_weights"]
        shown = {name: value for name, value in inputs.items() if name != "loss_weights"}
        outputs = model(**shown, use_cache=False, fused_lm_head=True)
        tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        log_probs = outputs.log_probs  # [B, T - 1], 0 where nothing is trained
        loss = -(weights[:, 1:].to(log_probs) * log_probs).sum() / torch.as_tensor(tokens).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP takes the mean of the processes' gradients
        return (loss, outputs) if return_outputs else loss
