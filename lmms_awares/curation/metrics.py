"""How a judge without a model compares an answer with the right ones: lmms-eval's own metrics."""

from collections.abc import Callable, Sequence


def exact(answer: str, right: str) -> float:
    """1 where both are the same but for case and outer blanks, else 0."""
    from lmms_eval.api.metrics import exact_match_hf_evaluate

    return float(exact_match_hf_evaluate([answer], [right], ignore_case=True)["exact_match"])


def relaxed(answer: str, right: str) -> float:
    """ChartQA's metric: 1 for a number within 5 % of the right one, or for the same text but for case, else 0."""
    from lmms_eval.tasks.chartqa.utils import relaxed_correctness

    return float(relaxed_correctness(answer, right))


def anls(answer: str, right: str) -> float:
    """DocVQA's metric: 1 - the edit distance over the longer length; 0 where that is below 0.5."""
    from lmms_eval.api.metrics import anls as of_references

    return float(of_references([right], [answer])["anls"])


METRICS: dict[str, Callable[[str, str], float]] = {"exact": exact, "relaxed": relaxed, "anls": anls}


def best_score(metric: str, answer: str, right: Sequence[str]) -> float:
    """Score an answer, 0..1, against that of the right ones which it is nearest to.

    Args:
        metric: key of `METRICS`.
        right: one or more.

    Example:
        >>> best_score("relaxed", "102", ["100"]), best_score("exact", "Paris ", ["paris", "Paris, France"])
        (1.0, 1.0)
    """
    return max(METRICS[metric](answer.strip(), one.strip()) for one in right)
