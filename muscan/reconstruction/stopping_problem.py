"""The likelihood of muons coming out again, given what matter takes of their range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from muscan.errors import InputError
from muscan.kernels import paths as path_kernel
from muscan.kernels import stopping as kernel
from muscan.kernels.paths import Paths
from muscan.model.detector import Detector
from muscan.model.events import Tracks
from muscan.model.spectrum import MomentumSpectrum, class_weights, sea_level_spectrum
from muscan.model.survival import COSINES, THICKNESSES, Survival
from muscan.model.track_errors import AIR_DENSITY, FIXED_FACTOR, highland_factor
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.arrivals import Expected, expect_all, panel_matter
from muscan.reconstruction.common import Lines, kernel_grid
from muscan.reconstruction.muons import empty_paths
from muscan.units import (
    MM_PER_CM,
    MUON_LIFETIME_NS,
    MUON_MASS_GEV,
    REFERENCE_MOMENTUM_GEV,
    SCATTERING_DENSITY_X0_MRAD2,
    SPEED_OF_LIGHT_MM_PER_NS,
)

FloatArray = NDArray[np.float64]

#: Momentum lost in water by a 3 GeV muon [GeV cm²/g] (PDG 2024), as in `momentum_loss`.
WATER_LOSS = 2.30e-3
#: Stopping densities between which a region's is sought [g/cm³]; the lowest counts as none.
LOWEST, HIGHEST = 1e-3, 30.0
#: Losses for which the momentum classes of those that survive are tabulated [GeV].
LOSSES = np.concatenate([[0.0], np.geomspace(0.005, 4.0, 40)])
#: Scattering of a panel a g/cm² at the reference momentum [mrad²] (PDG 2024: plastic, X0 = 43.8).
PANEL_SCATTERING = SCATTERING_DENSITY_X0_MRAD2 / 43.8
#: Factor by which the fraction that panels miss may differ from the layout's.
MISSED_FACTOR = 2.0
#: Least fraction that is lost by the panels' readout and the track finding.
LEAST_MISSED = 2e-4
#: Fall of the log likelihood at the ends of a 68 % interval.
INTERVAL_FALL = 0.5


@dataclass(frozen=True)
class StoppingFit:
    """What the muons say of one region.

    Attributes
    ----------
    density, low, high : float
        Most likely stopping density and its 68 % interval [g/cm³ of water]; ``low`` may be 0.
    log_ratio : float
        Log of the likelihood at ``density`` over that of nothing there [nats].
    n_muons, n_lost : int
        Muons that aim through the region, and those of them that were not seen again.
    """

    density: float
    low: float
    high: float
    log_ratio: float
    n_muons: int
    n_lost: int


class StoppingProblem:
    """Muons that should come out, and the likelihood of what they did.

    Parameters
    ----------
    tracks : Tracks or iterable of Tracks
        Incoming tracks, and outgoing ones where there are; all at once, or in portions that
        part no event.
    grid : VoxelGrid
        Where to reconstruct.
    spectrum, detector, workers
        As for `muscan.reconstruction.em.em`.
    """

    def __init__(
        self,
        tracks: Tracks | Iterable[Tracks],
        grid: VoxelGrid,
        *,
        spectrum: MomentumSpectrum | None = None,
        detector: Detector | None = None,
        workers: int | None = None,
    ) -> None:
        self.grid, self._workers = grid, workers
        expected, layout = expect_all(tracks, detector)
        self.expected, self.paths, self._middle = _trace(expected, grid, workers)
        spectrum = spectrum or sea_level_spectrum()
        cosine = -self.expected.direction[:, 2].astype(float)
        row = np.rint(np.interp(cosine, COSINES, np.arange(len(COSINES)))).astype(np.int32)
        matter = panel_matter(layout)
        # What scatters outside the grid: the plane of the start, and air all the way.
        plane = matter * len(layout.groups) / len(layout.panels)
        around = PANEL_SCATTERING * plane + AIR_DENSITY * self.expected.reach
        self._around = FIXED_FACTOR * around
        # To be seen, a muon has to reach the second plane beyond, but need not leave the last.
        survival = Survival(spectrum, before=matter, after=1.5 * plane)
        self.efficiency = min(self.expected.efficiency, 1 - LEAST_MISSED)
        self._inside = np.ones(len(cosine))
        self._row, self._table = row, survival.table
        self._powers = np.array([[spectrum.powers(c, loss) for loss in LOSSES] for c in COSINES])
        self.voxels = int(np.prod(grid.shape))

    @property
    def arrivals(self) -> kernel.Arrivals:
        """What the kernels need, at the present efficiency and acceptance."""
        return kernel.Arrivals(
            self.expected.passed,
            (self.efficiency * self._inside).astype(np.float32),
            self._row,
            self._table,
            THICKNESSES,
        )

    def renew(self, density: FloatArray, scattering: FloatArray) -> None:
        """Set acceptance and efficiency for stopping [g/cm² a mm] and scattering [mrad²/mm].

        A muon of scattering power q leaves the straight line at the panel by a normal deviate
        of variance q ∫ λ D² dl, D the distance from there, and is seen if that keeps it within
        the panel's edges. The classes are those of the muons that survive.
        """
        crossed = self._integrals(density)
        place = np.interp(crossed * WATER_LOSS, LOSSES, np.arange(len(LOSSES)))
        powers = self._powers[self._row, np.rint(place).astype(int)]
        angle, lever, square = self._moments(scattering)
        reach = self.expected.reach.astype(float)
        # From the middle of the path in the grid, where the moments are taken, to the panel.
        beyond = reach - self._middle
        variance = square + 2 * beyond * lever + beyond**2 * angle
        variance *= highland_factor(angle / SCATTERING_DENSITY_X0_MRAD2)
        variance += self._around * reach**2
        variance *= 1e-6 / np.maximum(-self.expected.direction[:, 2], 0.1) ** 2
        inside = np.zeros(len(reach))
        edges = self.expected.edges.astype(float)
        for number, weight in enumerate(class_weights()):
            q = powers[:, number]
            sigma = np.sqrt(q * variance)[:, None]
            within = ndtr(edges / sigma)
            both = (within[:, 0] + within[:, 2] - 1) * (within[:, 1] + within[:, 3] - 1)
            momentum = REFERENCE_MOMENTUM_GEV / np.sqrt(q)
            lifetime = SPEED_OF_LIGHT_MM_PER_NS * MUON_LIFETIME_NS * momentum / MUON_MASS_GEV
            inside += weight * both * np.exp(-reach / lifetime)
        self._inside = np.clip(inside, 1e-3, 1.0)
        self.efficiency = self._best_efficiency(crossed)

    def likelihood(
        self, density: FloatArray, parity: int | None = None
    ) -> tuple[float, FloatArray]:
        """Return the log likelihood and its gradient in the densities [g/cm² a mm].

        ``parity`` 0 or 1 counts only the muons of an even or odd number.
        """
        count = lanes.lane_count(8 * self.voxels)
        shares = lanes.bounds(len(self.expected), count)
        parts = [np.zeros(self.voxels) for _ in range(count)]
        arrivals = self.arrivals
        first, step = (0, 1) if parity is None else (parity, 2)
        values = lanes.run(
            lambda lane: float(
                kernel.likelihood(
                    self.paths, arrivals, density, *shares[lane], first, step, parts[lane]
                )
            ),
            count,
            self._workers,
        )
        return sum(values), sum(parts, np.zeros(self.voxels))

    def information(self, density: FloatArray) -> tuple[FloatArray, NDArray[np.uint32]]:
        """Return the Fisher information on each density, and the muons through each voxel."""
        count = lanes.lane_count(12 * self.voxels)
        shares = lanes.bounds(len(self.expected), count)
        squares = [np.zeros(self.voxels) for _ in range(count)]
        numbers = [np.zeros(self.voxels, np.uint32) for _ in range(count)]
        arrivals = self.arrivals
        lanes.run(
            lambda lane: kernel.information(
                self.paths, arrivals, density, *shares[lane], squares[lane], numbers[lane]
            ),
            count,
            self._workers,
        )
        return (
            sum(squares, np.zeros(self.voxels)),
            sum(numbers, np.zeros(self.voxels, np.uint32)),
        )

    def region(self, mask: NDArray[np.bool_], density: FloatArray) -> StoppingFit:
        """Return the most likely stopping density of a region, all of one density.

        Parameters
        ----------
        mask : ndarray of bool, shape of the grid
            Voxels of the region.
        density : ndarray, shape (voxels,)
            What is elsewhere [g/cm² a mm].
        """
        flat = mask.ravel()
        outside = self._integrals(np.where(flat, 0.0, density))
        inside = self._integrals(flat.astype(float))
        rows = np.flatnonzero(inside > 0)
        if rows.size == 0:
            raise InputError("region", "no muon aims through it", "scan for longer")
        arrivals = self.arrivals

        def value(log_density: float) -> float:
            native = np.exp(log_density) / MM_PER_CM
            return float(kernel.profile(arrivals, rows, outside, inside, native))

        points = np.linspace(np.log(LOWEST), np.log(HIGHEST), 120)
        values = np.array([value(point) for point in points])
        best = int(values.argmax())
        top = values[best]

        def crossing(side: slice) -> float | None:
            below = np.flatnonzero(values[side] < top - INTERVAL_FALL)
            if below.size == 0:
                return None
            low = below[-1] if side.stop is not None else below[0] + best
            pair = points[low], points[low + (1 if side.stop is not None else -1)]
            return float(np.exp(brentq(lambda x: value(x) - top + INTERVAL_FALL, *pair)))

        low, high = crossing(slice(None, best + 1)), crossing(slice(best, None))
        return StoppingFit(
            density=float(np.exp(points[best])) if best else 0.0,
            low=low or 0.0,
            high=high or HIGHEST,
            log_ratio=float(top - values[0]),
            n_muons=int(rows.size),
            n_lost=int((~self.expected.passed[rows]).sum()),
        )

    def _best_efficiency(self, crossed: FloatArray) -> float:
        """Return the most probable chance that a muon which is there is seen."""
        table = self._table[self._row]
        place = np.interp(crossed, THICKNESSES, np.arange(len(THICKNESSES)))
        low = np.minimum(place.astype(int), len(THICKNESSES) - 2)
        index = np.arange(len(crossed))
        part = place - low
        arrived = (1 - part) * table[index, low] + part * table[index, low + 1]
        arrived *= self._inside
        passed = self.expected.passed
        expected = max(1 - self.expected.efficiency, LEAST_MISSED)

        def slope(log_missed: float) -> float:
            missed = np.exp(log_missed)
            lost = np.maximum(1 - (1 - missed) * arrived[~passed], 1e-9)
            gain = (arrived[~passed] / lost).sum() - passed.sum() / (1 - missed)
            pull = (log_missed - np.log(expected)) / np.log(MISSED_FACTOR) ** 2
            return float(missed * gain - pull)

        low_end, high_end = np.log(LEAST_MISSED / 10), np.log(0.9)
        if slope(low_end) <= 0:
            return float(1 - np.exp(low_end))
        return float(1 - np.exp(brentq(slope, low_end, high_end, xtol=1e-4)))

    def _integrals(self, field: FloatArray) -> FloatArray:
        sums = np.empty(len(self.expected))
        shares = lanes.bounds(len(sums))
        lanes.run(
            lambda lane: path_kernel.line_integrals(self.paths, field, *shares[lane], sums),
            lanes.LANES,
            self._workers,
        )
        return sums

    def _moments(self, scattering: FloatArray) -> FloatArray:
        """Return the elements of S of every path, shape (3, n)."""
        sums = np.empty((len(self.expected), 3))
        shares = lanes.bounds(len(sums))
        lanes.run(
            lambda lane: path_kernel.project_all(self.paths, scattering, *shares[lane], sums),
            lanes.LANES,
            self._workers,
        )
        return sums.T


def _trace(
    expected: Expected, grid: VoxelGrid, workers: int | None
) -> tuple[Expected, Paths, FloatArray]:
    """Return the muons that aim through a grid, their paths, and how far its middle is [mm]."""
    geometry = kernel_grid(grid)
    counts = np.empty(len(expected), np.int64)
    shares = lanes.bounds(len(expected))

    def lines(part: Expected) -> Lines:
        return part.start, part.direction, part.end, part.direction

    def count(lane: int) -> None:
        rows = slice(*shares[lane])
        path_kernel.count_visits(geometry, *lines(_take(expected, rows)), counts[rows])

    lanes.run(count, lanes.LANES, workers)
    used = _take(expected, counts > 0)
    if len(used) == 0:
        raise InputError("tracks", "no muon aims through the grid", "check --bounds")
    paths = empty_paths(counts[counts > 0])
    reference = np.empty((len(used), 2))
    shares = lanes.bounds(len(used))

    def fill(lane: int) -> None:
        rows = slice(*shares[lane])
        here = Paths(
            paths.first[rows.start : rows.stop + 1], paths.voxel, paths.length, paths.top[rows]
        )
        path_kernel.trace(geometry, *lines(_take(used, rows)), here, reference[rows])

    lanes.run(fill, lanes.LANES, workers)
    return used, paths, reference[:, 0].copy()


def _take(expected: Expected, rows: slice | NDArray[np.bool_]) -> Expected:
    """Return some of the muons."""
    columns = {
        field.name: getattr(expected, field.name)[rows]
        for field in fields(expected)
        if isinstance(getattr(expected, field.name), np.ndarray)
    }
    return replace(expected, **columns)
