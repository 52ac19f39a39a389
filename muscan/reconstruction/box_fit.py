"""The most likely box near a place: position, size and density, and how well they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.kernels.region import Momenta
from muscan.kernels.ways import Ways
from muscan.model.region import RegionFit
from muscan.model.track_errors import least_loss
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Densities above this are not tried [mrad²/cm]: osmium has 86, iridium 85.
HIGHEST: Final = 120.0
#: Nor are densities less than this above the background's.
LEAST_INCREASE: Final = 0.05
#: Least and largest edge of a box [mm].
SMALLEST_MM: Final = 30.0
LARGEST_MM: Final = 800.0
#: Standard deviation of ln(height/width) that boxes are expected to have. The muons hardly tell a
#: plate from a thicker and lighter box, and a plate of extreme density is seldom what it is.
ASPECT: Final = 0.5
#: First steps of the search: place across and along z [mm], logarithms of size and density.
STEPS: Final = np.array([20.0, 20.0, 35.0, 0.2, 0.25, 0.3])
#: Evaluations of the search at most.
EVALUATIONS: Final = 200
#: Of more muons near a box, every second (third, …) stands for its neighbours as well.
MOST_MUONS: Final = 4000
#: A box is known no better than by this many muons.
LEAST_MUONS: Final = 10
#: A box that gains less than this is not measured further [nats].
LEAST_GAIN: Final = 4.0
#: Widths and heights, as multiples of the best ones, over which the density is summed.
WIDTHS: Final = (0.7, 0.85, 1.0, 1.15, 1.35)
HEIGHTS: Final = (0.5, 0.7, 1.0, 1.35, 1.8)
#: Densities tried for each, as multiples of the best one.
FINE: Final = np.geomspace(0.2, 5.0, 25)


class BoxSearch:
    """Likelihood of boxes near a place against the background.

    Parameters
    ----------
    ways, bins, momenta
        See `muscan.kernels.region`.
    base : ndarray, shape (n,)
        Log densities of the muons in the background.
    level : callable
        Mean scattering density of the background in a box [mrad²/cm], of its corners.
    centre, size : ndarray, shape (3,)
        First guess [mm].
    """

    def __init__(
        self,
        ways: Ways,
        bins: NDArray[np.float32],
        momenta: Momenta,
        base: FloatArray,
        level: Callable[[FloatArray, FloatArray], float],
        centre: FloatArray,
        size: FloatArray,
    ) -> None:
        reach = size / 2 + np.maximum(size, 150.0)
        rows = np.empty(len(base), np.int64)
        found = rows[: way_kernel.near(ways, centre - reach, centre + reach, rows)]
        self._stride = 1 + len(found) // MOST_MUONS
        found = found[:: self._stride]
        self._ways = Ways(*(np.ascontiguousarray(column[found]) for column in ways))
        self._bins, self._momenta = np.ascontiguousarray(bins[found]), momenta
        self._base, self._level = base[found], level
        self._moments = np.empty((len(found), 4))
        self._all = np.arange(len(found))
        self._low, self._high = centre - reach, centre + reach

    def moments(self, centre: FloatArray, size: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        """Return the muons that cross a box, and their moments in it."""
        way_kernel.crossings(
            self._ways, self._all, centre - size / 2, centre + size / 2, self._moments
        )
        rows = np.flatnonzero(self._moments[:, 0] > 0)
        return rows, self._moments[rows]

    def gain(
        self,
        rows: NDArray[np.int64],
        moments: FloatArray,
        density: float,
        background: float,
    ) -> float:
        """Return the log likelihood ratio of a density [mrad²/cm] against the background."""
        values = np.array([density, background]) / MM_PER_CM
        loss = least_loss(values)
        total = kernel.region_density(
            self._ways, self._bins, self._momenta, rows, moments,
            values[0] - values[1], loss[0] - loss[1],
        )  # fmt: skip
        return self._stride * float(total - self._base[rows].sum())

    def search(self, centre: FloatArray, size: FloatArray, density: float) -> FloatArray:
        """Climb from a first guess; return place, logarithms of width and height, of density."""

        def objective(x: FloatArray) -> float:
            centre, size, density = _unpack(x)
            low, high = centre - size / 2, centre + size / 2
            outside = np.maximum(self._low - low, 0).sum() + np.maximum(high - self._high, 0).sum()
            bounded = np.clip(size, SMALLEST_MM, LARGEST_MM)
            background = self._level(low, high)
            allowed = min(max(density, background + LEAST_INCREASE), HIGHEST)
            cost = 0.05 * outside + 10.0 * float(np.abs(np.log(size / bounded)).sum())
            cost += 10.0 * abs(float(np.log(density / allowed))) - _log_prior(size)
            rows, moments = self.moments(centre, bounded)
            return float(cost - self.gain(rows, moments, allowed, background))

        start = np.concatenate([centre, np.log([size[:2].mean(), size[2], density])])
        # A second simplex starts afresh where the first one may have shrunk too early.
        for scale in (1.0, 0.4):
            simplex = np.vstack([start, start + scale * np.diag(STEPS)])
            found = minimize(
                objective, start, method="Nelder-Mead",
                options={"initial_simplex": simplex, "maxfev": EVALUATIONS, "fatol": 0.05,
                         "xatol": 2.0},
            )  # fmt: skip
            start = found.x
            if -found.fun < LEAST_GAIN:
                break
        return np.asarray(start)

    def fit(self, centre: FloatArray, size: FloatArray, density: float) -> RegionFit | None:
        """Return the most likely box and what is known of its density, None if that is nothing."""
        best_centre, best_size, best = _unpack(self.search(centre, size, density))
        best_size = np.clip(best_size, SMALLEST_MM, LARGEST_MM)
        rows, moments = self.moments(best_centre, best_size)
        background = self._level(best_centre - best_size / 2, best_centre + best_size / 2)
        best = min(max(best, background + LEAST_INCREASE), HIGHEST)
        if len(rows) < LEAST_MUONS or self.gain(rows, moments, best, background) < LEAST_GAIN:
            return None
        densities = np.clip(best, background + LEAST_INCREASE, HIGHEST) * FINE
        densities = densities[(densities > background + LEAST_INCREASE) & (densities <= HIGHEST)]
        shapes = [np.array([wide, wide, tall]) * best_size for wide in WIDTHS for tall in HEIGHTS]
        shapes = [shape for shape in shapes if shape.min() >= 0.7 * SMALLEST_MM]
        table = np.array([
            self._profile(best_centre, shape, densities) + _log_prior(shape) for shape in shapes
        ])  # fmt: skip
        weight = np.exp(table - table.max())
        weight /= weight.sum()
        logs = np.log(densities)
        low, median, high = _quantiles(logs, weight.sum(axis=0))
        volumes = np.array([shape.prod() for shape in shapes]) / 1000.0
        integrals = volumes[:, None] * (densities - background)
        integral = float((weight * integrals).sum())
        variance = float((weight * (integrals - integral) ** 2).sum())
        return RegionFit(
            density=float(np.exp(median)),
            low=float(np.exp(low)),
            high=float(np.exp(high)),
            log_ratio=float(table.max()),
            n_muons=len(rows) * self._stride,
            centre=best_centre,
            size=best_size,
            centre_sigma=self._errors(best_centre, best_size, float(np.exp(median)), background),
            background=background,
            integral=integral,
            integral_sigma=float(np.sqrt(variance)),
        )

    def _profile(self, centre: FloatArray, size: FloatArray, densities: FloatArray) -> FloatArray:
        rows, moments = self.moments(centre, size)
        background = self._level(centre - size / 2, centre + size / 2)
        return np.array([self.gain(rows, moments, float(d), background) for d in densities])

    def _errors(
        self, centre: FloatArray, size: FloatArray, density: float, background: float
    ) -> FloatArray:
        """Standard deviations of the place from the likelihood's curvature at ± a step."""
        errors = np.empty(3)
        for axis in range(3):
            step = 0.25 * size[axis] * np.eye(3)[axis]
            here, plus, minus = (
                self.gain(*self.moments(place, size), density, background)
                for place in (centre, centre + step, centre - step)
            )
            curvature = max(2 * here - plus - minus, 1e-3) / step[axis] ** 2
            errors[axis] = min(1 / np.sqrt(curvature), size[axis])
        return errors


def _unpack(x: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    wide, tall, density = np.exp(x[3:])
    return x[:3], np.array([wide, wide, tall]), float(density)


def _log_prior(size: FloatArray) -> float:
    """Log prior probability of a box's shape, 0 for a cube."""
    return -0.5 * float(np.log(size[2] / size[0]) / ASPECT) ** 2


def _quantiles(logs: FloatArray, share: FloatArray) -> FloatArray:
    """Return where a tabulated density has 15.9, 50 and 84.1 % of itself below."""
    cumulative = np.cumsum(share) - share / 2
    return np.asarray(np.interp([0.158655, 0.5, 0.841345], cumulative, logs))
