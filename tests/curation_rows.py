"""Configurations and rows for tests of the curation's stages."""

import io

from harness import picture

from lmms_awares.curation.asking import Meter
from lmms_awares.curation.config import Config
from lmms_awares.curation.request_log import Reply
from lmms_awares.curation.rows import ANSWER, SOURCE


class Log(dict):
    """Finished requests, in memory."""

    def add(self, stage: str, key: str, reply: Reply) -> None:
        assert key not in self, "a finished request was sent again"
        self[key] = reply


def config(judge=None, oracle=None) -> Config:
    return Config.model_validate(
        {
            "sources": ["chartqa"],
            "base": {"pretrained": "tiny"},
            "judge": judge or {"kind": "exact"},
            "oracle": oracle or {"kind": "source"},
        }
    )


def encoded(image, form="PNG", **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


STORED = encoded(picture((160, 120)))


def row(number=0, low="12", full="15", **columns):
    """A row as the answers' stage leaves it."""
    made = {
        "id": f"toy/{number}",
        "source": "toy",
        "split": "train",
        "image": {"bytes": STORED, "path": None},
        "question": f"Number {number}?",
        "answers": ["15"],
        "evidence_box": None,
        "metric": "exact",
        "lowres_answer": low,
        "fullres_answer": full,
        "base_model": {"name": "tiny", "revision": "1", "prompt": None},
    }
    assert made.keys() == SOURCE.keys() | ANSWER.keys()
    return made | columns


def opened(stage, settings, log=None):
    """A stage that is ready, its log and its meter."""
    log, meter = Log() if log is None else log, Meter()
    made = stage(settings, log, meter)
    made.open()
    return made, log, meter
