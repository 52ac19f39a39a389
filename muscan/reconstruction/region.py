"""Tests of regions straight from the muons: density, interval and evidence; and a scan of all.

An image spreads what a small object scatters over voxels of which each is uncertain. A test asks
one question of all muons at once, so it sees more in a short scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from muscan.errors import InputError
from muscan.kernels import region as kernel
from muscan.kernels.em import Mixture
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import Volume
from muscan.reconstruction import lanes
from muscan.reconstruction.muons import MomentumModel, prepare
from muscan.reconstruction.problem import Problem
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Scattering densities between which a region's is sought [mrad²/cm].
LOWEST, HIGHEST = 1e-3, 1e3
#: Fall of the log likelihood at the ends of a 68 % interval.
INTERVAL_FALL = 0.5
#: How often losses and thicknesses are renewed while a density is sought.
RENEWALS = 3

#: Log likelihood of the logarithm of a region's density [mrad²/mm], and its derivative.
Profile = Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class RegionFit:
    """What the muons say of one region.

    Attributes
    ----------
    density, low, high : float
        Most likely scattering density and its 68 % interval [mrad²/cm].
    log_ratio : float
        Log of the likelihood at ``density`` over that of the background [nats].
    n_muons : int
        Muons through the region.
    """

    density: float
    low: float
    high: float
    log_ratio: float
    n_muons: int

    @property
    def significance(self) -> float:
        """Gaussian equivalent of the log ratio, negative below the background [σ]."""
        return float(np.sqrt(2 * max(self.log_ratio, 0.0)))


@dataclass(frozen=True)
class Candidate:
    """A block that scatters more than the background.

    Attributes
    ----------
    bounds : ndarray, shape (2, 3)
        Lowest and highest corner [mm].
    log_ratio : float
        Log likelihood ratio against the background, at the best of the tried densities [nats].
    increase : float
        That density above the background's [mrad²/cm].
    """

    bounds: FloatArray
    log_ratio: float
    increase: float


class RegionTester:
    """Likelihood tests of regions against a background volume.

    Parameters
    ----------
    scatters : Scatters
        Muons with both tracks.
    background : Volume
        What is elsewhere [mrad²/cm]; NaN counts as air.
    spectrum, momentum, detector, workers
        As for `muscan.reconstruction.em.em`.
    """

    def __init__(
        self,
        scatters: Scatters,
        background: Volume,
        *,
        spectrum: MomentumSpectrum | None = None,
        momentum: str = "spectrum",
        detector: Detector | None = None,
        workers: int | None = None,
    ) -> None:
        self.grid = background.grid
        muons = prepare(scatters, self.grid, momentum, detector, workers)  # type: ignore[arg-type]
        self._problem = Problem(muons, MomentumModel(muons, spectrum), self.grid, workers)
        values = np.nan_to_num(background.values.ravel().astype(float)) / MM_PER_CM
        self._background = np.maximum(values, AIR_DENSITY)
        self._mixture = self._problem.momenta.mixture(self._background, workers)
        self._workers = workers

    def box(self, bounds: FloatArray) -> NDArray[np.bool_]:
        """Return the voxels whose centres lie between two corners [mm], as a mask."""
        low, high = np.asarray(bounds, dtype=float)
        inside = [
            (self.grid.centres(axis) >= low[axis]) & (self.grid.centres(axis) < high[axis])
            for axis in range(3)
        ]
        return np.asarray(
            inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
        )

    def fit(self, mask: NDArray[np.bool_], background: float | None = None) -> RegionFit:
        """Return the most likely density of a region, all of one density.

        Parameters
        ----------
        mask : ndarray of bool, shape of the grid
            Voxels of the region.
        background : float, optional
            Density to compare with [mrad²/cm]; by default what the background volume has there.

        Raises
        ------
        InputError
            If the mask does not fit the grid, or no muon crosses it.
        """
        if mask.shape != self.grid.shape:
            raise InputError("region", f"mask of shape {mask.shape}, not {self.grid.shape}")
        flat = np.ascontiguousarray(mask.ravel())
        outside, inside = self._sums(flat)
        rows = np.flatnonzero(inside[:, 0] > 0)
        if rows.size == 0:
            raise InputError("region", "no muon crosses it", "scan for longer")
        profile = self._profile(rows, outside, inside, self._mixture)
        if background is None:
            background = float(self._background[flat].mean()) * MM_PER_CM
        reference = profile(float(np.log(max(background, LOWEST) / MM_PER_CM)))[0]
        low, high = np.log(LOWEST / MM_PER_CM), np.log(HIGHEST / MM_PER_CM)
        best = _peak(profile, low, high)

        def given(log_density: float) -> Profile:
            """The likelihood with losses and thicknesses as of a density in the region."""
            filled = np.where(flat, np.exp(log_density), self._background)
            mixture = self._problem.momenta.mixture(filled, self._workers)
            return self._profile(rows, outside, inside, mixture)

        for _ in range(RENEWALS):
            profile = given(best)
            best = _peak(profile, low, high)
        top = profile(best)[0]
        # The momenta depend on the density too: where more of it means slower muons, a change in
        # it shows the more, and the interval that holds for fixed momenta shrinks.
        shift = 0.2
        response = _peak(given(best - shift), low, high) - _peak(given(best + shift), low, high)
        stretch = 1 / np.clip(1 + response / (2 * shift), 0.5, 4.0)
        ends = [
            best + stretch * (_crossing(profile, end, best, top - INTERVAL_FALL) - best)
            for end in (low, high)
        ]
        return RegionFit(
            density=float(np.exp(best)) * MM_PER_CM,
            low=float(np.exp(ends[0])) * MM_PER_CM,
            high=float(np.exp(ends[1])) * MM_PER_CM,
            log_ratio=float(top - reference),
            n_muons=int(rows.size),
        )

    def scan(
        self,
        sizes: Sequence[float] = (100.0, 200.0),
        increases: Sequence[float] = (3.0, 20.0),
        threshold: float = 10.0,
    ) -> list[Candidate]:
        """Return blocks that scatter more than the background, the surest first.

        Blocks of each size stand in eight lattices, half a block apart. Of overlapping ones
        only the surest is kept.

        Parameters
        ----------
        sizes : sequence of float
            Edges of the blocks [mm], rounded to whole voxels.
        increases : sequence of float
            Densities above the background's that are tried [mrad²/cm].
        threshold : float
            Least log likelihood ratio [nats].
        """
        found: list[Candidate] = []
        for size in sizes:
            cells = np.maximum(np.rint(size / self.grid.spacing), 1).astype(int)
            for corner in np.ndindex(2, 2, 2):
                shift = np.array(corner) * cells // 2
                if any(c and not s for c, s in zip(corner, shift, strict=True)):
                    continue
                found += self._lattice(cells, shift, increases, threshold)
        found.sort(key=lambda candidate: -candidate.log_ratio)
        kept: list[Candidate] = []
        for candidate in found:
            if not any(_overlap(candidate.bounds, other.bounds) for other in kept):
                kept.append(candidate)
        return kept

    def _profile(
        self, rows: NDArray[np.int64], outside: FloatArray, inside: FloatArray, mixture: Mixture
    ) -> Profile:
        """Return the log likelihood of a region's log density, with its derivative."""
        muons = self._problem.muons

        def profile(log_density: float) -> tuple[float, float]:
            density = float(np.exp(log_density))
            value, slope, _ = kernel.profile(
                muons.paths, muons.observed, mixture, rows, outside, inside, density
            )
            return value, slope * density

        return profile

    def _sums(self, mask: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        muons = self._problem.muons
        outside, inside = np.empty((len(muons), 3)), np.empty((len(muons), 3))
        shares = lanes.bounds(len(muons))
        lanes.run(
            lambda lane: kernel.region_sums(
                muons.paths, self._background, mask, *shares[lane], outside, inside
            ),
            lanes.LANES,
            self._workers,
        )
        return outside, inside

    def _lattice(
        self,
        cells: NDArray[np.int64],
        shift: NDArray[np.int64],
        increases: Sequence[float],
        threshold: float,
    ) -> list[Candidate]:
        """Test all blocks of one lattice."""
        counts = (np.array(self.grid.shape) - shift) // cells
        if (counts < 1).any():
            return []
        numbers = []
        for axis in range(3):
            index = (np.arange(self.grid.shape[axis]) - shift[axis]) // cells[axis]
            numbers.append(np.where((index >= 0) & (index < counts[axis]), index, -1))
        i, j, k = np.meshgrid(*numbers, indexing="ij")
        block = np.where((i < 0) | (j < 0) | (k < 0), -1, (i * counts[1] + j) * counts[2] + k)
        block = np.ascontiguousarray(block.ravel().astype(np.int32))
        muons = self._problem.muons
        shares = lanes.bounds(len(muons))
        best = np.full(int(counts.prod()), -np.inf)
        at = np.zeros(best.shape)
        for increase in increases:
            parts = [np.zeros(best.shape) for _ in range(lanes.LANES)]

            def work(lane: int, increase: float = increase, parts: list = parts) -> None:  # type: ignore[type-arg]
                kernel.block_ratios(
                    muons.paths, muons.observed, self._mixture, self._background, block,
                    increase / MM_PER_CM, *shares[lane], parts[lane],
                )  # fmt: skip

            lanes.run(work, lanes.LANES, self._workers)
            ratios = sum(parts, np.zeros(best.shape))
            at = np.where(ratios > best, increase, at)
            best = np.maximum(ratios, best)
        chosen = np.flatnonzero(best >= threshold)
        corners = np.stack(np.unravel_index(chosen, tuple(counts)), axis=1) * cells + shift
        low = self.grid.lower + corners * self.grid.spacing
        return [
            Candidate(
                np.array([corner, corner + cells * self.grid.spacing]), float(ratio), float(step)
            )
            for corner, ratio, step in zip(low, best[chosen], at[chosen], strict=True)
        ]


def _crossing(profile: Profile, end: float, best: float, level: float) -> float:
    """Return where a likelihood falls to a level between its peak and an end, or that end."""
    if end == best or profile(end)[0] >= level:
        return end
    return float(brentq(lambda x: profile(x)[0] - level, end, best, xtol=1e-3))


def _peak(profile: Profile, low: float, high: float) -> float:
    """Return where a likelihood of the log density is highest: coarse steps, then its slope."""
    points = np.linspace(low, high, 15)
    values = [profile(float(point))[0] for point in points]
    top = int(np.argmax(values))
    left, right = points[max(top - 1, 0)], points[min(top + 1, len(points) - 1)]
    if profile(left)[1] <= 0 or profile(right)[1] >= 0:
        return float(points[top])
    return float(brentq(lambda x: profile(x)[1], left, right, xtol=1e-4))


def _overlap(a: FloatArray, b: FloatArray) -> bool:
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > 0).all())
