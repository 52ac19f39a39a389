"""The most likely box near a place: position, size and density, and how well they are known."""

from __future__ import annotations

import math
from copy import copy
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from muscan.kernels import box as kernel
from muscan.kernels.box import Near
from muscan.kernels.region import Momenta
from muscan.kernels.ways import Ways
from muscan.model.region import RegionFit
from muscan.model.track_errors import least_loss
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.voxel_fit import IMPOSSIBLE
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
#: A box is known no better than by this many muons.
LEAST_MUONS: Final = 10
#: A box that gains less than this is not sought further [nats].
LEAST_GAIN: Final = 4.0
#: Widths and heights, as multiples of the best ones, over which the density is summed.
WIDTHS: Final = (0.7, 0.85, 1.0, 1.15, 1.35)
HEIGHTS: Final = (0.5, 0.7, 1.0, 1.35, 1.8)
#: How far measuring looks at muons, in half edges of the best box: these boxes, and the best one
#: shifted by a quarter for the error of its place.
LARGEST_SHAPE: Final = np.maximum([WIDTHS[-1], WIDTHS[-1], HEIGHTS[-1]], 1.5)
#: Densities tried for each, as multiples of the best one. They are computed and not interpolated
#: from fewer: where a class of slow muons begins to stop the likelihood has kinks.
FINE: Final = np.geomspace(0.2, 5.0, 25)
#: Every fourth of them comes first, the best among them. Between two that are both less likely than
#: the best box by these nats, or this share of its log ratio, the others do not matter.
COARSE: Final = 4
HOPELESS: Final = 40.0
HOPELESS_SHARE: Final = 0.2
#: Of more muons than this, every second (third, …) tells what does not matter.
ROUGH_MUONS: Final = 6000
#: Densities tried where there is no first guess.
FIRST: Final = 8


