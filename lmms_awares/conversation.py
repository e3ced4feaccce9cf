"""Multi-turn generation on one KV cache, for a batch of conversations.

The state of a batch is a left-padded matrix of token ids with a mask; pads and the columns behind a row's end of turn
are holes that no later token may see. A further turn encodes only its new images, gets explicit M-RoPE positions for
the whole conversation from `get_rope_index`, and continues on the cache. Nothing depends on the rope state that the
model keeps between calls. Equality to a fresh full prefill is tested in tests/test_conversation.py.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, GenerationConfig, Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling


@dataclass(frozen=True)
class Segment:
    """One tokenised stretch of a conversation: a prompt, or the user turn that answers a tool call.

    Attributes:
        ids: [L] int64; every image's placeholder is already repeated once per visual token.
        is_image: [L] bool; True at image placeholders.
        pixels: [P, 1176] float32 patches of the segment's images, in order; None without images.
        grids: [n, 3] int64 (t, h, w) patch grids of those images.
    """

    ids: torch.Tensor
    is_image: torch.Tensor
    pixels: torch.Tensor | None
    grids: torch.Tensor


@dataclass(frozen=True)
class Reply:
    """One assistant turn.

    Attributes:
        ids: generated ids up to and including the end of turn, where there is one.
        ended: the turn ended by itself, not at the token limit.
        seconds: wall clock of the whole batch's turn, device synchronised.
        logits: [T, vocab] float32 logits of each generated step, on request.
    """

    ids: list[int]
    ended: bool
    seconds: float
    logits: torch.Tensor | None = None


class Conversation:
    """A batch of conversations with one model.

    Args:
        model: a Qwen2.5-VL.
        prompts: the first turn's prompt of each row.
        eos_token_id: the id that ends an assistant turn.
        pad_token_id: fills pads and holes.
        reuse_cache: False prefills the whole conversation, all images included, in every turn: the reference.
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        prompts: Sequence[Segment],
        *,
        eos_token_id: int,
        pad_token_id: int,
        reuse_cache: bool = True,
    ) -> None:
        self._model = model
        self._eos, self._pad = eos_token_id, pad_token_id
        self._reuse = reuse_cache
        self._segments = [[prompt] for prompt in prompts]
        self._ids, self._is_image, self._mask = self._pad_left(prompts)
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
        started = self._clock()
        past = self._cache.get_seq_length() if self._cache is not None else 0
        out = self._model.generate(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=self._positions(),
            past_key_values=self._cache,
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens,
                do_sample=temperature > 0,
                eos_token_id=self._eos,
                pad_token_id=self._pad,
                suppress_tokens=list(suppress_tokens) or None,
                return_dict_in_generate=True,
                output_logits=return_logits,
                **({"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature > 0 else {}),
            ),
            **self._encode(past),
        )
        seconds = self._clock() - started
        self._cache = out.past_key_values if self._reuse else None
        new = out.sequences[:, self._ids.shape[1] :]
        is_eos = (new == self._eos).long()
        # Up to and including the first end of turn; what `generate` puts behind it is padding.
        spoken = (is_eos.cumsum(1) - is_eos == 0).long()
        kept = spoken if keep is None else spoken * (torch.arange(new.shape[1], device=new.device) < keep)
        self._append(new, torch.zeros_like(new, dtype=torch.bool), kept)
        lengths = spoken.sum(1).tolist()
        logits = torch.stack(out.logits, 1).float() if return_logits else None
        return [
            Reply(
                ids=new[row, :length].tolist(),
                ended=bool(is_eos[row].any()),
                seconds=seconds,
                logits=logits[row, :length] if logits is not None else None,
            )
            for row, length in enumerate(lengths)
        ]

    def _positions(self) -> torch.Tensor:
        """[3, B, L] M-RoPE positions of the whole conversation; holes and pads are skipped."""
        grids = torch.cat([segment.grids for row in self._segments for segment in row])
        positions, _ = self._model.model.get_rope_index(
            self._ids, self._is_image.int(), image_grid_thw=grids.to(self._ids.device), attention_mask=self._mask
        )
        return positions

    def _encode(self, past: int) -> dict[str, object]:
        """Vision features of the images that the cache does not hold yet, in row order."""
        fresh = [segment for row in self._segments for segment in (row[-1:] if past else row)]
        images = [(s.pixels, s.grids) for s in fresh if s.pixels is not None]
        if not images:
            return {}
        device = self._ids.device
        features = self._model.model.get_image_features(
            torch.cat([pixels for pixels, _ in images]).to(device),
            torch.cat([grids for _, grids in images]).to(device),
            return_dict=True,
        )
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features.pooler_output)}}

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

    def _clock(self) -> float:
        if self._ids.is_cuda:
            torch.cuda.synchronize(self._ids.device)
        return time.perf_counter()
