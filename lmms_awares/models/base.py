"""The lmms-eval adapter that all models share: loading, batching, journal, failures, traces.

A model says how the first turn looks (`first_view`) and how a batch is answered (`answer`).
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any, ClassVar, NoReturn

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from loguru import logger
from PIL import Image
from tqdm import tqdm

from lmms_awares.crops import MIN_CROP_SIDE
from lmms_awares.engine import checkpoint
from lmms_awares.engine.chat import ChatFormat, Message
from lmms_awares.engine.conversation import Conversation, Reply, Segment
from lmms_awares.errors import ConfigError, SampleError
from lmms_awares.journal import Entry, Journal, digest
from lmms_awares.models import records
from lmms_awares.models.batching import batches, wants_trace
from lmms_awares.models.config import CommonArgs, parse_args
from lmms_awares.models.pruners import build_pruner, pruning_trace, segment_of
from lmms_awares.models.recovery import Answered, answer_within_memory, is_of_one_sample
from lmms_awares.models.sample import Address, Decoding, Outcome, Sample, check_context, read_images
from lmms_awares.protocol.prompts import published_prompt_for
from lmms_awares.provenance import code_hash
from lmms_awares.trace import Conditions, TurnTrace, View, method_name, seal
from lmms_awares.views import ViewPlan, plan_views


class QwenVL(lmms):
    """Base of all models; not registered itself.

    Args:
        device: where to run; default: the process's accelerator, else the CPU.
        batch_size: samples generated together.
        max_batch_size: accepted from lmms-eval; automatic batch sizes are not supported.
        arguments: see `lmms_awares.models.config`.

    Raises:
        ConfigError: an unknown or impossible argument, or a checkpoint that cannot be used.
    """

    is_simple = False  # lmms-eval: requests carry chat messages
    model_id: str
    view: ClassVar[View]  # what `first_view` shows
    nominal: ClassVar[float | None] = None  # RTR that the method fixes without a pruner; None where the model decides

    def __init__(
        self,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.args: CommonArgs = parse_args(self.model_id, arguments)
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise ConfigError(f"batch_size={batch_size} is not supported; give a number such as 1 or 8")
        self.batch_size = int(batch_size)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        alone = self._world_size == 1
        self._device = torch.device(device if device and alone else self.accelerator.device)
        self._prompts = self.args.load_prompts()
        self._prompt = self._prompts["system"]
        self._warn_of_foreign_prompt()
        self._model, processor = checkpoint.load(self.args, str(self._device))
        self._pruner = build_pruner(self.args, self._model)
        self._code = code_hash(*([type(self._pruner)] if self._pruner else []))
        self._chat = ChatFormat(processor, checkpoint.end_ids(self._model))
        self._revision = checkpoint.fingerprint(self.args.pretrained, self.args.adapter)
        checkpoint.check_hashes(self.args, self._revision, checkpoint.setup_hash(self._prompts))
        self._journal = Journal(self.args.journal, self._rank) if self.args.journal else None
        if self._journal and self._rank == 0:
            level = "WARNING" if self._journal.reusable else "INFO"  # answers of an earlier run are worth a warning
            logger.log(
                level,
                f"journal {self.args.journal}: {self._journal.reusable} finished samples can be reused, where this run "
                "asks the same",
            )

    # What a model defines -----------------------------------------------------------------------------------------

    @abstractmethod
    def first_view(self, image: Image.Image, plan: ViewPlan) -> Image.Image:
        """The view of `image` that the first turn shows."""

    @abstractmethod
    def first_tokens(self, plan: ViewPlan) -> int:
        """Visual tokens of that view."""

    @property
    def policy(self) -> str | None:
        """Who decides on crops; None for methods without a choice of policies."""
        return None

    @property
    def min_crop_side(self) -> int:
        """Px that a crop's side has at least."""
        return MIN_CROP_SIDE

    def plan(self, image: Image.Image) -> ViewPlan:
        """Views of an image under this model's limits."""
        low, high = self._chat.pixel_limits
        return plan_views(
            *image.size,
            min_pixels=low,
            max_pixels=high,
            lowres_base=self.args.lowres_base,
            min_crop_side=self.min_crop_side,
            token_side=self._chat.token_side,
        )

    def decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        """How to decode; from the task's `generation_kwargs`. Raises ConfigError for impossible ones."""
        return Decoding.from_task(gen_kwargs)

    def arrange(self, messages: list[Message]) -> list[Message]:
        """The task's messages as this model wants them."""
        return messages

    def check(self, doc: dict[str, Any], images: Sequence[Image.Image], task: str) -> None:
        """Refuse samples that this model cannot answer.

        Raises:
            SampleError: this sample only.
            ConfigError: the whole run makes no sense.
        """

    def control(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> tuple[str, ...] | None:
        """Crops that something else than the model decides on; None where nothing does."""
        return None

    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Answer a batch in one turn; models with more turns override this.

        Returns:
            per sample what came of it, or why it cannot be answered.
        """
        conversation = self._converse(samples)
        replies = conversation.generate(**asdict(samples[0].decoding))
        return [self._direct_outcome(sample, reply) for sample, reply in zip(samples, replies, strict=True)]

    # lmms-eval's interface ----------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where lmms-eval gathers results."""
        return self._device

    def clean(self) -> None:
        """Keep the weights when lmms-eval has its answers: a trainer's callback evaluates the same object again."""

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Not offered: the benchmarks generate."""
        raise NotImplementedError(f"{self.model_id} generates; tasks that need log-likelihoods cannot run on it")

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        """Not offered: the crop protocol's turns are the model's own, not the task's."""
        raise NotImplementedError(f"{self.model_id} does not run tasks with rounds of their own")

    def generate_until(self, requests: list[Instance]) -> list[tuple[str, dict[str, int]]]:
        """Answer requests; each result is (text, token counts), the documented form that survives lmms-eval's cache."""
        entries: list[Entry] = []
        tokens = 0
        started = time.perf_counter()
        with tqdm(total=len(requests), disable=self.rank != 0, desc=self.model_id) as progress:
            for batch in batches(requests, self.batch_size):
                done, generated = self._run_batch(batch)
                entries.extend(done)
                tokens += generated
                progress.update(len(done))
        elapsed = time.perf_counter() - started
        log_metrics(
            total_elapsed_time=elapsed,
            total_gen_tokens=tokens,
            avg_speed=tokens / elapsed,
            additional_metrics={"total_requests": len(entries)},
        )
        return [
            (
                seal(entry.answer, entry.trace) if wants_trace(request) else entry.answer,
                {"input_tokens": entry.input_tokens, "output_tokens": entry.output_tokens},
            )
            for request, entry in zip(requests, entries, strict=True)
        ]

    # Plumbing -----------------------------------------------------------------------------------------------------

    def _run_batch(self, requests: Sequence[tuple[Instance, int]]) -> tuple[list[Entry], int]:
        """Entries of a batch of (request, how often its document came before), and the tokens generated for them."""
        finished: dict[int, Entry] = {}
        waiting: dict[int, tuple[str, Sample]] = {}
        for index, (request, repeat) in enumerate(requests):
            result = self._prepare(request, repeat)
            if isinstance(result, Entry):
                finished[index] = result
            else:
                waiting[index] = result
        if waiting:
            samples = [sample for _, sample in waiting.values()]
            for (index, (key, sample)), done in zip(waiting.items(), self._recovering(samples), strict=True):
                if isinstance(done.outcome, SampleError):
                    finished[index] = self._failed(sample.at, done.outcome, sample.images)
                    continue
                finished[index] = records.finished(key, sample, done.outcome, self._identity(), done.batch_size)
                if self._journal and not requests[index][0].metadata.get("__padding_only__"):
                    self._journal.add(finished[index])
        generated = sum(finished[index].output_tokens for index in waiting)
        return [finished[index] for index in range(len(requests))], generated

    def _recovering(self, samples: Sequence[Sample]) -> Iterator[Answered]:
        if samples[0].decoding.temperature == 0:
            yield from answer_within_memory(self.answer, samples)
            return
        # One at a time, seeded by the sample: its answer must not depend on its batch or on what a resume skipped.
        for sample in samples:
            torch.manual_seed(int(self.sample_seed(sample.at)[:15], 16))
            yield from answer_within_memory(self.answer, [sample])

    def sample_seed(self, at: Address) -> str:
        """Hex digest that seeds whatever is random about a sample."""
        return digest(self.args.seed, asdict(at))

    def _prepare(self, request: Instance, repeat: int) -> Entry | tuple[str, Sample]:
        """A sample to generate with its key; or the finished entry: from the journal, or failed."""
        _, doc_to_messages, gen_kwargs, doc_id, task, split = request.args
        decoding = self.decoding(gen_kwargs)
        at = Address(task, split, doc_id, repeat if decoding.temperature else 0)
        started = time.perf_counter()
        images: list[Image.Image] = []
        try:
            doc, messages = self._load(at, doc_to_messages)
            images = read_images(messages)
            self.check(doc, images, task)
            plans = [self.plan(image) for image in images]
            text = self._chat.render(self.arrange(messages), self._prompt.text)
            request_ids = self.control(doc, plans, at)
            key = self._key(at, decoding, text, images, request_ids)
            if self._journal and (entry := self._journal.get(key)):
                return records.reused(entry)
            prompt = self._first_segment(text, images, plans)
            check_context(len(prompt.ids), self._context)
        except Exception as error:
            if not is_of_one_sample(error):
                raise
            return self._failed(at, error, images)
        sample = Sample(at, images, plans, prompt, request_ids, decoding, time.perf_counter() - started)
        return key, sample

    def _load(
        self, at: Address, doc_to_messages: Callable[[dict[str, Any]], list[Message]]
    ) -> tuple[dict[str, Any], list[Message]]:
        doc = self.task_dict[at.task][at.split][at.doc_id]
        try:
            return doc, [self._chat.quote_message(message) for message in doc_to_messages(doc)]
        except (AttributeError, KeyError, TypeError) as error:  # a null where the task expects text
            raise SampleError(f"the task cannot make a prompt of its document: {error!r}") from None

    def _first_segment(self, text: str, images: list[Image.Image], plans: list[ViewPlan]) -> Segment:
        views = [self.first_view(image, plan) for image, plan in zip(images, plans, strict=True)]
        tokens = [self.first_tokens(plan) for plan in plans]
        return segment_of(partial(self._chat.segment, text), views, tokens, self._pruner, self._chat)

    @property
    def _context(self) -> int:
        return int(self._model.config.text_config.max_position_embeddings)

    def _key(
        self,
        at: Address,
        decoding: Decoding,
        text: str,
        images: list[Image.Image],
        request_ids: tuple[str, ...] | None,
    ) -> str:
        return digest(
            self._code,
            self._revision,
            self.model_id,
            self.args.answer_settings(),
            self._chat.pixel_limits,
            str(self._model.dtype),
            self._model.config._attn_implementation,
            asdict(at),
            asdict(decoding),
            text,
            request_ids,
            *(part for image in images for part in (image.size, image.tobytes())),
        )

    def _converse(self, samples: Sequence[Sample], *, reuse_cache: bool = True) -> Conversation:
        return Conversation(
            self._model,
            [sample.prompt for sample in samples],
            end_ids=self._chat.end_ids,
            pad_token_id=self._chat.tokenizer.pad_token_id,
            reuse_cache=reuse_cache,
            pruner=self._pruner,
        )

    def _direct_outcome(self, sample: Sample, reply: Reply) -> Outcome:
        """Outcome of a first turn that is the answer; it may be longer than the task's limit allows."""
        limit = sample.decoding.max_new_tokens
        turn = self._turn(reply.ids[:limit], reply.seconds)
        return Outcome(
            answer=turn.text.strip(),
            visual_tokens=reply.visual.counted,
            visual_tokens_processed=reply.visual.counted,
            pruning=pruning_trace(self._pruner, reply.visual),
            turns=[turn],
            latency_s=reply.seconds,
            truncated=len(reply.ids) > limit or not reply.ended,
            input_tokens=len(sample.prompt.ids),
        )

    def _turn(self, ids: list[int], seconds: float) -> TurnTrace:
        return TurnTrace(text=self._chat.decode(ids), new_tokens=len(ids), seconds=seconds)

    def _failed(self, at: Address, error: Exception, images: list[Image.Image]) -> Entry:
        entry = records.failed(at, error, images, self._identity())
        logger.warning(f"{at.task} document {at.doc_id} failed: {entry.trace.failed}")
        if self._journal:
            self._journal.add(entry)
        return entry

    def _identity(self) -> dict[str, Any]:
        pruner, ratio = (self._pruner.name, self._pruner.retain_ratio) if self._pruner else (None, None)
        return {
            "model": self.model_id,
            "policy": self.policy,
            "method": method_name(self.model_id, self.policy, pruner, ratio),
            "nominal": self.nominal if ratio is None else ratio,
            "view": self.view,
            "prompt": self._prompt.label,
            "conditions": self._conditions,
        }

    @cached_property
    def _conditions(self) -> Conditions:
        return records.conditions(
            self._model, self._revision, self._code, self._chat.pixel_limits, self.args.lowres_base
        )

    def _warn_of_foreign_prompt(self) -> None:
        published = published_prompt_for(self.args.adapter or "") or published_prompt_for(self.args.pretrained)
        if published and self._prompt.label != published and self._rank == 0:
            logger.warning(
                f"{self.args.pretrained} was trained with a prompt of its authors; this run uses "
                f"'{self._prompt.label}' and its scores will suffer. Run `awares prompts import {published}` and pass "
                f"prompt={published}."
            )
