"""The README's short table: eight methods of the demonstration's committed run.

`python -m lmms_awares.mini.excerpt results/runs/mini/table.csv` prints it; a test holds the README to that.
"""

import sys
from pathlib import Path

import pandas as pd
from tabulate import tabulate

# Rows in their order, and what each is.
WHAT = {
    "qwen2_5_vl_full": "the baseline: the whole image at full resolution",
    "qwen2_5_vl_lowres": "half the width and height, nothing else",
    "visionzip@0.5": "prunes half of the tokens before the language model",
    "sparsevlm@0.5": "prunes on the way through the language model",
    "pruned+divprune@0.5": "keeps the half that differs most",
    "visionthink": "low-res first; a call fetches the whole image",
    "awares": "low-res first; a call fetches the crops that it needs",
    "awares+visionzip@0.7": "the same, every view pruned to 70 %",
}


def excerpt(table: Path) -> str:
    """Make a Markdown table of the methods in `WHAT`: averages over the benchmarks of a run.

    Args:
        table: `table.csv` of `awares compare -o DIR`: one line per method and benchmark, `score` in 0..100, `rtr` and
            `call_rate` as fractions, `latency_s` in seconds.

    Returns:
        the table, without a line break at its end; `-` for calls where a method never calls.

    Raises:
        ValueError: a method of `WHAT` is not in the table.
    """
    means = pd.read_csv(table).groupby("method")[["score", "rtr", "call_rate", "latency_s"]].mean()
    if missing := [method for method in WHAT if method not in means.index]:
        raise ValueError(f"{table} has no row {missing[0]}; run ./run_eval.sh again")
    rows = []
    for method, what in WHAT.items():
        of = means.loc[method]
        calls = f"{100 * of['call_rate']:.0f} %" if of["call_rate"] > 0 else "-"
        rows.append([f"`{method}`", f"{of['score']:.1f}", f"{of['rtr']:.2f}", calls, f"{of['latency_s']:.2f} s", what])
    headings = ["method", "score", "RTR", "calls", "latency", "what it is"]
    alignment = ["left", "right", "right", "right", "right", "left"]
    return tabulate(rows, headings, tablefmt="pipe", disable_numparse=True, colalign=alignment)


if __name__ == "__main__":
    try:
        print(excerpt(Path(sys.argv[1])))
    except (ValueError, OSError, IndexError) as error:
        sys.exit(f"excerpt: {error}; usage: python -m lmms_awares.mini.excerpt results/runs/mini/table.csv")
