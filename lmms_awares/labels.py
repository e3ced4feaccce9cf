"""Labels of samples: whether the low-res view suffices, and where the evidence lies; read by reports."""

from typing import Literal

from pydantic import BaseModel, Field

# Columns of documents that know it.
EVIDENCE = "evidence_box"  # [left, top, right, bottom] in px; null where no region is needed
SUFFICES = "lowres_suffices"  # bool: the low-res view is enough; null where nobody can say: no label
ORACLE_CROPS = "oracle_crops"  # ids of the target crops (Eq. 3); empty where it is enough


class Label(BaseModel):
    """One line of a labels file.

    Attributes:
        task: the run's task, e.g. `awares_chartqa`.
        doc_id: document index within the task's split.
        label: `HR` where the low-res view does not suffice, else `LR`.
        targets: crop ids that show the evidence (Eq. 3); empty for `LR`.

    Example:
        >>> Label(task="awares_chartqa", doc_id=0, label="HR", targets=["0", "7"]).model_dump_json()
        '{"task":"awares_chartqa","doc_id":0,"label":"HR","targets":["0","7"]}'
    """

    task: str
    doc_id: int
    label: Literal["HR", "LR"]
    targets: list[str] = Field(default_factory=list)
