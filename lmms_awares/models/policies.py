"""Control policies: who asks for crops, or for a box, when the model is not asked."""

import random
from collections.abc import Callable
from typing import Any

from lmms_awares.crops import CROPS, FreeBox, target_crops
from lmms_awares.errors import ConfigError, SampleError
from lmms_awares.labels import EVIDENCE, SUFFICES
from lmms_awares.views import ViewPlan

# (document, views of its image, seed of the sample) -> crop ids to ask for, or () for a direct answer
Decide = Callable[[dict[str, Any], ViewPlan, str], tuple[str, ...]]


def never(doc: dict[str, Any], plan: ViewPlan, seed: str) -> tuple[str, ...]:
    """Always the low-res view alone."""
    return ()


def always_full(doc: dict[str, Any], plan: ViewPlan, seed: str) -> tuple[str, ...]:
    """Always the whole image."""
    return ("all",)


def at_random(doc: dict[str, Any], plan: ViewPlan, seed: str) -> tuple[str, ...]:
    """No call half of the time, else one of the ten crops, each equally likely."""
    generator = random.Random(seed)
    return () if generator.random() < 0.5 else (generator.choice(list(CROPS)),)


def oracle(doc: dict[str, Any], plan: ViewPlan, seed: str) -> tuple[str, ...]:
    """The target crops of the document's evidence box (Eq. 3), unless the low-res view suffices.

    Of several targets with enough overlap the smallest is asked for.

    Raises:
        SampleError: an evidence box that is none.
    """
    box, ids = _evidence(doc, plan)
    return () if box is None else (min(ids, key=lambda id: CROPS[id].mask.bit_count()),)


def _evidence(doc: dict[str, Any], plan: ViewPlan) -> tuple[FreeBox | None, tuple[str, ...]]:
    """The evidence box and its target crops, unless the low-res view suffices; raises as `oracle`."""
    box = doc[EVIDENCE]
    if not box or doc.get(SUFFICES):
        return None, ()
    try:
        left, top, right, bottom = (float(side) for side in box)
        if min(left, top) < 0 or right > plan.width or bottom > plan.height:
            raise ValueError(f"the image has {plan.width}x{plan.height} px")
        found = left, top, right, bottom
        ids, _ = target_crops(found, (plan.width, plan.height), min_crop_side=plan.min_crop_side)
    except (TypeError, ValueError) as error:
        raise SampleError(f"its {EVIDENCE} {box} cannot be used: {error}") from None
    return found, ids


# The same for a box, in px of the original image; None for a direct answer.
DecideBox = Callable[[dict[str, Any], ViewPlan, str], FreeBox | None]


def whole_box(plan: ViewPlan) -> FreeBox:
    """The whole image."""
    return 0, 0, plan.width, plan.height


def box_at_random(doc: dict[str, Any], plan: ViewPlan, seed: str) -> FreeBox | None:
    """No call half of the time, else a box whose sides lie between a tenth of the image's and all of it, anywhere."""
    generator = random.Random(seed)
    if generator.random() < 0.5:
        return None
    width, height = (side * generator.uniform(0.1, 1) for side in (plan.width, plan.height))
    left, top = generator.uniform(0, plan.width - width), generator.uniform(0, plan.height - height)
    return left, top, left + width, top + height


def evidence_box(doc: dict[str, Any], plan: ViewPlan, seed: str) -> FreeBox | None:
    """The document's evidence box, unless the low-res view suffices; raises as `oracle`."""
    return _evidence(doc, plan)[0]


BOX_CONTROLS: dict[str, DecideBox] = {
    "never": lambda doc, plan, seed: None,
    "always_full": lambda doc, plan, seed: whole_box(plan),
    "random": box_at_random,
    "oracle": evidence_box,
}


CONTROLS: dict[str, Decide] = {
    "never": never,
    "always_full": always_full,
    "random": at_random,
    "oracle": oracle,
}


def require_evidence(doc: dict[str, Any], task: str) -> None:
    """The oracle needs to know where the evidence is.

    Raises:
        ConfigError: the task's documents have no evidence column.
    """
    if EVIDENCE not in doc:
        raise ConfigError(f"policy=oracle needs a column '{EVIDENCE}' in the data; {task} has none")
