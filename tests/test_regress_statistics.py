"""The regression gate's statistics: against scipy's, and what they catch and let pass."""

import numpy as np
import pytest
from harness import CONDITIONS
from report_runs import gate
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from synthetic import SIZES, paired_scores, rows

from lmms_awares.report.gate.baseline import Baseline, TaskSamples
from lmms_awares.report.gate.paired import adjusted_mean, compare_pairs, p_not_worse
from lmms_awares.report.gate.verdict import Rules, compare_runs

TASK = "awares_chartqa"


def score_effect(baseline, candidate, **rules):
    rules = {"margin": 1.0, "alpha": 0.05} | rules
    return compare_pairs([(baseline, candidate)], scale=100, lower_is_worse=True, **rules)[0]


@pytest.fixture
def many_repeats(monkeypatch):
    """statsmodels' correction collects garbage at every call: a quarter of a second in a test process."""
    monkeypatch.setattr("gc.collect", lambda: 0)


def test_binary_scores_get_mcnemars_exact_test():
    baseline, candidate = paired_scores(400, drop=0.03, seed=3)
    worse = baseline - candidate
    lost, won = int((worse > 0).sum()), int((worse < 0).sum())
    assert lost > won > 0
    two_sided = mcnemar([[0, lost], [won, 0]], exact=True).pvalue
    assert p_not_worse(worse, adjusted_mean) == pytest.approx(stats.binom.sf(lost - 1, lost + won, 0.5))
    assert p_not_worse(worse, adjusted_mean) == pytest.approx(two_sided / 2)
    assert p_not_worse(np.zeros(9), adjusted_mean) == 1.0


def test_fractional_scores_agree_with_the_paired_t_test():
    generator = np.random.default_rng(0)
    baseline = generator.random(5000)
    candidate = np.clip(baseline - 0.01 + 0.3 * generator.standard_normal(5000), 0, 1)
    expected = stats.ttest_rel(baseline, candidate, alternative="greater").pvalue
    assert 1e-4 < expected < 0.9
    assert p_not_worse(baseline - candidate, adjusted_mean) == pytest.approx(expected, rel=0.05)
    effect = score_effect(baseline, candidate)
    bounds = stats.ttest_rel(baseline, candidate).confidence_interval(0.9)
    assert (effect.low, effect.high) == pytest.approx((100 * bounds.low, 100 * bounds.high), abs=0.02)
    within = stats.ttest_1samp(100 * (baseline - candidate), 1.0, alternative="less").pvalue
    assert effect.p_within == pytest.approx(within, rel=0.05)


def test_interval_agrees_with_the_bootstrap():
    baseline, candidate = paired_scores(2500, drop=0.02)
    sampled = stats.bootstrap(
        (100 * (baseline - candidate),), np.mean, confidence_level=0.9, n_resamples=9999, rng=0
    ).confidence_interval
    effect = score_effect(baseline, candidate)
    assert (effect.low, effect.high) == pytest.approx((sampled.low, sampled.high), abs=0.1)


def test_adjusted_mean_by_hand():
    """3 lost, 1 won of 10: with half a pair each way and a tie added, 2 of 12; sum of squares 5."""
    mean = adjusted_mean(np.array([1.0] * 3 + [-1.0] + [0.0] * 6))
    assert mean.value == pytest.approx(2 / 12)
    assert mean.error == pytest.approx(((5 / 12 - (2 / 12) ** 2) / 12) ** 0.5)


def test_holm_over_benchmarks():
    pairs = [paired_scores(400, drop=drop, seed=seed) for seed, drop in enumerate((0.06, 0.03, 0.0))]
    effects = compare_pairs(pairs, scale=100, lower_is_worse=True, margin=0, alpha=0.05)
    raw = [p_not_worse(a - b, adjusted_mean) for a, b in [*pairs, np.concatenate(pairs, axis=1)]]
    order = np.argsort(raw)
    by_hand = np.maximum.accumulate(np.array(raw)[order] * (4, 3, 2, 1)).clip(max=1)
    assert np.array([effect.p_worse for effect in effects])[order] == pytest.approx(by_hand)
    assert effects[-1].worse_by == pytest.approx(np.mean([effect.worse_by for effect in effects[:-1]]))


def test_a_small_loss_everywhere_shows_in_all_benchmarks_together(tmp_path):
    """6 of 80 lost on each of six: no benchmark can tell, the whole can."""
    baseline = np.array([1.0] * 60 + [0.0] * 20)
    candidate = np.array([0.0] * 9 + [1.0] * 51 + [1.0] * 3 + [0.0] * 17)
    result = gate(tmp_path, before=dict.fromkeys(SIZES, rows(baseline)), after=dict.fromkeys(SIZES, rows(candidate)))
    assert result.exit_code == 1, result.output
    assert "Regression: all benchmarks score\n" in result.output


def test_costs_get_the_paired_t_test():
    generator = np.random.default_rng(5)
    before = generator.choice([0.25, 0.5, 0.75], 60)
    after = before + generator.choice([0.0, 0.0, 0.0, 0.25, -0.25], 60) + 0.01
    (effect,) = compare_pairs([(before, after)], scale=1, lower_is_worse=False, margin=0.02, alpha=0.05)
    test = stats.ttest_rel(after, before, alternative="greater")
    assert effect.p_worse == pytest.approx(test.pvalue)
    bounds = stats.ttest_rel(after, before).confidence_interval(0.9)
    assert (effect.low, effect.high) == pytest.approx((bounds.low, bounds.high))
    assert effect.p_within == pytest.approx(stats.ttest_1samp(after - before, 0.02, alternative="less").pvalue)


