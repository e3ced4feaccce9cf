"""`--model_args` that make a control of `awares`: somebody else decides, or something else is shown."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, model_validator

from lmms_awares.trace import CropContent

Policy = Literal["model", "never", "always_full", "oracle", "random"]


def _as_text(given: Any) -> Any:
    return "true" if given is True else given  # lmms-eval reads the word as a boolean


class ControlArgs(BaseModel):
    """Arguments of `awares`.

    Attributes:
        policy: who decides on the crops: the `model`; or a control: `never` (low-res view, no tool offered),
            `always_full` (the whole image), `random` (no call half of the time, else one crop of the ten, seeded),
            `oracle` (from the document's `evidence_box` and `lowres_suffices`).
        crops: what the second turn shows: the `true` crops; or a control of as many visual tokens: `blank` (grey),
            `shuffled` (their pixels in a random order), `other` (the same boxes of another document's image).
    """

    policy: Policy = "model"
    crops: Annotated[CropContent, BeforeValidator(_as_text)] = "true"

    @model_validator(mode="after")
    def _crops_are_shown(self) -> "ControlArgs":
        if self.policy == "never" and self.crops != "true":
            raise ValueError(f"crops={self.crops} has no effect with policy=never, which shows none; leave one out")
        return self
