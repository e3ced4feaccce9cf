"""From chat messages and images to token segments, through the checkpoint's own template and processor."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from transformers import Qwen2_5_VLProcessor, Qwen3VLProcessor

from lmms_awares.engine.conversation import Segment
from lmms_awares.engine.quoting import Quoting
from lmms_awares.engine.turns import Message
from lmms_awares.errors import ConfigError

_QWENS_END = "<|im_end|>"
_QUESTION, _SENTINEL, _NEXT = "@@user-turn@@", "@@assistant-turn@@", "@@next-turn@@"


class ChatFormat:
    """Renders the turns of a conversation for one checkpoint.

    Args:
        processor: the checkpoint's.
        end_ids: ids that end a turn by the checkpoint's generation config; template and tokenizer know others.
    """

    def __init__(self, processor: Qwen2_5_VLProcessor | Qwen3VLProcessor, end_ids: Sequence[int] = ()) -> None:
        self._processor = processor
        self._checkpoint_ends = end_ids
        self._quoting = Quoting(processor.tokenizer)

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer."""
        return self._processor.tokenizer

    @property
    def pixel_limits(self) -> tuple[int, int]:
        """(min_pixels, max_pixels) in force."""
        size = self._processor.image_processor.size
        return size["shortest_edge"], size["longest_edge"]

    @property
    def token_side(self) -> int:
        """Px of a visual token's side."""
        images = self._processor.image_processor
        return int(images.patch_size * images.merge_size)

    @property
    def image_token_id(self) -> int:
        """Placeholder id of an image."""
        return int(self._processor.image_token_id)

    @property
    def vision_token_ids(self) -> list[int]:
        """Placeholder ids, which a model must not generate where another turn may follow."""
        return [self.image_token_id, self._processor.video_token_id]

    def quote(self, text: str) -> str:
        """`text` for a message's content, so that control tokens in it are read as text; else it is trusted."""
        return self._quoting.quote(text)

    def render(self, messages: Sequence[Message], system: str | None) -> str:
        """Text of the prompt, one placeholder per image, ready for the assistant's turn; see `with_system`."""
        return self._template(self.with_system(messages, system))

    def with_system(self, messages: Sequence[Message], system: str | None) -> list[Message]:
        """The messages with `system` in front of a system message that the task may bring.

        None leaves the template's default.
        """
        messages = list(messages)
        if system is not None:
            own = [{"type": "text", "text": system}]
            if messages and messages[0]["role"] == "system":
                own += [{"type": "text", "text": "\n\n"}, *messages.pop(0)["content"]]
            messages.insert(0, {"role": "system", "content": own})
        return messages

    def render_messages(self, messages: Sequence[Message]) -> str:
        """Text of a whole conversation, one placeholder per image, ready for the assistant's turn."""
        return self._template(list(messages))

    def count(self, text: str, visual_tokens: int) -> int:
        """Tokens of a rendered text whose images cost `visual_tokens` together."""
        ids = self.encode(text)
        return len(ids) - ids.count(self.image_token_id) + visual_tokens

    def encode(self, text: str) -> list[int]:
        """Ids of a text; the control tokens in it are control tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def holds_quotes(self, text: str) -> bool:
        """True where `quote` put a stand-in into `text`."""
        return self._quoting.holds_quotes(text)

    def between(self, reply: str) -> str:
        """What stands between a user's content and the next user's where the template's line break is left out.

        The end of the first turn, the assistant's turn with `reply`, and the header of the next user turn.
        """
        text = self._template([*self._stub, {"role": "user", "content": [{"type": "text", "text": _NEXT}]}])
        ahead, behind = text.partition(_SENTINEL)[::2]
        header = behind.partition(_NEXT)[0].removeprefix(self.closing).removeprefix("\n")
        return ahead.rpartition(_QUESTION)[2] + reply + self.closing + header

    def segment(self, text: str, images: Sequence[Image.Image], *, at_grid: bool = False) -> Segment:
        """Tokenise `text` with its images; each placeholder is repeated once per visual token.

        `at_grid`: the images' sizes are final, multiples of `token_side`, even where they are below `min_pixels`.
        """
        low, high = self.pixel_limits
        size = {"shortest_edge": self.token_side**2 if at_grid else low, "longest_edge": high}
        batch = self._processor(
            text=[text], images=list(images) or None, images_kwargs={"size": size}, return_tensors="pt"
        )
        ids, is_image = batch["input_ids"][0], batch["mm_token_type_ids"][0] == 1
        grids = batch.get("image_grid_thw", torch.zeros(0, 3, dtype=torch.long))
        visual = (grids.prod(1) // self._processor.image_processor.merge_size**2).tolist()
        if self._quoting.holds_quotes(text):
            ids = torch.tensor(self._quoting.encode(text, self._processor.image_token, visual))
            is_image = ids == self._processor.image_token_id
        return Segment(ids, is_image, batch.get("pixel_values"), grids, tuple(visual))

    def crop_turn(self, crops: Sequence[Image.Image], *, ended: bool, at_grid: bool = False) -> Segment:
        """The user turn that answers a crop call: only images (protocol), then the assistant's header."""
        return self.user_turn([{"type": "image"} for _ in crops], crops, ended=ended, at_grid=at_grid)

    def user_turn(
        self,
        content: Sequence[dict[str, Any]],
        images: Sequence[Image.Image],
        *,
        ended: bool,
        adjacent: bool = False,
        at_grid: bool = False,
    ) -> Segment:
        """A user turn of text and images behind an assistant's, then the assistant's header.

        Args:
            content: the message's parts; one {"type": "image"} per image.
            ended: the assistant's turn closed itself; where it ran into its limit, the closing token comes with this
                segment.
            adjacent: leave out the line break that the template writes behind the closing token.
            at_grid: as for `segment`.
        """
        turn = self.user_turn_text(content)
        turn = turn.removeprefix("\n") if adjacent else turn
        return self.segment(turn if ended else self.closing + turn, images, at_grid=at_grid)

    def user_turn_text(self, content: Sequence[dict[str, Any]]) -> str:
        """Text of a user turn behind an assistant's that closed itself, and the assistant's header."""
        text = self._template([*self._stub, {"role": "user", "content": list(content)}]).partition(_SENTINEL)[2]
        return text.removeprefix(self.closing)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def encode_reply(self, text: str) -> list[int]:
        """Ids of an assistant turn with this text, end of turn included."""
        return [*self.encode(text), self.end_ids[0]]

    @cached_property
    def closing(self) -> str:
        """The token that the template writes behind an assistant's turn.

        Raises:
            ConfigError: it writes none.
        """
        text = self._template([*self._stub, *self._stub[:1]]).partition(_SENTINEL)[2]
        closing = next((token for token in self._quoting.control if text.startswith(token)), None)
        if closing is None:
            raise ConfigError(
                "the chat template ends an assistant's turn with no special token; use the checkpoint's own"
            )
        return closing

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end an assistant's turn: of the template's closing token first, then of every other end known."""
        names = [name for name in (self.closing, _QWENS_END) if name in self.tokenizer.get_vocab()]
        known = (*self.tokenizer.convert_tokens_to_ids(names), self.tokenizer.eos_token_id, *self._checkpoint_ends)
        return tuple(dict.fromkeys(known))

    @cached_property
    def _stub(self) -> list[Message]:
        return [
            {"role": "user", "content": [{"type": "text", "text": _QUESTION}]},
            {"role": "assistant", "content": [{"type": "text", "text": _SENTINEL}]},
        ]

    def _template(self, messages: list[Message]) -> str:
        return self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