def test_a_run_costs_no_more_than_itself():
    """However few its documents are: what was counted is the same."""
    before = np.array([0.25, 0.5, 0.25, 0.75])
    (effect,) = compare_pairs([(before, before)], scale=1, lower_is_worse=False, margin=0.02, alpha=0.05)
    assert (effect.verdict, effect.low, effect.high, effect.detectable) == ("same", 0, 0, None)


def mini_baseline(generator, *, changed):
    """Six benchmarks of 80 documents: RTR 0.25 or 0.5; where `changed`, another score and RTR half of the time."""
    tasks = {}
    for task in SIZES:
        truth = np.random.default_rng(len(task)).random(80)
        scores, ratios = (truth < 0.6).astype(float), np.where(truth < 0.4, 0.25, 0.5)
        if changed:
            redrawn = generator.random(80) < 0.2
            scores = np.where(redrawn, generator.random(80) < 0.6, scores)
            ratios = np.where(redrawn, np.where(generator.random(80) < 0.4, 0.25, 0.5), ratios)
        tasks[task] = TaskSamples(
            method="awares",
            metric="accuracy",
            generation={},
            prompts=["own"],
            conditions=[CONDITIONS],
            doc_ids=list(range(80)),
            digests=["0"] * 80,
            image_sizes=[None] * 80,
            scores=scores.tolist(),
            rtr=ratios.tolist(),
            latency_s=[1.0] * 80,
        )
    return Baseline(name="awares", date="", batch_size="1", tasks=tasks)


def test_equal_runs_of_six_benchmarks_pass(many_repeats):
    """Both runs answer a fifth of the documents anew, by chance: through the whole gate, false alarms stay below alpha.

    The gate holds two families, scores and RTR, each at alpha, here with no rise or drop allowed at all.
    """
    generator = np.random.default_rng(1)
    rules = Rules(max_drop=0, max_rtr_rise=0)
    outcomes = [
        compare_runs(*(mini_baseline(generator, changed=True) for _ in range(2)), rules, ("a", "b")).outcome
        for _ in range(200)
    ]
    # at most 2 * alpha are expected; 3 standard deviations above that
    assert outcomes.count("regression") <= 200 * (0.1 + 3 * (0.1 * 0.9 / 200) ** 0.5)
    assert outcomes.count("regression") + outcomes.count("pass") == 200


def test_a_rise_in_rtr_is_worse_and_a_fall_is_not():
    low, high = np.full(300, 0.30), np.full(300, 0.40)
    verdicts = [
        compare_pairs([pair], scale=1, lower_is_worse=False, margin=0.02, alpha=0.05)[0].verdict
        for pair in ((low, high), (high, low))
    ]
    assert verdicts == ["worse", "ok"]


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_planted_drop_of_two_points_is_caught(margin, many_repeats):
    """2,500 paired samples, of which a tenth differ between the runs: found in the expected share of repeats."""
    verdicts = [score_effect(*paired_scores(2500, drop=0.02, seed=s), margin=margin).verdict for s in range(100)]
    assert verdicts[0] == "worse"
    # power of a one-sided z-test at 2 points with a standard error of 0.63 points
    power = stats.norm.sf(stats.norm.isf(0.05) - 2 / (100 * (0.1 - 0.02**2) ** 0.5 / 50))
    assert power > 0.9
    assert verdicts.count("worse") >= 100 * power - 8


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_null_difference_passes(margin, many_repeats):
    """Also at the hardest setting, no drop allowed at all, where only alpha keeps false alarms down."""
    verdicts = [score_effect(*paired_scores(2500, seed=seed), margin=margin).verdict for seed in range(100)]
    assert verdicts.count("worse") <= 6
    assert "undecided" in verdicts if margin == 0 else verdicts.count("ok") > 20


def test_detectable_drop_is_found_four_times_in_five(many_repeats):
    pairs = [paired_scores(1000, seed=seed) for seed in range(20)]
    detectable = np.mean([score_effect(*pair).detectable for pair in pairs]) / 100
    found = [
        score_effect(*paired_scores(1000, drop=detectable, seed=seed), margin=0).verdict == "worse"
        for seed in range(300)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_a_small_benchmark_is_undecided_and_says_what_it_detects():
    baseline, candidate = np.ones(191), np.ones(191)
    candidate[0] = baseline[1] = 0
    effect = score_effect(baseline, candidate)
    assert (effect.worse_by, effect.differ) == (0, 2)
    assert effect.verdict == "undecided"
    assert effect.detectable > 1.5


def test_same_is_where_nothing_differs_however_few_the_documents():
    """It is said of these documents alone: the interval stays as wide as so few documents leave it."""
    for n in (1, 24, 5000):
        effect = score_effect(np.ones(n), np.ones(n))
        assert (effect.verdict, effect.differ, effect.worse_by) == ("same", 0, 0)
        assert effect.high > 0
    assert score_effect(np.ones(24), np.ones(24)).high > 5
    options = {"scale": 100, "lower_is_worse": True, "margin": 1.0, "alpha": 0.05}
    pairs = [(np.ones(24), np.ones(24))] * 2
    effects = compare_pairs(pairs, changed=[False, True], **options)
    assert [effect.verdict for effect in effects] == ["same", "undecided", "undecided"], "other answers, equal scores"
