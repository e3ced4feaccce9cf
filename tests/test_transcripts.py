"""Transcripts show the policy what evaluation shows it, token for token and pixel for pixel."""

import pytest
import torch
from harness import picture

from lmms_awares.curation.transcripts import transcript
from lmms_awares.engine.crop_turns import crop_turn
from lmms_awares.engine.local import LocalEngine
from lmms_awares.engine.opening import open_engine
from lmms_awares.engine.turns import Opening
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol import GetCrops
from lmms_awares.views import LOWRES, plan_views, show

QUESTION, ANSWER = "How many?\nAnswer the question using a single word or phrase.", "42"


@pytest.fixture(scope="module")
def engine(checkpoint) -> LocalEngine:
    return open_engine(CommonArgs(pretrained=str(checkpoint)), "cpu")


@pytest.mark.parametrize("size", [(640, 480), (333, 517), (90, 140)])
@pytest.mark.parametrize("targets", [[], ["0"], ["2", "6", "7"], ["all"]])
def test_ids_and_pixels_are_those_of_evaluation(engine, size, targets):
    image = picture(size)
    low, high = engine.pixel_limits
    plan = plan_views(*size, min_pixels=low, max_pixels=high)
    messages, views = transcript(image, plan, QUESTION, ANSWER, targets)

    # As a trainer tokenises it: the whole dialogue by the chat template, all images by the processor.
    processor = engine._processor
    text = processor.apply_chat_template(messages, tokenize=False)
    trained = processor(text=[text], images=[view.image for view in views], return_tensors="pt")

    # As evaluation goes: an opening, the call read from the reply, the crop turn, the answer.
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    opening = Opening([{"role": "user", "content": content}], GetCrops.own["system"], [show(image, plan, LOWRES)])
    prompt = engine.prepare(opening)
    ids, pixels = [prompt.segment.ids], [prompt.segment.pixels]
    if targets:
        call = GetCrops().read(messages[2]["content"][0]["text"])
        assert call is not None
        assert (call.status, list(call.ids)) == ("valid", targets)
        talk = engine.start([prompt])
        talk.say([call.text])
        turn = talk.prepare(0, crop_turn(image, plan, call))
        ids += [torch.tensor(engine.chat.encode_reply(call.text)), turn.segment.ids]
        pixels.append(turn.segment.pixels)
    ids.append(torch.tensor([*engine.chat.encode_reply(ANSWER), *engine.chat.encode("\n")]))
    assert torch.equal(trained["input_ids"][0], torch.cat(ids))
    assert torch.equal(trained["pixel_values"], torch.cat(pixels))
