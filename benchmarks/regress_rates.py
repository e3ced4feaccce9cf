"""How often the regression gate fails by the true loss: simulated pairs of runs over one benchmark, scores of 0 and 1.

    python benchmarks/regress_rates.py [--documents 6000] [--churn 0.1] [--max-drop 1] [--alpha 0.05] [--repeats 1000]

Prints the share of each verdict; `worse` fails. What the gate controls is the first line, where nothing got worse.
"""

import argparse
from collections import Counter

import numpy as np

from lmms_awares.report.gate.paired import Values, compare_pairs

ACCURACY = 0.7  # of the baseline
VERDICTS = ("same", "ok", "undecided", "worse")


def pair(generator: np.random.Generator, documents: int, churn: float, loss: float) -> tuple[Values, Values]:
    """Scores of two runs: a share `churn` of the documents differs, and the second loses `loss` (0..1) on average."""
    baseline, draws = generator.random(documents) < ACCURACY, generator.random(documents)
    lost = baseline & (draws < (churn + loss) / 2 / ACCURACY)
    won = ~baseline & (draws < (churn - loss) / 2 / (1 - ACCURACY))
    return baseline.astype(float), ((baseline & ~lost) | won).astype(float)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--churn", type=float, default=0.1, help="share of the documents whose score differs")
    parser.add_argument("--max-drop", type=float, default=1.0, help="points")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=1000)
    options = parser.parse_args()
    print("true loss, points | " + " | ".join(VERDICTS))
    for share in (0, 0.5, 1, 2):
        loss, generator = share * options.max_drop, np.random.default_rng(0)
        found = Counter(
            compare_pairs(
                [pair(generator, options.documents, options.churn, loss / 100)],
                scale=100,
                lower_is_worse=True,
                margin=options.max_drop,
                alpha=options.alpha,
            )[0].verdict
            for _ in range(options.repeats)
        )
        print(f"{loss:.2f} | " + " | ".join(f"{found[verdict] / options.repeats:.1%}" for verdict in VERDICTS))


if __name__ == "__main__":
    main()
