"""One step of GRPO: what the policy saw and said is what evaluation would have, and it arrives in both passes."""

import shutil

import curated_sets
import pytest
import torch
from peft import PeftModel

from lmms_awares.engine import checkpoint as checkpoints
from lmms_awares.engine.chat import ChatFormat
from lmms_awares.errors import ConfigError, DataError, UserError
from lmms_awares.mini.demo import checkpoint
from lmms_awares.models.config import CommonArgs
from lmms_awares.training.counters import LostError
from lmms_awares.training.grpo import CropGRPOTrainer, make_trainer
from lmms_awares.training.grpo_config import CropGRPOConfig
from lmms_awares.training.rewards import tool_cost
from lmms_awares.training.rollout_rewards import final_answer
from lmms_awares.training.trajectories import tokenize

GROUP = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated")
    curated_sets.write(folder)
    return curated_sets.fit(folder, checkpoint())


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter that changes the policy, as SFT's does."""
    from peft import LoraConfig, get_peft_model

    model, _ = checkpoints.load(CommonArgs(pretrained=str(checkpoint()), dtype="float32"), "cpu")
    torch.manual_seed(3)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=r".*language_model.*_proj"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.01)
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder)
    return folder


def settings(folder, output, **changes):
    fixed = {"use_cpu": True, "bf16": False, "weights_dtype": "float32", "report_to": "none", "seed": 5}
    fixed |= {"gradient_checkpointing": False, "max_steps": 1, "save_strategy": "no", "max_new_tokens": 12}
    fixed |= {"per_device_train_batch_size": 3 * GROUP, "num_generations": GROUP, "answer_reward": "exact"}
    fixed |= {"pretrained": str(checkpoint()), "curated": str(folder), "output_dir": str(output), "logging_steps": 1}
    return CropGRPOConfig(**(fixed | changes))


class Watched(CropGRPOTrainer):
    """Keeps what a step is made of."""

    def _generate_and_score_completions(self, inputs):
        self.inputs = inputs
        self.output = super()._generate_and_score_completions(inputs)
        self.seen = [(one.call, one.crops, list(one.views), one.rtr) for one in self.environments]
        return self.output

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids):
        self.said = completions
        self.rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        return self.rewards


@pytest.fixture(scope="module")
def step(folder, adapter, tmp_path_factory):
    output = tmp_path_factory.mktemp("grpo")
    trainer = make_trainer(settings(folder, output, adapter=str(adapter), temperature=1.2))
    trainer.__class__ = Watched
    trainer.train()
    return trainer


def rollouts(step):
    """Each rollout's row, what its environment showed, its messages, and its number."""
    return zip(step.inputs, step.seen, step.said, range(len(step.inputs)), strict=True)


def test_a_rollout_has_the_ids_of_a_trajectory(step):
    """SFT's, which are those of the engine (tests/test_training_sft.py); trained are the assistant's."""
    chat = ChatFormat(checkpoints.load(CommonArgs(pretrained=str(checkpoint()), dtype="float32"), "cpu")[1])
    called = 0
    for row, (call, crops, views, _), said, number in rollouts(step):
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["question"]}]}
        messages = [row["prompt"][0], user]
        if call is not None:
            reply = said[0]["tool_calls"][0]["function"]["arguments"]["reply"]
            messages.append({"role": "assistant", "content": [{"type": "text", "text": reply}]})
            messages.append({"role": "user", "content": [{"type": "image"}] * len(crops)})
        last = said[-1].get("content") or said[-1]["tool_calls"][0]["function"]["arguments"]["reply"]
        messages.append({"role": "assistant", "content": [{"type": "text", "text": last}]})
        expected = tokenize(chat, messages, [view.image for view in views])
        part = {name: step.output[name][number] for name in ("prompt_ids", "completion_ids", "tool_mask")}
        ids = torch.cat([part["prompt_ids"][step.output["prompt_mask"][number] == 1], part["completion_ids"]])
        ends = step.output["completion_mask"][number] == 1
        length = int((step.output["prompt_mask"][number] == 1).sum())
        found = torch.cat([ids[:length], part["completion_ids"][ends]])
        assert found.tolist() == expected.ids.tolist()
        trained = torch.cat([torch.zeros(length), part["tool_mask"][ends].float()])
        assert (trained > 0).tolist() == (expected.weights > 0).tolist()
        called += call is not None
    assert 0 < called < len(step.seen)


