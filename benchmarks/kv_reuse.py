"""What KV-cache reuse saves in turn 2, against prefilling the whole conversation again.

    python benchmarks/kv_reuse.py [--pretrained DIR] [--device cuda] [--dtype bfloat16] [--repeats 5]

Without --pretrained: a tiny random checkpoint. Times are medians of turn 2's time to its first token (device
synchronised, one warm-up), in ms; tokens are the language model's prefill in turn 2.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from PIL import Image

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.conversation import Conversation, Segment
from lmms_awares.mini import random_checkpoint
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol import format_call
from lmms_awares.views import ViewPlan, plan_views, render_crop, render_lowres

CASES = {"chart 850x600": (850, 600), "page 1700x2200": (1700, 2200)}
REQUESTS = (("0",), ("5",), ("all",))


def turns(chat: ChatFormat, image: Image.Image, plan: ViewPlan, ids: tuple[str, ...]) -> tuple[Segment, Segment]:
    """Turn 1's prompt, and the user turn with the crops."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What does it say?"}]}]
    prompt = chat.segment(chat.render(messages, None), [render_lowres(image, plan)])
    return prompt, chat.crop_turn([render_crop(image, plan, id) for id in ids], ended=True)


def second_turn(conversation: Conversation, chat: ChatFormat, ids: tuple[str, ...], turn: Segment) -> float:
    """Seconds to the first token of turn 2, behind a spoken call."""
    conversation.generate(1, keep=0)
    conversation.say([chat.encode_reply(format_call(ids))])
    conversation.continue_rows([0], [turn])
    return conversation.generate(1)[0].seconds


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pretrained = arguments.pretrained or str(random_checkpoint.build(Path(folder) / "tiny"))
        model, processor = load(CommonArgs(pretrained=pretrained, dtype=arguments.dtype), arguments.device)
    chat = ChatFormat(processor)
    print(f"{pretrained if arguments.pretrained else 'tiny random checkpoint'} on {model.device}, {model.dtype}")
    print(f"{'image':<16} {'crops':<8} {'cached':>7} {'new':>6} {'reuse ms':>9} {'again ms':>9} {'saved':>6}")
    for name, size in CASES.items():
        plan = plan_views(*size)
        for ids in REQUESTS:
            prompt, turn = turns(chat, Image.new("RGB", size, "white"), plan, ids)
            medians = {}
            for reuse in (True, False):
                times = []
                for _ in range(arguments.repeats + 1):
                    conversation = Conversation(
                        model,
                        [prompt],
                        end_ids=chat.end_ids,
                        pad_token_id=chat.tokenizer.pad_token_id,
                        reuse_cache=reuse,
                    )
                    times.append(second_turn(conversation, chat, ids, turn))
                medians[reuse] = statistics.median(times[1:]) * 1000
            print(
                f"{name:<16} {','.join(ids):<8} {len(prompt.ids):>7} {len(turn.ids):>6} {medians[True]:>9.1f} "
                f"{medians[False]:>9.1f} {1 - medians[True] / medians[False]:>6.0%}"
            )


if __name__ == "__main__":
    main()
