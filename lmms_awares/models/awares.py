"""`awares`: low-res view, tool call for crops, answer on the same KV cache (paper sections 3.1 and 3.5)."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from PIL import Image

from lmms_awares.engine.conversation import Reply, Segment
from lmms_awares.engine.rounds import two_rounds
from lmms_awares.errors import SampleError
from lmms_awares.models.base import QwenVL
from lmms_awares.models.config import AwaresArgs
from lmms_awares.models.policies import CONTROLS, require_evidence
from lmms_awares.models.pruners import pruning_trace, segment_of
from lmms_awares.models.sample import Address, Outcome, Sample, check_context
from lmms_awares.protocol import CALL_BUDGET, ToolCall, format_call, parse_reply
from lmms_awares.trace import CropTrace, ToolCallTrace, TurnTrace
from lmms_awares.views import ViewPlan, render_crop, render_lowres


class Awares(QwenVL):
    """The two-turn policy.

    Whether a first turn is a call is known only when it has been said: it may run to 64 tokens even where the task
    allows fewer, and a direct answer is then cut to the task's limit. A call that names nothing usable gets the whole
    image and is traced as `invalid`.
    """

    model_id = "awares"
    view = "lowres"
    args: AwaresArgs

    def first_view(self, image: Image.Image, plan: ViewPlan) -> Image.Image:
        """The low-res view."""
        return render_lowres(image, plan)

    def first_tokens(self, plan: ViewPlan) -> int:
        """N_low."""
        return plan.lowres_tokens

    @property
    def policy(self) -> str:
        """The argument of that name."""
        return self.args.policy

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

    def control(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> tuple[str, ...] | None:
        """What a control policy asks for; where the low-res view is the full view there is nothing to fetch."""
        if self.args.policy == "model":
            return None
        return () if plans[0].lowres_is_full else CONTROLS[self.args.policy](doc, plans[0], self.sample_seed(at))

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Let the policy decide on each sample of the batch, then answer."""
        if self.args.policy == "model":
            return self._ask_model(samples)
        requests = [sample.request or () for sample in samples]
        direct = [row for row, ids in enumerate(requests) if not ids]
        forced = [row for row, ids in enumerate(requests) if ids]
        outcomes: dict[int, Outcome | SampleError] = {}
        if direct:
            outcomes |= zip(direct, super().answer([samples[row] for row in direct]), strict=True)
        if forced:
            calls = [requests[row] for row in forced]
            outcomes |= zip(forced, self._force([samples[row] for row in forced], calls), strict=True)
        return [outcomes[row] for row in range(len(samples))]

    def _ask_model(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Turn 1 is generated; rows that call go on to turn 2, the others are done."""

        def respond(row: int, reply: Reply) -> tuple[ToolCall, Segment] | None:
            said = reply.ids[:CALL_BUDGET]
            call = parse_reply(self._chat.decode(said))
            if call is None:
                return None
            return call, self._crop_turn(samples[row], said, _requested(samples[row], call), ended=_closed(reply))

        decoding = asdict(samples[0].decoding)
        longer = {"max_new_tokens": max(samples[0].decoding.max_new_tokens, CALL_BUDGET), "keep": CALL_BUDGET}
        rounds = two_rounds(
            self._converse(samples, reuse_cache=self.args.reuse_cache),
            respond,
            first={**decoding, **longer, "suppress_tokens": self._chat.vision_token_ids},
            second=decoding,
        )
        return [
            said.error or self._direct_outcome(sample, said.first)
            if said.second is None
            else self._two_turns(
                sample,
                said.second.call,
                ids=_requested(sample, said.second.call),
                first=self._turn(said.first.ids[:CALL_BUDGET], said.first.seconds),
                turn=said.second.turn,
                final=said.second.reply,
                latency=said.seconds,
                again=0 if self.args.reuse_cache else said.first.visual.counted,
            )
            for sample, said in zip(samples, rounds, strict=True)
        ]

    def _force(self, samples: Sequence[Sample], requests: list[tuple[str, ...]]) -> list[Outcome | SampleError]:
        """Put the calls into the assistant's turns, then prefill everything at once."""
        started = time.perf_counter()
        outcomes: dict[int, Outcome | SampleError] = {}
        calls: dict[int, tuple[list[int], Segment]] = {}
        for row, (sample, asked) in enumerate(zip(samples, requests, strict=True)):
            said = self._chat.encode_reply(format_call(asked))
            try:
                calls[row] = said, self._crop_turn(sample, said, sample.plans[0].requested(asked), ended=True)
            except SampleError as error:
                outcomes[row] = error
        if calls:
            conversation = self._converse([samples[row] for row in calls])
            conversation.say([said for said, _ in calls.values()])
            conversation.continue_rows(range(len(calls)), [turn for _, turn in calls.values()])
            finals = conversation.generate(**asdict(samples[0].decoding))
            latency = self._elapsed(started)
            for (row, (_, turn)), final in zip(calls.items(), finals, strict=True):
                text = format_call(requests[row])
                outcomes[row] = self._two_turns(
                    samples[row],
                    ToolCall(requests[row], "valid", text),
                    ids=samples[row].plans[0].requested(requests[row]),
                    first=TurnTrace(text=text, new_tokens=0, seconds=0.0),
                    turn=turn,
                    final=final,
                    latency=latency,
                    forced=True,
                )
        return [outcomes[row] for row in range(len(samples))]

    def _crop_turn(self, sample: Sample, said: Sequence[int], ids: tuple[str, ...], *, ended: bool) -> Segment:
        """The user turn with crops `ids` behind the assistant's turn `said`; errors as `check_context`."""
        plan = sample.plans[0]
        views = [render_crop(sample.images[0], plan, id) for id in ids]
        tokens = [plan.crop_tokens(id) for id in ids]
        make = partial(self._chat.crop_turn, ended=ended)
        turn = segment_of(make, views, tokens, self._pruner, self._chat)
        check_context(len(sample.prompt.ids) + len(said) + len(turn.ids), self._context)
        return turn

    def _two_turns(
        self,
        sample: Sample,
        call: ToolCall,
        *,
        ids: tuple[str, ...],
        first: TurnTrace,
        turn: Segment,
        final: Reply,
        latency: float,
        again: int | float = 0,
        forced: bool = False,
    ) -> Outcome:
        """Outcome of a sample that called; `again`: visual tokens of turn 1 that turn 2 prefilled once more."""
        plan = sample.plans[0]
        crops = [CropTrace(id=id, tokens=plan.crop_tokens(id)) for id in ids]
        last = self._turn(final.ids, final.seconds)
        return Outcome(
            answer=last.text.strip(),
            visual_tokens=final.visual.counted,
            visual_tokens_processed=final.visual.counted + again,
            pruning=pruning_trace(self._pruner, final.visual),
            turns=[first, last],
            latency_s=latency,
            truncated=not final.ended,
            input_tokens=len(sample.prompt.ids) + len(turn.ids),
            tool_call=ToolCallTrace(status=call.status, ids=list(call.ids), text=call.text, forced=forced),
            crops=crops,
        )

    def _elapsed(self, started: float) -> float:
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)
        return time.perf_counter() - started


def _requested(sample: Sample, call: ToolCall) -> tuple[str, ...]:
    """Crops that a call yields; the whole image where it was attempted but unusable."""
    return sample.plans[0].requested(call.ids or ("all",))


def _closed(reply: Reply) -> bool:
    """The call turn closed itself, as the template closes it, within the budget."""
    return reply.closed and len(reply.ids) <= CALL_BUDGET
