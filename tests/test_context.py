"""A conversation longer than the model's context is a failed sample, alone in its batch."""

import pytest
from harness import SPLIT, TASK, answers, document, requests

from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import ToolCall, get_crops
from lmms_awares.protocol import visionthink as visionthink_protocol

SMALL, LARGE = (200, 160), (840, 840)


@pytest.fixture
def build(small_checkpoint):
    def make(kind, context, **arguments):
        model = kind(pretrained=str(small_checkpoint), device="cpu", batch_size=2, **arguments)
        model.engine.model.config.text_config.max_position_embeddings = context
        return model

    return make


def docs():
    return [document(SMALL, 0), document(LARGE, 1)]


def test_a_prompt_that_does_not_fit_fails_and_says_why(build):
    (_, fits), (answer, fails) = answers(build(FullResolution, 500), docs())
    assert fits.failed is None
    assert answer == ""
    assert "longer than the model's context of 500; where its images" in fails.failed
    (_, both) = answers(build(FullResolution, 2000), docs())
    assert both[1].failed is None


def test_the_last_token_that_fits(build):
    model = build(FullResolution, 10_000)
    ((_, counts),) = _raw(model)
    for context, failed in ((counts["input_tokens"], False), (counts["input_tokens"] - 1, True)):
        model.engine.model.config.text_config.max_position_embeddings = context
        ((_, trace),) = answers(model, [document(SMALL)])
        assert (trace.failed is not None) is failed


def _raw(model):
    model.task_dict = {TASK: {SPLIT: [document(SMALL)]}}
    return model.generate_until(requests([document(SMALL)]))


@pytest.mark.parametrize("policy", ["model", "always_full"])
def test_a_second_turn_that_does_not_fit_fails_alone(build, policy, monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", lambda text: ToolCall(("all",), "valid", "GET_CROPS: ['all']"))
    (_, fits), (_, fails) = answers(build(Awares, 1200, policy=policy), docs())
    assert fits.failed is None
    assert len(fits.turns) == 2
    assert "longer than the model's context of 1200" in fails.failed
    alone = answers(build(Awares, 10_000, policy=policy), docs()[:1])
    assert alone[0][1].turns[1].text == fits.turns[1].text


def test_visionthinks_second_round_too(build, monkeypatch):
    call = visionthink_protocol.ToolCall("resize", None)
    monkeypatch.setattr(visionthink_protocol, "parse_reply", lambda text: call)
    monkeypatch.setattr(visionthink_protocol, "ROUND_TOKENS", 4)
    (_, fits), (_, fails) = answers(build(VisionThink, 1200), docs())
    assert fits.failed is None
    assert "longer than the model's context of 1200" in fails.failed
