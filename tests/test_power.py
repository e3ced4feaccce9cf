"""`awares regress power`: against simulated pairs, by hand at the edges, and as the command prints it."""

import csv
import io

import numpy as np
import pytest
from report_runs import exit_of
from scipy import stats
from synthetic import SIZES, rows, write_run
from typer.testing import CliRunner

from lmms_awares.cli import app
from lmms_awares.report.gate.paired import POWER, adjusted_mean, compare_pairs, p_not_worse
from lmms_awares.report.gate.power import Pairs, documents_for, pairs_of, power, shown_by, together

RIGHT_OR_WRONG = (np.arange(1000) < 700).astype(float)
GRADED = np.concatenate([np.ones(750), np.zeros(130), np.linspace(0.5, 0.99, 120)])  # as ANLS is spread


def simulated(generator, scores, n, drop, changed):
    """A pair of runs [n]: the candidate's answers are the baseline's, but for a share that is drawn anew."""
    share = max(changed, drop / scores.mean())
    lost = drop / share / scores.mean()
    baseline, anew = (generator.choice(scores, n) for _ in range(2))
    anew = np.where(generator.random(n) < lost, 0.0, anew)
    return baseline, np.where(generator.random(n) < share, anew, baseline)


CASES = {  # scores, documents, drop, changed, rows of the family
    "common": (RIGHT_OR_WRONG, 2500, 0.02, 0.2, 7),
    "few documents": (RIGHT_OR_WRONG, 100, 0.1, 0.2, 1),
    "as chance has it": (RIGHT_OR_WRONG, 500, 0.06, 1.0, 1),
    "more changes than assumed": (RIGHT_OR_WRONG, 60, 0.2, 0.1, 7),
    "graded": (GRADED, 500, 0.03, 0.2, 1),
    "graded, few": (GRADED, 80, 0.08, 0.2, 1),
    "graded, strict": (GRADED, 191, 0.06, 0.2, 7),
}


@pytest.mark.parametrize("name", CASES)
def test_power_agrees_with_a_thousand_simulated_pairs(name):
    """The gate's own test on 1,000 pairs: within 3 points."""
    scores, n, drop, changed, family = CASES[name]
    generator, alpha = np.random.default_rng(7), 0.05 / family
    pairs = [simulated(generator, scores, n, drop, changed) for _ in range(1000)]
    worse = [baseline - candidate for baseline, candidate in pairs]
    assert np.mean([differences.mean() for differences in worse]) == pytest.approx(drop, abs=0.004)
    found = np.mean([p_not_worse(differences, adjusted_mean) < alpha for differences in worse])
    assert 0.3 < found < 0.99, "a case that tells nothing"
    assert power(pairs_of(scores, drop, changed), n, alpha) == pytest.approx(found, abs=0.03)


def test_the_verdict_itself(monkeypatch):
    """What is found beyond chance is called `worse`, where no loss at all is allowed."""
    monkeypatch.setattr("gc.collect", lambda: 0)  # by statsmodels at every call
    generator = np.random.default_rng(3)
    for drop, changed in ((0.05, 0.2), (0.0001, 0.2)):
        pairs = [simulated(generator, RIGHT_OR_WRONG, 400, drop, changed) for _ in range(300)]
        arguments = {"scale": 100, "lower_is_worse": True, "margin": 0, "alpha": 0.05}
        verdicts = [compare_pairs([pair], **arguments)[0].verdict for pair in pairs]
        expected = power(pairs_of(RIGHT_OR_WRONG, drop, changed), 400, 0.05)
        assert verdicts.count("worse") / 300 == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("scores", [RIGHT_OR_WRONG, GRADED], ids=["binary", "graded"])
