"""The tiny checkpoint's tokenizer: whole phrases of the suite's prompts are single tokens, every answer is spelt out.

A byte-level BPE without word boundaries, cut only around the words and characters that answers are made of; any other
text still tokenises, byte by byte.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lmms_awares.mini.drawing import COLOURS, SHAPES
from lmms_awares.mini.random_checkpoint import finish_tokenizer

VOCABULARY = 720  # tokens, before the special ones
_WORDS = (*COLOURS, *SHAPES, "yes", "no", "left", "right")
# Single capitals and digits, and the words, each a piece of its own.
_PIECES = rf"(?<![A-Za-z_])[A-Z](?![A-Za-z_])|[0-9]|\b(?:{'|'.join(_WORDS)})\b"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learn the merges from `texts`; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(texts), trainer)
    return finish_tokenizer(tokenizer)
