"""A checkpoint in this process: turns become token segments, pruners act, grids are checked against the plan."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from PIL import Image
from transformers import Qwen2_5_VLProcessor, Qwen3VLProcessor

from lmms_awares.cost import Cost, Meter, Shape
from lmms_awares.engine import checkpoint
from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.conversation import Conversation, Segment
from lmms_awares.engine.turns import Decoding, Engine, Opening, Prepared, Reply, Talk, Turn, check_context
from lmms_awares.errors import ConfigError
from lmms_awares.families import Model, family_of
from lmms_awares.models.config import CommonArgs, PruningArgs
from lmms_awares.pruning import Pruner, PruningError
from lmms_awares.tokens import grid_size
from lmms_awares.views import View


@dataclass(frozen=True)
class LocalPrepared(Prepared):
    """A token segment."""

    segment: Segment


class LocalEngine(Engine):
    """transformers in this process, one KV cache per batch.

    Args:
        model: of one of `lmms_awares.families`, in eval mode.
        processor: the checkpoint's.
        pruner: acts on every view of every turn.
        revision: content hash of checkpoint and adapter.

    Raises:
        ConfigError: the pruner cannot serve the model.
    """

    def __init__(
        self,
        model: Model,
        processor: Qwen2_5_VLProcessor | Qwen3VLProcessor,
        *,
        pruner: Pruner | None = None,
        revision: str = "",
    ) -> None:
        self.model, self.family, self._processor = model, family_of(model.config), processor
        self.chat = ChatFormat(processor, checkpoint.end_ids(model))
        self.pixel_limits = self.chat.pixel_limits
        self.pruner, self.revision = pruner, revision
        if pruner is not None:
            try:
                pruner.check(model)
            except PruningError as error:
                raise ConfigError(str(error)) from None
        self._shape = Shape.of(model.config)

    @classmethod
    def open(cls, args: CommonArgs, device: str) -> "LocalEngine":
        """Load what `args` name.

        Raises:
            ConfigError: a checkpoint, an adapter, a setting or a pruner that cannot be used.
        """
        model, processor = checkpoint.load(args, device)
        pruner = args.make_pruner() if isinstance(args, PruningArgs) else None
        return cls(model, processor, pruner=pruner, revision=checkpoint.fingerprint(args.pretrained, args.adapter))

    def with_pruner(self, pruner: Pruner | None) -> "LocalEngine":
        """The same model with a pruner, or without. Raises ConfigError where it cannot serve the model."""
        return LocalEngine(self.model, self._processor, pruner=pruner, revision=self.revision)

    @property
    def context(self) -> int:
        """Tokens that the model was made for."""
        return int(self.model.config.text_config.max_position_embeddings)

    def quote(self, text: str) -> str:
        """See `ChatFormat.quote`."""
        return self.chat.quote(text)

    def wording(self, opening: Opening) -> str:
        """The prompt's text as the chat template writes it."""
        return self.chat.render(opening.messages, opening.system)

    def prepare(self, opening: Opening) -> LocalPrepared:
        """Tokenise the opening with its views."""
        text = self.wording(opening)
        segment = self.segment(lambda images, **final: self.chat.segment(text, images, **final), opening.views)
        check_context(len(segment.ids), self.context)
        return LocalPrepared(len(segment.ids), segment)

    def start(self, openings: Sequence[Prepared], *, reuse_cache: bool = True, seed: int | None = None) -> "LocalTalk":
        """Begin a batch on one KV cache; `seed` is that of torch's generators."""
        if seed is not None:
            torch.manual_seed(seed)
        return LocalTalk(self, [_segment(opening) for opening in openings], reuse_cache=reuse_cache)

    def decode(self, ids: Sequence[int]) -> str:
        """See `ChatFormat.decode`."""
        return self.chat.decode(ids)

    def meter(self, *, reuse_cache: bool) -> Meter | None:
        """What adds up a conversation's cost; None where the cost model does not know the model or the pruner."""
        known = self.pruner is None or self.pruner.selection_flops(self._shape, 1) is not None
        if not known or self.family.has_sliding_window(self.model.config.text_config):
            return None
        return Meter(self._shape, self.model.dtype.itemsize, reuse_cache=reuse_cache)

    def show(self, meter: Meter | None, segment: Segment) -> None:
        """Tell a meter of a segment's images."""
        if meter is None:
            return
        chosen = [self.pruner.selection_flops(self._shape, n) for n in segment.visual_tokens] if self.pruner else []
        meter.show([(t, h, w) for t, h, w in segment.grids.tolist()], sum(flops or 0 for flops in chosen))

    def conditions(self) -> dict[str, Any]:
        """Of weights, dtype, attention, device and pixel limits."""
        on_gpu = self.model.device.type == "cuda"
        return {
            "revision": self.revision[:12],
            "family": self.family.model_type,
            "engine": "local",
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": self.model.config._attn_implementation,
            "min_pixels": self.pixel_limits[0],
            "max_pixels": self.pixel_limits[1],
            "device": torch.cuda.get_device_name(self.model.device) if on_gpu else self.model.device.type,
        }

    def segment(self, make: Callable[..., Segment], views: Sequence[View]) -> Segment:
        """The segment that `make` makes of `views`, at the sizes that the pruner gives them.

        Args:
            make: takes images, and `at_grid=True` where their sizes are final.

        Raises:
            RuntimeError: the image processor counts other tokens than planned.
        """
        images, planned = [view.image for view in views], [view.tokens for view in views]
        if self.pruner is None or not self.pruner.resizes:
            segment = make(images)
        else:
            images = [self._resized(image, self.pruner) for image in images]
            segment = make(images, at_grid=True)
            planned = [image.width * image.height // self.family.token_side**2 for image in images]
        if list(segment.visual_tokens) != planned:
            found = list(segment.visual_tokens)
            raise RuntimeError(f"planned {planned} visual tokens, the image processor made {found}")
        return segment

    def _resized(self, image: Image.Image, pruner: Pruner) -> Image.Image:
        side = self.family.token_side
        width, height = grid_size(*image.size, *self.pixel_limits, token_side=side)
        columns, rows = pruner.grid(width // side, height // side)
        return image.resize((columns * side, rows * side), Image.Resampling.LANCZOS)


class LocalTalk(Talk):
    """A batch on one KV cache; see `Conversation`."""

    def __init__(self, engine: LocalEngine, openings: Sequence[Segment], *, reuse_cache: bool) -> None:
        self._engine, chat = engine, engine.chat
        self._lengths = [len(segment.ids) for segment in openings]
        self._closed = [True] * len(openings)
        self._reuse = reuse_cache
        self._processed: list[int | float] = [0] * len(openings)  # visual tokens prefilled so far
        self._meters = [engine.meter(reuse_cache=reuse_cache) for _ in openings]
        for meter, segment in zip(self._meters, openings, strict=True):
            engine.show(meter, segment)
        self.conversation = Conversation(
            engine.model,
            openings,
            end_ids=chat.end_ids,
            pad_token_id=chat.tokenizer.pad_token_id,
            reuse_cache=reuse_cache,
            pruner=engine.pruner,
        )

    def generate(self, decoding: Decoding, *, keep: int | None = None) -> list[Reply]:
        """See `Talk.generate`."""
        suppressed = () if keep is None else self._engine.chat.vision_token_ids
        replies = self.conversation.generate(**asdict(decoding), suppress_tokens=suppressed, keep=keep)
        kept = [len(reply.ids) if keep is None else min(len(reply.ids), keep) for reply in replies]
        self._closed = [reply.closed and count == len(reply.ids) for reply, count in zip(replies, kept, strict=True)]
        self._lengths = [length + count for length, count in zip(self._lengths, kept, strict=True)]
        before = [0] * len(replies) if self._reuse else self._processed  # without a cache, all enters once more
        self._processed = [past + reply.visual.counted for past, reply in zip(before, replies, strict=True)]
        return [
            replace(reply, cost=_cost(meter, reply, keep), processed=processed)
            for meter, reply, processed in zip(self._meters, replies, self._processed, strict=True)
        ]

    def say(self, replies: Sequence[str]) -> None:
        """See `Talk.say`; each closes itself."""
        said = [self._engine.chat.encode_reply(reply) for reply in replies]
        self.conversation.say(said)
        self._closed = [True] * len(said)
        self._lengths = [length + len(ids) for length, ids in zip(self._lengths, said, strict=True)]

    def prepare(self, row: int, turn: Turn) -> LocalPrepared:
        """See `Talk.prepare`."""

        def make(images: Sequence[Image.Image], **final: bool) -> Segment:
            return self._engine.chat.user_turn(
                turn.content, images, ended=self._closed[row], adjacent=turn.adjacent, **final
            )

        segment = self._engine.segment(make, turn.views)
        check_context(self._lengths[row] + len(segment.ids), self._engine.context)
        return LocalPrepared(len(segment.ids), segment)

    def continue_rows(self, rows: Sequence[int], turns: Sequence[Prepared]) -> None:
        """See `Talk.continue_rows`."""
        segments = [_segment(turn) for turn in turns]
        self.conversation.continue_rows(rows, segments)
        self._meters = [self._meters[row] for row in rows]
        self._processed = [self._processed[row] for row in rows]
        for meter, segment in zip(self._meters, segments, strict=True):
            self._engine.show(meter, segment)
        self._lengths = [self._lengths[row] + turn.length for row, turn in zip(rows, turns, strict=True)]


def _segment(prepared: Prepared) -> Segment:
    assert isinstance(prepared, LocalPrepared)
    return prepared.segment


def _cost(meter: Meter | None, reply: Reply, keep: int | None) -> Cost | None:
    """What a row's conversation has cost with a reply of which at most `keep` tokens stay."""
    if meter is None:
        return None
    spoken = len(reply.ids)
    stays = spoken - 1 if reply.ended and not reply.closed else spoken
    return meter.turn(reply.visual.cached, spoken, stays if keep is None else min(stays, keep))
