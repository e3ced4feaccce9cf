"""What the methods share whose first reply may be a tool call: generate, read, show, answer."""

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Generic

from lmms_awares.crops import Region
from lmms_awares.engine.rounds import Rounds, two_rounds
from lmms_awares.engine.turns import Decoding, Prepared, Reply, Times, Turn
from lmms_awares.errors import SampleError
from lmms_awares.models import records
from lmms_awares.models.base import Method
from lmms_awares.models.decisions import ASK, Decision
from lmms_awares.models.sample import Address, Outcome, Sample
from lmms_awares.protocol.base import AnyCall, ToolProtocol
from lmms_awares.protocol.boxes import BOX
from lmms_awares.trace import CropTrace, ToolCallTrace, TurnTrace
from lmms_awares.views import ViewPlan


class TwoTurns(Method, Generic[AnyCall]):
    """Base of the methods that speak one of `lmms_awares.protocol.PROTOCOLS`; not registered itself."""

    view = "lowres"

    @property
    @abstractmethod
    def protocol(self) -> ToolProtocol[AnyCall]:
        """What is said."""

    @abstractmethod
    def respond(self, sample: Sample, call: AnyCall) -> Turn:
        """The user turn that answers a sample's call."""

    @abstractmethod
    def shown(self, sample: Sample, call: AnyCall) -> list[CropTrace]:
        """What that turn shows, for the trace."""

    def read(self, sample: Sample, reply: str) -> AnyCall | None:
        """The call in a sample's first reply; None where it is the answer."""
        return self.protocol.read(reply)

    def forced(self, sample: Sample) -> AnyCall | None:
        """The call that a control policy put into the model's mouth."""
        return self.read(sample, sample.decision.call)

    @property
    def reuse_cache(self) -> bool:
        """Turn 2 continues on turn 1's KV cache."""
        return True

    def first_decoding(self, decoding: Decoding) -> Decoding:
        """How to decode the first round where the task wants `decoding`."""
        return decoding

    def decide(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> Decision:
        """The model is asked; methods with control policies override this."""
        return ASK

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Answer what is decided on directly, ask the model, or put the call into its mouth.

        The task sees the answer as the protocol extracts it, the trace the replies as they are.
        """
        asked = [row for row, sample in enumerate(samples) if sample.decision.by_model]
        forced = [row for row, sample in enumerate(samples) if sample.decision.call]
        direct = [row for row in range(len(samples)) if row not in {*asked, *forced}]
        outcomes: dict[int, Outcome | SampleError] = {}
        for rows, answer in ((direct, super().answer), (asked, self._ask), (forced, self._force)):
            if rows:
                outcomes |= zip(rows, answer([samples[row] for row in rows]), strict=True)
        found = (outcomes[row] for row in range(len(samples)))
        return [one if isinstance(one, SampleError) else self._extracted(one) for one in found]

    def _ask(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Let the model decide on each sample of a batch: rows that call go on to turn 2, the others are done."""
        keep, decoding = self.protocol.keep, samples[0].decoding

        def read(row: int, reply: Reply) -> tuple[AnyCall, Turn] | None:
            call = self.read(samples[row], self.engine.decode(reply.ids[:keep]))
            return None if call is None else (call, self.respond(samples[row], call))

        talk = self.start(samples, reuse_cache=self.reuse_cache)
        rounds = two_rounds(talk, read, first=self.first_decoding(decoding), second=decoding, keep=keep)
        return [self._outcome(sample, said) for sample, said in zip(samples, rounds, strict=True)]

    def _force(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Put the calls into the assistant's turns, then prefill everything at once."""
        started = time.perf_counter()
        texts = [sample.decision.call for sample in samples]
        calls = [self.forced(sample) for sample in samples]
        talk = self.start(samples)
        talk.say(texts)
        outcomes: dict[int, Outcome | SampleError] = {}
        turns: dict[int, tuple[AnyCall, Prepared]] = {}
        for row, (sample, call) in enumerate(zip(samples, calls, strict=True)):
            assert call is not None  # a control policy says what the protocol reads
            try:
                turns[row] = call, talk.prepare(row, self.respond(sample, call))
            except SampleError as error:
                outcomes[row] = error
        if turns:
            talk.continue_rows(list(turns), [turn for _, turn in turns.values()])
            rendering = time.perf_counter() - started
            finals = talk.generate(samples[0].decoding)
            for (row, (call, turn)), final in zip(turns.items(), finals, strict=True):
                outcomes[row] = self.called_outcome(
                    samples[row],
                    call,
                    first=TurnTrace(text=texts[row], new_tokens=0, seconds=0.0, **asdict(Times(0.0, 0.0, 0.0))),
                    turn=turn,
                    final=final,
                    latency=rendering + final.seconds,
                    preprocess_s=rendering,
                    forced=True,
                )
        return [outcomes[row] for row in range(len(samples))]

    def texts(self) -> dict[str, str]:
        """What the protocol says, by part."""
        return {part: prompt.text or "" for part, prompt in self._prompts.items()}

    def called_outcome(
        self,
        sample: Sample,
        call: AnyCall,
        *,
        first: TurnTrace,
        turn: Prepared,
        final: Reply,
        latency: float,
        preprocess_s: float,
        forced: bool = False,
    ) -> Outcome:
        """Outcome of a sample that called.

        Args:
            turn: the user turn that showed it.
            preprocess_s: making the user turns of the batch.
            forced: a control policy put the call into the model's mouth.
        """
        last = self.turn_trace(final).model_copy(update={"preprocess_s": preprocess_s})
        said = ToolCallTrace(status=call.status, ids=list(call.ids), text=call.text, forced=forced, note=call.note)
        return Outcome(
            answer=last.text.strip(),
            visual_tokens=final.visual.counted,
            visual_tokens_processed=final.processed,
            cost=final.cost,
            pruning=records.pruning_trace(self.engine.pruner, final.visual),
            turns=[first, last],
            latency_s=latency,
            truncated=not final.ended,
            input_tokens=sample.prompt.length + turn.length,
            tool_call=said,
            crops=self.shown(sample, call),
        )

    def _extracted(self, outcome: Outcome) -> Outcome:
        return replace(outcome, answer=self.protocol.answer([turn.text for turn in outcome.turns]))

    def _outcome(self, sample: Sample, said: Rounds[AnyCall]) -> Outcome | SampleError:
        if said.error is not None:
            return said.error
        if said.second is None:
            return self.direct_outcome(sample, said.first)
        return self.called_outcome(
            sample,
            said.second.call,
            first=self.turn_trace(said.first, self.protocol.keep),
            turn=said.second.turn,
            final=said.second.reply,
            latency=said.seconds,
            preprocess_s=said.second.preprocess_s,
        )


def crop_traces(plan: ViewPlan, regions: Sequence[Region]) -> list[CropTrace]:
    """What the trace says of crops and boxes of one image."""
    return [
        CropTrace(id=region, tokens=plan.crop_tokens(region))
        if isinstance(region, str)
        else CropTrace(id=BOX, tokens=plan.crop_tokens(region), box=region)
        for region in regions
    ]
