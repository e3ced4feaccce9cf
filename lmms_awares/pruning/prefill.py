"""Pruning of a plain `forward` or `generate` of transformers: the prefill sees a shorter prompt than the caller gave.

    given     [B, L]   .  .  text  I I I I I I  text        one row; `.` is a pad, `I` a visual token
    packed    [B, P]      .  text  I I I  text              kept tokens only, at the positions that they had in `given`

A hook in front of the model replaces the given prompt by the packed one, so `generate` goes on as if nothing had
happened: it returns the whole prompt's ids, while the KV cache holds P columns. The same hook gives each decoded token
its position behind the whole prompt, and the mask of the packed one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache

from lmms_awares.families import Model, family_of
from lmms_awares.pruning.encoded import Kept, PruningError

Keywords = dict[str, Any]


def cache_of(kwargs: Keywords) -> DynamicCache | None:
    """Return the KV cache of a layer's or model's arguments; transformers 5.24 renamed `past_key_values` to `cache`."""
    return kwargs["cache"] if "cache" in kwargs else kwargs["past_key_values"]


def is_prefill(name: str, tokens: int, cache: DynamicCache | None) -> bool:
    """Return True where a forward pass over `tokens` columns fills an empty cache, False where it decodes one column.

    Raises:
        PruningError: a prefill on a filled cache, or a cache whose layers cannot differ in length.
    """
    if cache is not None and type(cache) is not DynamicCache:
        raise PruningError(f"{name} needs a DynamicCache, not {type(cache).__name__}")
    filled = cache.get_seq_length() if cache is not None else 0
    if filled and tokens > 1:
        raise PruningError(
            f"{name} prunes one prefill only; this is a second one on a filled cache (a further turn, or generate with "
            "prefill_chunk_size)"
        )
    return not filled


@dataclass
class _Encoded:
    """The latest batch of images of the vision tower.

    Attributes:
        pixels: [P, 3 * 2 * patch²] float32 patches of n images, as the tower got them: in a half-precision model they
            are rounded to it.
        grids: [n, 3] int64 (t, h, w) patch grids.
        output: [sum N_i, D], kept so that no other tensor takes its place in memory.
        starts: each image's number, by the address of its first token in `output`.
        kept: the pruner's choice for each image; None until it was asked.
    """

    pixels: torch.Tensor
    grids: torch.Tensor
    output: torch.Tensor
    starts: dict[int, int]
    kept: list[Kept] | None = None


class PlainPrefill:
    """The hooks of one `with pruner(model)` block.

    Args:
        model: the whole model, language head included.
        name: of the pruner, for messages.
        prune: `Pruner.prune`.
        reads_question: the pruner needs the question's ids.
        once: refuse a second prefill of the same images, as `generate` makes one in each step without a cache.
    """

    def __init__(
        self, model: Model, name: str, prune: Callable[..., list[Kept]], *, reads_question: bool, once: bool
    ) -> None:
        self._model, self._family = model, family_of(model.config)
        self._name, self._prune, self._reads_question, self._once = name, prune, reads_question, once
        self._encoded: _Encoded | None = None
        # [B, P] bool, False at pads, and [B, 1] position of the first decoded token; None where nothing was packed.
        self._packed: tuple[torch.Tensor, torch.Tensor] | None = None

    def hooks(self) -> Iterator[RemovableHandle]:
        """Install a hook on the vision tower and one in front of the model; yield each."""
        yield self._model.model.visual.register_forward_hook(self._note_images, with_kwargs=True)
        yield self._model.model.register_forward_pre_hook(self._enter, with_kwargs=True)

    def _note_images(self, tower: nn.Module, args: tuple[Any, ...], kwargs: Keywords, output: Any) -> None:
        """Note what the tower encoded.

        `generate` encodes before it calls the model, which then gets the features alone.
        """
        pixels, grids = (args[0] if args else kwargs["hidden_states"]), kwargs["grid_thw"]
        features: torch.Tensor = output.pooler_output
        parts = features.split((grids.prod(1) // self._family.merge**2).tolist())
        starts = {part.data_ptr(): number for number, part in enumerate(parts)}
        self._encoded = _Encoded(pixels.detach().float(), grids, features, starts)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: Keywords) -> tuple[tuple[Any, ...], Keywords]:
        """Replace the model's arguments: the prompt in a prefill, position and mask of the new column later."""
        ids, mask, cache = kwargs["input_ids"], kwargs["attention_mask"], cache_of(kwargs)
        if ids is None:
            raise PruningError(f"{self._name} needs input_ids; inputs_embeds do not show where the images are")
        if is_prefill(self._name, ids.shape[1], cache):
            return args, kwargs | self._shortened(kwargs, ids, mask)
        if self._packed is None or cache is None:
            return args, kwargs
        valid, position = self._packed
        spoken = cache.get_seq_length() + 1 - valid.shape[1]
        return args, kwargs | {
            "attention_mask": torch.cat([valid, valid.new_ones(len(valid), spoken)], 1).long(),
            "position_ids": (position + spoken - 1).expand(3, -1, -1),
        }

    def _shortened(self, kwargs: Keywords, ids: torch.Tensor, mask: torch.Tensor | None) -> Keywords:
        """Return the arguments of a prefill that change; none where the prompt has no image."""
        self._packed = None
        if mask is not None and mask.ndim != 2:
            raise PruningError(f"{self._name} needs a mask of [batch, length], not one of {list(mask.shape)}")
        valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        is_image = valid & (ids == self._model.config.image_token_id)
        features, numbers = self._features(kwargs, is_image)
        if not features:
            return {}
        of_rows = _columns_of_images(is_image, [len(embeds) for embeds, _ in features])
        assert self._encoded is not None
        if self._encoded.kept is None:
            questions = [self._question(ids[row], is_image[row]) for row, images in enumerate(of_rows) for _ in images]
            asked = dict(zip(numbers, zip(features, questions, strict=True), strict=True))  # beams say the same again
            self._encoded.kept = self._pruned([asked[number] for number in range(len(asked))])
        elif self._once:
            raise PruningError(f"{self._name} prunes inside the model by the prompt's text; it needs use_cache=True")
        kept = [self._encoded.kept[number] for number in numbers]
        waiting = iter(kept)
        rows = [
            without_pruned(valid[row].nonzero().flatten(), [(columns, next(waiting)) for columns in images])
            for row, images in enumerate(of_rows)
        ]
        source = pad_sequence(rows, batch_first=True, padding_value=-1, padding_side="left")
        positions, _ = self._model.model.get_rope_index(
            ids, is_image.int(), image_grid_thw=self._encoded.grids[numbers], attention_mask=valid.long()
        )
        pads, source = source < 0, source.clamp(min=0)
        self._packed = ~pads, positions.masked_fill(~valid, 0).amax((0, 2))[:, None] + 1
        return {
            "input_ids": ids.gather(1, source).masked_fill(pads, self._model.config.vision_start_token_id),
            "attention_mask": (~pads).long(),
            "position_ids": positions.gather(2, source.expand(3, -1, -1)),
            "mm_encoder_outputs": {"image": self._family.output(kept)},
            "pixel_values": None,
        }

    def _features(self, kwargs: Keywords, is_image: torch.Tensor) -> tuple[list[Any], list[int]]:
        """Return (embeds, levels) per image of the prompt, and its number in `_encoded`; beams share images."""
        encoded = kwargs["mm_encoder_outputs"] or {}
        if kwargs["pixel_values_videos"] is not None or encoded.get("video") is not None:
            raise PruningError(f"{self._name} prunes images only, and the prompt holds a video")
        output = encoded.get("image")
        if kwargs["pixel_values"] is not None:
            pixels, grids = kwargs["pixel_values"], kwargs["image_grid_thw"]
            output = self._model.model.get_image_features(pixels, grids, return_dict=True)
        if output is None:
            if is_image.any():
                raise PruningError(f"{self._name} needs the pixel_values of the images in the prompt")
            return [], []
        features = self._family.split(output)
        starts = self._encoded.starts if self._encoded else {}
        if any(embeds.data_ptr() not in starts for embeds, _ in features):
            raise PruningError(
                f"{self._name} needs pixel_values with the whole prompt: these images were encoded without it, or the "
                "prompt comes in parts; leave out mm_encoder_outputs and prefill_chunk_size"
            )
        return features, [starts[embeds.data_ptr()] for embeds, _ in features]

    def _question(self, ids: torch.Tensor, is_image: torch.Tensor) -> torch.Tensor:
        """Return the [t] ids behind a row's last image up to the end of that turn; empty unless the pruner reads them.

        Same rule as `lmms_awares.engine.conversation.question_of`.
        """
        if not self._reads_question:
            return ids[:0]
        ends = self._model.generation_config.eos_token_id
        known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        behind = ids[int(is_image.nonzero().amax()) + 2 :]
        is_end = torch.isin(behind, torch.tensor(known, dtype=torch.long, device=ids.device))
        if not is_end.any():
            raise PruningError(
                f"{self._name} reads the question, and no end of turn (eos_token_id of the generation config: {known}) "
                "stands behind the last image; write the prompt with the chat template"
            )
        return behind[is_end.cumsum(0) == 0]

    def _pruned(self, asked: Sequence[tuple[Any, torch.Tensor]]) -> list[Kept]:
        assert self._encoded is not None
        features, questions = zip(*asked, strict=True)
        return self._prune(self._model, features, self._encoded.pixels, self._encoded.grids, questions)


