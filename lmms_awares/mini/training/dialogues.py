"""What the tiny model is trained to say: conversations about one scene, in the form that evaluation will have.

Several questions on one image make a conversation of many turns; evaluation asks one.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from lmms_awares.crops import CROPS, target_crops
from lmms_awares.mini.drawing import Scene, draw
from lmms_awares.mini.questions import BENCHMARKS, Question
from lmms_awares.mini.scenes import Size
from lmms_awares.prompts import OWN_PROMPT
from lmms_awares.protocol import format_call
from lmms_awares.views import ViewPlan, plan_views, render_crop, render_full, render_lowres
from lmms_awares.visionthink_protocol import OWN_SYSTEM_PROMPT, OWN_TURN2_PROMPT
from lmms_awares.visionthink_protocol import format_call as call_original

DEFAULT_PROMPT = "You are a helpful assistant."  # the chat template's
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


@dataclass(frozen=True)
class Turn:
    """Text up to an assistant's reply with its views, and the reply.

    Attributes:
        text: holds `IMAGE` once per view.
        views: at the sizes that the image processor gets.
        reply: without the end of turn.
        learn: the reply is a target, not only context.
    """

    text: str
    views: tuple[Image.Image, ...]
    reply: str
    learn: bool = True


Dialogue = tuple[Turn, ...]


def opening(system: str, content: str) -> str:
    """The first turn's text, as the chat template writes it."""
    return f"<|im_start|>system\n{system}<|im_end|>\n{_user(content)}"


def further(content: str) -> str:
    """A later turn's text; the reply before it has closed itself."""
    return f"\n{_user(content)}"


def _user(content: str) -> str:
    return f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"


_PHRASE = "\nAnswer the question using a single word or phrase."
_ORDERS = {  # what the tasks put behind a question
    "chartqa": "\nAnswer the question with a single word.",
    "docvqa_val": _PHRASE,
    "ocrbench": "",
    "pope": _PHRASE,
    "realworldqa": "\nPlease answer directly with a single word or number.",
    "vstar_bench": "\nAnswer with the option's letter from the given choices directly.",
}


def user_text(benchmark: str, question: Question) -> str:
    """The user's text as the benchmark's task words it; a test holds it against lmms-eval."""
    return question.text + listed(question) + _ORDERS[benchmark]


def listed(question: Question) -> str:
    """The options, a line each; empty where there are none."""
    return "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD", question.options, strict=False))


def answer(question: Question) -> str:
    """What the assistant replies: the answer, or the right option's letter."""
    return question.letter if question.options else question.answer


class Asker:
    """A random scene of one benchmark, its views, and questions about it."""

    def __init__(self, generator: random.Random, benchmark: str, size: Size) -> None:
        self._generator, self.benchmark = generator, benchmark
        self.scene: Scene = BENCHMARKS[benchmark].draw(generator, size)
        self.image: Image.Image = draw(self.scene)
        self.plan: ViewPlan = plan_views(*size)

    def ask(self, count: int, where: Callable[[Question], bool] = lambda question: True) -> list[Question]:
        """Up to `count` random questions that `where` accepts, no two alike: the second could be copied."""
        drawn = (BENCHMARKS[self.benchmark].ask(self._generator, self.scene) for _ in range(count * 4))
        return list({question.text: question for question in drawn if where(question)}.values())[:count]

    def target(self, question: Question) -> str:
        """Id of the crop that the oracle asks for."""
        assert question.evidence is not None
        ids, _ = target_crops(question.evidence, self.image.size)
        return min(ids, key=lambda id: CROPS[id].mask.bit_count())

    def text(self, question: Question) -> str:
        """The user's text."""
        return user_text(self.benchmark, question)


Maker = Callable[[Asker, int], Dialogue]


def bare_full(asker: Asker, count: int) -> Dialogue:
    """Questions and answers alone, on the full view: the shortest form in which the lookup can be learnt."""
    return _bare(asker, render_full(asker.image, asker.plan), asker.ask(count))


def bare_low(asker: Asker, count: int) -> Dialogue:
    """The same on the low-res view, where it suffices."""
    questions = asker.ask(count, lambda question: question.suffices)
    return _bare(asker, render_lowres(asker.image, asker.plan), questions)


def bare_calls(asker: Asker, count: int) -> Dialogue:
    """On the low-res view: the answer where it suffices, else the call for the smallest target crop."""
    questions = asker.ask(count)
    replies = [q.answer if q.suffices else format_call([asker.target(q)]) for q in questions]
    return _short(render_lowres(asker.image, asker.plan), [q.text.removesuffix("?") for q in questions], replies)


def bare_options(asker: Asker, count: int) -> Dialogue:
    """Multiple choice on the full view."""
    questions = asker.ask(count, lambda question: bool(question.options))
    texts = [question.text + listed(question) for question in questions]
    return _short(render_full(asker.image, asker.plan), texts, [question.letter for question in questions])


