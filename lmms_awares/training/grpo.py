"""Multi-turn GRPO (section 3.4, Eq. 5 to 8): TRL's trainer, an environment that holds the image, and loud counters.

awares train grpo --config FILE
accelerate launch -m lmms_awares.training.grpo --config FILE
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from lmms_awares.curation.config import Served
from lmms_awares.engine import checkpoint
from lmms_awares.errors import UserError
from lmms_awares.models.config import CommonArgs
from lmms_awares.training.conditions import write_conditions
from lmms_awares.training.counters import Passes, Rollouts, check_gradient, check_rollouts
from lmms_awares.training.environment import CropEnvironment, ViewLimits
from lmms_awares.training.grpo_config import JUDGE, CropGRPOConfig
from lmms_awares.training.judged_answers import JudgedAnswers
from lmms_awares.training.parsing import read_settings
from lmms_awares.training.rewards import load_encoder
from lmms_awares.training.rollout_format import set_format
from lmms_awares.training.rollout_rewards import AnswerReward, rollout_rewards
from lmms_awares.training.rows import check_set, longest_rollout, read_prompts
from lmms_awares.training.settings import LOWER
from lmms_awares.training.sft import LANGUAGE_MODEL, last_checkpoint
from lmms_awares.training.validation import add_evaluation, rows_to_evaluate

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # of environment_factory: TRL is pinned
from trl.trainer.grpo_trainer import GRPOTrainer

_REFERENCE = "ref"  # the name that TRL gives the frozen copy of the adapter


class CropGRPOTrainer(GRPOTrainer):
    """TRL's trainer on `CropEnvironment`, held against what the environments showed in every step.

    Args:
        turn_advantages: see `CropGRPOConfig`.

    Raises:
        LostError: see `lmms_awares.training.counters`.
    """

    def __init__(self, *args: Any, turn_advantages: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turn_advantages = turn_advantages
        self._passes = Passes()
        self._counted = ""  # the pass whose images are counted
        base = self.accelerator.unwrap_model(self.model).get_base_model()
        base.model.visual.register_forward_pre_hook(self._count_images, with_kwargs=True)

    def _count_images(self, _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grids = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
        if self._counted:
            setattr(self._passes, self._counted, getattr(self._passes, self._counted) + len(grids))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.check_passes()
        self._passes = Passes()
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        except RuntimeError as error:
            if "probability tensor" not in str(error):
                raise
            raise UserError(
                f"step {self.state.global_step + 1}: the policy's probabilities are no numbers; {LOWER}"
            ) from None
        environments = cast(list[CropEnvironment], self.environments)
        rollouts = Rollouts(
            output["prompt_ids"],
            output["completion_ids"],
            output["completion_mask"],
            output["tool_mask"],
            output.get("image_grid_thw"),
            image_token=cast(int, self._image_pad_token_id),
            merge=self.processing_class.image_processor.merge_size,
        )
        check_rollouts(rollouts, environments)
        self._passes.shown = sum(len(one.tokens) for one in environments)
        self._log_rollouts(environments, rollouts.turns)
        if self._turn_advantages:
            output["advantages"] = self._by_turn(output["advantages"], rollouts.said)
        return output

    def check_passes(self) -> None:
        """Hold the forward passes of the last batch of rollouts against what was shown. Raises LostError."""
        self._passes.check(reference=self.beta != 0)

    def _calculate_rewards(self, *args: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(*args)
        self._answer_rewards = rewards[:, 0]  # of all processes
        return rewards

    def _by_turn(self, advantages: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """[B, C] advantages: of the whole reward up to the crops, of the answer reward alone behind them."""
        groups = self._answer_rewards.view(-1, cast(int, self.num_generations))
        scaled = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
        start = self.accelerator.process_index * len(said)
        answers = scaled.flatten()[start : start + len(said)]
        shown = (~said).cumsum(1) > 0  # a rollout's padding has neither turn
        return torch.where(shown, answers[:, None], advantages[:, None])

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        active = self.accelerator.unwrap_model(self.model).active_adapters
        self._counted = "loss" if torch.is_grad_enabled() else "reference" if active == [_REFERENCE] else ""
        try:
            found = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        finally:
            self._counted = ""
        if found[0].requires_grad:
            found[0].register_hook(partial(check_gradient, trained=self._trained))
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._trained = inputs["completion_mask"] * inputs["tool_mask"]
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        if not torch.isfinite(loss):
            raise UserError(f"the loss of step {self.state.global_step + 1} is {loss.item()}; {LOWER}")
        return loss

    def _log_rollouts(self, environments: Sequence[CropEnvironment], turns: Sequence[int]) -> None:
        """Log means over the rollouts of all processes; those of calls are shares of the calls."""
        status = Counter(one.call.status for one in environments if one.call is not None)
        calls = [one for one in environments if one.call is not None]
        sums = {
            "call_rate": (len(calls), len(environments)),
            "rtr": (sum(one.rtr for one in environments), len(environments)),
            "turns": (sum(turns), len(turns)),
            "crops": (sum(len(one.crops) for one in calls), len(calls)),
            "area": (sum(one.area for one in calls), len(calls)),
            **{name: (status[name], len(calls)) for name in ("valid", "recovered", "invalid")},
        }
        totals = self.accelerator.reduce(torch.tensor(list(sums.values()), device=self.accelerator.device), "sum")
        for name, (total, count) in zip(sums, totals.tolist(), strict=True):
            if count:
                self._metrics["train"][f"rollouts/{name}"].append(total / count)


def train(settings: CropGRPOConfig) -> Path:
    """Train a policy by rollouts on a curated set; a run that was ended goes on from its last checkpoint.

    Returns:
        the folder of the adapter.

    Raises:
        ConfigError, DataError: see `make_trainer`.
        LostError: something that the policy saw or said does not reach the loss.
        UserError: a loss that is no number.

    Example:
        train(CropGRPOConfig(output_dir="grpo", pretrained="checkpoint", adapter="sft", curated="set"))
    """
    trainer = make_trainer(settings)
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(settings.output_dir)))
    trainer.check_passes()  # of the last batch, which no other follows
    trainer.save_model()
    return Path(settings.output_dir)


def make_trainer(settings: CropGRPOConfig) -> CropGRPOTrainer:
    """Make the trainer of a curated set; what is wrong with settings, set or judge is found before weights load.

    Raises:
        ConfigError: settings that cannot work, a set that does not fit the checkpoint, an adapter of another
            architecture, or an encoder or a judge that cannot be used.
        DataError: a set that cannot be read, or a row that cannot be trained on.
    """
    settings.check()
    checkpoint.check_checkpoint(settings.pretrained, settings.adapter or None)
    check_set(Path(settings.curated), settings.pretrained)
    curated = Path(settings.curated)
    rows = read_prompts(curated, "train", settings.rows_per_source)
    evaluated = rows_to_evaluate(settings, curated)
    reward = _reward(settings)
    if settings.process_index == 0:
        write_conditions(
            Path(settings.output_dir),
            "grpo",
            settings,
            pretrained=settings.pretrained,
            curated=curated,
            adapter=settings.adapter,
        )
    model, processor = _load(settings)
    images = processor.image_processor
    limits = ViewLimits(
        images.size["shortest_edge"], images.size["longest_edge"], images.patch_size * images.merge_size
    )
    set_format(processor)
    settings.max_completion_length = longest_rollout(rows, limits, settings.max_new_tokens)
    settings.reward_weights = [settings.answer_weight, settings.alpha_miss, settings.alpha_use, settings.area_weight]
    of_turn = {"max_tokens" if settings.use_vllm else "max_new_tokens": settings.max_new_tokens}
    settings.generation_kwargs = of_turn | cast(dict[str, Any], settings.generation_kwargs or {})
    trainer = CropGRPOTrainer(
        model=model,
        args=settings,
        reward_funcs=rollout_rewards(reward),
        train_dataset=rows,
        processing_class=processor,
        environment_factory=partial(CropEnvironment, limits),
        turn_advantages=settings.turn_advantages,
    )
    add_evaluation(trainer, settings, evaluated)
    return trainer


def _reward(settings: CropGRPOConfig) -> AnswerReward:
    """The answer reward; what it needs is loaded, or asked, before anything else."""
    judge = None
    if settings.answer_reward == JUDGE:
        url, key = settings.judge_url, settings.judge_key_env or None
        judge = JudgedAnswers(Served(base_url=url, model=settings.judge_model, api_key_env=key))
    if settings.answer_reward == "cosine":
        load_encoder(settings.encoder)
    return AnswerReward(settings.answer_reward, judge, settings.strict_numbers, settings.encoder)


def _load(settings: CropGRPOConfig) -> tuple[PeftModel, Any]:
    """The base with an adapter to train, and its processor; TRL freezes a copy of the adapter as the reference."""
    args = CommonArgs.model_validate({"pretrained": settings.pretrained, "dtype": settings.weights_dtype})
    torch.manual_seed(settings.seed)
    model, processor = checkpoint.load(args, str(settings.device))
    if settings.adapter:
        return PeftModel.from_pretrained(model, settings.adapter, is_trainable=True), processor
    lora = LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=LANGUAGE_MODEL)
    return get_peft_model(model, lora), processor


def main(args: Sequence[str] | None = None) -> None:
    """Train as a file and options say.

    Raises:
        UserError: see `train`, and `read_settings`.
    """
    print(train(read_settings(CropGRPOConfig, args)))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"awares train grpo: error: {error}", file=sys.stderr)
        sys.exit(2)