def without_pruned(columns: torch.Tensor, images: Sequence[tuple[torch.Tensor, Kept]]) -> torch.Tensor:
    """Drop the columns of pruned tokens from a row.

    Args:
        columns: [L] int64 ascending.
        images: the [N] columns of each image, in order, and the tokens of it that are kept.

    Returns:
        [P] int64: text as it was, kept tokens in the order that the pruner gave.
    """
    parts = []
    for own, kept in images:
        first, last = int(own[0]), int(own[-1])
        parts += [columns[columns < first - kept.lead], first + kept.index.to(columns.device)]
        columns = columns[columns > last]
    return torch.cat([*parts, columns])


def _columns_of_images(is_image: torch.Tensor, sizes: Sequence[int]) -> list[list[torch.Tensor]]:
    """Return, for each row of the [B, L] flags, the columns of each of its images.

    Args:
        is_image: [B, L] bool, True at image placeholders.
        sizes: visual tokens of each image, in the order of the batch.

    Raises:
        PruningError: the images do not fill the placeholders, row by row.
    """
    rows, waiting = [], list(sizes)
    for flags in is_image:
        columns = flags.nonzero().flatten()
        own: list[int] = []
        while sum(own) < len(columns) and waiting:
            own.append(waiting.pop(0))
        if sum(own) != len(columns):
            raise PruningError(f"a prompt has room for {len(columns)} visual tokens, its images have {sum(own)}")
        rows.append(list(columns.split(own)) if own else [])
    if waiting:
        raise PruningError(f"{len(waiting)} images have no place in the prompts")
    return rows
