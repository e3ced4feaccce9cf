"""Dialogues that the tiny base is trained on: conversations about one scene, worded as evaluation words them.

Several questions on one image make a conversation of many turns; evaluation asks one. The base answers, tells places,
and looks again at a closer view; AwaRes' calls come later, by the training that any checkpoint gets. VisionThink's
turns, for an adapter, are here too.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from jinja2 import Template
from PIL import Image

from lmms_awares.crops import CROPS, target_crops
from lmms_awares.mini.drawing import Scene, draw
from lmms_awares.mini.questions import BENCHMARKS, Question
from lmms_awares.mini.random_checkpoint import chat_template
from lmms_awares.mini.scenes import Size, graded
from lmms_awares.protocol import VisionThink
from lmms_awares.protocol.base import Part
from lmms_awares.protocol.visionthink import format_call as call_original
from lmms_awares.views import ViewPlan, plan_views, render_crop, render_full, render_lowres

DEFAULT_PROMPT = "You are a helpful assistant."  # the chat template's
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"  # as the chat template writes an image
_SENTINEL = "@@reply@@"
_SHOWN: Part = {"type": "image"}
_THINK = VisionThink()


@dataclass(eq=False)
class View:
    """A view of a scene, with its visual tokens once the vision tower no longer changes.

    Attributes:
        image: at the size that the image processor gets.
        tokens: [N, D] visual tokens; None until they are known.
    """

    image: Image.Image
    tokens: torch.Tensor | None = None


@dataclass(frozen=True)
class Turn:
    """Text up to an assistant's reply with its views, and the reply.

    Attributes:
        text: holds `IMAGE` once per view.
        views: what it shows.
        reply: without the end of turn.
        learn: the reply is a target, not only context.
    """

    text: str
    views: tuple[View, ...]
    reply: str
    learn: bool = True


Dialogue = tuple[Turn, ...]


def opening(system: str, content: Sequence[Part]) -> str:
    """Return the first turn's text, as the chat template writes it."""
    return _rendered([_message("system", [_text(system)]), _message("user", content)])


def further(content: Sequence[Part]) -> str:
    """Return a later turn's text, as the chat template writes it behind a reply that has its end of turn."""
    before = [_message("user", [_text("?")]), _message("assistant", [_text(_SENTINEL)])]
    return _rendered([*before, _message("user", content)]).partition(f"{_SENTINEL}<|im_end|>")[2]


def _message(role: str, content: Sequence[Part]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _rendered(messages: list[dict[str, Any]]) -> str:
    return _template().render(messages=messages, add_generation_prompt=True)


@cache
def _template() -> Template:
    return Template(chat_template())


_WHERE = "In which part of the image is that?"
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
    """Return the user's text as the benchmark's task words it; a test compares it with lmms-eval."""
    options = "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD", question.options, strict=False))
    return question.text + options + _ORDERS[benchmark]


def answer(question: Question) -> str:
    """Return the assistant's reply: the answer, or the right option's letter."""
    return question.letter if question.options else question.answer


class Asker:
    """A random scene of one benchmark with graded print, questions about it, and its views, each rendered once."""

    def __init__(self, generator: random.Random, benchmark: str, size: Size) -> None:
        self._generator, self.benchmark = generator, benchmark
        self.scene: Scene = graded(generator, BENCHMARKS[benchmark].draw(generator, size))
        self.image: Image.Image = draw(self.scene)
        self._crops: dict[str, View] = {}
        self._plan: ViewPlan = plan_views(*size)

    @cached_property
    def full(self) -> View:
        """The full view."""
        return View(render_full(self.image, self._plan))

    @cached_property
    def low(self) -> View:
        """The low-res view."""
        return View(render_lowres(self.image, self._plan))

    def crop(self, id: str) -> View:
        """Render crop `id`; a crop that is the whole image is the full view."""
        if id == "all":
            return self.full
        if id not in self._crops:
            self._crops[id] = View(render_crop(self.image, self._plan, id))
        return self._crops[id]

    def showing(self, question: Question) -> View:
        """Return the smallest view that shows the answer."""
        return self.low if question.suffices else self.crop(self.target(question))

    def ask(self, count: int, where: Callable[[Question], bool] = lambda question: True) -> list[Question]:
        """Ask up to `count` random questions that `where` accepts, no two alike: the second could be copied."""
        drawn = (BENCHMARKS[self.benchmark].ask(self._generator, self.scene) for _ in range(count * 4))
        return list({question.text: question for question in drawn if where(question)}.values())[:count]

    def target(self, question: Question) -> str:
        """Return the id of the smallest crop that shows what must be read."""
        ids, _ = target_crops(question.box, self.image.size)
        return min(ids, key=lambda id: CROPS[id].mask.bit_count())

    def text(self, question: Question) -> str:
        """Return the user's text."""
        return user_text(self.benchmark, question)


Maker = Callable[[Asker, int], Dialogue]


def bare_full(asker: Asker, count: int) -> Dialogue:
    """Make questions and answers alone, on the full view: the shortest form in which the lookup can be learnt."""
    questions = asker.ask(count)
    return _bare(asker.full, questions, [answer(q) for q in questions])


