"""The gate's report as text, Markdown, JSON and JUnit XML."""

import json
from dataclasses import asdict
from xml.etree import ElementTree as ET

from tabulate import tabulate

from lmms_awares.report.gate.paired import POWER, Effect
from lmms_awares.report.gate.verdict import ALL, EXIT_CODES, Report, Row

_SCORE = ("benchmark", "n", "differ", "baseline", "candidate", "drop", "interval", "p", "detects", "verdict")
_RTR = ("benchmark", "RTR baseline", "candidate", "rise", "interval", "p", "detects", "verdict", "latency")


def as_text(report: Report) -> str:
    """Render the report for a terminal."""
    parts = [_tables(report, "simple"), *_reading(report), *_remarks(report), _headline(report)]
    return "\n".join(part for part in parts if part)


def as_markdown(report: Report) -> str:
    """Render the report for a pull request or GitHub's step summary."""
    mark = {"pass": "✅", "regression": "❌", "undecided": "❔", "not comparable": "⚠️"}[report.outcome]
    lines = [f"## {mark} {_headline(report)}", "", f"Baseline `{report.baseline}`, candidate `{report.candidate}`.", ""]
    if report.rows:
        lines += [_tables(report, "pipe"), ""]
    bullets = [f"- {line}" for line in [*_remarks(report), *_reading(report)]]
    return "\n".join([*lines, *bullets]) + "\n"


def as_json(report: Report) -> str:
    """Render everything for programs; times and effects at full precision."""
    head = {"outcome": report.outcome, "exit_code": EXIT_CODES[report.outcome]}
    return json.dumps(head | asdict(report), indent=1, ensure_ascii=False) + "\n"


def as_junit(report: Report) -> str:
    """Render one test case per benchmark and quantity; a failure per regression, an error per reason not to compare."""
    effects = list(report.effects())
    failures = sum(report.fails(effect) for _, _, effect in effects)
    counts = {"tests": str(len(effects) + len(report.reasons)), "failures": str(failures)}
    counts |= {"errors": str(len(report.reasons)), "skipped": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": "awares regress", **counts})
    for task, quantity, effect in effects:
        case = ET.SubElement(suite, "testcase", {"classname": task, "name": quantity})
        line = _line(effect, quantity)
        if report.fails(effect):
            kind = "regression" if effect.verdict == "worse" else "undecided"
            ET.SubElement(case, "failure", {"type": kind, "message": line})
        else:
            ET.SubElement(case, "system-out").text = line
    for reason in report.reasons:
        case = ET.SubElement(suite, "testcase", {"classname": "comparable", "name": _plain(reason)})
        ET.SubElement(case, "error", {"message": _plain(reason)})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    """Remove the control characters that XML cannot hold (a path in a message may have them)."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _headline(report: Report) -> str:
    if report.outcome == "not comparable":
        return "The runs do not compare"
    failing: dict[str, list[str]] = {"worse": [], "undecided": []}
    for task, quantity, effect in report.effects():
        if report.fails(effect):
            failing[effect.verdict].append(f"{task} {quantity}")
    kinds = {"regression": failing["worse"], "undecided (--strict)": failing["undecided"]}
    if named := "; ".join(f"{kind}: {', '.join(rows)}" for kind, rows in kinds.items() if rows):
        return named[0].upper() + named[1:]
    if all(effect.verdict == "same" for _, _, effect in report.effects()):
        return "No regression found: no document differs"
    benchmarks = [row for row in report.rows if row.task != ALL]
    unclear = sum(row.score.verdict == "undecided" for row in benchmarks)
    small = f"; {unclear} of {len(benchmarks)} benchmarks are too small to rule one out" if unclear else ""
    return f"No regression found{small}"


def _remarks(report: Report) -> list[str]:
    lines = [f"not comparable: {reason}" for reason in report.reasons]
    lines += [f"note: {note}" for note in report.notes]
    if report.rows:
        lines.append(_differing(report.rows[-1]))  # the one row, or that of all documents
    failed = [row for row in report.rows if row.left_out]
    return lines + [f"note: {row.task}: {row.left_out} documents failed in both runs, left out" for row in failed]


def _differing(row: Row) -> str:
    """Return the number of documents that differ, as text."""
    answers = "; no answers are kept to compare" if row.answers_differ is None else f", answer on {row.answers_differ}"
    return f"score differs on {row.score.differ} of {row.n} documents{answers}"


def _reading(report: Report) -> list[str]:
    """Explain how to read the tables."""
    if not report.rows:
        return []
    rules = report.rules
    strict = " (fails: --strict)" if rules.strict else ""
    allowed = f"{rules.max_drop:g} points or {rules.max_rtr_rise:g} RTR"
    return [
        f"interval: {1 - 2 * rules.alpha:.0%}; p: of being no worse, one-sided, Holm-corrected over the rows",
        "same: no document differs; what that means for others, a score's interval says",
        f"ok: shown to be worse by less than {allowed} (alpha {rules.alpha:g}); worse: beyond chance, and not "
        f"shown to be less than that; undecided: too few documents to tell{strict}",
        f"detects: the smallest true change that this many documents find with {POWER:.0%} probability; -: no spread",
    ]


def _tables(report: Report, style: str) -> str:
    """Render scores, and below them RTR and latency."""
    scores = [[_name(row), str(row.n), str(row.score.differ), *_cells(row.score, 2)] for row in report.rows]
    costs = [[_name(row), *_cells(row.rtr, 3), _latency(row)] for row in report.rows if row.rtr is not None]
    tables = [(scores, _SCORE), (costs, _RTR)]
    return "\n\n".join(
        tabulate(
            cells, headers, tablefmt=style, disable_numparse=True, colalign=("left", *["right"] * (len(headers) - 1))
        )
        for cells, headers in tables
        if cells
    )


def _name(row: Row) -> str:
    return row.task.removeprefix("awares_")


def _cells(effect: Effect, digits: int) -> list[str]:
    means = [f"{effect.baseline:.{digits}f}", f"{effect.candidate:.{digits}f}", f"{effect.worse_by:+.{digits}f}"]
    interval = f"{effect.low:+.{digits}f} … {effect.high:+.{digits}f}"
    detectable = "-" if effect.detectable is None else f"{effect.detectable:.{digits}f}"
    return [*means, interval, _p(effect.p_worse), detectable, effect.verdict]


def _latency(row: Row) -> str:
    return "-" if row.latency_ratio is None else f"×{row.latency_ratio:.2f}"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _line(effect: Effect, quantity: str) -> str:
    """Describe one effect in a sentence."""
    digits, change = (2, "drop") if quantity == "score" else (3, "rise")
    baseline, candidate, worse_by, interval, p, detectable, verdict = _cells(effect, digits)
    tests = f"{change} {worse_by} ({interval}), p {p}, detects {detectable}"
    return f"{quantity} {baseline} -> {candidate}: {tests}: {verdict}"
