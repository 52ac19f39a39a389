"""Tests of regions straight from the muons: density, interval and evidence; and a scan of all.

An image spreads what a small object scatters over voxels of which each is uncertain. A test asks
one question of all muons at once, so it sees more in a short scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from muscan.kernels import box as box_kernel
from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.kernels.lattice import LEVELS, PART, Lattice, lattice_ratios
from muscan.kernels.ways import Ways
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.region import Candidate, KnownBox, RegionFit
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.track_errors import AIR_DENSITY, least_loss
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.box_fit import HIGHEST, LARGEST_SHAPE, BoxSearch, near_muons
from muscan.reconstruction.crossed import crossed_bins
from muscan.reconstruction.hit_errors import erring, traced_variance_scale
from muscan.reconstruction.level import levelled
from muscan.reconstruction.placing import REACH, best_place, moved
from muscan.reconstruction.voxel_fit import fit_voxels
from muscan.reconstruction.ways import TracedMuons, trace_muons
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Edges of the cubes that a scan tries [mm].
SIZES = (100.0, 200.0, 400.0)
#: The largest of the densities above the background's that it tries, times the edge
#: [mrad²/cm · mm]: for 100 mm they are those of aluminium to uranium, for 400 mm those of dense
#: goods in light ones to iron.
LARGEST_INCREASE_MM = 7000.0
#: Least log likelihood ratio of a candidate [nats], and most candidates of a scan.
THRESHOLD = 8.0
MOST_CANDIDATES = 60
#: Of more muons than this, a search uses every second, third, …: a minute of a container shows
#: what is worth a fit, and the fit has them all. A candidate then needs this log ratio of the
#: muons used.
SCAN_MUONS = 150_000
THRESHOLD_OF_PART = 6.0
#: Of more muons near a box, every second (third, …) is used: to climb to it, where each stands for
#: those left out too, and to measure it.
CLIMB_MUONS = 4000
MEASURE_MUONS = 20_000
#: Of more muons near known boxes, every second (third, …) tells where these stand.
LOCATING_MUONS = 10_000
#: A scan takes muons that are this near halfway one after the other [mm].
SCAN_PATCH = 250.0


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
        self._hit_error_scale = 1.0

    @property
    def hit_error_scale(self) -> float:
        """How much the hits err over what is stated, once a background is known."""
        return self._hit_error_scale

    @property
    def n_muons(self) -> int:
        """Muons through the grid."""
        return len(self.muons)

    def against(self, background: NDArray[Any]) -> RegionTester:
        """Return tests against a background at the level that the muons say it has.

        See `muscan.model.region.RegionTester`.
        """
        given = _usable(background)
        level = levelled(self.muons, self.grid, given, self.workers)
        scale = traced_variance_scale(self.muons, self.grid, level, self.workers)
        if scale != 1.0:
            self.muons = erring(self.muons, scale)
            self._hit_error_scale *= float(np.sqrt(scale))
            level = levelled(self.muons, self.grid, given, self.workers)
        return RegionTester._of(self, level * MM_PER_CM)


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
        self._background = _usable(background)
        self._held: tuple[RegionFit, ...] = ()
        self._fill()

    def _fill(self) -> None:
        """Sum the background along the paths, and find the muons' log densities in it."""
        self._bins = crossed_bins(self._muons, self.grid, self._background, self._workers)
        self._base = np.empty(len(self._muons))
        shares = lanes.bounds(len(self._muons))
        lanes.run(
            lambda lane: kernel.base_densities(
                self._muons.ways, self._bins, self._muons.momenta,
                np.arange(*shares[lane]), self._base,
            ),
            lanes.LANES,
            self._workers,
        )  # fmt: skip

    def _crossing(self, low: FloatArray, high: FloatArray) -> NDArray[np.int64]:
        """Return the muons that cross a box, in order."""
        shares = lanes.bounds(len(self._muons))
        rows = np.empty(len(self._muons), np.int64)

        def work(lane: int) -> NDArray[np.int64]:
            first, last = shares[lane]
            part = rows[first:last]
            return part[: box_kernel.near(self._muons.ways, low, high, first, last, part)]

        return np.concatenate(lanes.run(work, lanes.LANES, self._workers))

    def _search(self, centre: FloatArray, reach: FloatArray, most: int) -> tuple[BoxSearch, int]:
        """Return the likelihood of boxes near a place, and how many muons one of its stands for.

        Parameters
        ----------
        centre, reach : ndarray, shape (3,)
            Middle and half edges of the surroundings that boxes do not leave [mm].
        most : int
            Of more muons near it, every second (third, …) is used.
        """
        low, high = centre - reach, centre + reach
        rows = self._crossing(low, high)
        stride = 1 + len(rows) // most
        rows = rows[::stride]
        ways = Ways(*(np.ascontiguousarray(column[rows]) for column in self._muons.ways))
        bins, base, momenta = self._bins[rows], self._base[rows], self._muons.momenta
        for fit in self._held:
            _place(fit, ways, bins, base, momenta)
        near = near_muons(ways, bins, base, momenta)
        search = BoxSearch(near, momenta, self._background, self.grid, low, high, self._workers)
        return search, stride

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
        near, stride = self._search(centre, size / 2 + np.maximum(size, 150.0), CLIMB_MUONS)
        centre, size, density = near.climb(centre, size, density, stride)
        # Measured by all that cross it: a part, counted several times, would make chance excesses.
        inside, _ = self._search(centre, LARGEST_SHAPE * size / 2, MEASURE_MUONS)
        return inside.measure(centre, size, density)

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
        return fit_voxels(self._muons, self.grid, self._background, mask, background, self._workers)

    def scan(
        self,
        threshold: float = THRESHOLD,
        sizes: Sequence[float] = SIZES,
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
        """
        found: list[Candidate] = []
        whole = self._placed()
        step = 1 + len(self._muons) // SCAN_MUONS
        rows = self._patches(
            np.concatenate([np.arange(*share, step) for share in lanes.bounds(len(self._muons))])
        )
        least = threshold if step == 1 else max(threshold, step * THRESHOLD_OF_PART)
        for size in sizes:
            found += whole._cubes(float(size), rows, step, least)
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

    def _patches(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return muons in such an order that those that follow each other are near each other."""
        halfway = self._muons.ways.point[rows][:, ::2, :2].mean(axis=1)
        patch = np.floor((halfway - self.grid.lower[:2]) / SCAN_PATCH)
        return rows[np.lexsort((patch[:, 1], patch[:, 0]))]

    def _cubes(
        self, size: float, rows: NDArray[np.int64], step: int, least: float
    ) -> list[Candidate]:
        """Return the local maxima over the cubes of one size, of every so many muons."""
        increases = min(LARGEST_INCREASE_MM / size, HIGHEST) * PART ** np.arange(LEVELS)[::-1]
        extent = self.grid.upper - self.grid.lower
        pitch = size * np.array([0.25, 0.25, 0.5])
        shape = np.maximum(np.floor((extent - size) / pitch + 1e-9), 0).astype(np.int64) + 1
        cubes = Lattice(self.grid.lower + size / 2, pitch, shape, size / 2)
        count = lanes.lane_count(8 * int(shape.prod()) * len(increases))
        shares = lanes.bounds(len(rows), count)
        sums = [np.zeros((shape[2], shape[0], shape[1], len(increases))) for _ in range(count)]

        def work(lane: int) -> None:
            lattice_ratios(
                self._muons.ways, self._bins, self._muons.momenta, self._base, cubes,
                increases / MM_PER_CM, rows[slice(*shares[lane])], sums[lane],
            )  # fmt: skip

        lanes.run(work, count, self._workers)
        ratios = np.moveaxis(step * sum(sums[1:], sums[0]), 0, 2)
        best = ratios.max(axis=3)
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
        other._held = (*self._held, fit)
        return other

    def locating(self, known: Sequence[KnownBox]) -> list[RegionFit]:
        """Return known boxes where the muons find them, together; none where they find none.

        See `muscan.model.region.RegionTests`.
        """
        rows = np.unique(
            np.concatenate([self._crossing(box.bounds[0] - REACH, box.bounds[1] + REACH)
                            for box in known])
        )  # fmt: skip
        stride = 1 + len(rows) // LOCATING_MUONS
        rows = rows[::stride]
        ways = Ways(*(np.ascontiguousarray(column[rows]) for column in self._muons.ways))
        empty, outside = self._bins[rows], self._base[rows]

        def log_ratio(boxes: Sequence[KnownBox]) -> float:
            bins, base = empty.copy(), outside.copy()
            for box in boxes:
                _place(self._as_fit(box), ways, bins, base, self._muons.momenta)
            return stride * float((base - outside).sum())

        place, gain = best_place(known, log_ratio)
        # They are there if the muons asked say so, each for itself alone.
        there = gain >= stride * THRESHOLD
        return [self._as_fit(box) for box in moved(known, place)] if there else []

    def _as_fit(self, box: KnownBox) -> RegionFit:
        """Return a known box as if it had been fitted."""
        centre, size = box.bounds.mean(axis=0), box.bounds[1] - box.bounds[0]
        index = np.floor((centre - self.grid.lower) / self.grid.spacing).astype(int)
        index = np.clip(index, 0, np.array(self.grid.shape) - 1)
        level = float(self._background[tuple(index)]) * MM_PER_CM
        return RegionFit(
            density=box.density, low=box.density, high=box.density, log_ratio=0.0, n_muons=0,
            centre=centre, size=size, centre_sigma=np.zeros(3), background=level,
            integral=(box.density - level) * float(size.prod()) / 1000.0, integral_sigma=0.0,
        )  # fmt: skip

    def _placed(self) -> RegionTester:
        """Return these tests with the boxes that they hold in what the muons cross."""
        if not self._held:
            return self
        other = copy(self)
        other._bins, other._base, other._held = self._bins.copy(), self._base.copy(), ()
        for fit in self._held:
            _place(fit, self._muons.ways, other._bins, other._base, self._muons.momenta)
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


def _usable(background: NDArray[Any]) -> FloatArray:
    """Return a background [mrad²/cm] in mrad²/mm, at least that of air."""
    values = np.nan_to_num(np.asarray(background, dtype=float)) / MM_PER_CM
    return np.ascontiguousarray(np.maximum(values, AIR_DENSITY))


def _place(
    fit: RegionFit,
    ways: Ways,
    bins: NDArray[np.float32],
    base: FloatArray,
    momenta: kernel.Momenta,
) -> None:
    """Put a box into what muons cross, and into their log densities."""
    values = np.array([fit.density, fit.background]) / MM_PER_CM
    loss = least_loss(values)
    low, high = fit.bounds
    rows = np.empty(len(base), np.int64)
    rows = rows[: box_kernel.near(ways, low, high, 0, len(base), rows)]
    moments = np.empty((len(rows), 4))
    way_kernel.crossings(ways, rows, low, high, moments)
    depth = np.clip(moments[:, 3].astype(int), 0, way_kernel.BINS - 1)
    bins[rows, depth, :3] += (values[0] - values[1]) * moments[:, :3]
    bins[rows, depth, 3] += (loss[0] - loss[1]) * moments[:, 0]
    kernel.base_densities(ways, bins, momenta, rows, base)


def _overlap(a: FloatArray, b: FloatArray) -> bool:
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > 0).all())
