"""Names as a paper prints them: of methods, and of columns."""

import re
from collections import Counter
from collections.abc import Iterable

MODELS = {
    "awares": "AwaRes",
    "qwen2_5_vl_full": "Qwen2.5-VL",
    "qwen2_5_vl_lowres": "Qwen2.5-VL (low-res)",
    "qwen3_vl_full": "Qwen3-VL",
    "qwen3_vl_lowres": "Qwen3-VL (low-res)",
    "visionthink": "VisionThink",
    "adaptvision": "AdaptVision",
    "ergo": "ERGO",
    "pruned": "",  # its pruner says it all
}
PRUNERS = {
    "visionzip": "VisionZip",
    "holov": "Holo-V",
    "sparsevlm": "SparseVLM",
    "fastv": "FastV",
    "divprune": "DivPrune",
    "cdpruner": "CDPruner",
    "random": "Random",
    "downsample": "Downsample",
}
_METHOD = re.compile(r"(?P<model>\w+)(:(?P<policy>\w+))?(\+(?P<pruner>\w+))?(@(?P<ratio>[\d.]+))?(?P<rest> \(.*\))?")


def display_name(method: str) -> str:
    """Return a row's name as a paper prints it; a name that is not one of our models' as it is.

    Example:
        >>> display_name("awares:never+holov@0.7"), display_name("pruned+divprune@0.5"), display_name("mine@0.5")
        ('AwaRes (never) + Holo-V (70%)', 'DivPrune (50%)', 'mine@0.5')
    """
    found = _METHOD.fullmatch(method)
    model = found and (MODELS | PRUNERS).get(found["model"])
    if found is None or model is None:
        return method
    parts = [f"{model} ({found['policy'].replace('_', ' ')})" if found["policy"] else model]
    parts += [PRUNERS.get(found["pruner"], found["pruner"])] if found["pruner"] else []
    ratio = f" ({100 * float(found['ratio']):g}%)" if found["ratio"] else ""
    return " + ".join(filter(None, parts)) + ratio + (found["rest"] or "")


def display_names(methods: Iterable[str]) -> dict[str, str]:
    """Return each row's name for a paper, by its own; two that would be alike keep their own."""
    shown = {method: display_name(method) for method in methods}
    seen = Counter(shown.values())
    return {method: name if seen[name] == 1 else method for method, name in shown.items()}


def display_heading(heading: str) -> str:
    """Return a column's heading with a capital letter, and its unit in brackets; what is no words as it is.

    Example:
        >>> display_heading("latency s"), display_heading("KV MB"), display_heading("tokens/s")
        ('Latency (s)', 'KV (MB)', 'Tokens/s')
    """
    if not re.fullmatch(r"[A-Za-z0-9 /]+", heading):
        return heading
    name, _, unit = heading.rpartition(" ")
    text = f"{name} ({unit})" if name and unit in ("s", "MB") else heading
    return text[:1].upper() + text[1:]
