"""Settings of multi-turn GRPO: TRL's, with the paper's values, and those of AwaRes' reward."""

from dataclasses import dataclass, field

from trl.trainer.grpo_config import GRPOConfig

from lmms_awares.errors import ConfigError
from lmms_awares.training.rewards import ANSWER_REWARDS, ANSWER_WEIGHT, ENCODER
from lmms_awares.training.settings import EvaluationSettings, check_loggers, check_values

JUDGE = "judge"
_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "answer_weight": 0.0,
    "alpha_miss": 0.0,
    "alpha_use": 0.0,
    "area_weight": 0.0,
    "lora_rank": 1,
    "lora_alpha": 1,
    "rows_per_source": 0,
    "max_new_tokens": 1,
}
# Settings of TRL that would change the protocol, or count tokens that are masked; and what to do instead.
_FIXED = {
    "max_tool_calling_iterations": (1, "the protocol has one call"),
    "mask_truncated_completions": (False, "what the policy said must be counted"),
    "reward_weights": (None, "set answer_weight, alpha_miss, alpha_use and area_weight"),
    "max_completion_length": (None, "it is derived from the images' views; set max_new_tokens, of one turn"),
}


@dataclass
class CropGRPOConfig(EvaluationSettings, GRPOConfig):
    """TRL's settings with the paper's values (Table 11), and those of AwaRes' recipe.

    Args:
        pretrained: folder or hub id of the base checkpoint.
        adapter: folder or hub id of the SFT policy's adapter, where training starts and which the KL term holds on
            to; without one a new adapter starts from the base.
        curated: folder of a curated set.
        rows_per_source: rows of each source, the first ones; 0 for all.
        answer_reward: `cosine`, `anls`, `exact`, or `judge`, an LLM behind `judge_url`.
        encoder: sentence-transformers model of `cosine`.
        judge_url, judge_model, judge_key_env: server of `judge`, the model's name there, and the environment variable
            that holds the key.
        answer_weight: of the answer reward.
        alpha_miss, alpha_use, area_weight: of Eq. 6.
        strict_numbers: an answer with a wrong number gets no answer reward; see `rewards.right_numbers`.
        turn_advantages: the answer turn's tokens get the advantage of the answer reward alone, the call turn's that of
            the whole reward; as in multi-turn credit assignment (Zeng et al., arXiv 2505.11821).
        max_new_tokens: of one turn.
        lora_rank, lora_alpha: of a new adapter.
        weights_dtype: of the base's weights, `bfloat16` or `float32`.
    """

    pretrained: str = field(default="", metadata={"help": "folder or hub id of the base checkpoint"})
    adapter: str = field(default="", metadata={"help": "folder or hub id of the SFT policy's adapter"})
    curated: str = field(default="", metadata={"help": "folder of a curated set"})
    rows_per_source: int = field(default=0, metadata={"help": "the first rows of each source; 0 for all"})
    answer_reward: str = field(default="cosine", metadata={"help": "cosine, anls, exact or judge"})
    encoder: str = field(default=ENCODER, metadata={"help": "sentence-transformers model of cosine"})
    judge_url: str = field(default="", metadata={"help": "server of the answer reward judge"})
    judge_model: str = field(default="", metadata={"help": "the judge's name there"})
    judge_key_env: str = field(default="", metadata={"help": "environment variable that holds the judge's key"})
    answer_weight: float = field(default=ANSWER_WEIGHT, metadata={"help": "of the answer reward"})
    alpha_miss: float = field(default=2.0, metadata={"help": "cost of no call where one is needed"})
    alpha_use: float = field(default=0.25, metadata={"help": "cost of a call"})
    area_weight: float = field(default=0.01, metadata={"help": "cost of the whole image's area"})
    strict_numbers: bool = field(default=False, metadata={"help": "no answer reward for a wrong number"})
    turn_advantages: bool = field(default=False, metadata={"help": "advantages apart for call and answer turn"})
    max_new_tokens: int = field(default=512, metadata={"help": "of one turn"})
    lora_rank: int = field(default=8, metadata={"help": "of a new adapter"})
    lora_alpha: int = field(default=16, metadata={"help": "of a new adapter"})
    weights_dtype: str = field(default="bfloat16", metadata={"help": "dtype of the weights"})
    # TRL's own, with the paper's values.
    beta: float = field(default=0.05, metadata={"help": "of the KL term to the SFT policy"})
    num_generations: int | None = field(default=8, metadata={"help": "rollouts of a prompt"})
    loss_type: str = field(
        default="grpo", metadata={"help": "Eq. 8: the mean over a rollout's tokens, then over rollouts"}
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "peak learning rate"})
    max_completion_length: int | None = field(default=None, metadata={"help": "derived from the views"})
    max_tool_calling_iterations: int | None = field(default=1, metadata={"help": "calls of a rollout"})
    vllm_mode: str = field(default="server", metadata={"help": "server; colocate is refused"})

    def __post_init__(self) -> None:
        self.remove_unused_columns = False  # the environment gets whole rows
        super().__post_init__()

    def check(self) -> None:
        """Find what cannot work.

        Raises:
            ConfigError: a name that is missing, a number out of range, or a setting of TRL that must stay.
        """
        set_to = vars(self)
        check_values(set_to, _AT_LEAST)
        for name, (value, why) in _FIXED.items():
            if set_to[name] != value:
                raise ConfigError(f"{name}={set_to[name]} cannot be set: {why}")
        if self.answer_reward not in (*ANSWER_REWARDS, JUDGE):
            known = ", ".join((*ANSWER_REWARDS, JUDGE))
            raise ConfigError(f"answer_reward={self.answer_reward} is none of {known}")
        given = bool(self.judge_url), bool(self.judge_model)
        if given != (self.answer_reward == JUDGE,) * 2:
            raise ConfigError("answer_reward=judge goes with judge_url and judge_model; give all of them, or none")
        self.check_evaluation()
        check_loggers(self.report_to)
        if self.use_vllm and self.vllm_mode != "server":
            raise ConfigError(
                "vllm_mode=colocate is refused: TRL 1.16 hands it prompts whose image placeholders are expanded "
                "already, and it expands them again; start `trl vllm-serve` in an environment of its own, and give "
                "vllm_mode: server"
            )