def bare_matching(asker: Asker, count: int) -> Dialogue:
    """Which option reads like the given word: the other half of multiple choice, for which no picture is needed."""
    questions = asker.ask(count, lambda question: bool(question.options))
    texts = [question.answer + listed(question) for question in questions]
    return _short(render_lowres(asker.image, asker.plan), texts, [question.letter for question in questions])


def _bare(asker: Asker, view: Image.Image, questions: Sequence[Question]) -> Dialogue:
    """Answers in words, as no options are shown; without its mark a question ends in the name to be looked up."""
    return _short(view, [q.text.removesuffix("?") for q in questions], [q.answer for q in questions])


def _short(view: Image.Image, texts: Sequence[str], replies: Sequence[str]) -> Dialogue:
    return _turns(view, [text if number else IMAGE + text for number, text in enumerate(texts)], replies)


def _turns(view: Image.Image, texts: Sequence[str], replies: Sequence[str]) -> Dialogue:
    """The view comes with the first text."""
    pairs = enumerate(zip(texts, replies, strict=True))
    return tuple(Turn(text, () if number else (view,), reply) for number, (text, reply) in pairs)


def full_view(asker: Asker, count: int) -> Dialogue:
    """Direct answers from the full view."""
    return _direct(asker, render_full(asker.image, asker.plan), asker.ask(count))


def low_view(asker: Asker, count: int) -> Dialogue:
    """Direct answers from the low-res view; where fine print is asked for, a guess."""
    return _direct(asker, render_lowres(asker.image, asker.plan), asker.ask(count))


def decisions(asker: Asker, count: int) -> Dialogue:
    """AwaRes, first turns: an answer where the low-res view suffices, else a call for the smallest target crop."""
    questions = asker.ask(count)
    replies = [answer(q) if q.suffices else format_call([asker.target(q)]) for q in questions]
    return _talk(OWN_PROMPT, render_lowres(asker.image, asker.plan), [asker.text(q) for q in questions], replies)


def crops(asker: Asker, count: int) -> Dialogue:
    """AwaRes, both turns; then further questions on what the crop shows."""
    wanting = asker.ask(1, lambda question: not question.suffices)
    if not wanting:
        return ()
    id = asker.target(wanting[0])
    return _called(asker, wanting[0], id, count)


def whole(asker: Asker, count: int) -> Dialogue:
    """AwaRes after a call for the whole image, whether it was needed or not."""
    return _called(asker, asker.ask(1)[0], "all", count)


def _called(asker: Asker, first: Question, id: str, count: int) -> Dialogue:
    left, top, right, bottom = asker.plan.crop_box(id)

    def visible(question: Question) -> bool:
        if id == "all":
            return True
        box = question.evidence
        return box is not None and left <= box[0] and top <= box[1] and right >= box[2] and bottom >= box[3]

    call = Turn(
        opening(OWN_PROMPT, IMAGE + asker.text(first)),
        (render_lowres(asker.image, asker.plan),),
        format_call([id]),
        learn=id != "all" or (not first.suffices and asker.target(first) == "all"),
    )
    reply = Turn(further(IMAGE), (render_crop(asker.image, asker.plan, id),), answer(first))
    more = [Turn(further(asker.text(q)), (), answer(q)) for q in asker.ask(count - 1, visible)]
    return call, reply, *more


def _direct(asker: Asker, view: Image.Image, questions: Sequence[Question]) -> Dialogue:
    return _talk(DEFAULT_PROMPT, view, [asker.text(q) for q in questions], [answer(q) for q in questions])


def _talk(system: str, view: Image.Image, texts: Sequence[str], replies: Sequence[str]) -> Dialogue:
    wrapped = [further(text) if number else opening(system, IMAGE + text) for number, text in enumerate(texts)]
    return _turns(view, wrapped, replies)


def think(asker: Asker, count: int) -> Dialogue:
    """VisionThink: reason and answer where the low-res view suffices, else call for the original and answer then."""
    question = asker.ask(1)[0]
    content, low = IMAGE + asker.text(question), render_lowres(asker.image, asker.plan)
    reply = _boxed_where_asked(question)
    seen = f"<think>This can be read.</think><answer>{reply}</answer>"
    if question.suffices:
        return (Turn(opening(OWN_SYSTEM_PROMPT, content), (low,), seen),)
    call = Turn(opening(OWN_SYSTEM_PROMPT, content), (low,), f"<think>This is too small.</think>{call_original()}")
    original = render_full(asker.image, asker.plan)
    return call, Turn(further(IMAGE + OWN_TURN2_PROMPT), (original,), seen)


def _boxed_where_asked(question: Question) -> str:
    """Our VisionThink prompt wants numbers and options' letters in a box."""
    reply = answer(question)
    return f"\\boxed{{{reply}}}" if question.options or reply.isdigit() else reply


# Kinds of dialogue that only some benchmarks have.
ONLY: dict[str, tuple[str, ...]] = dict.fromkeys(("bare_options", "bare_matching"), ("vstar_bench",))
MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        bare_full,
        bare_low,
        bare_calls,
        bare_options,
        bare_matching,
        full_view,
        low_view,
        decisions,
        crops,
        whole,
        think,
    )
}
