"""Ends of turns: every token that ends one is known, and the conversation goes on as the template writes it."""

import json
import shutil

import pytest
import torch
from harness import picture
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.checkpoint import end_ids, load
from lmms_awares.engine.conversation import Conversation
from lmms_awares.mini.demo import checkpoint as trained
from lmms_awares.models.config import CommonArgs
from lmms_awares.report.read.folders import find_runs
from lmms_awares.report.read.summary import summarize
from lmms_awares.views import plan_views, render_crop, render_lowres


@pytest.fixture(scope="module")
def engine(checkpoint):
    model, processor = load(CommonArgs(pretrained=str(checkpoint), dtype="float32"), "cpu")
    return model, ChatFormat(processor, [151645, 151643])


def prompt_and_turn(chat, size=(300, 500), ended=True):
    image, plan = picture(size, 1), plan_views(*size)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]
    prompt = chat.segment(chat.render(messages, None), [render_lowres(image, plan)])
    return prompt, chat.crop_turn([render_crop(image, plan, "0")], ended=ended)


def converse(engine, prompts, **options):
    model, chat = engine
    return Conversation(model, prompts, end_ids=chat.end_ids, pad_token_id=chat.tokenizer.pad_token_id, **options)


def scripted(model, rows):
    """Make the model say these ids, row by row, whatever it computes; its KV cache stays its own."""
    steps = iter(zip(*rows, strict=True))

    def force(module, args, logits):
        wanted = torch.tensor(next(steps))
        logits = logits.clone()
        logits[:, -1].scatter_(1, wanted[:, None], 1e9)
        return logits

    return model.lm_head.register_forward_hook(force)


def test_all_ends_are_known(engine, small_checkpoint):
    _, chat = engine
    assert chat.closing == "<|im_end|>"
    assert chat.end_ids == (151645, 151643)
    alone = ChatFormat(AutoProcessor.from_pretrained(small_checkpoint))
    assert alone.end_ids == (alone.tokenizer.eos_token_id,)
    alone.tokenizer.eos_token = "<|endoftext|>"  # the template goes on closing turns with <|im_end|>
    assert ChatFormat(alone._processor).end_ids == tuple(
        alone.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    )


@pytest.mark.parametrize(("stored", "found"), [(7, (7,)), ([7, 9], (7, 9)), (None, ())])
def test_the_checkpoints_own_ends_survive_loading(small_checkpoint, tmp_path, stored, found):
    folder = shutil.copytree(small_checkpoint, tmp_path / "checkpoint")
    config = json.loads((folder / "generation_config.json").read_text()) | {"eos_token_id": stored, "top_k": 7}
    (folder / "generation_config.json").write_text(json.dumps(config))
    model, _ = load(CommonArgs(pretrained=str(folder)), "cpu")
    assert end_ids(model) == found
    assert model.generation_config.top_k != 7, "the other defaults are dropped"


@pytest.mark.parametrize("reuse", [True, False])
def test_what_follows_another_end_is_what_the_template_writes(engine, reuse):
    """Rows that end early and late, with the template's token and with another, against a fresh prefill of each."""
    model, chat = engine
    closing, other = chat.end_ids
    said = chat.tokenizer.encode("GET_CROPS: ['0']")
    pad = chat.tokenizer.pad_token_id
    assert pad == other, "padding looks like an end of turn, as in the published checkpoints"
    ends = [closing, other, other]
    lengths = [len(said), 3, len(said)]
    rows = [[*said[:n], end] for n, end in zip(lengths, ends, strict=True)]
    width = max(map(len, rows))
    sizes = [(300, 500), (640, 480), (420, 336)]
    parts = [prompt_and_turn(chat, size) for size in sizes]
    conversation = converse(engine, [prompt for prompt, _ in parts], reuse_cache=reuse)
    handle = scripted(model, [row + [pad] * (width - len(row)) for row in rows])
    replies = conversation.generate(width + 4)
    handle.remove()
    assert [reply.ids for reply in replies] == rows
    assert [reply.ended for reply in replies] == [True] * 3
    assert [reply.closed for reply in replies] == [True, False, False]
    turns = [prompt_and_turn(chat, size, reply.closed)[1] for size, reply in zip(sizes, replies, strict=True)]
    conversation.continue_rows(range(3), turns)
    finals = conversation.generate(6, return_logits=True)
    for (prompt, turn), row, final in zip(parts, rows, finals, strict=True):
        fresh = converse(engine, [prompt], reuse_cache=False)
        fresh.say([[*row[:-1], closing]])
        fresh.continue_rows([0], [turn])
        (expected,) = fresh.generate(6, return_logits=True)
        assert final.ids == expected.ids
        assert (final.logits - expected.logits).abs().max() < 1e-5


def test_a_turn_at_its_limit_has_not_ended(engine):
    model, chat = engine
    prompt, _ = prompt_and_turn(chat)
    handle = scripted(model, [chat.tokenizer.encode("one two three four five six")])
    (reply,) = converse(engine, [prompt]).generate(4)
    handle.remove()
    assert (reply.ended, reply.closed) == (False, False)


@pytest.fixture(scope="module")
def other_end(tmp_path_factory):
    """The shipped checkpoint, made to end its turns with <|endoftext|>, which its generation config lists too."""
    folder = tmp_path_factory.mktemp("ends") / "checkpoint"
    shutil.copytree(trained(), folder)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    head = next(value for name, value in weights.items() if name.endswith("embed_tokens.weight")).clone()
    pad, end = config["text_config"]["pad_token_id"], config["text_config"]["eos_token_id"]
    head[[pad, end]] = head[[end, pad]]
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(generation | {"eos_token_id": [end, pad]}))
    return folder


def test_a_checkpoint_that_ends_otherwise_scores_the_same(other_end, tmp_path, capfd):
    from lmms_awares.evaluate import run

    scores = {}
    for name, folder in {"shipped": trained(), "other": other_end}.items():
        out = tmp_path / name
        arguments = ["--model", "awares", "--model_args", f"pretrained={folder}", "--tasks", "awares_mini_chartqa"]
        assert run([*arguments, "--limit", "8", "--batch_size", "4", "--device", "cpu", "--output_path", str(out)]) == 0
        (found,) = find_runs(out)
        scores[name] = [(row["score"], row["answer"], row["rtr"]) for row, _ in found.samples("awares_mini_chartqa")]
    assert scores["other"] == scores["shipped"]
    assert sum(score for score, _, _ in scores["shipped"]) >= 6
    assert "token limit" not in capfd.readouterr().out


def test_answers_at_the_limit_are_told(tmp_path, capsys):
    from report_runs import CHART, sample, write

    from lmms_awares.report.tables.run_summary import print_summary

    cut = sample(0.0)
    cut["awares"]["truncated"] = True
    write(tmp_path / "run", {CHART: [cut, sample(1.0), cut]})
    (run,) = find_runs(tmp_path)
    table = summarize(run)
    assert table["truncated"].tolist() == [2]
    print_summary(table, run.path)
    assert "2 of 3 answers of awares_chartqa ran into the token limit" in " ".join(capsys.readouterr().out.split())
