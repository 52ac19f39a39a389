"""Tests of regions straight from the muons: density, interval and evidence; and a scan of all.

An image spreads what a small object scatters over voxels of which each is uncertain. A test asks
one question of all muons at once, so it sees more in a short scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import brentq, minimize_scalar

from muscan.errors import InputError
from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.kernels.lattice import PART, Lattice, lattice_ratios
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.region import Candidate, RegionFit
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.track_errors import AIR_DENSITY, least_loss
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.box_fit import BoxSearch
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.level import background_factors
from muscan.reconstruction.ways import TracedMuons, trace_muons
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Scattering densities between which a region's is sought [mrad²/cm].
LOWEST, HIGHEST = 1e-2, 200.0
#: Edges of the cubes that a scan tries [mm].
SIZES = (100.0, 200.0, 400.0)
#: Densities above the background's that it tries, times the edge [mrad²/cm · mm]: for 100 mm
#: those of aluminium to uranium, for 400 mm of dense goods in light ones to iron.
INCREASES_MM = 7000.0 * PART ** np.array([2.0, 1.0, 0.0])
#: How often the background's level is fitted, each time with the losses of the one before.
LEVEL_ROUNDS = 2
#: Least log likelihood ratio of a candidate [nats], and most candidates of a scan.
THRESHOLD = 8.0
MOST_CANDIDATES = 60
#: Of more muons than this, a search uses every second, third, …: a minute of a container shows
#: what is worth a fit, and the fit has them all. A candidate then needs this log ratio of the
#: muons used.
SCAN_MUONS = 150_000
THRESHOLD_OF_PART = 6.0
#: Fall of the log likelihood at the ends of a 68 % interval.
INTERVAL_FALL = 0.5


class MuonTester:
    """Muons ready to test regions of a grid against any background.

    Parameters
    ----------
    scatters : Scatters
        Muons with both tracks.
    grid : VoxelGrid
        Of the backgrounds.
    spectrum, momentum, detector, workers
        As for `muscan.reconstruction.em.em`.
    """

    def __init__(
        self,
        scatters: Scatters,
        grid: VoxelGrid,
        *,
        spectrum: MomentumSpectrum | None = None,
        momentum: str = "spectrum",
        detector: Detector | None = None,
        workers: int | None = None,
    ) -> None:
        self.grid, self.workers = grid, workers
        self.muons: TracedMuons = trace_muons(
            scatters, grid, spectrum=spectrum, momentum=momentum,  # type: ignore[arg-type]
            detector=detector, workers=workers,
        )  # fmt: skip

    @property
    def n_muons(self) -> int:
        """Muons through the grid."""
        return len(self.muons)

    def against(self, background: NDArray[Any]) -> RegionTester:
        """Return tests against a background at the level that the muons say it has.

        See `muscan.model.region.RegionTester`.
        """
        return RegionTester._of(self, background).levelled()


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
        tester = MuonTester(
            scatters, background.grid, spectrum=spectrum, momentum=momentum, detector=detector,
            workers=workers,
        )  # fmt: skip
        self._start(tester, background.values)

    @classmethod
    def _of(cls, tester: MuonTester, background: NDArray[Any]) -> RegionTester:
        made = cls.__new__(cls)
        made._start(tester, background)
        return made

    def _start(self, tester: MuonTester, background: NDArray[Any]) -> None:
        self.grid, self._workers, self._muons = tester.grid, tester.workers, tester.muons
        values = np.nan_to_num(np.asarray(background, dtype=float)) / MM_PER_CM
        self._background = np.maximum(values, AIR_DENSITY)
        self._bins = np.empty((len(self._muons), way_kernel.BINS, 4), np.float32)
        self._base = np.empty(len(self._muons))
        self._fill()

    def _fill(self) -> None:
        """Sum the background along the paths."""
        flat = np.ascontiguousarray(self._background.ravel())
        loss = least_loss(flat)
        air_loss = float(least_loss(np.array(AIR_DENSITY)))
        grid, panel_loss = kernel_grid(self.grid), self._muons.panel_loss
        shares = lanes.bounds(len(self._muons))

        def work(lane: int) -> None:
            way_kernel.fill_bins(
                grid, flat, loss, AIR_DENSITY, air_loss, panel_loss, self._muons.ways,
                *shares[lane], self._bins,
            )  # fmt: skip
            kernel.base_densities(
                self._muons.ways, self._bins, self._muons.momenta,
                np.arange(*shares[lane]), self._base,
            )  # fmt: skip

        lanes.run(work, lanes.LANES, self._workers)

    def levelled(self) -> RegionTester:
        """Return the tests against the background at the level that the muons say it has."""
        other = copy(self)
        other._bins, other._base = self._bins.copy(), self._base.copy()
        for _ in range(LEVEL_ROUNDS):
            factors = background_factors(other._muons, other._bins, self.grid, self._workers)
            other._background = np.maximum(other._background * factors, AIR_DENSITY)
            other._fill()
        return other

    def level(self, low: FloatArray, high: FloatArray) -> float:
        """Return the mean scattering density of the background between two corners [mrad²/cm]."""
        first = np.floor((low - self.grid.lower) / self.grid.spacing + 1e-9).astype(int)
        last = np.ceil((high - self.grid.lower) / self.grid.spacing - 1e-9).astype(int)
        first = np.clip(first, 0, np.array(self.grid.shape) - 1)
        last = np.clip(last, first + 1, self.grid.shape)
        weights = []
        for axis in range(3):
            edges = self.grid.lower[axis] + self.grid.spacing[axis] * np.arange(
                first[axis], last[axis] + 1
            )
            overlap = np.minimum(edges[1:], high[axis]) - np.maximum(edges[:-1], low[axis])
            weights.append(np.maximum(overlap, 1e-6))
        part = self._background[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
        total = np.einsum("ijk,i,j,k", part, *weights)
        return float(total / np.prod([w.sum() for w in weights])) * MM_PER_CM

    def fit_box(
        self, centre: FloatArray, size: FloatArray, density: float | None = None
    ) -> RegionFit | None:
        """Return the most likely box near a place, None where the muons show none.

        Parameters
        ----------
        centre, size : ndarray, shape (3,)
            First guess [mm].
        density : float, optional
            First guess of its scattering density [mrad²/cm].
        """
        centre, size = np.asarray(centre, dtype=float), np.asarray(size, dtype=float)
        search = BoxSearch(
            self._muons.ways, self._bins, self._muons.momenta, self._base, self.level, centre, size
        )
        if density is None:
            background = self.level(centre - size / 2, centre + size / 2)
            rows, moments = search.moments(centre, size)
            tried = np.geomspace(1.3 * background + 0.1, 100.0, 8)
            gains = [search.gain(rows, moments, float(d), background) for d in tried]
            density = float(tried[int(np.argmax(gains))])
        return search.fit(centre, size, density)

    def fit(self, mask: NDArray[np.bool_], background: float | None = None) -> RegionFit:
        """Return the most likely density of a set of voxels, all of one density.

        Parameters
        ----------
        mask : ndarray of bool, shape of the grid
            Voxels of the region.
        background : float, optional
            Density to compare with [mrad²/cm]; by default the mean of the background there.

        Raises
        ------
        InputError
            If the mask does not fit the grid, or no muon crosses it.
        """
        if mask.shape != self.grid.shape:
            raise InputError("region", f"mask of shape {mask.shape}, not {self.grid.shape}")
        other = copy(self)
        level = float(self._background[mask].mean()) if mask.any() else AIR_DENSITY
        other._background = np.where(mask, level, self._background)
        other._bins, other._base = np.empty_like(self._bins), np.empty_like(self._base)
        other._fill()
        moments = np.empty((len(self._muons), 4))
        shares, grid = lanes.bounds(len(self._muons)), kernel_grid(self.grid)
        flat = np.ascontiguousarray(mask.ravel())
        lanes.run(
            lambda lane: way_kernel.mask_crossings(
                grid, flat, self._muons.ways, *shares[lane], moments
            ),
            lanes.LANES,
            self._workers,
        )
        rows = np.flatnonzero(moments[:, 0] > 0)
        if rows.size == 0:
            raise InputError("region", "no muon crosses it", "scan for longer")
        inside = moments[rows]

        def likelihood(log_density: float) -> float:
            values = np.array([np.exp(log_density) / MM_PER_CM, level])
            loss = least_loss(values)
            return float(
                kernel.region_density(
                    self._muons.ways, other._bins, self._muons.momenta, rows, inside,
                    values[0] - values[1], loss[0] - loss[1],
                )
            )  # fmt: skip

        best, low, high, top = _interval(likelihood)
        compared = max(background, LOWEST) if background is not None else level * MM_PER_CM
        corners = np.argwhere(mask)
        first, last = corners.min(axis=0), corners.max(axis=0)
        volume = float(np.count_nonzero(mask)) * self.grid.voxel_volume_mm3 / 1000.0
        return RegionFit(
            density=best,
            low=low,
            high=high,
            log_ratio=top - likelihood(float(np.log(compared))),
            n_muons=int(rows.size),
            centre=self.grid.position(corners.mean(axis=0)),
            size=(last - first + 1) * self.grid.spacing,
            centre_sigma=np.full(3, np.nan),
            background=compared,
            integral=(best - compared) * volume,
            integral_sigma=(high - low) / 2 * volume,
        )

    def scan(
        self,
        threshold: float = THRESHOLD,
        sizes: Sequence[float] = SIZES,
        increases: Sequence[Sequence[float]] | Sequence[float] | None = None,
    ) -> list[Candidate]:
        """Return boxes that scatter more than the background, the surest first.

        Cubes of each size stand a quarter of it apart across and half of it along z. Of those,
        the local maxima count, and of overlapping ones only the surest. Of many muons a part is
        used, and the log ratio of all is estimated from it.

        Parameters
        ----------
        threshold : float
            Least log likelihood ratio [nats].
        sizes : sequence of float
            Edges of the cubes [mm].
        increases : sequence of float, optional
            Densities above the background's that are tried [mrad²/cm]; by default `INCREASES`.
        """
        found: list[Candidate] = []
        for size in sizes:
            tried = INCREASES_MM / size if increases is None else np.asarray(increases, float)
            found += self._cubes(float(size), tried[tried < HIGHEST], threshold)
        found.sort(key=lambda candidate: -candidate.log_ratio)
        kept: list[Candidate] = []
        for candidate in found:
            if not any(_overlap(candidate.bounds, other.bounds) for other in kept):
                kept.append(candidate)
                if len(kept) == MOST_CANDIDATES:
                    break
        return kept

    @property
    def places(self) -> float:
        """Number of places at which chance could have made an excess, all sizes together."""
        extent = self.grid.upper - self.grid.lower
        return float(sum(np.prod(np.maximum(2 * extent / size, 1.0)) for size in SIZES))

    def _cubes(self, size: float, increases: FloatArray, threshold: float) -> list[Candidate]:
        """Return the local maxima over the cubes of one size."""
        extent = self.grid.upper - self.grid.lower
        pitch = size * np.array([0.25, 0.25, 0.5])
        shape = np.maximum(np.floor((extent - size) / pitch + 1e-9), 0).astype(np.int64) + 1
        cubes = Lattice(self.grid.lower + size / 2, pitch, shape, size / 2)
        count = lanes.lane_count(8 * int(shape.prod()) * len(increases))
        shares = lanes.bounds(len(self._muons), count)
        step = 1 + len(self._muons) // SCAN_MUONS
        sums = [np.zeros((*shape, len(increases))) for _ in range(count)]

        def work(lane: int) -> None:
            lattice_ratios(
                self._muons.ways, self._bins, self._muons.momenta, self._base, cubes,
                increases / MM_PER_CM, *shares[lane], step, sums[lane],
            )  # fmt: skip

        lanes.run(work, count, self._workers)
        ratios = step * sum(sums[1:], sums[0])
        best = ratios.max(axis=3)
        least = threshold if step == 1 else max(threshold, step * THRESHOLD_OF_PART)
        peaks = (best >= least) & (best == ndimage.maximum_filter(best, size=3))
        middles = cubes.first + np.argwhere(peaks) * pitch
        half = np.full(3, size / 2)
        return [
            Candidate(np.array([middle - half, middle + half]), float(ratio), float(increase))
            for middle, ratio, increase in zip(
                middles, best[peaks], increases[ratios[peaks].argmax(axis=1)], strict=True
            )
        ]

    def holding(self, fit: RegionFit) -> RegionTester:
        """Return the tests against the background with a box in it."""
        other = copy(self)
        other._bins, other._base = self._bins.copy(), self._base.copy()
        values = np.array([fit.density, fit.background]) / MM_PER_CM
        loss = least_loss(values)
        low, high = fit.bounds
        rows = np.empty(len(self._muons), np.int64)
        rows = rows[: way_kernel.near(self._muons.ways, low, high, rows)]
        moments = np.empty((len(rows), 4))
        way_kernel.crossings(self._muons.ways, rows, low, high, moments)
        bins = np.clip(moments[:, 3].astype(int), 0, way_kernel.BINS - 1)
        other._bins[rows, bins, :3] += (values[0] - values[1]) * moments[:, :3]
        other._bins[rows, bins, 3] += (loss[0] - loss[1]) * moments[:, 0]
        kernel.base_densities(self._muons.ways, other._bins, self._muons.momenta, rows, other._base)
        return other

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


def _interval(likelihood: Callable[[float], float]) -> tuple[float, float, float, float]:
    """Return the best density, its 68 % interval, and the likelihood of its log at the best."""
    points = np.linspace(np.log(LOWEST), np.log(HIGHEST), 25)
    values = [likelihood(float(point)) for point in points]
    top = int(np.argmax(values))
    ends = points[max(top - 1, 0)], points[min(top + 1, len(points) - 1)]
    found = minimize_scalar(
        lambda x: -likelihood(x), bounds=ends, method="bounded", options={"xatol": 1e-3}
    )
    best, level = float(found.x), -float(found.fun) - INTERVAL_FALL
    limits = []
    for end in (points[0], points[-1]):
        if likelihood(float(end)) >= level:
            limits.append(float(end))
        else:
            limits.append(brentq(lambda x: likelihood(x) - level, end, best, xtol=1e-3))
    low, high = np.exp(limits)
    return float(np.exp(best)), float(low), float(high), -float(found.fun)


def _overlap(a: FloatArray, b: FloatArray) -> bool:
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > 0).all())
