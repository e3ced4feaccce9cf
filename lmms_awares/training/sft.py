"""Supervised fine-tuning on trajectories, with a weight per turn (section 3.3, Eq. 4). A collator and a loss on TRL.

awares train sft --config FILE
accelerate launch -m lmms_awares.training.sft --config FILE
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lmms_awares.engine import checkpoint
from lmms_awares.engine.chat import ChatFormat
from lmms_awares.errors import UserError
from lmms_awares.models.config import CommonArgs
from lmms_awares.training.conditions import write_conditions
from lmms_awares.training.parsing import read_settings
from lmms_awares.training.rows import check_set, examples, lay_out, lay_out_calls, read_rows
from lmms_awares.training.settings import LOWER, EvaluationSettings, check_loggers, check_values
from lmms_awares.training.trajectories import TOOL_WEIGHT, Collator, check_lengths
from lmms_awares.training.validation import add_evaluation, rows_to_evaluate

LANGUAGE_MODEL = r".*language_model.*_proj"  # what LoRA adapts: the vision tower stays as it is; the paper does not say

_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "rows_per_source": 0,
    "tool_weight": 0,
    "hr_repeat": 1,
    "lora_rank": 0,
    "lora_alpha": 1,
}


@dataclass
class WeightedSFTConfig(EvaluationSettings, SFTConfig):
    """TRL's settings, those of AwaRes' recipe, and those of `EvaluationSettings`.

    Args:
        pretrained: folder or hub id of the checkpoint to train.
        curated: folder of a curated set.
        rows_per_source: rows of each source, the first ones; 0 for all. The paper takes half of them for SFT.
        tool_weight: of a call's tokens in the loss; an answer's have weight 1.
        per_message: each assistant turn is an example of its own, as in plain SFT.
        phased: a first phase, of the same length, on the call turns alone.
        hr_repeat: how often a row comes whose low-res view does not suffice.
        lora_rank: 0 trains all weights of the language model.
        lora_alpha: scale of LoRA, by its rank.
        weights_dtype: dtype of the weights, `float32` or `bfloat16`.
    """

    pretrained: str = field(default="", metadata={"help": "folder or hub id of the checkpoint to train"})
    curated: str = field(default="", metadata={"help": "folder of a curated set"})
    rows_per_source: int = field(default=0, metadata={"help": "the first rows of each source; 0 for all"})
    tool_weight: float = field(default=TOOL_WEIGHT, metadata={"help": "weight of a call's tokens in the loss"})
    per_message: bool = field(default=False, metadata={"help": "each assistant turn is an example of its own"})
    phased: bool = field(default=False, metadata={"help": "a first phase on the call turns alone"})
    hr_repeat: int = field(default=1, metadata={"help": "how often a row with the label HR comes"})
    lora_rank: int = field(default=8, metadata={"help": "0 trains all weights of the language model"})
    lora_alpha: int = field(default=16, metadata={"help": "scale of LoRA, by its rank"})
    weights_dtype: str = field(default="bfloat16", metadata={"help": "dtype of the weights"})

    def __post_init__(self) -> None:
        # The collator takes whole rows, and tokenises them itself.
        self.remove_unused_columns = False
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        super().__post_init__()

    def check(self) -> None:
        """Find what cannot work.

        Raises:
            ConfigError: a name that is missing, or a number out of range.
        """
        check_values(vars(self), _AT_LEAST)
        self.check_evaluation()
        check_loggers(self.report_to)


class WeightedSFTTrainer(SFTTrainer):
    """TRL's trainer with the weights that `trajectories.Collator` gives.

    The loss is `losses.weighted_nll`, from TRL's chunked head, which never holds the logits of a whole batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Qwen's classes say that they do not take `num_items_in_batch`; the loss here does, so that processes and
        # accumulated batches are weighed by their tokens.
        self.model_accepts_loss_kwargs: bool = True

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

        Raises:
            UserError: the loss is no number; the last checkpoint is as it was.
        """
        weights = inputs["loss_weights"]
        shown = {name: value for name, value in inputs.items() if name != "loss_weights"}
        outputs = model(**shown, use_cache=False, fused_lm_head=True)
        tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        log_probs = outputs.log_probs  # [B, T - 1], 0 where nothing is trained
        loss = -(weights[:, 1:].to(log_probs) * log_probs).sum() / torch.as_tensor(tokens).clamp(min=1)
        if not torch.isfinite(loss):
            raise UserError(f"the loss of step {self.state.global_step + 1} is {loss.item()}; {LOWER}")
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP takes the mean of the processes' gradients
        return (loss, outputs) if return_outputs else loss


def train(settings: WeightedSFTConfig) -> Path:
    """Train a checkpoint on a curated set; a run that was ended goes on from its last checkpoint.

    Returns:
        the folder of the adapter, or of the weights where there is none.

    Raises:
        ConfigError: settings that cannot work, or a set that does not fit the checkpoint.
        DataError: a set that cannot be read, or a row that cannot be trained on.
        UserError: a loss that is no number.

    Example:
        train(WeightedSFTConfig(output_dir="sft", pretrained="checkpoint", curated="set"))
    """
    settings.check()
    checkpoint.check_checkpoint(settings.pretrained)
    check_set(Path(settings.curated), settings.pretrained)
    rows = read_rows(Path(settings.curated), "train", settings.rows_per_source)
    phases = [("", lay_out(rows["label"], per_message=settings.per_message, hr_repeat=settings.hr_repeat))]
    if settings.phased:
        phases.insert(0, ("calls", lay_out_calls(rows["label"])))
    target, curated = Path(settings.output_dir), Path(settings.curated)
    if settings.max_length is not None:
        chat = ChatFormat(checkpoint.load_format(_arguments(settings))[1])
        check_lengths(rows, [one for _, layout in phases for one in layout], chat, settings.max_length)
    evaluated = rows_to_evaluate(settings, curated)
    if settings.process_index == 0:
        write_conditions(target, "sft", settings, pretrained=settings.pretrained, curated=curated)
    model, processor = _load(settings)
    for folder, layout in phases:
        settings.output_dir = str(target / folder)
        trainer = _trainer(settings, model, processor, examples(rows, layout))
        if not folder:  # after call turns alone there are no answers to evaluate
            add_evaluation(trainer, settings, evaluated)
        trainer.train(resume_from_checkpoint=last_checkpoint(Path(settings.output_dir)))
        trainer.save_model()
    return target


def _arguments(settings: WeightedSFTConfig) -> CommonArgs:
    return CommonArgs.model_validate({"pretrained": settings.pretrained, "dtype": settings.weights_dtype})


def _load(settings: WeightedSFTConfig) -> tuple[Any, Any]:
    """The model to train, and its processor."""
    torch.manual_seed(settings.seed)
    model, processor = checkpoint.load(_arguments(settings), str(settings.device))
    if settings.lora_rank:
        lora = LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=LANGUAGE_MODEL)
        model = get_peft_model(model, lora)
    else:
        model.model.visual.requires_grad_(False)
    return model, processor


def _trainer(settings: WeightedSFTConfig, model: Any, processor: Any, rows: Dataset) -> WeightedSFTTrainer:
    return WeightedSFTTrainer(
        model=model,
        args=settings,
        data_collator=Collator(ChatFormat(processor), settings.tool_weight, settings.max_length),
        train_dataset=rows,
        processing_class=processor,
    )


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of a training; None where there is none.

    The trainer's state is written last, so that a checkpoint without it, or with a part of it, was cut off by a kill.
    """
    whole = (file.parent for file in folder.glob("checkpoint-*/trainer_state.json") if _is_json(file))
    return max(map(str, whole), key=lambda name: int(name.rpartition("-")[2]), default=None)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def main(args: Sequence[str] | None = None) -> None:
    """Train as a file and options say.

    Raises:
        UserError: see `train`, and `read_settings`.
    """
    print(train(read_settings(WeightedSFTConfig, args)))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"awares train sft: error: {error}", file=sys.stderr)
        sys.exit(2)