def test_images_of_both_turns_reach_the_loss_and_the_reference_pass(step):
    shown = [view for _, _, views, _ in step.seen for view in views]
    assert len(shown) > len(step.seen)
    assert step._passes.shown == step._passes.loss == step._passes.reference == len(shown)
    grids = step.output["image_grid_thw"]
    assert (grids.prod(1) // 4).tolist() == [view.tokens for view in shown]
    assert step.output["num_images"] == [len(views) for _, _, views, _ in step.seen]


def test_rewards_are_eq_5_and_advantages_have_mean_zero_in_each_group(step):
    weights = torch.tensor([10.0, 2.0, 0.25, 0.01])
    totals = (step.rewards * weights).sum(1)
    for row, (_, crops, _, _), said, number in rollouts(step):
        right = final_answer(said).lower() == row["answers"][0].lower()
        expected = 10 * right - tool_cost(row["label"], crops)
        assert totals[number].item() == pytest.approx(expected, abs=1e-5)
    groups = step.output["advantages"].view(-1, GROUP)
    assert groups.mean(1).abs().max() < 1e-3  # of float32 rewards of about 10 that differ by 0.0025 at least
    assert groups.abs().max() > 0.1
    centred = totals.view(-1, GROUP) - totals.view(-1, GROUP).mean(1, keepdim=True)
    expected = centred / (totals.view(-1, GROUP).std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(groups, expected, atol=1e-3, rtol=1e-3)


def test_kl_is_to_the_sft_adapter_and_0_at_first(step, adapter):
    (first,) = [entry for entry in step.state.log_history if "kl" in entry]
    assert first["kl"] == 0.0
    model, _ = checkpoints.load(CommonArgs(pretrained=str(checkpoint()), dtype="float32"), "cpu")
    policy = PeftModel.from_pretrained(model, adapter).eval()
    output = step.output
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
    with torch.no_grad():
        logits = policy(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=output["pixel_values"],
            image_grid_thw=output["image_grid_thw"],
            mm_token_type_ids=output["mm_token_type_ids"],
        ).logits
    said = output["completion_ids"].shape[1]
    log_probs = (logits[:, -said - 1 : -1].float() / step.temperature).log_softmax(-1)
    expected = log_probs.gather(2, output["completion_ids"][..., None])[..., 0]
    trained = (output["completion_mask"] * output["tool_mask"]).bool()
    found = output["ref_per_token_logps"]
    torch.testing.assert_close(found[trained], expected[trained], atol=1e-4, rtol=1e-4)


def test_what_is_logged(step):
    (entry,) = [entry for entry in step.state.log_history if "rollouts/rtr" in entry]
    calls = [call for call, _, _, _ in step.seen if call is not None]
    assert entry["rollouts/call_rate"] == pytest.approx(len(calls) / len(step.seen))
    assert entry["rollouts/rtr"] == pytest.approx(sum(rtr for *_, rtr in step.seen) / len(step.seen))
    assert entry["rollouts/turns"] == pytest.approx(1 + len(calls) / len(step.seen))
    assert entry["rollouts/valid"] == sum(call.status == "valid" for call in calls) / len(calls)
    assert {f"rewards/{part}/mean" for part in ("answer", "missed_call", "call", "area")} <= entry.keys()


# A fault in the engine, and what the run says of it.


def drop_images(trainer, output):
    output["image_grid_thw"] = output["image_grid_thw"][:-1]


def drop_all_images(trainer, output):
    """As TRL does where one sample's image tokens are not those of its images."""
    del output["image_grid_thw"], output["pixel_values"]
    output["num_images"] = None


def swap_a_placeholder(trainer, output):
    output["prompt_ids"][0, -1] = trainer._image_pad_token_id


def sample_a_placeholder(trainer, output):
    output["completion_ids"][0, 0] = trainer._image_pad_token_id


def forget_the_mask(trainer, output):
    output["tool_mask"][:] = 1


def mask_the_answer(trainer, output):
    """Where a rollout's answer behind the crops is taken for a part of them."""
    row = int((output["tool_mask"] == 0).any(1).nonzero()[0])
    behind = (output["tool_mask"][row] == 0).cumsum(0) > 0
    output["tool_mask"][row][behind] = 0


def thin_crops(trainer, output):
    view = trainer.environments[0].views[0]
    trainer.environments[0].views[0] = type(view)(view.image.crop((0, 0, 20, 56)), view.tokens)


FAULTS = {
    drop_images: "images of .* were shown, and .* reach the loss",
    drop_all_images: "and 0 of 0 reach the loss",
    swap_a_placeholder: "image placeholders for",
    sample_a_placeholder: "1 image placeholders were sampled",
    forget_the_mask: "image placeholders were sampled",
    mask_the_answer: "1 of 12 rollouts have 1 assistant turns where 2 are due",
    thin_crops: "a side of 20 px",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_ends_the_run(fault, step, monkeypatch):
    from trl.trainer.grpo_trainer import GRPOTrainer

    def faulty(trainer, inputs):
        trainer.environments, kept = step.environments, step.output
        output = {name: one.clone() if torch.is_tensor(one) else one for name, one in kept.items()}
        fault(trainer, output)
        return output

    before = [list(one.views) for one in step.environments]
    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", faulty)
    try:
        with pytest.raises(LostError, match=FAULTS[fault]):
            CropGRPOTrainer._generate_and_score_completions(step, step.inputs)
    finally:
        for one, views in zip(step.environments, before, strict=True):
            one.views = views


@pytest.mark.parametrize("which", ["loss", "reference"])
def test_images_that_miss_a_pass_end_the_run(step, which):
    kept = vars(step._passes).copy()
    setattr(step._passes, which, kept[which] - 1)
    with pytest.raises(LostError, match=rf"{kept['shown']} images were shown; .*{kept['shown'] - 1}"):
        CropGRPOTrainer._generate_and_score_completions(step, step.inputs)
    with pytest.raises(LostError, match="images were shown"):
        step.check_passes()
    vars(step._passes).update(kept)
    step.check_passes()


def test_a_gradient_on_an_observation_ends_the_run(folder, adapter, tmp_path, monkeypatch):
    trainer = make_trainer(settings(folder, tmp_path, adapter=str(adapter), temperature=1.2))
    honest = trainer._get_per_token_logps_and_entropies

    def stray(model, *args, **kwargs):
        if torch.is_grad_enabled():
            trainer._trained = torch.zeros_like(trainer._trained)
        return honest(model, *args, **kwargs)

    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", stray)
    with pytest.raises(LostError, match="tokens that the policy did not sample have a gradient"):
        trainer.train()


def test_crops_that_are_too_long_for_the_context_end_the_run(folder, tmp_path):
    trainer = make_trainer(settings(folder, tmp_path, temperature=0.7))
    trainer.max_completion_length = 20
    with pytest.raises(LostError, match="the crops of .* rollouts were dropped"):
        trainer.train()


def test_the_longest_rollout_fits(step, folder):
    """Every crop of the largest image, and two turns."""
    assert step.max_completion_length >= 2 * 12 + max(
        sum(env._plan.crop_tokens(id) for id in "012345678") + env._plan.full_tokens for env in step.environments
    )


def test_advantages_by_turn(folder, tmp_path):
    trainer = make_trainer(settings(folder, tmp_path, turn_advantages=True, temperature=1.2))
    trainer.__class__ = Watched
    trainer.train()
    answers = trainer.rewards[:, 0].view(-1, GROUP)
    scaled = ((answers - answers.mean(1, keepdim=True)) / (answers.std(1, keepdim=True) + 1e-4)).flatten()
    totals = (trainer.rewards * torch.tensor([10.0, 2.0, 0.25, 0.01])).sum(1).view(-1, GROUP)
    whole = ((totals - totals.mean(1, keepdim=True)) / (totals.std(1, keepdim=True) + 1e-4)).flatten()
    output = trainer.output
    for row, (call, *_) in enumerate(trainer.seen):
        said = (output["completion_mask"][row] * output["tool_mask"][row]).bool()
        behind = (output["tool_mask"][row] == 0).cumsum(0) > 0
        found = output["advantages"][row]
        torch.testing.assert_close(found[said & ~behind], whole[row].expand(int((said & ~behind).sum())))
        if call is not None:
            torch.testing.assert_close(found[said & behind], scaled[row].expand(int((said & behind).sum())))


REFUSED = {
    "colocate": ({"use_vllm": True, "vllm_mode": "colocate"}, "colocate is refused"),
    "two calls": ({"max_tool_calling_iterations": 2}, "the protocol has one call"),
    "weights": ({"reward_weights": [1.0]}, "set answer_weight"),
    "length": ({"max_completion_length": 99}, "derived from the images' views"),
    "masked": ({"mask_truncated_completions": True}, "must be counted"),
    "reward": ({"answer_reward": "bleu"}, "bleu is none of cosine, anls, exact, judge"),
    "judge": ({"answer_reward": "judge"}, "goes with judge_url and judge_model"),
    "judge unused": ({"judge_url": "http://127.0.0.1:9/v1", "judge_model": "x"}, "goes with judge_url"),
    "nobody": ({"answer_reward": "judge", "judge_url": "http://127.0.0.1:9/v1", "judge_model": "x"}, "judge: "),
    "encoder": ({"answer_reward": "cosine", "encoder": "/nowhere"}, "encoder /nowhere cannot be loaded"),
    "adapter": ({"adapter": "/nowhere"}, "adapter=/nowhere"),
    "logger": ({"report_to": ["trackio"]}, "report_to: trackio is not installed"),
    "missing": ({"curated": ""}, "curated is missing"),
    "negative": ({"alpha_use": -1.0}, "alpha_use=-1.0 must be 0 or more"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_one_line_at_start(name, folder, tmp_path):
    changes, told = REFUSED[name]
    with pytest.raises(ConfigError, match=told) as caught:
        make_trainer(settings(folder, tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_set_without_rows_to_evaluate_is_refused_before_weights_load(folder, tmp_path, monkeypatch):
    def load(*_):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(checkpoints, "load", load)
    part = shutil.copytree(folder, tmp_path / "set")
    (part / "trajectories" / "validation-00000-of-1.parquet").unlink()
    with pytest.raises(DataError, match="has no split validation, .*; set eval_every=0") as caught:
        make_trainer(settings(part, tmp_path / "out", eval_every=2))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    with pytest.raises(AssertionError, match="weights were loaded"):
        make_trainer(settings(part, tmp_path / "out"))


def test_an_adapter_of_another_architecture_is_refused(folder, adapter, small_checkpoint, tmp_path):
    fitting = curated_sets.fit(tmp_path, small_checkpoint)
    with pytest.raises((ConfigError, DataError), match="adapter"):
        make_trainer(settings(fitting, tmp_path, pretrained=str(small_checkpoint), adapter=str(adapter)))


def test_a_loss_that_is_no_number_ends_the_run(folder, tmp_path, monkeypatch):
    trainer = make_trainer(settings(folder, tmp_path))
    honest = trainer._get_per_token_logps_and_entropies

    def broken(model, *args, **kwargs):
        log_probs, *rest = honest(model, *args, **kwargs)
        return (log_probs * float("nan") if torch.is_grad_enabled() else log_probs, *rest)

    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", broken)
    with pytest.raises(UserError, match="the loss of step 1 is nan; begin again in another"):
        trainer.train()


def test_weights_that_are_no_numbers_end_the_run(folder, tmp_path):
    trainer = make_trainer(settings(folder, tmp_path))
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(float("nan"))
    with pytest.raises(UserError, match="step 1: the policy's probabilities are no numbers; begin again"):
        trainer.train()
