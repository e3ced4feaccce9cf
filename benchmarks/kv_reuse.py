"""What KV-cache reuse saves, against prefilling the whole conversation again: in turn 2, and in both turns together.

    python benchmarks/kv_reuse.py [--pretrained DIR | --medium] [--device cuda] [--dtype bfloat16] [--repeats 5]
        [--images chart page] [--crops 0 5 all] [-o FILE.json]

Without --pretrained: a tiny random checkpoint, with --medium one of 150 M parameters. Both ways take turns in this
process, behind one warm-up. Turn 2: time to its first token, behind a spoken call. Both turns: from the prompt to 8
tokens of an answer, the crops' rendering left out. FLOPs: the cost model's ratio for both turns.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measuring import alternate, machine, medium, quartiles, ratios, write
from PIL import Image

from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.crop_turns import crop_turn
from lmms_awares.engine.local import LocalEngine
from lmms_awares.engine.turns import Decoding, Opening
from lmms_awares.mini import random_checkpoint
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol import ToolCall, format_call
from lmms_awares.views import plan_views, show

CASES = {"chart": (850, 600), "page": (1700, 2200)}
ANSWER = 8  # tokens


@dataclass
class Spent:
    """Seconds of a conversation, and its floating-point operations by the cost model."""

    first: float
    second_to_token: float
    both: float
    flops: int


def converse(engine: LocalEngine, size: tuple[int, int], ids: tuple[str, ...], *, reuse: bool) -> Spent:
    """Two turns about one image, the call put into the model's mouth."""
    image = Image.effect_noise(size, 60).convert("RGB")
    low, high = engine.pixel_limits
    plan = plan_views(*size, min_pixels=low, max_pixels=high)
    content = [{"type": "image"}, {"type": "text", "text": "What does it say?"}]
    prompt = engine.prepare(Opening([{"role": "user", "content": content}], None, [show(image, plan, "lowres")]))
    call = ToolCall(ids, "valid", format_call(ids))
    talk = engine.start([prompt], reuse_cache=reuse)
    (first,) = talk.generate(Decoding(1), keep=0)
    talk.say([call.text])
    talk.continue_rows([0], [talk.prepare(0, crop_turn(image, plan, call))])
    (second,) = talk.generate(Decoding(ANSWER))
    assert second.cost is not None
    assert second.times.vision_s is not None
    assert second.times.prefill_s is not None
    to_token = second.times.vision_s + second.times.prefill_s
    return Spent(first.seconds, to_token, first.seconds + second.seconds, second.cost.flops)


def row_name(name: str) -> str:
    """A case with its size."""
    return "{} {}x{}".format(name, *CASES[name])


def measure(engine: LocalEngine, name: str, ids: tuple[str, ...], repeats: int) -> dict[str, object]:
    """One image and one call, both ways."""
    found: dict[bool, list[Spent]] = {True: [], False: []}

    def way(*, reuse: bool) -> float:
        found[reuse].append(converse(engine, CASES[name], ids, reuse=reuse))
        return found[reuse][-1].both

    alternate({"reuse": lambda: way(reuse=True), "again": lambda: way(reuse=False)}, repeats)
    timed = {reuse: own[1:] for reuse, own in found.items()}  # without the warm-up
    turn2 = {str(reuse): [one.second_to_token for one in own] for reuse, own in timed.items()}
    both = {str(reuse): [one.both for one in own] for reuse, own in timed.items()}
    return {
        "image": row_name(name),
        "crops": ",".join(ids),
        "turn2_reuse_s": quartiles(turn2["True"]),
        "turn2_again_s": quartiles(turn2["False"]),
        "turn2_ratio": ratios(turn2, "False", "True"),
        "both_ratio": ratios(both, "False", "True"),
        "flops_ratio": timed[False][0].flops / timed[True][0].flops,
    }


def main() -> None:
    """Run, print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained")
    parser.add_argument("--medium", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--crops", nargs="+", default=["0", "5", "all"])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build = medium if arguments.medium else random_checkpoint.build
        pretrained = arguments.pretrained or str(build(Path(folder) / "random"))
        engine = LocalEngine(*load(CommonArgs(pretrained=pretrained, dtype=arguments.dtype), arguments.device))
    weights = sum(parameter.numel() for parameter in engine.model.parameters())
    print(f"{weights / 1e6:.1f} M parameters, {engine.model.device}, {engine.model.dtype}, {arguments.repeats} repeats")
    print(f"{'image':<16} {'crops':<6} {'turn 2: reuse, again':>22} {'ratio':>6} {'both turns':>11} {'FLOPs':>6}")
    rows = []
    for name in arguments.images:
        for id in arguments.crops:
            row = measure(engine, name, (id,), arguments.repeats)
            rows.append(row)
            reuse, again = (1000 * row[key]["median"] for key in ("turn2_reuse_s", "turn2_again_s"))
            print(
                f"{row['image']:<16} {id:<6} {reuse:>10.1f} {again:>8.1f} ms {row['turn2_ratio']['median']:>6.2f} "
                f"{row['both_ratio']['median']:>11.2f} {row['flops_ratio']:>6.2f}"
            )
    write(
        arguments.output,
        parameters=weights,
        dtype=str(engine.model.dtype).removeprefix("torch."),
        repeats=arguments.repeats,
        machine=machine(arguments.device, engine.model.config._attn_implementation),
        rows=rows,
    )


if __name__ == "__main__":
    main()
