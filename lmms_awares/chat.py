"""Asking a checkpoint about one image from Python: the methods of `--model awares`, without lmms-eval."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

from PIL import Image
from pydantic import ValidationError

from lmms_awares.engine.crop_turns import crop_turn, requested
from lmms_awares.engine.given import check_limit, check_loaded, check_pruner, check_question, picture_of
from lmms_awares.engine.local import LocalEngine
from lmms_awares.engine.machine import check_device
from lmms_awares.engine.opening import open_engine
from lmms_awares.engine.rounds import two_rounds
from lmms_awares.engine.turns import Decoding, Engine, Opening, Reply, Turn
from lmms_awares.errors import ConfigError
from lmms_awares.families import Model
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol import GetCrops, ToolCall, format_call
from lmms_awares.protocol.prompts import Prompt, PromptError, foreign_prompt, load_prompt, published_prompt_for
from lmms_awares.pruning import Pruner
from lmms_awares.views import ViewPlan, plan_views, show

Policy = Literal["model", "never", "always_full", "full"]


@dataclass(frozen=True)
class Answer:
    """What a checkpoint said about an image, and what it saw.

    Attributes:
        answer: the last turn's text.
        crops: ids of the crops that were shown, in order; empty for a direct answer.
        visual_tokens: T, over all turns, each counted once; a mean over layers where a pruner acts inside the model.
        rtr: T / N_full.
        turns: the assistant's texts, first to last.
    """

    answer: str
    crops: tuple[str, ...]
    visual_tokens: int | float
    rtr: float
    turns: tuple[str, ...]


class Chat:
    """A checkpoint that answers questions, one image at a time.

    Args:
        engine: who answers.
        prompt: system prompt that offers the crop tool.
    """

    def __init__(self, engine: Engine, prompt: Prompt) -> None:
        self._engine, self._prompt = engine, prompt
        self._protocol = GetCrops()
        # A model in this process has one set of hooks and one tokenizer; a server takes several talks at a time.
        self._turn: AbstractContextManager[object] = Lock() if engine.parallel == 1 else nullcontext()

    def ask(
        self,
        image: str | Path | bytes | Image.Image,
        question: str,
        *,
        policy: Policy = "model",
        pruner: Pruner | None = None,
        max_new_tokens: int = 128,
    ) -> Answer:
        """Answer a question about an image, greedily.

        Args:
            image: a Pillow image, a file's path, or encoded bytes.
            policy: who decides what is seen. `model`: the low-res view, then what the model calls for; `never`: the
                low-res view alone, no tool offered; `always_full`: the low-res view and a call for the whole image;
                `full`: the full view in one turn.
            pruner: drops visual tokens of every view.
            max_new_tokens: of the answer; a call may take up to 64 whatever this is.

        Raises:
            ConfigError: an argument of another type, an unknown policy, a limit below 1, or a pruner that cannot serve
                the model or a second turn; a server that counts other tokens.
            PruningError: the model is inside a `with pruner(model)` block.
            OSError, ValueError: an image that cannot be read or that the processor refuses.
            SampleError: a conversation longer than the model's context; a server that gives no reply.

        Example:
            reply = chat.ask("receipt.jpg", "What is the total?", pruner=VisionZip(0.5))
            print(reply.answer, reply.crops, f"{reply.rtr:.2f}")
        """
        engine, decoding = self._checked(question, policy, pruner, max_new_tokens)
        picture = picture_of(image)
        with self._turn:
            return self._answer(engine, picture, question, policy, decoding)

    def _answer(
        self, engine: Engine, picture: Image.Image, question: str, policy: Policy, decoding: Decoding
    ) -> Answer:
        low, high = engine.pixel_limits
        plan = plan_views(*picture.size, min_pixels=low, max_pixels=high, token_side=engine.family.token_side)
        content = [{"type": "image"}, {"type": "text", "text": engine.quote(question)}]
        offered = self._prompt.text if policy in ("model", "always_full") else None
        view = show(picture, plan, "full" if policy == "full" else "lowres")
        prompt = engine.prepare(Opening([{"role": "user", "content": content}], offered, [view]))
        talk = engine.start([prompt])
        keep = self._protocol.keep

        if policy == "always_full" and not plan.lowres_is_full:
            call = ToolCall(("all",), "valid", format_call(("all",)))
            talk.say([call.text])
            talk.continue_rows([0], [talk.prepare(0, crop_turn(picture, plan, call))])
            (final,) = talk.generate(decoding)
            return _answer(plan, requested(plan, call), final, (call.text, engine.decode(final.ids)))
        if policy != "model":
            (final,) = talk.generate(decoding)
            return _answer(plan, (), final, (engine.decode(final.ids),))

        def read(row: int, reply: Reply) -> tuple[ToolCall, Turn] | None:
            found = self._protocol.read(engine.decode(reply.ids[:keep]))
            return None if found is None else (found, crop_turn(picture, plan, found))

        first = Decoding(max(decoding.max_new_tokens, keep))
        (said,) = two_rounds(talk, read, first=first, second=decoding, keep=keep)
        if said.error is not None:
            raise said.error
        if said.second is None:
            return _answer(plan, (), said.first, (engine.decode(said.first.ids[: decoding.max_new_tokens]),))
        texts = (engine.decode(said.first.ids[:keep]), engine.decode(said.second.reply.ids))
        return _answer(plan, requested(plan, said.second.call), said.second.reply, texts)

    def _checked(
        self, question: str, policy: str, pruner: Pruner | None, max_new_tokens: int
    ) -> tuple[Engine, Decoding]:
        check_question(question)
        check_limit(max_new_tokens)
        check_pruner(pruner)
        if policy not in get_args(Policy):
            raise ConfigError(f"policy={policy!r} is none of {', '.join(get_args(Policy))}")
        if pruner is not None and not pruner.second_prefill and policy in ("model", "always_full"):
            raise ConfigError(f"{pruner.name} cannot prune the crops of a second turn; give policy='full' or 'never'")
        decoding = Decoding(max_new_tokens)
        if pruner is None:
            return self._engine, decoding
        if not isinstance(self._engine, LocalEngine):
            raise ConfigError(f"{pruner.name} acts inside the model, where a server lets nobody in; load it here")
        return self._engine.with_pruner(pruner), decoding


def load(
    pretrained: str | Path | None = None,
    *,
    model: Model | None = None,
    processor: Any = None,
    adapter: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    base_url: str | None = None,
    served_model: str | None = None,
    api_key_env: str | None = None,
) -> Chat:
    """Load a checkpoint, or take one that is loaded or served.

    A published checkpoint gets the prompt that it was trained with, if `awares prompts import` has fetched it.

    Args:
        pretrained: folder or hub id.
        model, processor: both, in place of `pretrained`.
        adapter: folder or hub id of a PEFT adapter, merged into the weights.
        device: default: the first GPU, else the CPU.
        dtype: `auto`, `float32`, `bfloat16` or `float16`; default: the checkpoint's own.
        base_url: an OpenAI-compatible server that serves `pretrained`, which then lends its tokenizer alone.
        served_model, api_key_env: the checkpoint's name there, and the environment variable that holds the key.

    Raises:
        ConfigError: neither or both of `pretrained` and `model`; a checkpoint, a server or a setting that cannot be
            used.

    Example:
        chat = lmms_awares.load("Qwen/Qwen2.5-VL-7B-Instruct", base_url="http://127.0.0.1:8000/v1")
    """
    if (pretrained is None) == (model is None) or (model is None) != (processor is None):
        raise ConfigError("give either pretrained=CHECKPOINT, or model=... and processor=... together")
    given = {"adapter": adapter, "device": device, "dtype": dtype, "base_url": base_url}
    given |= {"served_model": served_model, "api_key_env": api_key_env}
    if model is not None:
        if any(given.values()):
            raise ConfigError(f"{', '.join(given)} go with pretrained=CHECKPOINT; a loaded model has its own")
        check_loaded(model, processor)
        return Chat(LocalEngine(model.eval(), processor), load_prompt("own"))
    if base_url is not None and device is not None:
        raise ConfigError("device has no effect with base_url: it is the server's; leave it out")
    if device is not None:
        check_device(device, "device=")
    import torch

    settings = given | {"pretrained": pretrained}
    del settings["device"]
    try:
        args = CommonArgs.model_validate({name: str(value) for name, value in settings.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = f"{where}: {first['msg']} (got {first['input']!r})" if where else str(first["ctx"]["error"])
        raise ConfigError(told) from None
    return Chat(open_engine(args, device or ("cuda" if torch.cuda.is_available() else "cpu")), _prompt_for(args))


def _prompt_for(args: CommonArgs) -> Prompt:
    """The published prompt of a published checkpoint; where it is not imported, our own with a warning."""
    published = published_prompt_for(args.adapter or "") or published_prompt_for(args.pretrained)
    if published is not None:
        try:
            return load_prompt(published)
        except PromptError:
            warnings.warn(foreign_prompt(args.pretrained, args.adapter, load_prompt("own")) or "", stacklevel=3)
    return load_prompt("own")


def _answer(plan: ViewPlan, crops: tuple[str, ...], last: Reply, turns: tuple[str, ...]) -> Answer:
    seen = last.visual.counted
    return Answer(turns[-1].strip(), crops, seen, seen / plan.full_tokens, turns)