@pytest.mark.parametrize("changed", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("drop", [0.0, 0.02, 0.4])
def test_moments_agree_with_simulated_differences(scores, changed, drop):
    baseline, candidate = simulated(np.random.default_rng(0), scores, 400_000, drop, changed)
    differences = baseline - candidate
    moments = [(differences**exponent).mean() for exponent in (1, 2, 3, 4)]
    assert pairs_of(scores, drop, changed).moments == pytest.approx(moments, abs=0.005)


def test_the_variance_is_the_baselines():
    """Without a drop a pair's difference has 2 * changed * variance of the scores."""
    for scores in (RIGHT_OR_WRONG, GRADED):
        for changed in (0.1, 1.0):
            first, second, *_ = pairs_of(scores, 0.0, changed).moments
            assert (first, second) == pytest.approx((0, 2 * changed * scores.var()))


def test_mcnemar_by_hand():
    """Two documents that both differ and are both lost: found at level 0.3, where 1 of 4 is chance; not at 0.2."""
    certain = Pairs((1.0, 1.0, 1.0, 1.0), whole=True)
    assert power(certain, 2, 0.3) == pytest.approx(1)
    assert power(certain, 2, 0.2) == pytest.approx(0)
    half = Pairs((0.5, 0.5, 0.5, 0.5), whole=True)  # half of the documents differ, all of those are lost
    expected = sum(stats.binom.pmf(k, 10, 0.5) for k in range(11) if 0.5**k < 0.05)
    assert power(half, 10, 0.05) == pytest.approx(expected)


def test_what_cannot_be_lost():
    assert pairs_of(RIGHT_OR_WRONG, 0.71, 0.2) is None
    assert documents_for(None, 0.05) is None
    assert power(pairs_of(np.zeros(9), 0.0, 0.2), 1000, 0.05) == 0
    assert shown_by(1000, lambda drop: pairs_of(np.zeros(9), drop, 0.2), 0.05) is None
    assert together([(5, pairs_of(RIGHT_OR_WRONG, 0.5, 0.2)), (5, pairs_of(np.zeros(9), 0.5, 0.2))]) is None


@pytest.mark.parametrize("scores", [RIGHT_OR_WRONG, GRADED], ids=["binary", "graded"])
def test_documents_and_drops_are_each_others_inverse(scores):
    for drop in (0.01, 0.05):
        pairs = pairs_of(scores, drop, 0.2)
        n = documents_for(pairs, 0.01)
        assert power(pairs, n, 0.01) >= POWER
        assert power(pairs, round(0.97 * n), 0.01) < POWER
        assert shown_by(n, lambda drop: pairs_of(scores, drop, 0.2), 0.01) == pytest.approx(drop, rel=0.02)


def test_all_documents_together_are_a_mixture():
    """Of one benchmark twice: the same as once, with as many documents."""
    pairs = pairs_of(GRADED, 0.03, 0.2)
    assert together([(10, pairs), (90, pairs)]).moments == pytest.approx(pairs.moments)
    mixed = together([(300, pairs), (100, pairs_of(RIGHT_OR_WRONG, 0.03, 0.2))])
    assert not mixed.whole
    expected = 0.75 * pairs.moments[1] + 0.25 * pairs_of(RIGHT_OR_WRONG, 0.03, 0.2).moments[1]
    assert mixed.moments[1] == pytest.approx(expected)


def table_of(*arguments):
    result = CliRunner().invoke(app, ["regress", "power", *map(str, arguments), "--format", "csv"])
    assert result.exit_code == 0, result.output
    return {row["benchmark"]: row for row in csv.DictReader(io.StringIO(result.stdout.split("\n\n")[0])) if row["n"]}


def test_the_command(tmp_path):
    scores = {"awares_chartqa": RIGHT_OR_WRONG, "awares_vstar_bench": RIGHT_OR_WRONG[600:791]}
    run = write_run(tmp_path / "run", {task: rows([*values, None]) for task, values in scores.items()})
    found = table_of("--baseline", run)
    assert [found[name]["n"] for name in ("ChartQA", "V* Bench", "all benchmarks")] == ["1000", "191", "1191"]
    chart, small = found["ChartQA"], found["V* Bench"]
    assert (chart["score mean"], chart["score sd"]) == ("70.00", "45.83")
    assert float(small["drop n show"]) > float(chart["drop n show"]) > float(found["all benchmarks"]["drop n show"])
    assert float(chart["drop at worst"]) > float(chart["drop n show"])
    needed = [int(chart[f"documents for a drop of {drop}"]) for drop in ("0.5", "1", "2", "5", "10")]
    assert needed == sorted(needed, reverse=True)
    assert needed[2] == documents_for(pairs_of(RIGHT_OR_WRONG, 0.02, 0.2), 0.05 / 3)
    assert power(pairs_of(RIGHT_OR_WRONG, float(chart["drop n show"]) / 100, 0.2), 1000, 0.05 / 3) >= POWER
    alone = write_run(tmp_path / "alone", {"awares_chartqa": rows(RIGHT_OR_WRONG)})
    (only,) = table_of("--baseline", alone, "--changed", 1).values()  # one row: no correction
    assert only["drop n show"] == only["drop at worst"]
    assert only["documents for a drop of 2"] == str(documents_for(pairs_of(RIGHT_OR_WRONG, 0.02, 1), 0.05))


def test_a_saved_baseline_gives_the_same(tmp_path):
    run = write_run(tmp_path / "run", dict.fromkeys(list(SIZES)[:2], rows(GRADED)))
    file = tmp_path / "saved.json.gz"
    assert CliRunner().invoke(app, ["regress", "save", str(run), "-o", str(file)]).exit_code == 0
    assert table_of("--baseline", file) == table_of("--baseline", run)


def test_bad_input(tmp_path, monkeypatch, capsys):
    lost = write_run(tmp_path / "lost", {"awares_chartqa": rows([None, None])})
    for arguments, words in (
        (("--baseline", lost), "every sample of awares_chartqa failed in awares"),
        (("--baseline", tmp_path / "no"), "does not exist"),
        (("--baseline", lost, "--changed", 0), "--changed 0 must lie above 0 and be at most 1"),
        (("--baseline", lost, "--alpha", 0.7), "--alpha 0.7 must lie between 0 and 0.5"),
        ((), "Missing option '--baseline'"),
    ):
        code, err = exit_of(monkeypatch, capsys, "regress", "power", *arguments)
        assert code == 2
        assert words in err
