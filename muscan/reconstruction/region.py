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

from muscan.kernels import box as box_kernel
from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.kernels.ways import Ways
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.region import Candidate, KnownBox, RegionFit
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.track_errors import AIR_DENSITY, least_loss
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import box_scan, lanes
from muscan.reconstruction.box_fit import (
    LARGEST_MM,
    LARGEST_SHAPE,
    LEAST_GAIN,
    SMALLEST_MM,
    BoxSearch,
    near_muons,
)
from muscan.reconstruction.box_scan import SIZES, THRESHOLD
from muscan.reconstruction.crossed import crossed_bins
from muscan.reconstruction.em import em
from muscan.reconstruction.hit_errors import erring, traced_variance_scale
from muscan.reconstruction.level import levelled
from muscan.reconstruction.placing import REACH, best_place, moved
from muscan.reconstruction.voxel_fit import fit_voxels
from muscan.reconstruction.ways import TracedMuons, trace_muons
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Of more muons near a box, every second (third, …) is used: to climb to it, where each stands for
#: those left out too, and to measure it.
CLIMB_MUONS = 12_000
MEASURE_MUONS = 60_000
#: Of more muons, every second (third, …) makes the image.
IMAGE_MUONS = 100_000
#: Of more muons near known boxes, every second (third, …) tells where these stand.
LOCATING_MUONS = 10_000


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
        self.grid, self.workers, self._scatters = grid, workers, scatters
        self._options: dict[str, Any] = {
            "spectrum": spectrum, "momentum": momentum, "detector": detector, "workers": workers,
        }  # fmt: skip
        self.muons: TracedMuons = trace_muons(scatters, grid, **self._options)
        self._hit_error_scale = 1.0

    @property
    def hit_error_scale(self) -> float:
        """How much the hits err over what is stated, once a background is known."""
        return self._hit_error_scale

    @property
    def n_muons(self) -> int:
        """Muons through the grid."""
        return len(self.muons)

    def image(self, voxel_mm: float) -> Volume:
        """Return the most probable volume in voxels of a size.

        See `muscan.model.region.RegionTester`.
        """
        grid = VoxelGrid.from_bounds(np.array([self.grid.lower, self.grid.upper]), voxel_mm)
        stride = 1 + len(self._scatters) // IMAGE_MUONS
        return em(self._scatters.take(slice(None, None, stride)), grid, **self._options)

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
        self,
        centre: FloatArray,
        size: FloatArray,
        density: float | None = None,
        least: float = LEAST_GAIN,
    ) -> RegionFit | None:
        """Return the most likely box near a place, None where the muons show none.

        Parameters
        ----------
        centre, size : ndarray, shape (3,)
            First guess [mm].
        density : float, optional
            First guess of its scattering density [mrad²/cm].
        least : float
            Least log likelihood ratio [nats].
        """
        centre, size = np.asarray(centre, dtype=float), np.asarray(size, dtype=float)
        near, stride = self._search(centre, size / 2 + np.maximum(size / 2, 150.0), CLIMB_MUONS)
        centre, size, density = near.climb(centre, size, density, stride)
        # Measured by all that cross it: a part, counted several times, would make chance excesses.
        inside, _ = self._search(centre, LARGEST_SHAPE * size / 2, MEASURE_MUONS)
        return inside.measure(centre, size, density, least)

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

    def scan(self, threshold: float = THRESHOLD, sizes: Sequence[float] = SIZES) -> list[Candidate]:
        """Return boxes that scatter more than the background, the surest first.

        See `muscan.reconstruction.box_scan.scan`, and `RegionTests` of `muscan.model.region`.
        """
        placed = self._placed()
        return box_scan.scan(
            self._muons, placed._bins, placed._base, self.grid, threshold, sizes, self._workers
        )

    def places(self, size: FloatArray) -> float:
        """Return at how many places chance could have made an excess of a size [mm], shape (3,).

        Boxes half an edge apart are independent. Every octave of sizes has the same share in what
        chance makes, so that large boxes, of which there are few, are not held as improbable as
        small ones.
        """
        octaves = np.log2(LARGEST_MM / SMALLEST_MM)
        extent = self.grid.upper - self.grid.lower
        return float(octaves * np.prod(np.maximum(2 * extent / size, 1.0)))

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
