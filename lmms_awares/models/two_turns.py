"""What the methods share whose first reply may be a tool call: generate, read, show, answer."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic

from lmms_awares.engine.rounds import Rounds, two_rounds
from lmms_awares.engine.turns import Decoding, Prepared, Reply, Turn
from lmms_awares.errors import SampleError
from lmms_awares.models import records
from lmms_awares.models.base import Method
from lmms_awares.models.sample import Outcome, Sample
from lmms_awares.protocol.base import AnyCall, ToolProtocol
from lmms_awares.trace import CropTrace, ToolCallTrace, TurnTrace


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

    def ask(
        self, samples: Sequence[Sample], *, first: Decoding, reuse_cache: bool = True
    ) -> list[Outcome | SampleError]:
        """Let the model decide on each sample of a batch: rows that call go on to turn 2, the others are done.

        Args:
            first: how to decode the first round; the second is decoded as the task wants it.
        """
        keep = self.protocol.keep

        def read(row: int, reply: Reply) -> tuple[AnyCall, Turn] | None:
            call = self.protocol.read(self.engine.decode(reply.ids[:keep]))
            return None if call is None else (call, self.respond(samples[row], call))

        talk = self.start(samples, reuse_cache=reuse_cache)
        rounds = two_rounds(talk, read, first=first, second=samples[0].decoding, keep=keep)
        return [self._outcome(sample, said) for sample, said in zip(samples, rounds, strict=True)]

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
            tool_call=ToolCallTrace(status=call.status, ids=list(call.ids), text=call.text, forced=forced),
            crops=self.shown(sample, call),
        )

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
