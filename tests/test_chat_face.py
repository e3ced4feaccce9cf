"""`lmms_awares.load(...).ask(...)`: the methods of lmms-eval's models, from Python."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import answers, document
from transformers import AutoProcessor

import lmms_awares
from lmms_awares.engine.checkpoint import load
from lmms_awares.errors import ConfigError
from lmms_awares.mini.demo import checkpoint as shipped
from lmms_awares.mini.suite import documents
from lmms_awares.models.awares import Awares
from lmms_awares.models.config import CommonArgs
from lmms_awares.models.pruned import Pruned
from lmms_awares.models.resolution import FullResolution
from lmms_awares.pruning import PRUNERS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def chat():
    return lmms_awares.load(str(shipped()), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def docs():
    """Questions that the shipped checkpoint answers directly, and ones that it calls for."""
    made = [*documents("chartqa", "test", 6), *documents("pope", "test", 4)]
    return [{"images": [doc["image"]], "question": doc["question"]} for doc in made]


METHODS = {
    "model": (Awares, {"policy": "model"}),
    "never": (Awares, {"policy": "never"}),
    "always_full": (Awares, {"policy": "always_full"}),
    "full": (FullResolution, {}),
}


@pytest.mark.parametrize("policy", METHODS)
def test_it_answers_as_the_model_of_lmms_eval(chat, docs, policy):
    kind, arguments = METHODS[policy]
    model = kind(pretrained=str(shipped()), dtype="float32", device="cpu", **arguments)
    pairs = answers(model, docs, max_new_tokens=16)
    for doc, (answer, trace) in zip(docs, pairs, strict=True):
        reply = chat.ask(doc["images"][0], doc["question"], policy=policy, max_new_tokens=16)
        assert reply.answer == answer
        assert reply.crops == tuple(crop.id for crop in trace.crops)
        assert (reply.visual_tokens, reply.rtr) == (trace.visual_tokens, trace.rtr)
        assert reply.turns == tuple(turn.text for turn in trace.turns)
    if policy == "model":
        assert len({bool(trace.crops) for _, trace in pairs}) == 2, "some call and some do not"


def test_a_pruner(chat, docs):
    model = Pruned(pretrained=str(shipped()), dtype="float32", device="cpu", pruner="visionzip", retain_ratio=0.5)
    ((answer, trace), *_) = answers(model, docs[:1], max_new_tokens=16)
    pruner = PRUNERS["visionzip"](0.5)
    reply = chat.ask(docs[0]["images"][0], docs[0]["question"], policy="full", pruner=pruner, max_new_tokens=16)
    assert (reply.answer, reply.rtr) == (answer, trace.rtr)
    assert 0.45 < reply.rtr < 0.55


def test_images_come_in_any_form(chat, docs, tmp_path):
    image, question = docs[0]["images"][0], docs[0]["question"]
    image.save(tmp_path / "picture.png")
    file = tmp_path / "picture.png"
    replies = [chat.ask(each, question) for each in (image, file, str(file), file.read_bytes())]
    assert len(set(replies)) == 1


def test_a_loaded_model_of_each_family(small_checkpoints):
    for folder in small_checkpoints.values():
        model, _ = load(CommonArgs(pretrained=str(folder), dtype="float32"), "cpu")
        chat = lmms_awares.load(model=model, processor=AutoProcessor.from_pretrained(folder))
        reply = chat.ask(document((640, 480))["images"][0], "What?", policy="always_full", max_new_tokens=4)
        assert reply.crops == ("all",)
        assert reply.rtr > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give either pretrained=CHECKPOINT, or model="),
        ({"model": object()}, "give either pretrained=CHECKPOINT, or model="),
        ({"model": object(), "processor": object(), "device": "cpu"}, "go with pretrained=CHECKPOINT"),
        ({"pretrained": "/nowhere"}, "/nowhere does not exist"),
        ({"pretrained": str(shipped()), "dtype": "float8"}, "dtype: Input should be 'auto'"),
    ],
)
def test_bad_settings(arguments, words):
    with pytest.raises(ConfigError, match=words):
        lmms_awares.load(**arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "oracle"}, "policy='oracle' is none of model, never, always_full, full"),
        ({"max_new_tokens": 0}, "max_new_tokens >= 1"),
        ({"pruner": PRUNERS["sparsevlm"](0.5)}, "sparsevlm cannot prune the crops of a second turn"),
    ],
)
def test_bad_questions(chat, docs, options, words):
    with pytest.raises(ConfigError, match=words):
        chat.ask(docs[0]["images"][0], "What?", **options)


def test_a_published_checkpoint_gets_its_prompt_or_a_warning(small_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("AWARES_CACHE", str(tmp_path))
    (tmp_path / "AWARES-Qwen2.5-VL-7B").symlink_to(small_checkpoint)
    with pytest.warns(UserWarning, match="awares prompts import awares-adapter"):
        lmms_awares.load(str(tmp_path / "AWARES-Qwen2.5-VL-7B"), device="cpu")


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_example_runs_as_printed(docs, page, tmp_path, monkeypatch, capsys):
    code = (ROOT / page).read_text().partition("```python\n")[2].partition("```")[0]
    assert code.startswith("import lmms_awares\n")
    docs[0]["images"][0].save(tmp_path / "receipt.jpg")
    monkeypatch.chdir(tmp_path)
    exec(code.replace("Qwen/Qwen2.5-VL-7B-Instruct", str(shipped())), {})
    assert re.fullmatch(r".* \(.*\) [01]\.\d\d\n", capsys.readouterr().out)


def test_the_package_stays_light():
    loaded = "import lmms_awares, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
