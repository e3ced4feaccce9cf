"""`visionthink`: half-size image, reasoning, a tool call for the original, a second round on the same KV cache.

VisionThink, arXiv 2507.13348, as its authors' adapter evaluates it; see docs/methods/visionthink.md.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from PIL import Image

from lmms_awares.engine.chat import Message
from lmms_awares.engine.conversation import Reply, Segment
from lmms_awares.engine.rounds import Second, two_rounds
from lmms_awares.errors import SampleError
from lmms_awares.models.resolution import LowResolution
from lmms_awares.models.sample import Decoding, Outcome, Sample, check_context, check_grids
from lmms_awares.protocol import visionthink as protocol
from lmms_awares.protocol.visionthink import ToolCall
from lmms_awares.trace import CropTrace, ToolCallTrace
from lmms_awares.views import ViewPlan, render_full


class VisionThink(LowResolution):
    """The two-round protocol.

    The first round sees every image at half its size, in the user turn of the authors' prompt or of our own. A call
    gets the original images appended, so that both are in context, and is counted as such; a call that cannot be run
    gets an error and no image, and is traced as `invalid`; a call in the second round is not executed. The task sees
    the extracted answer, the trace the replies as they are.
    """

    model_id = "visionthink"
    nominal = None

    def plan(self, image: Image.Image) -> ViewPlan:
        """Views of an image; the authors enlarge a halved image whose side is below one visual token."""
        return replace(super().plan(image), min_lowres_side=self._chat.token_side)

    def decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        """Greedy and long enough to reason, whatever the task says: its limits are made for bare answers."""
        return Decoding(protocol.ROUND_TOKENS)

    def arrange(self, messages: list[Message]) -> list[Message]:
        """The task's question inside the instruction that the checkpoint was trained with."""
        *earlier, last = messages
        return [*earlier, {**last, "content": self._wording.question(last["content"])}]

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Let every sample of the batch answer or call; callers get the second round."""

        def respond(row: int, reply: Reply) -> tuple[ToolCall, Segment] | None:
            said = _said(reply)
            call = protocol.parse_reply(self._chat.decode(said))
            if call is None:
                return None
            turn = self._second_turn(samples[row], call, ended=reply.closed and len(said) == len(reply.ids))
            check_context(len(samples[row].prompt.ids) + len(said) + len(turn.ids), self._context)
            return call, turn

        decoding = asdict(samples[0].decoding)
        rounds = two_rounds(
            self._converse(samples),
            respond,
            first={**decoding, "suppress_tokens": self._chat.vision_token_ids, "keep": protocol.ROUND_TOKENS - 1},
            second=decoding,
        )
        return [
            said.error or self._direct_answer(sample, said.first)
            if said.second is None
            else self._second_answer(sample, said.first, said.second, said.seconds)
            for sample, said in zip(samples, rounds, strict=True)
        ]

    @cached_property
    def _wording(self) -> protocol.Wording:
        return protocol.Wording(**{part: text.text or "" for part, text in self._prompts.items() if part != "system"})

    def _second_turn(self, sample: Sample, call: ToolCall, *, ended: bool) -> Segment:
        images: list[Image.Image] = []
        if call.error is None:
            images = [render_full(image, plan) for image, plan in zip(sample.images, sample.plans, strict=True)]
            content = self._wording.original(len(images))
        else:
            content = self._wording.failure(self._chat.quote(call.error))
        turn = self._chat.user_turn(content, images, ended=ended, adjacent=self._wording.adjacent)
        check_grids(turn, [plan.full_tokens for plan in sample.plans] if images else [])
        return turn

    def _direct_answer(self, sample: Sample, reply: Reply) -> Outcome:
        outcome = self._direct_outcome(sample, reply)
        return replace(outcome, answer=protocol.final_answer([outcome.turns[0].text]))

    def _second_answer(self, sample: Sample, first: Reply, second: Second[ToolCall], seconds: float) -> Outcome:
        fed = second.call.error is None
        crops = [CropTrace(id="all", tokens=plan.full_tokens) for plan in sample.plans if fed]
        tokens = sum(self.first_tokens(plan) for plan in sample.plans) + sum(crop.tokens for crop in crops)
        turns = [self._turn(_said(first), first.seconds), self._turn(second.reply.ids, second.reply.seconds)]
        return Outcome(
            answer=protocol.final_answer([turn.text for turn in turns]),
            visual_tokens=tokens,
            visual_tokens_processed=tokens,
            turns=turns,
            latency_s=seconds,
            truncated=not second.reply.ended,
            input_tokens=len(sample.prompt.ids) + len(second.turn.ids),
            tool_call=ToolCallTrace(
                status="valid" if fed else "invalid", ids=["all"] if fed else [], text=second.call.text
            ),
            crops=crops,
        )


def _said(reply: Reply) -> list[int]:
    """The ids of a first reply that stay: at the limit, the last one gives way to an end of turn."""
    return reply.ids[: protocol.ROUND_TOKENS - 1]
