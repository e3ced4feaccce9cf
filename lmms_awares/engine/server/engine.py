"""A checkpoint behind an OpenAI-compatible server: turns become chat messages, counts are held against the plan.

    Opening ─► Prepared (messages, text, length) ─► turn 1: messages
    Turn    ─► Prepared (messages of turn 1 + reply + user turn) ─► turn 2: turn 1's messages, byte for byte, and more

The server's prefix cache holds what both have in common. `pretrained` gives template, tokenizer and image processor:
every prompt's tokens are counted here first, and a server that counts others has shown the model something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from lmms_awares.engine import checkpoint
from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.server.address import Address, identify
from lmms_awares.engine.server.client import Client, request_of
from lmms_awares.engine.server.completion import Completion
from lmms_awares.engine.server.counting import cause, positions, prefilled
from lmms_awares.engine.server.messages import as_sent, parts_of
from lmms_awares.engine.turns import (
    Decoding,
    Engine,
    Message,
    Opening,
    Prepared,
    Reply,
    Talk,
    Times,
    Turn,
    check_context,
)
from lmms_awares.errors import ConfigError, SampleError
from lmms_awares.families import FAMILIES
from lmms_awares.journal import digest
from lmms_awares.models.config import CommonArgs
from lmms_awares.tokens import VisualTokens
from lmms_awares.views import View

_UNKNOWN = "unknown"  # of what only the server knows


@dataclass(frozen=True)
class ServedPrepared(Prepared):
    """A conversation up to a reply; `length` is what its last turn adds.

    Attributes:
        total: tokens of all of it.
        images: where each image's visual tokens stand in it.
        sent: all messages in OpenAI's form, images as PNG.
        local: the same as the chat template takes them.
    """

    total: int
    images: tuple[range, ...]
    sent: list[Message]
    local: list[Message]

    @property
    def visual_tokens(self) -> int:
        """Of all images."""
        return sum(map(len, self.images))


class ServerEngine(Engine):
    """A server that answers many conversations at a time.

    Args:
        chat: the checkpoint's template, tokenizer and image processor.
        client: requests to the server.
        model_type: the checkpoint's.
        revision: of the checkpoint's configuration files, and of what serves it.
        depth: layers of the language model.
        context: tokens that the model was made for.
    """

    pruner = None

    def __init__(
        self, chat: ChatFormat, client: Client, *, model_type: str, revision: str, depth: int, context: int
    ) -> None:
        self.chat, self.client, self.depth = chat, client, depth
        self.family, self.revision = FAMILIES[model_type], revision
        self.pixel_limits = chat.pixel_limits
        self.context = min(context, client.served.context or context)
        self.parallel = client.concurrency

    @classmethod
    def open(cls, args: CommonArgs) -> "ServerEngine":
        """Find the server that `args` name, and ask it for one token.

        Raises:
            ConfigError: no server there, a wrong key, another model, or prompts that it counts otherwise.
        """
        assert args.base_url is not None
        address = Address.of(args.base_url, args.api_key_env)
        served = identify(address, args.pretrained, args.served_model)
        config, processor = checkpoint.load_format(args)
        text = config.get_text_config()
        client = Client(address, served, concurrency=args.concurrency, timeout_s=args.request_timeout)
        engine = cls(
            ChatFormat(processor, checkpoint.end_ids_of(args.pretrained)),
            client,
            model_type=config.model_type,
            revision=digest(checkpoint.format_fingerprint(args.pretrained), served.model, served.label),
            depth=text.num_hidden_layers,
            context=text.max_position_embeddings,
        )
        engine.try_out()
        return engine

    def try_out(self) -> None:
        """Ask about one small picture, so that a server that counts otherwise is known before the first sample.

        Raises:
            ConfigError: see `ServerEngine.open`; a server that does not reply.
        """
        side = self.family.token_side
        columns = next(n for n in range(4, 4096) if (n * side) ** 2 >= self.pixel_limits[0])
        view = View(Image.new("RGB", (columns * side, columns * side), "white"), columns**2)
        content = [{"type": "image"}, {"type": "text", "text": "Is it white?"}]
        prompt = self.prepare(Opening([{"role": "user", "content": content}], None, [view]))
        try:
            self.start([prompt]).generate(Decoding(1))
        except SampleError as error:
            raise ConfigError(
                f"base_url={self.client.address.shown} lists models but gives no reply: {error}"
            ) from None

    def quote(self, text: str) -> str:
        """See `ChatFormat.quote`; `prepare` refuses what needed it, as a server reads control tokens anywhere."""
        return self.chat.quote(text)

    def wording(self, opening: Opening) -> str:
        """The prompt's text as the chat template writes it."""
        return self.chat.render(opening.messages, opening.system)

    def prepare(self, opening: Opening) -> ServedPrepared:
        """See `Engine.prepare`."""
        local = self.chat.with_system(opening.messages, opening.system)
        images, total = self.lay_out(local, [view.tokens for view in opening.views])
        return ServedPrepared(total, total, images, as_sent(local, opening.views), local)

    def lay_out(self, local: Sequence[Message], tokens: Sequence[int]) -> tuple[tuple[range, ...], int]:
        """Where the images of a conversation stand, which cost `tokens` each, and how many tokens it has.

        Raises:
            SampleError: it is longer than the context, or holds a control token in somebody's text.
        """
        text = self.chat.render_messages(local)
        if self.chat.holds_quotes(text):
            raise SampleError(
                "its text holds a control token of the tokenizer, which a server would read as one; run it without "
                "base_url"
            )
        images, total = positions(self.chat.encode(text), self.chat.image_token_id, tokens)
        check_context(total, self.context)
        return images, total

    def start(self, openings: Sequence[Prepared], *, reuse_cache: bool = True, seed: int | None = None) -> "ServerTalk":
        """Conversations side by side; whether a cache is reused is the server's affair."""
        return ServerTalk(self, [_of_server(opening) for opening in openings], seed)

    def decode(self, ids: Sequence[int]) -> str:
        """See `ChatFormat.decode`."""
        return self.chat.decode(ids)

    def close(self) -> None:
        """End requests in flight."""
        self.client.close()

    def conditions(self) -> dict[str, Any]:
        """Of the server; what it does not tell is `unknown`."""
        return {
            "revision": self.revision[:12],
            "family": self.family.model_type,
            "engine": self.client.served.label,
            "dtype": _UNKNOWN,
            "attention": _UNKNOWN,
            "min_pixels": self.pixel_limits[0],
            "max_pixels": self.pixel_limits[1],
            "device": _UNKNOWN,
        }

    def check_counts(self, prompt: ServedPrepared, completion: Completion) -> None:
        """Hold the server's counts against the plan.

        Raises:
            ConfigError: they differ, or it does not tell; the whole run would measure something else.
        """
        at = f"the server at {self.client.address.shown}"
        if completion.prompt_tokens is None:
            raise ConfigError(f"{at} does not tell usage.prompt_tokens, so that nothing it is shown can be counted")
        for what, planned, told in (
            ("image tokens", prompt.visual_tokens, completion.image_tokens),
            ("tokens", prompt.total, completion.prompt_tokens),
        ):
            if told is not None and told != planned:
                raise ConfigError(f"{at} counts {told} {what} in a prompt of {planned}; {cause(what, told - planned)}")


