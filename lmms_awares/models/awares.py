"""`awares`: low-res view, tool call for crops, answer on the same KV cache (paper sections 3.1 and 3.5)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from PIL import Image

from lmms_awares.engine.crop_turns import crop_turn, requested
from lmms_awares.engine.turns import Prepared, Times, Turn
from lmms_awares.errors import SampleError
from lmms_awares.models.config import AwaresArgs
from lmms_awares.models.control_crops import control, other_image
from lmms_awares.models.decisions import ASK, DIRECT, Decision
from lmms_awares.models.policies import CONTROLS, require_evidence
from lmms_awares.models.sample import Address, Lent, Outcome, Sample
from lmms_awares.models.two_turns import TwoTurns
from lmms_awares.protocol import GetCrops, ToolCall, format_call
from lmms_awares.trace import CropContent, CropTrace, TurnTrace
from lmms_awares.views import ViewPlan


class Awares(TwoTurns[ToolCall]):
    """The two-turn policy.

    Whether a first turn is a call is known only when it has been said: it may run to 64 tokens even where the task
    allows fewer, and a direct answer is then cut to the task's limit. A call that names nothing usable gets the whole
    image and is traced as `invalid`.
    """

    model_id = "awares"
    args: AwaresArgs

    @property
    def protocol(self) -> GetCrops:
        """AwaRes' own."""
        return GetCrops()

    def respond(self, sample: Sample, call: ToolCall) -> Turn:
        """The user turn that holds the crops, or what a control shows in their places."""
        turn = crop_turn(sample.lent.image if sample.lent else sample.images[0], sample.plans[0], call)
        seed = self.sample_seed(sample.at)
        views = [control(view, self.crop_content, f"{seed} {place}") for place, view in enumerate(turn.views)]
        return replace(turn, views=views)

    def shown(self, sample: Sample, call: ToolCall) -> list[CropTrace]:
        """The crops with their tokens."""
        plan = sample.plans[0]
        return [CropTrace(id=id, tokens=plan.crop_tokens(id)) for id in requested(plan, call)]

    @property
    def policy(self) -> str:
        """The argument of that name."""
        return self.args.policy

    @property
    def crop_content(self) -> CropContent:
        """The argument `crops`."""
        return self.args.crops

    @property
    def min_crop_side(self) -> int:
        """The argument of that name."""
        return self.args.min_crop_side

    def check(self, doc: dict[str, Any], images: Sequence[Image.Image], task: str) -> None:
        """Crops are regions of *the* image, so there must be exactly one."""
        if self.args.policy == "oracle":
            require_evidence(doc, task)
        if len(images) != 1:
            raise SampleError(f"awares needs exactly one image per sample, this one has {len(images)}")

    def decide(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> Decision:
        """A control policy decides here; where the low-res view is the full view there is nothing to fetch."""
        if self.args.policy == "model":
            return ASK
        if plans[0].lowres_is_full:
            return DIRECT
        return Decision(by_model=False, crops=CONTROLS[self.args.policy](doc, plans[0], self.sample_seed(at)))

    def lend(
        self, own: Sequence[Image.Image], decision: Decision, at: Address, read: Callable[[int], list[Image.Image]]
    ) -> Lent | None:
        """With `crops=other`, the image of another document of the task, wherever a call may come."""
        if self.crop_content != "other" or decision == DIRECT:
            return None
        return other_image(own[0], len(self.task_dict[at.task][at.split]), read, f"{self.sample_seed(at)} other")

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Answer what is decided on directly, ask the model, or put the call into its mouth."""
        asked = [row for row, sample in enumerate(samples) if sample.decision.by_model]
        forced = [row for row, sample in enumerate(samples) if sample.decision.crops]
        direct = [row for row in range(len(samples)) if row not in {*asked, *forced}]
        outcomes: dict[int, Outcome | SampleError] = {}
        for rows, answer in ((direct, super().answer), (asked, self._ask_model), (forced, self._force)):
            if rows:
                outcomes |= zip(rows, answer([samples[row] for row in rows]), strict=True)
        return [outcomes[row] for row in range(len(samples))]

    def _ask_model(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Turn 1 may run as long as a call, turn 2 as long as the task allows."""
        decoding = samples[0].decoding
        first = replace(decoding, max_new_tokens=max(decoding.max_new_tokens, self.protocol.keep))
        return self.ask(samples, first=first, reuse_cache=self.args.reuse_cache)

    def _force(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Put the calls into the assistant's turns, then prefill everything at once."""
        started = time.perf_counter()
        calls = [ToolCall(s.decision.crops, "valid", format_call(s.decision.crops)) for s in samples]
        talk = self.start(samples)
        talk.say([call.text for call in calls])
        outcomes: dict[int, Outcome | SampleError] = {}
        turns: dict[int, Prepared] = {}
        for row, (sample, call) in enumerate(zip(samples, calls, strict=True)):
            try:
                turns[row] = talk.prepare(row, self.respond(sample, call))
            except SampleError as error:
                outcomes[row] = error
        if turns:
            talk.continue_rows(list(turns), list(turns.values()))
            rendering = time.perf_counter() - started
            finals = talk.generate(samples[0].decoding)
            for (row, turn), final in zip(turns.items(), finals, strict=True):
                outcomes[row] = self.called_outcome(
                    samples[row],
                    calls[row],
                    first=TurnTrace(text=calls[row].text, new_tokens=0, seconds=0.0, **asdict(Times(0.0, 0.0, 0.0))),
                    turn=turn,
                    final=final,
                    latency=rendering + final.seconds,
                    preprocess_s=rendering,
                    forced=True,
                )
        return [outcomes[row] for row in range(len(samples))]
