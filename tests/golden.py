"""The official functions' own outputs in `data/golden` (fp32, CPU): the cases of each method, and their arrays."""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "data" / "golden"
INDEXES = {folder.name: next(folder.glob("*.json")) for folder in sorted(GOLDEN.iterdir())}
CASES = {
    method: {case["file"].removesuffix(".npz"): case for case in json.loads(index.read_text())["cases"]}
    for method, index in INDEXES.items()
}


def names(method, *kinds):
    """Cases of a method, of some kinds only where they are given."""
    return [name for name, case in CASES[method].items() if not kinds or case["kind"] in kinds]


def load(method, name):
    """Arrays of a case, as tensors."""
    with np.load(GOLDEN / method / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def close(found, wanted, **tolerance):
    """Assert that two tensors agree."""
    torch.testing.assert_close(found, wanted, **tolerance)
