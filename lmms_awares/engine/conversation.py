"""Multi-turn generation on one KV cache, for a batch of conversations.

The state of a batch is a left-padded matrix of token ids with a mask. After turn 1 and a user turn, two rows:

    column   0  1  2  3  4  5  6 │ 7  8  9 10 │11 12 13 14
    row 0    S  i  i  i  i  q  A │ c  a  l  / │ U  i  i  A      S system, i image, q question, A assistant's header,
    row 1    .  .  S  i  i  q  A │ y  /  .  . │ .  U  i  A      call, y(es), / end of turn, U user's header
    _mask    1 1 1 1 1 1 1  ...    1 for what a row holds, 0 for pads and holes (.)
    _is_image  True at i

What stands behind a row's end of turn is a hole that no later token may see. A further turn encodes only its new
images, gets explicit M-RoPE positions for the whole conversation from `get_rope_index`, and continues on the cache.
Nothing depends on the rope state that the model keeps between calls. Equality to a fresh full prefill is tested in
tests/test_conversation.py.

The language model gets a packed copy: `_columns[row, k]` is the matrix column that packed column k shows, -1 for a pad.
With a pruner that keeps the second of row 0's four image tokens, and both of row 1's:

    _columns  row 0  -1  0  2  5  6 │ 7  8  9 10 │11 12 13 14      (1, 3 and 4 were dropped)
              row 1   2  3  4  5  6 │ 7  8  9 10 │-1 12 13 14      (9 and 10 are holes: shown, and masked)

Each packed column has the position that it has in the whole conversation, as if nothing had been dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, GenerationConfig, StoppingCriteriaList

from lmms_awares.engine.clock import Stages
from lmms_awares.engine.turns import Reply
from lmms_awares.families import Family, Model, family_of
from lmms_awares.pruning.base import Kept, Pruner
from lmms_awares.pruning.prefill import without_pruned
from lmms_awares.tokens import Left, VisualTokens, to_bits


@dataclass(frozen=True)
class Segment:
    """One tokenised stretch of a conversation: a prompt, or the user turn that answers a tool call.

    Attributes:
        ids: [L] int64; every image's placeholder is already repeated once per visual token.
        is_image: [L] bool; True at image placeholders.
        pixels: [P, 3 * 2 * patch²] float32 patches of the segment's images, in order; None without images.
        grids: [n, 3] int64 (t, h, w) patch grids of those images.
        visual_tokens: of each of those images.
    """

    ids: torch.Tensor
    is_image: torch.Tensor
    pixels: torch.Tensor | None
    grids: torch.Tensor
    visual_tokens: tuple[int, ...]


class Conversation:
    """A batch of conversations with one model.

    Args:
        model: of one of `lmms_awares.families`.
        prompts: the first turn's prompt of each row.
        end_ids: ids that end an assistant turn; the first is the one that the chat template writes.
        pad_token_id: fills pads and holes.
        reuse_cache: False prefills the whole conversation, all images included, in every turn: the reference.
        pruner: drops visual tokens of every image, in every turn.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Segment],
        *,
        end_ids: Sequence[int],
        pad_token_id: int,
        reuse_cache: bool = True,
        pruner: Pruner | None = None,
    ) -> None:
        self._model, self._family = model, family_of(model.config)
        self._pruner, self._prunes = pruner or Pruner(1), pruner is not None
        self._ends, self._pad = list(end_ids), pad_token_id
        self._reuse = reuse_cache
        self._segments = [[prompt] for prompt in prompts]
        self._ids, self._is_image, self._mask = self._pad_left(prompts)
        # [B, P] column of the matrix that each packed column shows, -1 for a pad; the first `_packed` ones are in it.
        self._columns, self._packed = self._ids[:, :0], 0
        self._cache: DynamicCache | None = None

    def say(self, replies: Sequence[Sequence[int]]) -> None:
        """Put assistant turns into the rows' mouths instead of generating them."""
        device = self._ids.device
        ids = pad_sequence([torch.tensor(r) for r in replies], batch_first=True, padding_value=self._pad)
        kept = pad_sequence([torch.ones(len(r), dtype=torch.long) for r in replies], batch_first=True)
        self._append(ids.to(device), torch.zeros_like(ids, dtype=torch.bool).to(device), kept.to(device))

    def continue_rows(self, rows: Sequence[int], turns: Sequence[Segment]) -> None:
        """Keep only `rows`, and append a user turn to each of them."""
        index = torch.tensor(rows, device=self._ids.device)
        self._segments = [[*self._segments[row], turn] for row, turn in zip(rows, turns, strict=True)]
        self._ids, self._is_image, self._mask = self._ids[index], self._is_image[index], self._mask[index]
        self._columns = self._columns[index]
        if self._cache is not None:
            self._cache.batch_select_indices(index)
        self._append(*self._pad_left(turns))

    @torch.inference_mode()
    def generate(
        self,
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        suppress_tokens: Sequence[int] = (),
        keep: int | None = None,
        return_logits: bool = False,
    ) -> list[Reply]:
        """Generate every row's next assistant turn, greedily for temperature 0, and append it.

        Args:
            max_new_tokens: limit per row.
            suppress_tokens: ids that must not be generated.
            keep: tokens of a turn that stay in the conversation; what a row generates beyond is a hole.
        """
        stages = Stages(self._ids.device)
        prompts, cached = self._mask.sum(1).tolist(), self._cached()
        with self._pruner.attached(self._model):
            images = self._encode()
            stages.mark_encoded()
            self._pack(images)
            ids, mask = self._shown()
            out = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                position_ids=self._positions(),
                past_key_values=self._cache,
                stopping_criteria=StoppingCriteriaList([stages]),
                generation_config=GenerationConfig(
                    max_new_tokens=max_new_tokens,
                    do_sample=temperature > 0,
                    eos_token_id=self._ends,
                    pad_token_id=self._pad,
                    suppress_tokens=list(suppress_tokens) or None,
                    return_dict_in_generate=True,
                    output_logits=return_logits,
                    **({"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature > 0 else {}),
                ),
                **_as_features(self._family, images),
            )
            seconds, times = stages.finish()
            visual = self._count()
        self._cache = out.past_key_values if self._reuse else None
        new = out.sequences[:, ids.shape[1] :]
        is_end = torch.isin(new, torch.tensor(self._ends, device=new.device)).long()
        # Up to and including the first end of turn; what `generate` puts behind it is padding, which may look like one.
        spoken = (is_end.cumsum(1) - is_end == 0).long()
        is_closing = (new == self._ends[0]).long()
        kept = spoken * (1 - is_end + is_closing)
        if keep is not None:
            kept = kept * (torch.arange(new.shape[1], device=new.device) < keep)
        self._append(new, torch.zeros_like(new, dtype=torch.bool), kept)
        self._columns = torch.cat(
            [self._columns, torch.arange(self._packed, self._ids.shape[1], device=new.device).expand_as(new)], 1
        )
        self._packed = self._ids.shape[1]
        lengths = spoken.sum(1).tolist()
        logits = torch.stack(out.logits, 1).float() if return_logits else None
        return [
            Reply(
                ids=new[row, :length].tolist(),
                ended=bool(is_end[row].any()),
                closed=bool((spoken[row] * is_closing[row]).any()),
                seconds=seconds,
                visual=visual[row],
                times=times,
                prompt_tokens=prompts[row],
                cached_tokens=cached[row],
                logits=logits[row, :length] if logits is not None else None,
            )
            for row, length in enumerate(lengths)
        ]

    def _encode(self) -> list[Kept]:
        """What is left of the images that the cache does not hold yet, in row order, encoded and pruned."""
        images = [
            (segment.pixels, segment.grids, question_of(row, self._ends[0]))
            for row in self._segments
            for segment in self._fresh(row)
            if segment.pixels is not None
        ]
        if not images:
            return []
        pixels, grids = torch.cat([pixels for pixels, _, _ in images]), torch.cat([grids for _, grids, _ in images])
        encoded = self._family.encode(self._model, pixels, grids)
        questions = [question for _, own, question in images for _ in own]
        return self._pruner.prune(self._model, encoded, pixels, grids, questions)

    def _fresh(self, row: list[Segment]) -> list[Segment]:
        return row if self._cache is None else row[-1:]

    def _pack(self, images: Sequence[Kept]) -> None:
        """Add to the packed columns what is new, without holes and without what was pruned."""
        if self._cache is None:
            self._columns, self._packed = self._ids[:, :0], 0
        waiting = iter(images)
        rows = []
        for row, segments in enumerate(self._segments):
            columns = self._mask[row, self._packed :].nonzero().flatten() + self._packed
            sizes = [size for segment in self._fresh(segments) for size in segment.visual_tokens]
            of_images = columns[self._is_image[row, columns]].split(sizes)
            rows.append(without_pruned(columns, [(own, next(waiting)) for own in of_images]))
        new = pad_sequence(rows, batch_first=True, padding_value=-1, padding_side="left")
        self._columns = torch.cat([self._columns, new], 1)
        self._packed = self._ids.shape[1]

    def _shown(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Packed [B, P] ids and mask."""
        pads, source = self._columns < 0, self._columns.clamp(min=0)
        ids = self._ids.gather(1, source).masked_fill(pads, self._pad)
        return ids, self._mask.gather(1, source).masked_fill(pads, 0)

    def _cached(self) -> list[int]:
        """Tokens of each row that the cache holds; what was generated last is not in it yet."""
        held = 0 if self._cache is None else self._cache.get_seq_length()
        _, mask = self._shown()
        return mask[:, :held].sum(1).tolist()

    def _positions(self) -> torch.Tensor:
        """Packed [3, B, P] M-RoPE positions: those of the whole conversation, where only holes and pads are skipped."""
        grids = torch.cat([segment.grids for row in self._segments for segment in row])
        positions, _ = self._model.model.get_rope_index(
            self._ids, self._is_image.int(), image_grid_thw=grids.to(self._ids.device), attention_mask=self._mask
        )
        return positions.gather(2, self._columns.clamp(min=0).expand(3, -1, -1))

    def _count(self) -> list[VisualTokens]:
        """Visual tokens of each row as of this prefill, layer by layer."""
        _, mask = self._shown()
        shown = self._is_image.gather(1, self._columns.clamp(min=0)) & mask.bool()
        depth = self._model.config.text_config.num_hidden_layers
        counts = zip(self._is_image.sum(1).tolist(), shown.sum(1).tolist(), mask.sum(1).tolist(), strict=True)
        plain = [VisualTokens(made, (kept,) * depth, (kept,) * depth, (held,) * depth) for made, kept, held in counts]
        return self._pruner.ledger(self._located(plain, shown) if self._prunes else plain)

    def _located(self, counts: Sequence[VisualTokens], shown: torch.Tensor) -> list[VisualTokens]:
        """Add to each row's counts where the tokens are. `shown`: packed [B, P] bool, True at visual tokens."""
        left = torch.zeros_like(self._is_image)
        rows, places = shown.nonzero(as_tuple=True)
        left[rows, self._columns[rows, places]] = True
        flags, is_image, merge = left.cpu(), self._is_image.cpu(), self._family.merge
        return [
            replace(
                tokens,
                grids=tuple((w // merge, h // merge) for segment in row for _, h, w in segment.grids.tolist()),
                left=(Left(None, to_bits(own[images].tolist())),),
            )
            for tokens, row, own, images in zip(counts, self._segments, flags, is_image, strict=True)
        ]

    def _append(self, ids: torch.Tensor, is_image: torch.Tensor, mask: torch.Tensor) -> None:
        self._ids = torch.cat([self._ids, ids], 1)
        self._is_image = torch.cat([self._is_image, is_image], 1)
        self._mask = torch.cat([self._mask, mask], 1)

    def _pad_left(self, segments: Sequence[Segment]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        device = self._model.device

        def pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
            return pad_sequence(rows, batch_first=True, padding_value=value, padding_side="left").to(device)

        return (
            pad([s.ids for s in segments], self._pad),
            pad([s.is_image for s in segments], 0).bool(),
            pad([torch.ones_like(s.ids) for s in segments], 0),
        )


def question_of(segments: Sequence[Segment], closing_id: int) -> torch.Tensor:
    """[t] ids of the question about a conversation's images: what the first turn with images says behind the last one.

    From behind that image's `<|vision_end|>` up to the end of the turn: no template, no system prompt, and for the
    images of later turns the same question. Empty where that turn says nothing there.
    """
    first = next(segment for segment in segments if segment.is_image.any())
    behind = first.ids[int(first.is_image.nonzero().amax()) + 2 :]
    return behind[(behind == closing_id).cumsum(0) == 0]


def _as_features(family: Family, images: Sequence[Kept]) -> dict[str, object]:
    """`images` as the model takes them."""
    return {"mm_encoder_outputs": {"image": family.output(images)}} if images else {}
