"""Data curation: when to crop, where to crop, and the transcripts that teach it."""

from lmms_awares.curation.agreeing import Agreement, agreement

__all__ = ["Agreement", "agreement"]
