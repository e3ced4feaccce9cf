"""Who decides on crops, and what was decided where the model does not."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Of one sample, before anything is generated.

    Attributes:
        by_model: the model is asked; `call` is empty.
        call: what is said in the model's place; empty for a direct answer.
        crops: ids of the ten that `call` names; empty where it names a box.
    """

    by_model: bool
    call: str = ""
    crops: tuple[str, ...] = ()


ASK = Decision(by_model=True)
DIRECT = Decision(by_model=False)
