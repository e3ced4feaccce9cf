"""The tiny checkpoint's tokenizer: recurring phrases of the suite's prompts are one token each, answers are spelt out.

Bytes, the words that answers are made of, and the phrases between them; any other text still tokenises, byte by byte.
Prompts get so short that a model can be trained on two cores.
"""

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lmms_awares.crops import CROPS
from lmms_awares.mini.drawing import COLOURS, SHAPES
from lmms_awares.mini.random_checkpoint import SPECIAL_TOKENS, finish_tokenizer

_WORDS = (*COLOURS, *SHAPES, "yes", "no", *(crop.name for crop in CROPS.values()))
# Single capitals and digits, and the words, each a piece of its own; and what is special anyway.
_PIECES = re.compile(
    rf"(?<![A-Za-z_])[A-Z](?![A-Za-z_])|[0-9]|\b(?:{'|'.join(_WORDS)})\b|" + "|".join(map(re.escape, SPECIAL_TOKENS))
)
_LEAST = 10  # times that a phrase must occur


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer with phrases from `texts`; the same texts give the same tokenizer."""
    counts = Counter(phrase for text in texts for phrase in _PIECES.split(text) if len(phrase) > 1)
    phrases = sorted(phrase for phrase, count in counts.items() if count >= _LEAST)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    finished = finish_tokenizer(tokenizer)
    finished.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in _WORDS])
    finished.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])
    return finished
