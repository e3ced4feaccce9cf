"""`awares` against lmms-eval's own `qwen2_5_vl` at full resolution: time, and what the cost model says.

    python benchmarks/against_full.py [--pretrained DIR] [--dtype bfloat16] [--size 850x600] [--samples 10]
                                      [--repeats 3] [--rates 0 0.3 1] [-o FILE.json]

The same checkpoint (default: random, 150 M parameters), documents (of one size, upright and across), dtype and batch
size 1. lmms-eval always loads bfloat16, which many CPUs only emulate; --dtype float32 converts its model once it is
loaded. A share of the samples, the call rate, calls for one quadrant; the call is put into the model's mouth behind a
first turn of 4 tokens, and every answer has 8. lmms-eval's model, our own at full resolution and each rate take turns.
Where the time goes is told by our traces: tower, prefill, decoding, and the rest (resizing, patching, the harness).
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
from lmms_awares.envelope import unseal
from lmms_awares.errors import SampleError
from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution
from lmms_awares.models.sample import Outcome, Sample
from lmms_awares.protocol import ToolCall, format_call
from lmms_awares.trace import Trace

HOST = "lmms-eval, full"
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


def run(model: Any, docs: Sequence[dict[str, Any]], traced: dict[str, list[Trace]], name: str = "") -> float:
    """Seconds of all documents; `traced` gets the traces of a model that has some."""
    model.task_dict = {"docs": {"test": docs}}
    started = time.perf_counter()
    replies = model.generate_until(requests(docs))
    seconds = time.perf_counter() - started
    if name:
        traced[name] = [trace for text, _ in replies if (trace := unseal(text)[1]) is not None]
    return seconds


def parts(traces: Sequence[Trace], seconds: float) -> dict[str, float]:
    """Milliseconds a sample of tower, prefill and decoding, and what is left of `seconds`, the whole run's."""
    names = ("vision_s", "prefill_s", "decode_s")
    found = {name: sum(getattr(turn, name) for trace in traces for turn in trace.turns) for name in names}
    return {
        name: 1000 * value / len(traces) for name, value in (found | {"rest_s": seconds - sum(found.values())}).items()
    }


def main() -> None:
    """Run, print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--size", default="850x600", metavar="WxH")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.3, 1.0])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    sizes = ((width, height), (height, width))
    images = [Image.effect_noise(sizes[index % 2], 60).convert("RGB") for index in range(arguments.samples)]
    docs = [{"image": image} for image in images]
    traced: dict[str, list[Trace]] = {}
    host, full, forced = models(arguments)
    ways = {HOST: lambda: run(host, docs, traced), "full": lambda: run(full, docs, traced, "full")}
    for rate in arguments.rates:

        def at(rate: float = rate) -> float:
            forced.calling = frozenset(range(round(rate * len(docs))))
            return run(forced, docs, traced, f"{rate:g}")

        ways[f"{rate:g}"] = at
    report(arguments, alternate(ways, arguments.repeats), traced)


def models(arguments: argparse.Namespace) -> tuple[Any, FullResolution, Forced]:
    """lmms-eval's own, ours at full resolution, and `awares` with calls made for it."""
    with tempfile.TemporaryDirectory() as folder:
        pretrained = arguments.pretrained or str(medium(Path(folder) / "random"))
        limits = {"min_pixels": 4 * 784, "max_pixels": 16384 * 784}
        host = Qwen2_5_VL(pretrained=pretrained, device="cpu", device_map="cpu", attn_implementation="sdpa", **limits)
        host.model.to(getattr(torch, arguments.dtype))
        ours = {"device": "cpu", "dtype": arguments.dtype, "attn_implementation": "sdpa", **limits}
        full = FullResolution(pretrained=pretrained, **ours)
        forced = Forced(pretrained=pretrained, prompt="default", **ours)  # a byte tokenizer makes a long prompt of ours
    return host, full, forced


def report(arguments: argparse.Namespace, found: dict[str, list[float]], traced: dict[str, list[Trace]]) -> None:
    """Print one line for each way of ours, and write all."""
    print(f"{arguments.samples} samples, medians of {arguments.repeats}, {torch.get_num_threads()} threads")
    flops = {name: sum(trace.flops or 0 for trace in traces) for name, traces in traced.items()}
    rows = []
    for name, traces in traced.items():
        share, model = ratios(found, name, HOST), flops[name] / flops["full"]
        seconds = quartiles(found[name])
        row = {"way": name, "time_ratio": share, "flops_ratio": model, "seconds": seconds}
        rows.append(row | {"ms": parts(traces, found[name][-1])})
        told = "  ".join(f"{part} {value:.0f} ms" for part, value in rows[-1]["ms"].items())
        way = name if name == "full" else f"call rate {name:>4}"
        print(f"{way}: time {share['median']:.2f} of lmms-eval's, FLOPs {model:.2f} of full; {told}")
    write(
        arguments.output,
        samples=arguments.samples,
        size=arguments.size,
        dtype=arguments.dtype,
        repeats=arguments.repeats,
        full_seconds=quartiles(found[HOST]),
        machine=machine(),
        rows=rows,
    )


if __name__ == "__main__":
    main()
