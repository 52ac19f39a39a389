"""Intervals against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, poisson

from muscan.studies.statistics import (
    exceedance_limit,
    fraction,
    log_ratios,
    quantile_interval,
    rate,
)


def test_wilson_is_the_root_of_the_score_equation():
    """(p - k/n)² = z² p (1 - p) / n at both ends."""
    k, n, z = 14, 20, 1.959963984540054
    found = fraction(k, n)
    for p in (found.low, found.high):
        assert (p - k / n) ** 2 == pytest.approx(z**2 * p * (1 - p) / n, rel=1e-9)
    assert found.value == 0.7


@pytest.mark.parametrize("k", [0, 1, 7])
def test_garwood_leaves_the_tail_on_either_side(k):
    found = rate(k, 10)
    assert poisson.cdf(k, 10 * found.high) == pytest.approx(0.025, rel=1e-6)
    if k:
        assert poisson.sf(k - 1, 10 * found.low) == pytest.approx(0.025, rel=1e-6)
    else:
        assert found.low == 0


def test_of_nothing_nothing_is_known():
    assert np.isnan(fraction(0, 0).value)
    assert (fraction(0, 0).low, fraction(0, 0).high) == (0, 1)
    assert rate(0, 0).high == np.inf
    assert np.isnan(quantile_interval([], 0.5).value)


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=60),
    st.floats(0, 1),
)
def test_no_more_values_alarm_than_allowed(values, allowed):
    limit = exceedance_limit(values, allowed)
    alarmed = sum(value >= limit for value in values)
    assert alarmed <= allowed * len(values) + 1e-9
    lower = np.nextafter(limit, -np.inf)
    if np.isfinite(limit):
        assert sum(value >= lower for value in values) > allowed * len(values) - 1


def test_one_in_twenty():
    assert exceedance_limit(range(20), 0.05) == np.nextafter(18.0, np.inf)
    assert exceedance_limit(range(19), 0.05) == np.nextafter(18.0, np.inf)
    assert exceedance_limit([], 0.05) == np.inf
    assert exceedance_limit([-np.inf] * 20, 0.05) == -np.inf


def test_quantile_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(600):
        found = quantile_interval(rng.uniform(size=40).tolist(), 0.8)
        covered += found.low <= 0.8 <= found.high
    # At least the level, by construction; discreteness makes it a little more.
    assert 0.93 < covered / 600 < 0.995


def test_quantile_interval_is_of_order_statistics():
    values = list(range(1, 101))
    found = quantile_interval(values, 0.5)
    assert binom.sf(found.low - 1, 100, 0.5) >= 0.975 > binom.sf(found.low, 100, 0.5)
    assert binom.sf(found.high - 1, 100, 0.5) <= 0.025 < binom.sf(found.high - 2, 100, 0.5)


def test_a_high_quantile_of_few_values_has_no_upper_end():
    found = quantile_interval([1.0, 2.0, 3.0], 0.95)
    assert found.high == np.inf


def test_log_ratios_leave_out_what_has_no_logarithm():
    np.testing.assert_allclose(
        log_ratios([(2.0, 1.0), (0.0, 1.0), (float("nan"), 1.0), (1.0, 0.0)]), [np.log(2)]
    )
