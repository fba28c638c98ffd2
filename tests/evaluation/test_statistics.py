"""Intervals and tests against enumeration, scipy, statsmodels, values by hand, and simulation."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from raison.evaluation import statistics
from raison.evaluation.power import detectable_difference, needed_instances
from raison.evaluation.statistics import (
    Estimate,
    benjamini_hochberg,
    bootstrap_mean,
    bootstrap_statistic,
    bootstrap_two_way,
    cliffs_delta,
    equivalence,
    holm,
    mcnemar,
    paired_rate_difference,
    random_mask_test,
    sign_flip,
    student_mean,
    wilson,
)

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def ratio(a, b):
    return a.mean(axis=-1) / b.mean(axis=-1)


def skewed(n, seed=0):
    return np.random.default_rng(seed).exponential(size=n)


# ---------------------------------------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_few_values_is_students(level):
    values = [0.2, math.nan, 0.5, 0.1, 0.4]
    theirs = stats.ttest_1samp(values, 0, nan_policy="omit").confidence_interval(level)
    ours = student_mean(values, level=level)
    assert (ours.value, ours.low, ours.high) == pytest.approx((0.3, theirs.low, theirs.high))
    assert (ours.n, ours.level) == (4, level)


def test_one_value_has_no_students_interval_and_none_no_mean():
    assert (student_mean([0.3]).value, student_mean([0.3]).low, student_mean([0.3]).n) == (0.3, None, 1)
    assert (student_mean([math.nan]).value, student_mean([]).n) == (None, 0)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_interval_is_scipys_bca(level):
    values = skewed(60)
    ours = bootstrap_mean(values, level=level, resamples=60_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=60_000, confidence_level=level, rng=1).confidence_interval
    noise = 0.06 * values.std() / math.sqrt(60)  # three times what 60,000 resamples leave in the end of an interval
    assert ours.low == pytest.approx(theirs.low, abs=noise)
    assert ours.high == pytest.approx(theirs.high, abs=noise)
    assert ours.value == pytest.approx(values.mean())
    assert (ours.n, ours.level) == (60, level)
    # The interval is shifted towards the long tail, which a percentile interval of 60 values is not by as much.
    plain = np.quantile(values[np.random.default_rng(2).integers(0, 60, (10_000, 60))].mean(axis=1), (1 - level) / 2)
    assert ours.low > plain


def test_statistic_interval_is_scipys_bca_of_pairs():
    rng = np.random.default_rng(3)
    base = rng.exponential(size=80) + 0.2
    top = base * rng.uniform(0.2, 1.4, 80)
    ours = bootstrap_statistic(ratio, top, base, resamples=60_000)
    theirs = stats.bootstrap(
        (top, base),
        lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=60_000,
        rng=1,
    )
    noise = 0.06 * theirs.standard_error
    assert ours.value == pytest.approx(top.mean() / base.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=noise)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=noise)
    # Were the columns resampled apart, the interval would be far wider.
    apart = top[rng.integers(0, 80, (4_000, 80))].mean(axis=1) / base[rng.integers(0, 80, (4_000, 80))].mean(axis=1)
    assert ours.high - ours.low < 0.8 * np.ptp(np.quantile(apart, [0.025, 0.975]))


def test_many_values_take_the_analytic_limit(monkeypatch):
    values = skewed(900)
    drawn = bootstrap_mean(values)
    monkeypatch.setattr(statistics, "_DRAWS", 0)
    analytic = bootstrap_mean(values)
    noise = 0.1 * values.std() / math.sqrt(900)
    assert analytic.low != drawn.low
    assert analytic.low == pytest.approx(drawn.low, abs=noise)
    assert analytic.high == pytest.approx(drawn.high, abs=noise)
    # It keeps the skewness: the upper arm is longer, as in the drawn one.
    assert analytic.high - analytic.value > 1.01 * (analytic.value - analytic.low)


def test_a_rare_event_among_many_has_the_interval_that_a_count_of_one_has():
    values = np.zeros(10_000)
    values[17] = 1
    found, exact = bootstrap_mean(values), wilson(1, 10_000)
    assert found.low == 0
    assert found.high == pytest.approx(exact.high, rel=0.15)  # 5.7e-4; a normal interval ends at 3.0e-4


def test_groups_give_the_acceleration_of_many_values():
    values = skewed(1_500, seed=4) ** 3  # so skewed that an acceleration of 0 would be seen
    found = bootstrap_statistic(lambda a: a.mean(axis=-1), values)
    expected = bootstrap_mean(values)
    noise = 0.1 * values.std() / math.sqrt(1_500)
    assert found.low == pytest.approx(expected.low, abs=noise)
    assert found.high == pytest.approx(expected.high, abs=noise)


def test_resampling_many_values_holds_little_at_once():
    columns = np.random.default_rng(0).random((2, 10_000))
    tracemalloc.start()
    bootstrap_statistic(ratio, *columns, resamples=1_000)
    sign_flip(columns[0] - columns[1], resamples=1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # 1,000 x 10,000 floats are 80 MB


def test_equal_values_have_no_width():
    assert bootstrap_mean([0.3] * 40) == Estimate(
        value=pytest.approx(0.3), low=pytest.approx(0.3), high=pytest.approx(0.3), n=40
    )
    found = bootstrap_statistic(ratio, [1.0] * 9, [2.0] * 9)
    assert (found.low, found.high) == (0.5, 0.5)


def test_one_value():
    assert bootstrap_mean([0.25]) == Estimate(value=0.25, low=0.25, high=0.25, n=1)
    assert bootstrap_statistic(ratio, [1.0], [4.0]) == Estimate(value=0.25, low=0.25, high=0.25, n=1)


def test_missing_values_are_dropped_whole():
    nan = math.nan
    assert bootstrap_mean([1, nan, 2, 3, nan]) == bootstrap_mean([1, 2, 3])
    assert bootstrap_statistic(ratio, [1, nan, 3, 4], [2, 2, nan, 3]) == bootstrap_statistic(ratio, [1, 4], [2, 3])
    assert bootstrap_mean([nan, nan]) == Estimate(value=None, low=None, high=None, n=0)
    assert bootstrap_statistic(ratio, [], []).value is None


def test_an_undefined_statistic_has_no_value_and_a_shaky_one_no_interval():
    def positive_only(a):
        mean = a.mean(axis=-1)
        return np.where(mean > 0, mean, np.nan)

    assert bootstrap_statistic(positive_only, [-1.0, -2.0, -3.0]) == Estimate(value=None, low=None, high=None, n=3)
    shaky = bootstrap_statistic(
        positive_only, [-1.0, 1.5, 0.5, -0.6]
    )  # the mean is 0.1, and about half of the resamples < 0
    assert shaky.value == pytest.approx(0.1)
    assert (shaky.low, shaky.high) == (None, None)


def test_same_seed_same_interval():
    values = skewed(50)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)
    assert sign_flip(values - 0.9, seed=5) == sign_flip(values - 0.9, seed=5)


def test_two_way_adds_the_variance_of_instances_and_seeds():
    rng = np.random.default_rng(7)
    table = rng.normal(size=(200, 1)) + rng.normal(size=(1, 12))
    found = bootstrap_two_way(table)
    # Of additive effects the bootstrap variance of the mean is var(instances) / n + var(seeds) / s.
    spread = math.sqrt(table[:, 0].var() / 200 + table[0].var() / 12)
    assert found.value == pytest.approx(table.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.06)
    only_instances = bootstrap_mean(table.mean(axis=1))
    assert found.high - found.low > 2 * (only_instances.high - only_instances.low)


def test_two_way_of_one_seed_resamples_instances():
    values = skewed(100)
    found = bootstrap_two_way(values[:, None])
    draws = values[np.random.default_rng(9).integers(0, 100, (10_000, 100))].mean(axis=1)
    assert [found.low, found.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_two_way_leaves_missing_cells_out():
    found = bootstrap_two_way([[1.0, math.nan], [3.0, 5.0], [math.nan, math.nan]], resamples=2_000)
    assert (found.value, found.n) == (3.0, 2)  # (1 + 3 + 5) / 3
    # Both rows the first and both seeds the second: 1/4 x 1/4 of the draws have no value, more than 1/40.
    assert (found.low, found.high) == (None, None)
    whole = bootstrap_two_way([[1.0, 1.0], [3.0, 5.0]], resamples=2_000)
    assert whole.low == 1.0
    assert whole.high == 5.0


# --------------------------------------------------------------------------------------------- paired tests


def enumerated_sign_flip(differences):
    signs = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    sums = np.abs(signs @ differences)
    return float((sums >= abs(differences.sum()) - 1e-9).mean())


@pytest.mark.parametrize("seed", range(4))
def test_sign_flip_is_the_share_of_all_sign_patterns(seed):
    differences = np.random.default_rng(seed).normal(0.4, 1, 9).round(1)  # rounded: ties of sums occur
    exact = enumerated_sign_flip(differences)
    assert sign_flip(differences) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4)


def test_sign_flip_by_hand():
    # 0.1 + 0.2 + 0.3: only + + + and - - - reach 0.6, so p = 2 / 8; rounding must not lose either of them.
    assert sign_flip([0.1, 0.2, 0.3], resamples=20_000) == pytest.approx(0.25, abs=0.015)
    assert sign_flip([0.1, 0.2, 0.3, 0, math.nan], resamples=20_000) == pytest.approx(0.25, abs=0.015)
    assert sign_flip([1.0] * 40, resamples=999) == 1 / 1_000  # 2^-39: no draw reaches it, and p is never 0
    assert sign_flip([0.0, 0.0]) == 1
    assert sign_flip([1.0, -1.0]) == 1
    assert sign_flip([]) is None


def test_mcnemar_by_hand():
    # 1 against 5: 2 (C(6,0) + C(6,1)) / 2^6 = 14/64; mid-p takes off C(6,1) / 64.
    assert mcnemar(1, 5) == pytest.approx(14 / 64)
    assert mcnemar(5, 1, mid_p=True) == pytest.approx(8 / 64)
    # 2 against 2: all outcomes are as extreme; mid-p = 1 - C(4,2) / 2^4 / 2.
    assert mcnemar(2, 2) == 1
    assert mcnemar(2, 2, mid_p=True) == pytest.approx(1 - 6 / 32)
    assert mcnemar(0, 0) == mcnemar(0, 0, mid_p=True) == 1


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail(b, c):
    assert mcnemar(b, c) == pytest.approx(reference_mcnemar([[0, b], [c, 0]], exact=True).pvalue)
    assert mcnemar(b, c, mid_p=True) <= mcnemar(b, c)


def enumerated_random_mask_test(observed, random):
    table = np.column_stack([observed, random])
    columns = itertools.product(range(table.shape[1]), repeat=len(table))
    sums = [sum(table[row, column] for row, column in enumerate(choice)) for choice in columns]
    return float((np.array(sums) >= sum(observed)).mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 1_000))
def test_random_mask_test_enumerates_every_exchange(n, draws, seed):
    flips = np.random.default_rng(seed).random((n, draws + 1)) < 0.4
    found = random_mask_test(flips[:, 0], flips[:, 1:])
    assert found == pytest.approx(enumerated_random_mask_test(flips[:, 0], flips[:, 1:]))


def test_random_mask_test_by_hand():
    # Two instances, each flips under the chosen mask and under none of 3 random ones: 1/4 x 1/4.
    assert random_mask_test([1, 1], np.zeros((2, 3))) == pytest.approx(1 / 16)
    assert random_mask_test([1, 1, math.nan], np.zeros((3, 3))) == pytest.approx(1 / 16)
    assert random_mask_test([0, 0], np.zeros((2, 3))) == 1
    assert random_mask_test([], np.zeros((0, 3))) is None


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30), st.floats(0.01, 0.5))
def test_equivalence_is_statsmodels_tost(differences, margin):
    values = np.array(differences) + np.linspace(0, 1e-3, len(differences))
    expected = DescrStatsW(values).ttost_mean(-margin, margin)[0]
    assert equivalence(values, margin) == pytest.approx(expected, abs=1e-9)


def test_equivalence_of_constant_and_too_few_differences():
    assert equivalence([0.1, 0.1, 0.1], 0.2) == 0
    assert equivalence([0.25, 0.25], 0.25) == 1
    assert equivalence([0.1, math.nan], 0.2) is None


# ----------------------------------------------------------------------------- rates, effects, families, power


@pytest.mark.parametrize(("count", "n", "low", "high"), [(15, 300, 3.1, 8.1), (0, 300, 0, 1.3), (5, 100, 2.2, 11.2)])
def test_wilson_of_the_specification(count, n, low, high):
    found = wilson(count, n)
    assert [100 * found.low, 100 * found.high] == pytest.approx([low, high], abs=0.05)


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_ends_are_rates_whose_score_test_is_on_the_edge(n, share, level):
    count = round(share * n)
    found = wilson(count, n, level=level)
    z = stats.norm.ppf((1 + level) / 2)
    for end in (found.low, found.high):  # |rate - end| = z sqrt(end (1 - end) / n) is Wilson's definition
        assert abs(count / n - end) == pytest.approx(z * math.sqrt(max(end * (1 - end), 0) / n), abs=1e-6)
    assert found.low <= count / n <= found.high or math.isclose(found.low, found.high)


def test_paired_rate_difference_by_hand():
    # 10 against 4 of 100: (10 + 1) / 102 = 0.107843 and (4 + 1) / 102 = 0.049020, difference 0.058824;
    # error = sqrt((0.156863 - 0.003460) / 102) = 0.038781; 0.058824 -+ 1.959964 x 0.038781.
    found = paired_rate_difference(10, 4, 100)
    assert found.value == pytest.approx(0.06)
    assert [found.low, found.high] == pytest.approx([-0.017185, 0.134833], abs=2e-6)
    assert paired_rate_difference(0, 0, 0).value is None
    assert paired_rate_difference(0, 3, 3).low == -1


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_cliffs_delta_counts_pairs(first, second):
    pairs = [(a > b) - (a < b) for a in first for b in second]
    assert cliffs_delta(first, second) == pytest.approx(sum(pairs) / len(pairs))


def test_cliffs_delta_of_nothing():
    assert cliffs_delta([], [1]) is None
    assert cliffs_delta([3, math.nan], [1, 2]) == 1


def test_corrections_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04. Holm: x 4, 3, 2, 1 and never below an earlier one: 0.04, 0.06, 0.06, 0.06.
    # Benjamini-Hochberg: x 4/1, 4/2, 4/3, 4/4 and never above a later one: 0.04 each.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert benjamini_hochberg([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.04] * 4)


@settings(deadline=None)
@given(p_lists)
def test_holm_closes_bonferroni(p_values):
    # Closed testing: the adjusted p of a claim is the largest size x smallest p over all sets of claims that hold it.
    adjusted = holm(p_values)
    indices = range(len(p_values))
    subsets = [s for k in range(1, len(p_values) + 1) for s in itertools.combinations(indices, k)]
    for i in indices:
        expected = max(min(1, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s)
        assert adjusted[i] == pytest.approx(expected)


@pytest.mark.parametrize("p_values", [[0.3], [0.01, 0.02, 0.2], [0.5, 0.04, 0.04, 0.0, 1.0, 0.013]])
def test_missing_tests_are_not_in_the_family(p_values):
    with_gap = [p_values[0], math.nan, *p_values[1:]]
    for ours, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        adjusted = ours(with_gap)
        assert math.isnan(adjusted[1])
        assert np.delete(adjusted, 1) == pytest.approx(multipletests(p_values, method=method)[1])


def test_corrections_of_no_test():
    assert holm([]).shape == (0,)
    assert np.isnan(benjamini_hochberg([math.nan])).all()


def test_power_of_the_specification():
    found = [detectable_difference(n, 0.2) for n in (100, 300, 1_000)]
    assert found == pytest.approx([0.125, 0.072, 0.040], abs=0.0005)
    assert detectable_difference(0, 0.2) is None
    assert needed_instances(0.125, 0.2) == 101  # 0.2 (2.8016 / 0.125)^2 = 100.47


@given(st.floats(0.01, 0.9), st.floats(0.01, 1), st.floats(0.8, 0.99), st.floats(0.5, 0.95))
def test_needed_instances_are_the_fewest(difference, discordance, level, power):
    n = needed_instances(difference, discordance, level=level, power=power)
    assert detectable_difference(n, discordance, level=level, power=power) <= difference * (1 + 1e-9)
    if n > 1:
        assert detectable_difference(n - 1, discordance, level=level, power=power) > difference * (1 - 1e-9)


# ---------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bootstrap_mean([1.0], level=1.5), "1.5"),
        (lambda: bootstrap_mean([1.0], resamples=0), "0"),
        (lambda: bootstrap_mean([[1.0, 2.0]]), r"\(1, 2\)"),
        (lambda: bootstrap_statistic(ratio, [1.0], [1.0, 2.0]), r"\(2,\)"),
        (lambda: bootstrap_statistic(ratio), r"\[\]"),
        (lambda: bootstrap_two_way([1.0]), r"\(1,\)"),
        (lambda: sign_flip([1.0], resamples=-3), "-3"),
        (lambda: mcnemar(-1, 2), "-1"),
        (lambda: random_mask_test([1, 0], np.zeros((3, 2))), r"\(3, 2\)"),
        (lambda: random_mask_test([0.5], np.zeros((1, 2))), "0.5"),
        (lambda: equivalence([1.0, 2.0], 0), "0"),
        (lambda: wilson(4, 3), "4 of 3"),
        (lambda: paired_rate_difference(2, 2, 3), "n = 3"),
        (lambda: holm([0.2, 1.2]), "1.2"),
        (lambda: detectable_difference(-1, 0.2), "-1"),
        (lambda: detectable_difference(9, 1.2), "1.2"),
        (lambda: detectable_difference(9, 0.2, power=1), "1"),
        (lambda: needed_instances(0, 0.2), "0"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# ------------------------------------------------------------------------------------------------ simulations


def covers(found, truth):
    return found.low <= truth <= found.high


def near(share, expected, runs):
    """Whether a share of simulated runs is within 4 standard errors of what is expected."""
    return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / runs)


@pytest.mark.slow
def test_sign_flip_is_uniform_under_the_null():
    rng = np.random.default_rng(11)
    p_values = [sign_flip(rng.standard_t(4, 25), resamples=999, seed=i) for i in range(1_500)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    shifted = [sign_flip(rng.standard_t(4, 25) + 0.4, resamples=999, seed=i) for i in range(300)]
    assert stats.kstest(shifted, "uniform").pvalue < 1e-6  # the check would see a test that is not uniform


@pytest.mark.slow
def test_exact_tests_keep_their_level():
    rng = np.random.default_rng(12)
    discordant = rng.binomial(60, 0.3, 3_000)
    first = rng.binomial(discordant, 0.5)
    exact = np.array([mcnemar(b, n - b) for b, n in zip(first, discordant, strict=True)])
    mid = np.array([mcnemar(b, n - b, mid_p=True) for b, n in zip(first, discordant, strict=True)])
    assert (exact <= 0.05).mean() < 0.05
    assert near((mid <= 0.05).mean(), 0.045, 3_000)  # nearly the level, where the exact form has about 0.025
    flips = rng.random((1_500, 60, 11)) < rng.uniform(0.1, 0.5, (1_500, 60, 1))
    p_values = np.array([random_mask_test(table[:, 0], table[:, 1:]) for table in flips])
    for level in (0.05, 0.2, 0.5):
        assert (p_values <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / 1_500)
        assert (p_values <= level).mean() > level / 2  # and it is not idle


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_bootstrap_intervals_cover_at_their_level(level):
    rng = np.random.default_rng(13)
    runs = 1_000
    means, ratios = [], []
    for run in range(runs):
        values = rng.gamma(2, 1, 100)  # mean 2, skewness 1.4
        means.append(covers(bootstrap_mean(values, level=level, resamples=1_000, seed=run), 2))
        if run < 400:
            base = rng.gamma(2, 1, 100)
            found = bootstrap_statistic(ratio, 0.5 * base + rng.normal(0, 0.5, 100), base, level=level, resamples=1_000)
            ratios.append(covers(found, 0.5))
    assert near(np.mean(means), level, runs)
    assert near(np.mean(ratios), level, 400)


@pytest.mark.slow
def test_the_analytic_interval_covers_at_its_level(monkeypatch):
    monkeypatch.setattr(statistics, "_DRAWS", 0)
    rng = np.random.default_rng(14)
    assert near(np.mean([covers(bootstrap_mean(rng.gamma(2, 1, 100)), 2) for _ in range(2_000)]), 0.95, 2_000)


@pytest.mark.slow
def test_two_way_interval_covers_where_resampling_instances_alone_does_not():
    rng = np.random.default_rng(15)
    both, instances = [], []
    for run in range(300):
        table = rng.normal(0, 1, (60, 1)) + rng.normal(0, 0.3, (1, 10)) + rng.normal(0, 0.5, (60, 10))
        both.append(covers(bootstrap_two_way(table, resamples=1_000, seed=run), 0))
        instances.append(covers(bootstrap_mean(table.mean(axis=1), resamples=1_000, seed=run), 0))
    assert near(np.mean(both), 0.94, 300)  # 10 seeds: a little under the level, as every bootstrap of few
    assert np.mean(instances) < 0.91


def test_wilson_covers_at_its_level():
    # Coverage is a sum over counts, so nothing has to be drawn. It swings around the level, most at rates near 0 and 1.
    n, counts = 100, np.arange(101)
    intervals = [wilson(int(k), n) for k in counts]
    low, high = np.array([i.low for i in intervals]), np.array([i.high for i in intervals])
    rates = np.linspace(0.01, 0.99, 197)
    coverage = [stats.binom.pmf(counts, n, rate)[(low <= rate) & (rate <= high)].sum() for rate in rates]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005)
    assert np.min(coverage) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("only_first", "only_second"), [(0.05, 0.05), (0.2, 0.1), (0.3, 0.3)])
def test_paired_rate_differences_cover_at_their_level(only_first, only_second):
    n, runs = 200, 3_000
    cells = np.random.default_rng(16).multinomial(n, [only_first, only_second, 1 - only_first - only_second], runs)
    found = [covers(paired_rate_difference(int(b), int(c), n), only_first - only_second) for b, c, _ in cells]
    assert near(np.mean(found), 0.953, runs)  # a little over the level, as its authors report
