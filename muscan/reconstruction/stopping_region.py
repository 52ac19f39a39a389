"""The stopping density of a region, with everything around it free to be what it may."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.optimize import minimize

from muscan.errors import InputError
from muscan.reconstruction.stopping_problem import StoppingProblem
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Largest stopping density that a region may have [g/cm³]; uranium has 10, osmium 12.
HIGHEST = 30.0
#: Densities at which a first guess looks, with nothing else moving [g/cm³].
GUESSES = np.concatenate([[0.0], np.geomspace(1e-2, HIGHEST, 60)])
#: Fall of the log likelihood at the ends of a 68 % interval.
INTERVAL_FALL = 0.5
#: Least half width of an interval [g/cm³].
NARROWEST = 1e-3
#: Standard deviations of a voxel that its matter has to be worth.
SPARSE = 3.0
#: Density at which the information on a voxel counts at least [g/cm³].
STIFF = 0.05
#: Steps in which what is around follows a change of the region, and the relative gain that ends
#: them.
STEPS, SMALL = 20, 1e-6
#: How often they do before densities of the region are compared.
SETTLING = 3
#: Places where the top and each end of the interval are looked for.
LOOKS = 4


@dataclass(frozen=True)
class StoppingFit:
    """What the muons say of one region.

    Attributes
    ----------
    density, low, high : float
        Most likely stopping density and its 68 % interval [g/cm³ of water]; ``low`` may be 0. The
        interval holds what the muons leave open, the spectrum, and upwards the matter that was
        found within a larger voxel around the region, which may be the region's own.
    statistical : tuple of float
        What the muons leave open by themselves: their number, what is around the region, and the
        efficiency of the panels.
    log_ratio : float
        Log of the likelihood at ``density`` over that of nothing there [nats].
    n_muons, n_lost : int
        Muons that aim through the region, and those of them that were not seen again.
    """

    density: float
    low: float
    high: float
    statistical: tuple[float, float]
    log_ratio: float
    n_muons: int
    n_lost: int


class Region:
    """The likelihood of a region's density, the most probable surroundings taken for each.

    The surroundings are voxels of densities ρ ≥ 0 at the cost of `SPARSE` Σ ln(1 + √F ρ), with F
    the information on each by itself: what is around has matter where the muons ask for it, and
    what may as well be in the region is there. What is much is hardly drawn down.

    Parameters
    ----------
    problem : StoppingProblem
        At the acceptance and efficiency of the image; the latter is left as it was.
    share : ndarray, shape (voxels,)
        Share of each voxel that the region fills.
    density : ndarray, shape (voxels,)
        The image, to start from [g/cm³].

    Raises
    ------
    InputError
        If no muon aims through the region.
    """

    def __init__(self, problem: StoppingProblem, share: FloatArray, density: FloatArray) -> None:
        self._problem, self._share = problem, share
        self._length = problem.integrals(share)
        self._rows = np.flatnonzero(self._length > 0)
        if self._rows.size == 0:
            raise InputError("region", "no muon aims through it", "scan for longer")
        squares, _ = problem.information(np.maximum(density, STIFF) / MM_PER_CM)
        # Of a voxel that is seen by no muon nothing is asked.
        self._scale = np.sqrt(np.maximum(squares, squares.max() * 1e-9)) / MM_PER_CM
        self._known: dict[float, tuple[float, FloatArray]] = {}
        self._start = np.where(share > 0, 0.0, density) * self._scale

    def fit(self) -> StoppingFit:
        """Return the most likely density and its interval."""
        before = self._problem.efficiency
        first = self._alone(GUESSES)
        guess = float(GUESSES[int(first.argmax())])
        near = GUESSES[first > first.max() - 2]
        # What is around has to settle before densities can be compared.
        for _ in range(SETTLING):
            self._start = self._settle(guess)[1]
        best, width = self._top(guess, max(float(np.ptp(near)) / 4, 0.1 * guess, NARROWEST))
        ratio = self._value(best) - self._value(0.0)
        low = 0.0 if ratio < INTERVAL_FALL else self._end(best, -width)
        high = self._end(best, width)
        error = self._spectrum_error(best)
        above = float(np.hypot(error, self._smeared(best)))
        lost = ~self._problem.expected.passed[self._rows]
        found = StoppingFit(
            density=best,
            low=max(best - float(np.hypot(best - low, error)), 0.0),
            high=best + float(np.hypot(high - best, above)),
            statistical=(low, high),
            log_ratio=ratio,
            n_muons=int(self._rows.size),
            n_lost=int(lost.sum()),
        )
        self._problem.efficiency = before
        return found

    def _value(self, density: float) -> float:
        """Return the log likelihood and prior at a density, the surroundings at their best."""
        if density not in self._known:
            self._known[density] = self._settle(density)
        return self._known[density][0]

    def _settle(self, density: float) -> tuple[float, FloatArray]:
        problem, start = self._problem, self._start
        if self._known:
            start = self._known[min(self._known, key=lambda other: abs(other - density))][1]
        inside = self._share * density / MM_PER_CM
        per_unit = (1 - self._share) / self._scale / MM_PER_CM

        def objective(x: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = problem.likelihood(inside + per_unit * x)
            cost = SPARSE * float(np.log1p(x).sum())
            return cost - value, SPARSE / (1 + x) - gradient * per_unit

        problem.fit_efficiency(inside + per_unit * start)
        found = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start),
            options={"maxiter": STEPS, "ftol": SMALL},
        )  # fmt: skip
        return problem.efficiency_prior() - float(found.fun), found.x

    def _top(self, guess: float, width: float) -> tuple[float, float]:
        """Return the most likely density, and about its standard deviation."""
        places = [max(guess - 1.5 * width, 0.0), max(guess, NARROWEST), guess + 1.5 * width]
        for _ in range(LOOKS):
            nearest = sorted(places, key=self._value)[-3:]
            bend, slope, _ = np.polyfit(nearest, [self._value(x) for x in nearest], 2)
            top = max(places, key=self._value)
            if bend < 0:
                width = float(1 / np.sqrt(-2 * bend))
                next_place = float(np.clip(-slope / (2 * bend), 0.0, min(2 * top + 1, HIGHEST)))
            else:  # not yet around the top
                next_place = max(2 * top - nearest[0], 0.0)
            if min(abs(next_place - place) for place in places) < 0.05 * width:
                break
            places.append(next_place)
        return max(places, key=self._value), max(width, NARROWEST)

    def _end(self, best: float, step: float) -> float:
        """Return where the likelihood has fallen by `INTERVAL_FALL`; 0 or `HIGHEST` at most."""
        top, far = self._value(best), 0.0
        for _ in range(LOOKS):
            place = min(max(best + step, 0.0), HIGHEST)
            far = float(np.sqrt(max(top - self._value(place), 1e-6) / INTERVAL_FALL))
            if abs(far - 1) < 0.05 or (place in (0.0, HIGHEST) and far <= 1):
                return place
            step = (place - best) / float(np.clip(far, 0.3, 3.0))
        return min(max(best + step, 0.0), HIGHEST)

    def _alone(
        self,
        densities: FloatArray,
        table: FloatArray | None = None,
        part: FloatArray | float = 1.0,
    ) -> FloatArray:
        """Return the log likelihood of densities; around them a part of what is there, unmoved."""
        settled = max(self._known.values(), key=lambda pair: pair[0], default=(0.0, self._start))
        around = part * (1 - self._share) * settled[1] / self._scale
        outside = self._problem.integrals(around / MM_PER_CM)
        return self._problem.profile(
            self._rows, outside, self._length, densities / MM_PER_CM, table
        )

    def _smeared(self, best: float) -> float:
        """Return what the density would be more by, were what is right around it in it."""
        inside = (self._share > 0).reshape(self._problem.grid.shape)
        away = ~binary_dilation(inside, iterations=1).ravel() | inside.ravel()
        near = _near(best)
        alone, all_in = (float(near[int(self._alone(near, None, x).argmax())]) for x in (1.0, away))
        return max(all_in - alone, 0.0)

    def _spectrum_error(self, best: float) -> float:
        """Return how far another published spectrum would put the density."""
        near = _near(best)
        here = float(near[int(self._alone(near).argmax())])
        others = [self._alone(near, table) for table in self._problem.other_tables()]
        return max((abs(float(near[int(x.argmax())]) - here) for x in others), default=0.0)


def _near(density: float) -> FloatArray:
    """Return densities around one, to compare fits in which nothing else moves [g/cm³]."""
    return np.concatenate([[0.0], np.geomspace(0.3, 3.0, 161)]) * max(density, 0.01)
