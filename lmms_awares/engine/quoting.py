"""Control tokens that somebody's text holds stay text: a question must not close its own turn or add an image.

Tokenizers parse `<|im_end|>` wherever it stands. So each one in a question gets a stand-in before the chat template is
filled in; afterwards the template's own tokens are the only ones left, and what lies between them is encoded as text.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: Unicode keeps them out of texts
_STAND_IN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class Quoting:
    """Stand-ins for the control tokens of one tokenizer, and what they are encoded as."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def quote(self, text: str) -> str:
        """`text` with stand-ins for its control tokens; the same text where it holds none."""
        return self._pattern.sub(lambda found: f"{_OPEN}{self._quoted.index(found[0])}{_CLOSE}", text)

    def unquote(self, text: str) -> str:
        """What `quote` was given."""
        return _STAND_IN.sub(lambda found: self._quoted[int(found[1])], text)

    @staticmethod
    def holds_quotes(text: str) -> bool:
        """True where `text` holds stand-ins, which only `encode` understands."""
        return _OPEN in text

    def encode(self, text: str, placeholder: str, visual_tokens: Sequence[int]) -> list[int]:
        """Ids of a rendered text with stand-ins.

        Args:
            text: control tokens in it are the template's.
            placeholder: the control token that stands for an image.
            visual_tokens: how often to repeat it, for each image in turn.
        """
        ids: list[int] = []
        repeats = iter(visual_tokens)
        for part in re.split(f"({'|'.join(map(re.escape, self.control))})", text):
            if part in self.control:
                count = next(repeats) if part == placeholder else 1
                ids += [self._tokenizer.convert_tokens_to_ids(part)] * count
            elif part:
                ids += self._tokenizer.encode(self.unquote(part), add_special_tokens=False, split_special_tokens=True)
        return ids

    @cached_property
    def control(self) -> list[str]:
        """The tokenizer's control tokens, longest first, so that none hides another that begins with it."""
        special = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        return sorted(special, key=len, reverse=True)

    @cached_property
    def _quoted(self) -> list[str]:
        """What gets a stand-in; the stand-ins' own mark too, so that any text comes back as it was."""
        return [*self.control, _OPEN]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._quoted)))
