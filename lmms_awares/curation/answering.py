"""Stage 1, first half: the base model answers on the low-res and on the full view, as evaluation shows them (Eq. 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from datasets import Features
from PIL import Image

from lmms_awares.curation.asking import Log, Meter
from lmms_awares.curation.config import Config
from lmms_awares.curation.request_log import Reply
from lmms_awares.curation.rows import ANSWER, Rejected, Row
from lmms_awares.curation.stage import Stage
from lmms_awares.engine import checkpoint
from lmms_awares.engine.machine import check_device
from lmms_awares.engine.opening import open_engine
from lmms_awares.engine.turns import Decoding, Engine, Opening, Prepared
from lmms_awares.errors import SampleError
from lmms_awares.images import decode, digest
from lmms_awares.journal import digest as key_of
from lmms_awares.models.recovery import answer_within_memory
from lmms_awares.models.side_by_side import side_by_side
from lmms_awares.protocol.prompts import load_prompt
from lmms_awares.views import FULL, LOWRES, ViewPlan, plan_views, show

VIEWS = {LOWRES: "lowres_answer", FULL: "fullres_answer"}


@dataclass(frozen=True)
class _Asked:
    """One view of a row: the row's number, and the prompt with its key."""

    number: int
    key: str
    prompt: Prepared


class Answering(Stage):
    """The base model's two answers.

    Args:
        config: of the set; `base` says who answers.
        log: finished answers.
        meter: counts them.
    """

    name: ClassVar[str] = "answer"
    adds: ClassVar[Features] = ANSWER

    def __init__(self, config: Config, log: Log, meter: Meter) -> None:
        self._args, self._log, self._meter = config.base, log, meter
        self._decoding = Decoding(config.base.max_new_tokens)
        self._system = load_prompt(config.base.prompt_spec)
        self._engine: Engine | None = None

    def depends_on(self) -> dict[str, Any]:
        """Weights, pixel limits, prompt and decoding; of a server, the checkpoint's configuration and name there."""
        args = self._args
        checkpoint.check_checkpoint(args.pretrained, args.adapter, families=args.families, weights=False)
        served = {"served_model": args.served_model or args.pretrained} if args.base_url else {}
        content = (
            checkpoint.format_fingerprint(args.pretrained)
            if args.base_url
            else checkpoint.fingerprint(args.pretrained, args.adapter)
        )
        settings = args.answer_settings() | {"min_pixels": args.min_pixels, "max_pixels": args.max_pixels}
        local = {} if args.base_url else {"dtype": args.dtype, "attention": args.attn_implementation}
        return {"content": content, "prompt": self._system.text, **settings, **served, **local}

    def check(self) -> None:
        """Look at the checkpoint's files, or ask the server."""
        if self._args.base_url:
            super().check()
        else:
            check_device(self._device, "base.device: ")
            checkpoint.check_checkpoint(self._args.pretrained, self._args.adapter, families=self._args.families)

    def open(self) -> None:
        """Load the checkpoint, or find the server."""
        self._engine = open_engine(self._args, self._device)

    @property
    def _device(self) -> str:
        return self._args.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def close(self) -> None:
        """Free the model's memory, or end the connections."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Ask about both views of every row; many rows at a time where a server answers."""
        engine = self._engine
        assert engine is not None, "open() comes first"
        size = self._args.batch_size
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        answered = side_by_side(self._batch, batches, engine.parallel, stop=engine.close)
        return [one for batch in answered for one in batch]

    def _batch(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Answer a batch; its images are in memory only here."""
        assert self._engine is not None
        model = {"name": self._args.pretrained, "revision": self._engine.revision, "prompt": self._system.label}
        found: list[Row | Rejected] = [{"base_model": model} for _ in rows]
        pictures = [self._picture(row) for row in rows]
        for view, column in VIEWS.items():
            asked: list[_Asked] = []
            for number, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
                one = picture if isinstance(picture, Rejected) else self._asked(number, row, *picture, view)
                if isinstance(one, Rejected):
                    found[number] = one
                else:
                    asked.append(one)
            for one, text in zip(asked, self._texts(asked), strict=True):
                row_or_not = found[one.number]
                if isinstance(text, Rejected):
                    found[one.number] = text
                elif not isinstance(row_or_not, Rejected):
                    row_or_not[column] = text.strip()
        return found

    def _picture(self, row: Row) -> tuple[Image.Image, ViewPlan] | Rejected:
        assert self._engine is not None
        low, high = self._engine.pixel_limits
        try:
            image = decode(row["image"]["bytes"])
            plan = plan_views(
                *image.size,
                min_pixels=low,
                max_pixels=high,
                lowres_base=self._args.lowres_base,
                token_side=self._engine.family.token_side,
            )
        except (OSError, ValueError) as error:
            return Rejected("unusable image", str(error))
        if any(self._engine.quote(text) != text for text in (row["question"], *row["answers"])):
            return Rejected("control tokens", "question or answer holds control tokens of the chat template")
        return image, plan

    def _asked(self, number: int, row: Row, image: Image.Image, plan: ViewPlan, view: str) -> _Asked | Rejected:
        """The prompt for one view of a row."""
        assert self._engine is not None
        shown = show(image, plan, view)
        content = [{"type": "image"}, {"type": "text", "text": row["question"]}]
        opening = Opening([{"role": "user", "content": content}], self._system.text, [shown])
        conditions = self._engine.conditions()
        arithmetic = [conditions[name] for name in ("dtype", "attention")]
        asked = self._engine.wording(opening), digest(shown.image), self._decoding.max_new_tokens
        key = key_of(self._engine.revision, arithmetic, *asked)
        try:
            return _Asked(number, key, self._engine.prepare(opening))
        except SampleError as error:
            return Rejected("too long", str(error))

    def _texts(self, asked: Sequence[_Asked]) -> list[str | Rejected]:
        """The answer to each prompt, from the log where it is there."""
        known = {one.key: reply.text for one in asked if (reply := self._log.get(one.key)) is not None}
        self._meter.known += len(known)
        # Equal prompts once.
        waiting = list({one.key: one for one in asked if one.key not in known}.values())
        texts: dict[str, str | Rejected] = {**known}
        if waiting:
            for one, done in zip(waiting, answer_within_memory(self._generate, waiting), strict=True):
                said = done.outcome
                texts[one.key] = (
                    Rejected("no answer", str(said), final=False) if isinstance(said, SampleError) else said
                )
        return [texts[one.key] for one in asked]

    def _generate(self, asked: Sequence[_Asked]) -> list[str | SampleError]:
        assert self._engine is not None
        replies = self._engine.start([one.prompt for one in asked]).generate(self._decoding)
        texts: list[str | SampleError] = []
        for one, reply in zip(asked, replies, strict=True):
            text = self._engine.decode(reply.ids)
            self._log.add(self.name, one.key, Reply(text, reply.prompt_tokens, len(reply.ids)))
            self._meter.count(reply.prompt_tokens, len(reply.ids))
            texts.append(text)
        return texts
