"""Two turns of the policy about rows of a curated set, with an engine in this process; see `evaluation`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from lmms_awares.curation.metrics import best_score
from lmms_awares.engine.crop_turns import crop_turn, requested
from lmms_awares.engine.local import LocalEngine
from lmms_awares.engine.rounds import two_rounds
from lmms_awares.engine.turns import Decoding, Opening, Prepared, Reply, Turn
from lmms_awares.errors import SampleError
from lmms_awares.images import decode
from lmms_awares.models.recovery import answer_within_memory, is_of_one_sample
from lmms_awares.protocol import GetCrops, ToolCall
from lmms_awares.views import LOWRES, ViewPlan, plan_views, show

_METRIC = "anls"  # of a row that names none


@dataclass(frozen=True)
class Answered:
    """What the policy made of one row.

    Attributes:
        answer: the last turn's text.
        turns: the assistant's texts, first to last.
        status: of the call, `valid`, `recovered` or `invalid`; None where there is none.
        asked: crop ids of the call; empty for an invalid one.
        crops: ids of the crops that were shown.
        visual_tokens: T, over both turns.
        full_tokens: N_full.
        score: 0..1, by the row's metric.
    """

    answer: str
    turns: tuple[str, ...]
    status: str | None
    asked: tuple[str, ...]
    crops: tuple[str, ...]
    visual_tokens: int | float
    full_tokens: int
    score: float

    @property
    def rtr(self) -> float:
        """T / N_full."""
        return self.visual_tokens / self.full_tokens


@dataclass(frozen=True)
class Pictured:
    """A row's picture with the plan of its views."""

    image: Image.Image
    plan: ViewPlan

    @classmethod
    def of(cls, row: Mapping[str, Any], pixel_limits: tuple[int, int], token_side: int) -> "Pictured":
        """Decode a row's picture. Raises OSError or ValueError as `images.decode` and `views.plan_views`."""
        image = decode(row["image"]["bytes"])
        low, high = pixel_limits
        return cls(image, plan_views(*image.size, min_pixels=low, max_pixels=high, token_side=token_side))


@dataclass(frozen=True)
class _Ready:
    """A row with its picture and prompt."""

    row: Mapping[str, Any]
    view: Pictured
    prompt: Prepared


class Policy:
    """Two turns with one engine, greedily.

    Args:
        engine: without a pruner.
        max_new_tokens: of an answer; a call may take up to 64 whatever this is.
    """

    def __init__(self, engine: LocalEngine, max_new_tokens: int) -> None:
        self._engine, self._protocol, self._limit = engine, GetCrops(), max_new_tokens

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> list[Answered | SampleError]:
        """Answer a batch; a row that cannot be answered says why, and the others go on."""
        ready = [self._ready(row) for row in rows]
        asked = [one for one in ready if isinstance(one, _Ready)]
        said = iter(answer_within_memory(self._ask, asked) if asked else [])
        return [next(said).outcome if isinstance(one, _Ready) else one for one in ready]

    def _ready(self, row: Mapping[str, Any]) -> _Ready | SampleError:
        engine = self._engine
        try:
            view = Pictured.of(row, engine.pixel_limits, engine.family.token_side)
            content = [{"type": "image"}, {"type": "text", "text": engine.quote(row["question"])}]
            shown = show(view.image, view.plan, LOWRES)
            opening = Opening([{"role": "user", "content": content}], self._protocol.own["system"], [shown])
            return _Ready(row, view, engine.prepare(opening))
        except (OSError, ValueError) as error:
            if not is_of_one_sample(error):
                raise
            return SampleError(str(error))

    def _ask(self, asked: Sequence[_Ready]) -> list[Answered | SampleError]:
        engine, keep = self._engine, self._protocol.keep

        def read(number: int, reply: Reply) -> tuple[ToolCall, Turn] | None:
            found, view = self._protocol.read(engine.decode(reply.ids[:keep])), asked[number].view
            return None if found is None else (found, crop_turn(view.image, view.plan, found))

        talk = engine.start([one.prompt for one in asked])
        first, second = Decoding(max(self._limit, keep)), Decoding(self._limit)
        made: list[Answered | SampleError] = []
        for one, said in zip(asked, two_rounds(talk, read, first=first, second=second, keep=keep), strict=True):
            if said.error is not None:
                made.append(said.error)
            elif said.second is None:
                made.append(_scored(one, None, said.first, (engine.decode(said.first.ids[: self._limit]),)))
            else:
                texts = (engine.decode(said.first.ids[:keep]), engine.decode(said.second.reply.ids))
                made.append(_scored(one, said.second.call, said.second.reply, texts))
        return made


def _scored(one: _Ready, call: ToolCall | None, last: Reply, turns: tuple[str, ...]) -> Answered:
    answer, plan = turns[-1].strip(), one.view.plan
    return Answered(
        answer=answer,
        turns=turns,
        status=call.status if call else None,
        asked=call.ids if call else (),
        crops=requested(plan, call) if call else (),
        visual_tokens=last.visual.counted,
        full_tokens=plan.full_tokens,
        score=best_score(one.row["metric"] or _METRIC, answer, one.row["answers"]),
    )