class BoxSearch:
    """Likelihood of boxes near a place against the background.

    Parameters
    ----------
    near : Near
        The muons there, from `near_muons`.
    momenta : Momenta
    background : ndarray, shape of the grid
        Scattering density [mrad²/mm].
    grid : VoxelGrid
    low, high : ndarray, shape (3,)
        Corners of the surroundings that boxes do not leave [mm].
    workers : int, optional
        Threads.
    """

    def __init__(
        self,
        near: Near,
        momenta: Momenta,
        background: FloatArray,
        grid: VoxelGrid,
        low: FloatArray,
        high: FloatArray,
        workers: int | None = None,
    ) -> None:
        self._near, self._momenta = near, momenta
        self._background, self._workers = background, workers
        self._lower, self._spacing = grid.lower, np.asarray(grid.spacing, dtype=float)
        self._low, self._high = low, high

    def level(self, centre: FloatArray, size: FloatArray) -> float:
        """Return the mean scattering density of the background in a box [mrad²/cm]."""
        low, high = centre - size / 2, centre + size / 2
        return MM_PER_CM * float(
            kernel.mean_inside(self._background, self._lower, self._spacing, low, high)
        )

    def gains(
        self, centre: FloatArray, size: FloatArray, densities: FloatArray, background: float
    ) -> tuple[FloatArray, int]:
        """Return the log likelihood ratios of densities [mrad²/cm] against the background.

        And how many of the muons cross the box.
        """
        values = np.append(densities, background) / MM_PER_CM
        loss = least_loss(values)
        gains = np.empty(len(densities))
        crossing = kernel.box_gains(
            self._near, self._momenta, centre - size / 2, centre + size / 2,
            values[:-1] - values[-1], loss[:-1] - loss[-1], gains,
        )  # fmt: skip
        # A box lighter than what it stands in may leave a muon less than nothing to cross.
        gains[~np.isfinite(gains)] = IMPOSSIBLE
        return gains, int(crossing)

    def gain(
        self, centre: FloatArray, size: FloatArray, density: float, background: float
    ) -> float:
        """Return the log likelihood ratio of one density [mrad²/cm]."""
        return float(self.gains(centre, size, np.array([density]), background)[0][0])

    def first_density(self, centre: FloatArray, size: FloatArray) -> float:
        """Return the likeliest of a few densities of a box [mrad²/cm]."""
        background = self.level(centre, size)
        tried = np.geomspace(1.3 * background + 0.1, 100.0, FIRST)
        return float(tried[int(np.argmax(self.gains(centre, size, tried, background)[0]))])

    def search(
        self, centre: FloatArray, size: FloatArray, density: float, stride: int
    ) -> FloatArray:
        """Climb from a first guess; return place, logarithms of width and height, of density."""

        def objective(x: FloatArray) -> float:
            centre, size, density = _unpack(x)
            low, high = centre - size / 2, centre + size / 2
            outside = np.maximum(self._low - low, 0).sum() + np.maximum(high - self._high, 0).sum()
            bounded = _bounded(size)
            background = self.level(centre, size)
            allowed = min(max(density, background + LEAST_INCREASE), HIGHEST)
            cost = 0.05 * outside + 10.0 * float(np.abs(np.log(size / bounded)).sum())
            cost += 10.0 * abs(math.log(density / allowed)) - _log_prior(size)
            return float(cost - stride * self.gain(centre, bounded, allowed, background))

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

    def climb(
        self, centre: FloatArray, size: FloatArray, density: float | None = None, stride: int = 1
    ) -> tuple[FloatArray, FloatArray, float]:
        """Return middle, edges and density of the most likely box near a first guess.

        Parameters
        ----------
        centre, size : ndarray, shape (3,)
            First guess [mm].
        density : float, optional
            First guess [mrad²/cm].
        stride : int
            How many muons each one here stands for.
        """
        if density is None:
            density = self.first_density(centre, size)
        best_centre, best_size, best = _unpack(self.search(centre, size, density, stride))
        return best_centre, _bounded(best_size), best

    def measure(
        self, best_centre: FloatArray, best_size: FloatArray, best: float, least: float
    ) -> RegionFit | None:
        """Return what is known of a box and its density, None if it gains fewer nats."""
        background = self.level(best_centre, best_size)
        best = min(max(best, background + LEAST_INCREASE), HIGHEST)
        gains, crossing = self.gains(best_centre, best_size, np.array([best]), background)
        if crossing < LEAST_MUONS or gains[0] < least:
            return None
        densities = best * FINE
        allowed = (densities > background + LEAST_INCREASE) & (densities <= HIGHEST)
        numbers, densities = np.flatnonzero(allowed), densities[allowed]
        shapes = [np.array([wide, wide, tall]) * best_size for wide in WIDTHS for tall in HEIGHTS]
        shapes = [shape for shape in shapes if shape.min() >= 0.7 * SMALLEST_MM]
        coarse = np.union1d(np.flatnonzero(numbers % COARSE == 0), [0, len(numbers) - 1])
        rough = self._rough(best_centre, shapes, densities[coarse])
        table = self._profiles(best_centre, shapes, densities, coarse, rough)
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
            n_muons=crossing,
            centre=best_centre,
            size=best_size,
            centre_sigma=self._errors(best_centre, best_size, float(np.exp(median)), background),
            background=background,
            integral=integral,
            integral_sigma=float(np.sqrt(variance)),
        )

    def _rough(
        self, centre: FloatArray, shapes: list[FloatArray], densities: FloatArray
    ) -> FloatArray:
        """Return the log probabilities of densities for boxes of several shapes, by few muons."""
        stride = 1 + len(self._near.base) // ROUGH_MUONS
        some = self if stride == 1 else self._some(stride)

        def work(number: int) -> FloatArray:
            size = shapes[number]
            gains, _ = some.gains(centre, size, densities, self.level(centre, size))
            return stride * gains + _log_prior(size)

        return np.array(lanes.run(work, len(shapes), self._workers))

    def _some(self, stride: int) -> BoxSearch:
        """Return the likelihood of every so manyth muon."""
        other = copy(self)
        ways = Ways(*(np.ascontiguousarray(column[::stride]) for column in self._near.ways))
        bins, base = self._near.bins[::stride], self._near.base[::stride]
        other._near = near_muons(
            ways, np.ascontiguousarray(bins), np.ascontiguousarray(base), self._momenta
        )
        return other

    def _profiles(
        self,
        centre: FloatArray,
        shapes: list[FloatArray],
        densities: FloatArray,
        coarse: NDArray[np.int64],
        rough: FloatArray,
    ) -> FloatArray:
        """Return the log probabilities of densities for boxes of several shapes.

        Of those between two coarse ones that are both hopeless it is minus infinity.
        """
        best = float(rough.max())
        hopeless = best - max(HOPELESS, HOPELESS_SHARE * best)

        def work(number: int) -> FloatArray:
            size = shapes[number]
            hopeful = np.zeros(len(densities), bool)
            for near, (first, last) in zip(pairwise(rough[number]), pairwise(coarse), strict=True):
                hopeful[first : last + 1] |= max(near) > hopeless
            row = np.full(len(densities), -np.inf)
            gains, _ = self.gains(centre, size, densities[hopeful], self.level(centre, size))
            row[hopeful] = gains + _log_prior(size)
            return row

        return np.array(lanes.run(work, len(shapes), self._workers))

    def _errors(
        self, centre: FloatArray, size: FloatArray, density: float, background: float
    ) -> FloatArray:
        """Standard deviations of the place from the likelihood's curvature at ± a step."""
        errors = np.empty(3)
        here = self.gain(centre, size, density, background)
        for axis in range(3):
            step = 0.25 * size[axis] * np.eye(3)[axis]
            plus, minus = (
                self.gain(place, size, density, background)
                for place in (centre + step, centre - step)
            )
            curvature = max(2 * here - plus - minus, 1e-3) / step[axis] ** 2
            errors[axis] = min(1 / np.sqrt(curvature), size[axis])
        return errors


