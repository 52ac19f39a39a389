"""Fractions, rates and thresholds with their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binomtest, chi2

#: Confidence of every interval of a study.
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its interval of confidence `LEVEL`; NaN where nothing was counted."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.2g}–{self.high:.2g})"

    def columns(self, name: str) -> dict[str, float]:
        """Return the three numbers by column name."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def fraction(successes: int, trials: int, level: float = LEVEL) -> Estimate:
    """Return a binomial fraction with Wilson's score interval (JASA 22:209, 1927)."""
    if trials == 0:
        return Estimate(np.nan, 0.0, 1.0)
    interval = binomtest(int(successes), int(trials)).proportion_ci(level, method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def rate(events: int, trials: int, level: float = LEVEL) -> Estimate:
    """Return a mean number a trial with Garwood's exact interval (Biometrika 28:437, 1936)."""
    if trials == 0:
        return Estimate(np.nan, 0.0, np.inf)
    tail = (1 - level) / 2
    low = chi2.ppf(tail, 2 * events) / 2 if events else 0.0
    high = chi2.ppf(1 - tail, 2 * (events + 1)) / 2
    return Estimate(events / trials, float(low) / trials, float(high) / trials)


def exceedance_limit(values: Sequence[float], fraction_above: float) -> float:
    """Return the threshold that at most a fraction of the values reaches, infinity if none does.

    A scan alarms where its value is finite and at or above the threshold, so the threshold lies
    just above the value that must not alarm, and is minus infinity where that scan has none.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    allowed = int(np.floor(fraction_above * len(ordered) + 1e-9))
    if len(ordered) == 0:
        return np.inf
    if allowed >= len(ordered):
        return -np.inf
    silent = ordered[len(ordered) - 1 - allowed]
    return float(np.nextafter(silent, np.inf)) if np.isfinite(silent) else float(silent)


def quantile_interval(
    values: Sequence[float], probability: float, level: float = LEVEL
) -> Estimate:
    """Return a quantile with the distribution-free interval of order statistics.

    The number of values below the true quantile is binomial (David and Nagaraja, *Order
    Statistics*, 2003, section 7.1). Where there are too few values to bound it, the end is
    infinite.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if n == 0:
        return Estimate(np.nan, -np.inf, np.inf)
    # P(at least k of n values are below the quantile) = I_p(k, n - k + 1), k = 1 ... n.
    ranks = np.arange(1, n + 1)
    at_least = beta.cdf(probability, ranks, n - ranks + 1)
    tail = (1 - level) / 2
    low = np.flatnonzero(at_least >= 1 - tail)
    high = np.flatnonzero(at_least <= tail)
    with np.errstate(invalid="ignore"):  # none between values of minus infinity, as of no alert
        value = float(np.quantile(ordered, probability))
    return Estimate(
        value,
        float(ordered[low[-1]]) if low.size else -np.inf,
        float(ordered[high[0]]) if high.size else np.inf,
    )


def median_interval(values: Sequence[float]) -> Estimate:
    """Return the median with its interval."""
    return quantile_interval(values, 0.5)


def log_ratios(pairs: Sequence[tuple[float, float]]) -> NDArray[Any]:
    """Return ln(estimate / truth) of pairs that are both positive."""
    kept = [(estimate, true) for estimate, true in pairs if estimate > 0 and true > 0]
    return np.array([np.log(estimate / true) for estimate, true in kept])
