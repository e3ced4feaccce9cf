"""`awares` against lmms-eval's own `qwen2_5_vl` at full resolution: time, and what the cost model says.

    python benchmarks/against_full.py [--pretrained DIR] [--samples 4] [--repeats 3] [--rates 0 0.3 1] [-o FILE.json]

The same checkpoint (default: random, 150 M parameters), documents (560x420, upright and across), dtype (bfloat16, which
lmms-eval loads) and batch size 1. A share of the samples, the call rate, calls for one quadrant; the call is put into
the model's mouth behind a first turn of 4 tokens, and every answer has 8. lmms-eval's model and each rate take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL
from measuring import alternate, machine, medium, quartiles, ratios, write
from PIL import Image

from lmms_awares.engine.turns import Decoding
from lmms_awares.errors import SampleError
from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution
from lmms_awares.models.sample import Outcome, Sample
from lmms_awares.protocol import ToolCall, format_call
from lmms_awares.trace import unseal

SIZES = ((560, 420), (420, 560))
CALL, ANSWER = 4, 8  # tokens of a first turn that calls, and of an answer


class Forced(Awares):
    """`awares` whose calls are made for it, behind a first turn that is generated all the same."""

    calling: frozenset[int] = frozenset()

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Answer one sample directly, or in two turns with a call for the first quadrant."""
        (sample,) = samples
        talk = self.start(samples)
        if sample.at.doc_id not in self.calling:
            return [self.direct_outcome(sample, talk.generate(Decoding(ANSWER))[0])]
        (first,) = talk.generate(Decoding(CALL), keep=0)
        call = ToolCall(("0",), "valid", format_call(("0",)))
        talk.say([call.text])
        turn = talk.prepare(0, self.respond(sample, call))
        talk.continue_rows([0], [turn])
        (final,) = talk.generate(Decoding(ANSWER))
        seconds = first.seconds + final.seconds
        said = self.turn_trace(first)
        return [
            self.called_outcome(
                sample, call, first=said, turn=turn, final=final, latency=seconds, preprocess_s=0.0, forced=True
            )
        ]


def requests(docs: Sequence[dict[str, Any]]) -> list[Any]:
    """lmms-eval's requests for documents."""

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        content = [{"type": "image", "url": doc["image"]}, {"type": "text", "text": "What does it say?"}]
        return [{"role": "user", "content": content}]

    kwargs = {"max_new_tokens": ANSWER, "temperature": 0, "do_sample": False}
    return [
        SimpleNamespace(args=("", messages, dict(kwargs), index, "docs", "test"), metadata={"awares_envelope": True})
        for index in range(len(docs))
    ]


def run(model: Any, docs: Sequence[dict[str, Any]], flops: dict[str, int] | None = None, name: str = "") -> float:
    """Seconds of all documents; `flops` gets their sum where the model's traces tell it."""
    model.task_dict = {"docs": {"test": docs}}
    started = time.perf_counter()
    replies = model.generate_until(requests(docs))
    seconds = time.perf_counter() - started
    if flops is not None:
        traces = [unseal(text)[1] for text, _ in replies]
        flops[name] = sum(trace.flops for trace in traces if trace is not None and trace.flops is not None)
    return seconds


def main() -> None:
    """Run, print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.3, 1.0])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    images = [Image.effect_noise(SIZES[index % len(SIZES)], 60).convert("RGB") for index in range(arguments.samples)]
    docs = [{"image": image} for image in images]
    flops: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        pretrained = arguments.pretrained or str(medium(Path(folder) / "random"))
        limits = {"min_pixels": 4 * 784, "max_pixels": 16384 * 784}
        host = Qwen2_5_VL(pretrained=pretrained, device="cpu", device_map="cpu", attn_implementation="sdpa", **limits)
        ours = {"device": "cpu", "dtype": "bfloat16", "attn_implementation": "sdpa", **limits}
        full = FullResolution(pretrained=pretrained, **ours)
        forced = Forced(pretrained=pretrained, prompt="default", **ours)  # a byte tokenizer makes a long prompt of ours
    run(full, docs, flops, "full")
    ways = {"lmms-eval, full": lambda: run(host, docs)}
    for rate in arguments.rates:

        def at(rate: float = rate) -> float:
            forced.calling = frozenset(range(round(rate * len(docs))))
            return run(forced, docs, flops, f"{rate:g}")

        ways[f"{rate:g}"] = at
    found = alternate(ways, arguments.repeats)
    print(f"{len(docs)} samples, medians of {arguments.repeats}, {torch.get_num_threads()} threads")
    rows = []
    for rate in (f"{rate:g}" for rate in arguments.rates):
        share, model = ratios(found, rate, "lmms-eval, full"), flops[rate] / flops["full"]
        rows.append(
            {"call_rate": float(rate), "time_ratio": share, "flops_ratio": model, "seconds": quartiles(found[rate])}
        )
        print(f"call rate {rate:>4}: time {share['median']:.2f} of lmms-eval's, FLOPs {model:.2f} of full")
    write(
        arguments.output,
        samples=len(docs),
        repeats=arguments.repeats,
        full_seconds=quartiles(found["lmms-eval, full"]),
        machine=machine(),
        rows=rows,
    )


if __name__ == "__main__":
    main()