def near_muons(ways: Ways, bins: NDArray[np.float32], base: FloatArray, momenta: Momenta) -> Near:
    """Return muons laid out for many boxes at one place.

    Parameters
    ----------
    ways : Ways
    bins : ndarray, shape (n, BINS, 4)
    base : ndarray, shape (n,)
        As for `muscan.kernels.box.Near`.
    momenta : Momenta
    """
    steps = np.diff(ways.point, axis=1)
    # A muon that does not move along an axis is inside a slab all the way, or nowhere.
    inverse = 1.0 / np.where(np.abs(steps) < 1e-9, 1e-9, steps)
    single = np.empty(len(base))
    kernel.outlier_densities(ways, momenta, single)
    return Near(
        ways, bins, base, single,
        np.ascontiguousarray(ways.point[:, :2].transpose(1, 2, 0)),
        np.ascontiguousarray(inverse.transpose(1, 2, 0)),
        np.ascontiguousarray(np.sqrt(np.square(steps).sum(axis=2)).T),
    )  # fmt: skip


def _unpack(x: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    wide, tall, density = np.exp(x[3:])
    return x[:3], np.array([wide, wide, tall]), float(density)


def _bounded(size: FloatArray) -> FloatArray:
    return np.minimum(np.maximum(size, SMALLEST_MM), LARGEST_MM)


def _log_prior(size: FloatArray) -> float:
    """Log prior probability of a box's shape, 0 for a cube."""
    return -0.5 * (math.log(size[2] / size[0]) / ASPECT) ** 2


def _quantiles(logs: FloatArray, share: FloatArray) -> FloatArray:
    """Return where a tabulated density has 15.9, 50 and 84.1 % of itself below."""
    cumulative = np.cumsum(share) - share / 2
    return np.asarray(np.interp([0.158655, 0.5, 0.841345], cumulative, logs))
