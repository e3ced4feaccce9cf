"""`visionthink`: half-size image, reasoning, a tool call for the original, a second round on the same KV cache.

VisionThink, arXiv 2507.13348, as its authors' adapter evaluates it; see docs/methods/visionthink.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from PIL import Image

from lmms_awares.engine.turns import Decoding, Message, Turn
from lmms_awares.errors import SampleError
from lmms_awares.models.sample import Outcome, Sample
from lmms_awares.models.two_turns import TwoTurns
from lmms_awares.protocol import visionthink
from lmms_awares.trace import CropTrace
from lmms_awares.views import FULL, ViewPlan, show


class VisionThink(TwoTurns[visionthink.ToolCall]):
    """The two-round protocol.

    The first round sees every image at half its size, in the user turn of the authors' prompt or of our own. A call
    gets the original images appended, so that both are in context, and is counted as such; a call that cannot be run
    gets an error and no image, and is traced as `invalid`; a call in the second round is not executed. The task sees
    the extracted answer, the trace the replies as they are.
    """

    model_id = "visionthink"

    @cached_property
    def protocol(self) -> visionthink.VisionThink:
        """In the words that the checkpoint was trained with, or in our own."""
        return visionthink.VisionThink({part: prompt.text or "" for part, prompt in self._prompts.items()})

    def plan(self, image: Image.Image) -> ViewPlan:
        """Views of an image; the authors enlarge a halved image whose side is below one visual token."""
        return replace(super().plan(image), min_lowres_side=self.engine.family.token_side)

    def decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        """Greedy and long enough to reason, whatever the task says: its limits are made for bare answers."""
        return Decoding(visionthink.ROUND_TOKENS)

    def arrange(self, messages: list[Message]) -> list[Message]:
        """The task's question inside the instruction that the checkpoint was trained with."""
        *earlier, last = messages
        return [*earlier, {**last, "content": self.protocol.opening(last["content"])}]

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Let every sample of the batch answer or call; callers get the second round."""
        outcomes = self.ask(samples, first=samples[0].decoding)
        return [outcome if isinstance(outcome, SampleError) else self._extracted(outcome) for outcome in outcomes]

    def respond(self, sample: Sample, call: visionthink.ToolCall) -> Turn:
        """The original images, or the error where the call could not be run."""
        views = []
        if call.error is None:
            views = [show(image, plan, FULL) for image, plan in zip(sample.images, sample.plans, strict=True)]
        else:
            call = replace(call, error=self.engine.quote(call.error))
        return Turn(self.protocol.respond(call, len(views)), views, adjacent=self.protocol.adjacent)

    def shown(self, sample: Sample, call: visionthink.ToolCall) -> list[CropTrace]:
        """The original images where the call could be run."""
        return [CropTrace(id="all", tokens=plan.full_tokens) for plan in sample.plans if call.error is None]

    def _extracted(self, outcome: Outcome) -> Outcome:
        return replace(outcome, answer=self.protocol.answer([turn.text for turn in outcome.turns]))
