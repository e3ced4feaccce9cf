"""What all methods share: requests, journal, failures, traces. A method says how it answers a batch; no torch here.

request ──► _prepare ──► Sample ──► answer (the method's) ──► Outcome ──► records.finished ──► Entry ──► lmms-eval
                │          └ windows.py: which ones together                                    ▲
                └──────── answered before (journal), or cannot be (SampleError) ────────────────┘
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, ClassVar

from lmms_eval.api.instance import Instance
from loguru import logger
from PIL import Image

from lmms_awares.crops import MIN_CROP_SIDE
from lmms_awares.engine import checkpoint
from lmms_awares.engine.opening import open_engine
from lmms_awares.engine.turns import Decoding, Message, Opening, Reply, Talk
from lmms_awares.errors import SampleError
from lmms_awares.journal import Entry, Journal, digest
from lmms_awares.models import records
from lmms_awares.models.answering import Answering
from lmms_awares.models.config import CommonArgs, parse_args
from lmms_awares.models.decisions import DIRECT, Decision
from lmms_awares.models.image_sizes import Headers
from lmms_awares.models.prefetch import default_workers
from lmms_awares.models.recovery import is_of_one_sample
from lmms_awares.models.sample import Address, Lent, Outcome, Sample, messages_of, question_of, read_images
from lmms_awares.models.server_args import check_batch_size
from lmms_awares.protocol.prompts import foreign_prompt
from lmms_awares.provenance import code_hash
from lmms_awares.trace import Conditions, CropContent, FirstView, TurnTrace, method_name
from lmms_awares.views import FULL, ViewPlan, plan_views, show


class Method(Answering):
    """Base of all methods; answers in one turn, and is not registered itself.

    Args:
        device, batch_size: see `HostModel`.
        max_batch_size: accepted from lmms-eval; automatic batch sizes are not supported.
        arguments: see `lmms_awares.models.config`.

    Attributes:
        view: what the first turn shows.
        nominal: RTR that the method fixes without a pruner; None where the model decides.

    Raises:
        ConfigError: an unknown or impossible argument, or a checkpoint that cannot be used.
    """

    view: ClassVar[FirstView]
    nominal: ClassVar[float | None] = None

    def __init__(
        self,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **arguments: Any,
    ) -> None:
        self.args: CommonArgs = parse_args(self.model_id, arguments)
        super().__init__(device, batch_size)
        self._headers = Headers()
        self._prompts = self.args.load_prompts()
        self._prompt = self._prompts["system"]
        if self.rank == 0 and (warning := foreign_prompt(self.args.pretrained, self.args.adapter, self._prompt)):
            logger.warning(warning)
        check_batch_size(self.args, self.batch_size)
        self.engine = open_engine(self.args, str(self._device))
        self._conditions = self.engine.conditions()  # now: a worker cannot ask the device for its name
        workers = self.args.workers
        self.workers = default_workers(str(self._device), self._world_size) if workers is None else workers
        self._code = code_hash(*(type(pruner) for pruner in [self.engine.pruner] if pruner))
        checkpoint.check_hashes(self.args, self.engine.revision, checkpoint.setup_hash(self._prompts))
        self._journal = Journal(self.args.journal, self._rank) if self.args.journal else None
        if self._journal and self._rank == 0:
            level = "WARNING" if self._journal.reusable else "INFO"  # answers of an earlier run are worth a warning
            logger.log(
                level,
                f"journal {self.args.journal}: {self._journal.reusable} finished samples can be reused, where this run "
                "asks the same",
            )

    # What a method defines ----------------------------------------------------------------------------------------

    @property
    def policy(self) -> str | None:
        """Who decides on crops; None for methods without a choice of policies."""
        return None

    @property
    def min_crop_side(self) -> int:
        """Px that a crop's side has at least."""
        return MIN_CROP_SIDE

    @property
    def crop_content(self) -> CropContent:
        """What a second turn shows in the crops' places."""
        return "true"

    def plan(self, image: Image.Image) -> ViewPlan:
        """Views of an image under this method's limits."""
        low, high = self.engine.pixel_limits
        return plan_views(
            *image.size,
            min_pixels=low,
            max_pixels=high,
            lowres_base=self.args.lowres_base,
            min_crop_side=self.min_crop_side,
            token_side=self.engine.family.token_side,
        )

    def decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        """How to decode; from the task's `generation_kwargs`. Raises ConfigError for impossible ones."""
        return Decoding.from_task(gen_kwargs)

    def arrange(self, messages: list[Message]) -> list[Message]:
        """The task's messages as this method wants them."""
        return messages

    def check(self, doc: dict[str, Any], images: Sequence[Image.Image], task: str) -> None:
        """Refuse samples that this method cannot answer.

        Raises:
            SampleError: this sample only.
            ConfigError: the whole run makes no sense.
        """

    def decide(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> Decision:
        """Who decides on crops for this sample, and what was decided where the model does not."""
        return DIRECT

    def lend(
        self, own: Sequence[Image.Image], decision: Decision, at: Address, read: Callable[[int], list[Image.Image]]
    ) -> Lent | None:
        """Another document's image to cut crops from; None for the sample's own.

        Args:
            own: the sample's images.
            read: the images of a document of the same task.

        Raises:
            SampleError: there is none.
        """
        return None

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Answer a batch in one turn; methods with more turns override this.

        Returns:
            per sample what came of it, or why it cannot be answered.
        """
        replies = self.start(samples).generate(samples[0].decoding)
        return [self.direct_outcome(sample, reply) for sample, reply in zip(samples, replies, strict=True)]

    # What a method can use ----------------------------------------------------------------------------------------

    def start(self, samples: Sequence[Sample], *, reuse_cache: bool = True) -> Talk:
        """Begin the samples' conversations."""
        prompts = [sample.prompt for sample in samples]
        return self.engine.start(prompts, reuse_cache=reuse_cache, seed=samples[0].seed)

    def direct_outcome(self, sample: Sample, reply: Reply) -> Outcome:
        """Outcome of a first turn that is the answer; it may be longer than the task's limit allows."""
        limit = sample.decoding.max_new_tokens
        turn = self.turn_trace(reply, limit)
        return Outcome(
            answer=turn.text.strip(),
            visual_tokens=reply.visual.counted,
            visual_tokens_processed=reply.processed,
            cost=reply.cost,
            pruning=records.pruning_trace(self.engine.pruner, reply.visual),
            turns=[turn],
            latency_s=reply.seconds,
            truncated=len(reply.ids) > limit or not reply.ended,
            input_tokens=sample.prompt.length,
        )

    def turn_trace(self, reply: Reply, keep: int | None = None) -> TurnTrace:
        """A reply's turn in the trace; `keep`: tokens of it that stay."""
        ids = reply.ids[:keep]
        return TurnTrace(
            text=self.engine.decode(ids),
            new_tokens=len(ids),
            seconds=reply.seconds,
            **asdict(reply.times),
            prompt_tokens=reply.prompt_tokens,
            cached_tokens=reply.cached_tokens,
        )

    def sample_seed(self, at: Address) -> str:
        """Hex digest that seeds whatever is random about a sample."""
        return digest(self.args.seed, asdict(at))

    def planned_tokens(self, request: Instance) -> int:
        """Visual tokens that a request's first view costs by its plan; 0 where the request cannot be answered."""
        _, doc_to_messages, _, doc_id, task, split = request.args
        try:
            images = self._headers.images(self.task_dict[task][split], doc_id)
            images = images or read_images(
                messages_of(self.task_dict[task][split][doc_id], doc_to_messages, self.engine.quote)
            )
            plans = [self.plan(image) for image in images]
        except Exception as error:
            if not is_of_one_sample(error):
                raise
            return 0
        return sum(plan.full_tokens if self.view == FULL else plan.lowres_tokens for plan in plans)

    # Plumbing -----------------------------------------------------------------------------------------------------

    def _prepare(self, request: Instance, repeat: int) -> Entry | tuple[str, Sample]:
        """A sample to generate with its key; or the finished entry: from the journal, or failed.

        A worker may run it: it leaves journal and log as they are.
        """
        _, doc_to_messages, gen_kwargs, doc_id, task, split = request.args
        decoding = self.decoding(gen_kwargs)
        at = Address(task, split, doc_id, repeat if decoding.temperature else 0)
        started = time.perf_counter()
        images: list[Image.Image] = []
        documents = self.task_dict[at.task][at.split]

        def conversation(number: int) -> list[Message]:
            return messages_of(documents[number], doc_to_messages, self.engine.quote)

        try:
            doc, messages = documents[at.doc_id], conversation(at.doc_id)
            images = read_images(messages)
            self.check(doc, images, task)
            plans = [self.plan(image) for image in images]
            opening = Opening(self.arrange(messages), self._prompt.text)
            decision = self.decide(doc, plans, at)
            lent = self.lend(images, decision, at, lambda number: read_images(conversation(number)))
            shown = [*images, lent.image] if lent else images
            key = self._key(at, decoding, opening, shown, decision)
            if entry := self._journaled(key):
                return entry
            views = [show(image, plan, self.view) for image, plan in zip(images, plans, strict=True)]
            prompt = self.engine.prepare(replace(opening, views=views))
        except Exception as error:
            if not is_of_one_sample(error):
                raise
            return records.failed(at, error, images, self._identity)
        seed = int(self.sample_seed(at)[:15], 16) if decoding.temperature else None
        spent, question = time.perf_counter() - started, question_of(messages)
        return key, Sample(at, images, plans, prompt, decision, decoding, spent, seed, question, lent)

    def _key(
        self, at: Address, decoding: Decoding, opening: Opening, images: list[Image.Image], decision: Decision
    ) -> str:
        conditions = {name: value for name, value in self._conditions.items() if name != "device"}
        return digest(
            self._code,
            self.engine.revision,
            self.model_id,
            self.args.answer_settings(),
            conditions,
            asdict(at),
            asdict(decoding),
            self.engine.wording(opening),
            asdict(decision),
            *(part for image in images for part in (image.size, image.tobytes())),
        )

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """The trace's fields that a whole run shares."""
        pruner = self.engine.pruner
        name, ratio = (pruner.name, pruner.retain_ratio) if pruner else (None, None)
        return {
            "model": self.model_id,
            "policy": self.policy,
            "method": method_name(self.model_id, self.policy, name, ratio, self.crop_content),
            "nominal": self.nominal if ratio is None else ratio,
            "view": self.view,
            "crop_content": self.crop_content,
            "prompt": self._prompt.label,
            "conditions": Conditions(
                lowres_base=self.args.lowres_base, **self._conditions, **records.versions(self._code)
            ),
        }
