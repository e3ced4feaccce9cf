"""lmms-eval's entry point. Imports nothing heavy: an error here would hide every plugin that lmms-eval knows."""

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

from lmms_awares.models import MODELS

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifests() -> "Iterable[ModelManifest]":
    """The models that this package adds to lmms-eval."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id=name, chat_class_path=path) for name, path in MODELS.items()]


def tasks_dir() -> str:
    """Folder with the task YAMLs, for lmms-eval's `--include_path`."""
    return str(files("lmms_awares.tasks"))