def bare_low(asker: Asker, count: int) -> Dialogue:
    """Make the same on the low-res view, where it shows all that must be read, if only in part."""
    questions = asker.ask(count, lambda question: question.suffices or question.uncertain)
    return _bare(asker.low, questions, [answer(q) for q in questions])


def bare_places(asker: Asker, count: int) -> Dialogue:
    """Make, on the low-res view, the name of the part of the picture where the answer is printed."""
    questions = asker.ask(count, lambda question: bool(question.read))
    return _bare(asker.low, questions, [_place(asker, q) for q in questions])


def _place(asker: Asker, question: Question) -> str:
    return CROPS[asker.target(question)].name


def bare_crops(asker: Asker, count: int) -> Dialogue:
    """Make the question first, then the view that shows the answer: a crop turn in its shortest form."""
    return tuple(Turn(q.text.removesuffix("?") + IMAGE, (asker.showing(q),), answer(q)) for q in asker.ask(count))


def _bare(view: View, questions: Sequence[Question], replies: Sequence[str]) -> Dialogue:
    """Strip the question marks, so that each question ends in the name to be looked up."""
    texts = [q.text.removesuffix("?") for q in questions]
    return _turns(view, [text if number else IMAGE + text for number, text in enumerate(texts)], replies)


def _turns(view: View, texts: Sequence[str], replies: Sequence[str]) -> Dialogue:
    """Make the turns; the view comes with the first text."""
    pairs = enumerate(zip(texts, replies, strict=True))
    return tuple(Turn(text, () if number else (view,), reply) for number, (text, reply) in pairs)


def full_view(asker: Asker, count: int) -> Dialogue:
    """Make direct answers from the full view."""
    return _direct(asker, asker.full, asker.ask(count))


def low_view(asker: Asker, count: int) -> Dialogue:
    """Make direct answers from the low-res view; a guess where it shows nothing of what must be read."""
    return _direct(asker, asker.low, asker.ask(count))


def places(asker: Asker, count: int) -> Dialogue:
    """Make questions after the place where an answer is printed, on the low-res view."""
    questions = asker.ask(count, lambda question: bool(question.read))
    texts, replies = [f"{asker.text(q)}\n{_WHERE}" for q in questions], [_place(asker, q) for q in questions]
    return _talk(DEFAULT_PROMPT, asker.low, texts, replies)


def second_look(asker: Asker, count: int) -> Dialogue:
    """Make an answer to another question, which is not learnt, then a closer view alone, then the right answer."""
    questions = asker.ask(count + 1, lambda question: bool(question.read))
    return _looked_again(asker, questions, [asker.crop(asker.target(question)) for question in questions])


def second_whole(asker: Asker, count: int) -> Dialogue:
    """Make the same with the full view; one question, as later ones could look back."""
    return _looked_again(asker, asker.ask(2), [asker.full])


def _looked_again(asker: Asker, questions: Sequence[Question], views: Sequence[View]) -> Dialogue:
    """Make the turns of all questions but the last, whose answer is the first guess; further ones repeat an answer."""
    turns: list[Turn] = []
    for question, other, view in zip(questions[:-1], (questions[-1], *questions), views, strict=False):
        text = _text(asker.text(question))
        said = further([text]) if turns else opening(DEFAULT_PROMPT, [_SHOWN, text])
        guess = Turn(said, () if turns else (asker.low,), answer(other), learn=False)
        turns += [guess, Turn(further([_SHOWN]), (view,), answer(question))]
    return tuple(turns)


def _direct(asker: Asker, view: View, questions: Sequence[Question]) -> Dialogue:
    return _talk(DEFAULT_PROMPT, view, [asker.text(q) for q in questions], [answer(q) for q in questions])


def _talk(system: str, view: View, texts: Sequence[str], replies: Sequence[str]) -> Dialogue:
    contents = [_text(text) for text in texts]
    wrapped = [further([own]) if number else opening(system, [_SHOWN, own]) for number, own in enumerate(contents)]
    return _turns(view, wrapped, replies)


def think(asker: Asker, count: int) -> Dialogue:
    """Make VisionThink's turns: reason and answer where the low-res view suffices, else call for the original first."""
    question = asker.ask(1)[0]
    content, low = _THINK.opening([_SHOWN, _text(asker.text(question))]), asker.low
    reply = _boxed_where_asked(question)
    seen = f"<think>This can be read.</think><answer>{reply}</answer>"
    if question.suffices:
        return (Turn(opening(_THINK.own["system"], content), (low,), seen),)
    reply = f"<think>This is too small.</think>{call_original()}"
    call = _THINK.read(reply)
    assert call is not None
    shown = _THINK.respond(call, images=1)
    return Turn(opening(_THINK.own["system"], content), (low,), reply), Turn(further(shown), (asker.full,), seen)


def _boxed_where_asked(question: Question) -> str:
    """Put numbers and options' letters in a box, as our VisionThink prompt wants them."""
    reply = answer(question)
    return f"\\boxed{{{reply}}}" if question.options or reply.isdigit() else reply


MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        bare_full,
        bare_low,
        bare_places,
        bare_crops,
        full_view,
        low_view,
        places,
        second_look,
        second_whole,
        think,
    )
}