class ServerTalk(Talk):
    """Conversations with a server, one request a turn and row."""

    def __init__(self, engine: ServerEngine, openings: Sequence[ServedPrepared], seed: int | None) -> None:
        self._engine, self._rows, self._seed = engine, list(openings), seed
        self._said: list[list[int]] = [[] for _ in openings]  # ids of the last replies that stay
        self._processed: list[int | float | None] = [0] * len(self._rows)  # visual tokens prefilled so far

    def generate(self, decoding: Decoding, *, keep: int | None = None) -> list[Reply]:
        """See `Talk.generate`."""
        client = self._engine.client
        suppressed = () if keep is None else self._engine.chat.vision_token_ids
        # Servers refuse a request that might outgrow their context.
        room = max(1, self._engine.context - max(row.total for row in self._rows))
        limited = replace(decoding, max_new_tokens=min(decoding.max_new_tokens, room))
        request = request_of(client.served, limited, seed=self._seed, suppressed=suppressed)
        completions = client.complete([row.sent for row in self._rows], request)
        replies = [
            self._reply(row, said, before)
            for row, said, before in zip(self._rows, completions, self._processed, strict=True)
        ]
        self._processed = [reply.processed for reply in replies]
        self._said = [reply.ids[:keep] for reply in replies]
        return replies

    def say(self, replies: Sequence[str]) -> None:
        """See `Talk.say`."""
        self._said = [self._engine.chat.encode_reply(reply) for reply in replies]

    def prepare(self, row: int, turn: Turn) -> ServedPrepared:
        """See `Talk.prepare`."""
        before, chat = self._rows[row], self._engine.chat
        reply = chat.decode(self._said[row])
        if turn.adjacent:
            local, sent = _adjacent(before, chat.between(reply), turn)
        else:
            added = [
                {"role": "assistant", "content": [{"type": "text", "text": reply}]},
                {"role": "user", "content": list(turn.content)},
            ]
            local, sent = [*before.local, *added], [*before.sent, *as_sent(added, turn.views)]
        images, total = self._engine.lay_out(local, [*map(len, before.images), *(view.tokens for view in turn.views)])
        return ServedPrepared(total - before.total - len(self._said[row]), total, images, sent, local)

    def continue_rows(self, rows: Sequence[int], turns: Sequence[Prepared]) -> None:
        """See `Talk.continue_rows`."""
        self._rows = [_of_server(turn) for turn in turns]
        self._said = [[] for _ in turns]
        self._processed = [self._processed[row] for row in rows]

    def _reply(self, row: ServedPrepared, said: Completion, processed: float | None) -> Reply:
        self._engine.check_counts(row, said)
        ended = said.finish == "stop"
        end = [self._engine.chat.end_ids[0]] if ended else []
        ids = said.ids or [*self._engine.chat.encode(said.text), *end]
        first = said.first_s if said.first_s is not None else said.seconds
        flat = (row.visual_tokens,) * self._engine.depth
        now = prefilled(row.images, said.cached_tokens)
        return Reply(
            ids=ids,
            ended=ended,
            closed=ended,
            seconds=said.seconds,
            visual=VisualTokens(row.visual_tokens, flat, flat, (row.total,) * self._engine.depth),
            times=Times(prefill_s=first, decode_s=said.seconds - first),
            prompt_tokens=said.prompt_tokens,
            cached_tokens=said.cached_tokens,
            processed=None if processed is None or now is None else processed + now,
        )


def _of_server(prepared: Prepared) -> ServedPrepared:
    assert isinstance(prepared, ServedPrepared)
    return prepared


def _adjacent(before: ServedPrepared, between: str, turn: Turn) -> tuple[list[Message], list[Message]]:
    """Both forms of a conversation that goes on without the template's line break.

    No template leaves it out. So what follows goes into the same user message, its control tokens written out.
    """
    content = [{"type": "text", "text": between}, *turn.content]
    (more,) = as_sent([{"role": "user", "content": content}], turn.views)
    *earlier, last = before.local
    *sent, opened = before.sent
    return (
        [*earlier, {**last, "content": [*parts_of(last), *content]}],
        [*sent, {**opened, "content": [*opened["content"], *more["content"]]}],
    )
