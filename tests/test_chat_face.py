"""`lmms_awares.load(...).ask(...)`: the methods of lmms-eval's models, from Python."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import answers, document
from PIL import Image
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
from lmms_awares.pruning import PRUNERS, PruningError

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


def test_a_photo_is_the_same_opened_or_by_its_name(chat, docs, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    docs[0]["images"][0].save(tmp_path / "photo.png", exif=exif)
    by_name = chat.ask(tmp_path / "photo.png", docs[0]["question"], policy="always_full")
    assert chat.ask(Image.open(tmp_path / "photo.png"), docs[0]["question"], policy="always_full") == by_name


def test_threads_take_turns(chat, docs):
    """With and without pruners, which hang hooks into the one model."""
    asked = [
        (doc, policy, pruner)
        for doc in docs[:3]
        for policy in ("full", "always_full")
        for pruner in (None, PRUNERS["visionzip"](0.5))
    ]

    def ask(one):
        doc, policy, pruner = one
        return chat.ask(doc["images"][0], doc["question"], policy=policy, pruner=pruner, max_new_tokens=4)

    alone = [ask(one) for one in asked]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, asked)) == alone


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
        ({"pretrained": shipped() / "config.json"}, "config.json is a file; give the folder that holds it"),
        ({"pretrained": str(shipped()), "dtype": "float8"}, "dtype: Input should be 'auto'"),
        ({"pretrained": str(shipped()), "device": "tpu"}, "device=tpu is no device to run on"),
        ({"pretrained": str(shipped()), "served_model": "x"}, "^served_model needs base_url"),
        ({"pretrained": str(shipped()), "api_key_env": "X"}, "^api_key_env needs base_url"),
        ({"model": object(), "processor": object(), "served_model": "x"}, "served_model.* go with pretrained=CHECK"),
        ({"model": 1, "processor": 2}, "the model must be a Qwen2_5_VL.* or Qwen3VL.*, not a int"),
    ],
)
def test_bad_settings(arguments, words):
    with pytest.raises(ConfigError, match=words):
        lmms_awares.load(**arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "oracle"}, "policy='oracle' is none of model, never, always_full, full"),
        ({"max_new_tokens": 0}, "^max_new_tokens must be a whole number, 1 or more, not 0$"),
        ({"max_new_tokens": "12"}, "max_new_tokens must be a whole number, 1 or more, not '12'"),
        ({"max_new_tokens": None}, "max_new_tokens must be .* not None"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be .* not 2.5"),
        ({"max_new_tokens": True}, "max_new_tokens must be .* not True"),
        ({"pruner": "visionzip"}, r"pruner must be one with its ratio, such as VisionZip\(0.5\), not 'visionzip'"),
        ({"pruner": PRUNERS["visionzip"]}, "pruner must be one with its ratio, .*, not <class"),
        ({"question": None}, "question must be a str, not a NoneType"),
        ({"question": ["What?"]}, "question must be a str, not a list"),
        ({"question": "What\ud800?"}, r"question holds a lone surrogate, '\\ud800' at 4"),
        ({"image": [Image.new("RGB", (64, 64))]}, "image must be a Pillow image, .*, not a list"),
        ({"image": np.zeros((64, 64, 3), np.uint8)}, r"not a ndarray; .* PIL.Image.fromarray"),
        ({"image": None}, "not a NoneType"),
        ({"image": bytearray(b"x")}, "not a bytearray"),
        ({"pruner": PRUNERS["sparsevlm"](0.5)}, "sparsevlm cannot prune the crops of a second turn"),
    ],
)
def test_bad_questions(chat, docs, options, words):
    with pytest.raises(ConfigError, match=words):
        chat.ask(**({"image": docs[0]["images"][0], "question": "What?"} | options))


def test_a_processor_that_is_not_the_models(small_checkpoints):
    first, second = small_checkpoints.values()
    model, processor = load(CommonArgs(pretrained=str(first), dtype="float32"), "cpu")
    with pytest.raises(ConfigError, match=r"the processor must be the checkpoint's, .* not a \w*Token"):
        lmms_awares.load(model=model, processor=processor.tokenizer)
    with pytest.raises(ConfigError, match="makes patches of .* give the model's own processor"):
        lmms_awares.load(model=model, processor=AutoProcessor.from_pretrained(second))


def test_a_device_that_is_not_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda: this machine, or its torch .*, has no cuda; give cpu"):
        lmms_awares.load(shipped(), device="cuda")


def test_a_model_that_is_being_pruned(docs):
    model, processor = load(CommonArgs(pretrained=str(shipped()), dtype="float32"), "cpu")
    chat = lmms_awares.load(model=model, processor=processor)
    with PRUNERS["visionzip"](0.5)(model), pytest.raises(PruningError, match="inside a `with pruner"):
        chat.ask(docs[0]["images"][0], "What?")
    assert chat.ask(docs[0]["images"][0], "What?", max_new_tokens=2).turns


def test_a_pruner_inside_the_model_where_there_is_one_turn(chat, docs):
    reply = chat.ask(docs[0]["images"][0], "What?", policy="never", pruner=PRUNERS["fastv"](0.8), max_new_tokens=2)
    assert 0 < reply.rtr < 0.25


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
