"""Lending a model that is being trained: it answers as one that was loaded, and then trains on as if nothing was."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from peft import PeftModel

from lmms_awares.families import Model


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[Model]:
    """Yield the model inside a PEFT wrapper, its adapter active, or the model itself, in eval mode.

    Trainers replace the model's `forward` (autocast, the head in chunks); here it is the class's own. All is put back
    afterwards, after an error too: the mode of each module, `forward`, what the model remembers of the last prompt, and
    the states of torch's, numpy's and Python's generators.

    Args:
        model: unwrapped: of no DDP or FSDP.
    """
    inner: Model = model.get_base_model() if isinstance(model, PeftModel) else model
    modes = [(module, module.training) for module in model.modules()]
    # A bound method in the object's own dictionary hides the class's.
    replaced = {name: vars(inner).pop(name) for name in ("forward",) if name in vars(inner)}
    rope_deltas = inner.model.rope_deltas
    python, numbers = random.getstate(), np.random.get_state()
    devices = [inner.device] if inner.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            yield inner.eval()
        finally:
            for module, training in modes:
                module.training = training
            vars(inner).update(replaced)
            inner.model.rope_deltas = rope_deltas
            random.setstate(python)
            np.random.set_state(numbers)
