"""`--model_args` of the models that speak the protocols of others."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from lmms_awares.models.common_args import CommonArgs
from lmms_awares.models.control_args import Policy
from lmms_awares.protocol import adaptvision, ergo, visionthink
from lmms_awares.protocol.adaptvision import BoxMap
from lmms_awares.protocol.prompts import PUBLISHED, Prompt, load_prompt


def load_parts(spec: str, published: str, own: Mapping[str, str]) -> dict[str, Prompt]:
    """Load the texts of all turns: those of a published set, or our own with `spec` as the system prompt.

    Args:
        spec: as `load_prompt` takes it.
        published: name of the protocol's published set; a published `spec` must have all of its parts.
        own: our own texts by part; `system` is one.

    Raises:
        PromptError: see `load_prompt`.
    """
    parts, turns = (PUBLISHED[published], spec) if spec in PUBLISHED else (own, "own")
    loaded = {part: load_prompt(turns, part, own=own) for part in parts if part != "system"}
    return {"system": load_prompt(spec, own=own), **loaded}


class VisionThinkArgs(CommonArgs):
    """Arguments of `visionthink`; a `prompt` that is `default` or a file replaces our system prompt only."""

    default_prompt: ClassVar[str] = "own"

    def load_prompts(self) -> dict[str, Prompt]:
        """The system prompt, and what the user turns say: see `lmms_awares.protocol.VisionThink`."""
        return load_parts(self.prompt_spec, "visionthink", visionthink.OWN_PROMPTS)


class BoxArgs(CommonArgs):
    """Arguments that the models with published box protocols share."""

    policy: Policy = "model"

    @property
    def prompt_spec(self) -> str:
        """Our tool prompt, except under `never`, which offers no tool."""
        return self.prompt or ("default" if self.policy == "never" else "own")


class AdaptVisionArgs(BoxArgs):
    """Arguments of `adaptvision`; a `prompt` that is `default` or a file replaces our system prompt only.

    Attributes:
        policy: who decides on the box: the `model`; or a control: `never` (the half-size view, no tool offered),
            `always_full` (the whole image), `random` (no call half of the time, else a box drawn at random, seeded),
            `oracle` (the document's `evidence_box`, unless `lowres_suffices`).
        box_map: from the view's px to the full view's: `ratio`, by what the views' sides really are to each other;
            `double`, by 2, as the authors' adapter does, with black where a box then leaves the full view.
    """

    box_map: BoxMap = "ratio"

    def load_prompts(self) -> dict[str, Prompt]:
        """The system prompt, and what the user turns say: see `lmms_awares.protocol.AdaptVision`."""
        return load_parts(self.prompt_spec, "adaptvision", adaptvision.OWN_PROMPTS)


class ErgoArgs(BoxArgs):
    """Arguments of `ergo`; a `prompt` that is `default` or a file replaces our system prompt only.

    Attributes:
        policy: who decides on the box: the `model`; or a control: `never` (the first view alone, no box asked for),
            `random` (half of the time the whole view, else a box drawn at random, seeded), `oracle` (the document's
            `evidence_box`, or the whole view where there is none or the low-res view suffices).
        max_vision_tokens: visual tokens of the first view, and of a crop, about: sides are rounded as in the release.
    """

    policy: Literal["model", "never", "oracle", "random"] = "model"
    max_vision_tokens: int = Field(default=ergo.MAX_VISION_TOKENS, ge=4)

    def load_prompts(self) -> dict[str, Prompt]:
        """The system prompt, and what the user turns say: see `lmms_awares.protocol.Ergo`."""
        return load_parts(self.prompt_spec, "ergo", ergo.OWN_PROMPTS)
