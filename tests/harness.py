"""What several tests share: driving the models in process without lmms-eval's evaluator, and a run's conditions."""

from types import SimpleNamespace

import torch
from PIL import Image

from lmms_awares.envelope import unseal
from lmms_awares.trace import Conditions

TASK, SPLIT = "toy", "test"
CONDITIONS = Conditions(
    revision="0123456789ab",
    dtype="float32",
    attention="sdpa",
    min_pixels=3136,
    max_pixels=1605632,
    lowres_base="processed",
    device="cpu",
    lmms_awares="0",
    lmms_eval="0.7.3",
    transformers="5.23.0",
    torch="2.13.0",
)


def picture(size, seed=0):
    """A smooth random RGB image: neighbouring pixels matter, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = size[1] // 10 + 1, size[0] // 10 + 1
    coarse = torch.randint(0, 256, (rows, columns, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(coarse.numpy()).resize(size, Image.Resampling.BICUBIC)


def document(size, seed=0, question="What is written here?", **columns):
    """A document with one image, as a task hands it over."""
    return {"images": [picture(size, seed)], "question": question, **columns}


def to_messages(doc):
    """What a chat task makes of `document`."""
    content = [{"type": "image", "url": image} for image in doc["images"]]
    return [{"role": "user", "content": [*content, {"type": "text", "text": doc["question"]}]}]


def requests(docs, *, envelope=True, messages=to_messages, **kwargs):
    """lmms-eval requests for documents; `kwargs` are generation_kwargs."""
    generation = {"max_new_tokens": 8, "temperature": 0, "do_sample": False, **kwargs}
    return [
        SimpleNamespace(
            args=("", messages, dict(generation), index, TASK, SPLIT),
            metadata={"awares_envelope": True} if envelope else {},
        )
        for index in range(len(docs))
    ]


def answers(model, docs, **kwargs):
    """Run documents through a model; returns (answer, trace) pairs."""
    model.task_dict = {TASK: {SPLIT: docs}}
    return [unseal(text) for text, _ in model.generate_until(requests(docs, **kwargs))]
