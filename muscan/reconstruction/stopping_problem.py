"""The likelihood of muons coming out again, given what matter takes of their range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

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
from muscan.model.flux import load_flux
from muscan.model.spectrum import MomentumSpectrum, class_weights, sea_level_spectrum
from muscan.model.survival import COSINES, THICKNESSES, Survival, continued
from muscan.model.track_errors import AIR_DENSITY, FIXED_FACTOR, highland_factor
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.arrivals import Expected, expect_all, panel_matter
from muscan.reconstruction.common import Lines, kernel_grid
from muscan.reconstruction.muons import empty_paths
from muscan.units import (
    MUON_LIFETIME_NS,
    MUON_MASS_GEV,
    REFERENCE_MOMENTUM_GEV,
    SCATTERING_DENSITY_X0_MRAD2,
    SPEED_OF_LIGHT_MM_PER_NS,
)

FloatArray = NDArray[np.float64]

#: Momentum lost in water by a 3 GeV muon [GeV cm²/g] (PDG 2024), as in `momentum_loss`.
WATER_LOSS = 2.30e-3
#: Losses for which the momentum classes of those that survive are tabulated [GeV].
LOSSES = np.concatenate([[0.0], np.geomspace(0.005, 4.0, 40)])
#: Scattering of a panel a g/cm² at the reference momentum [mrad²] (PDG 2024: plastic, X0 = 43.8).
PANEL_SCATTERING = SCATTERING_DENSITY_X0_MRAD2 / 43.8
#: Factor by which the fraction that panels miss may differ from the layout's.
MISSED_FACTOR = 2.0
#: Least fraction that is lost by the panels' readout and the track finding.
LEAST_MISSED = 2e-4
#: Published spectra that differ most below 1 GeV of those that hold there.
SPECTRA = ("guan2015", "ecomug")


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
        self._matter = {"before": matter, "after": 1.5 * plane}
        self._row = row
        # Whether muons below the spectrum's lowest momentum are there is for the data to say.
        self.spectra = (spectrum, continued(spectrum))
        self._tables = [Survival(each, **self._matter).table for each in self.spectra]
        self.low_end = 0
        self.reset_efficiency()
        self._inside = np.ones(len(cosine))
        self._powers = np.array([[spectrum.powers(c, loss) for loss in LOSSES] for c in COSINES])
        self.voxels = int(np.prod(grid.shape))

    @property
    def arrivals(self) -> kernel.Arrivals:
        """What the kernels need, at the present efficiency and acceptance."""
        return kernel.Arrivals(
            self.expected.passed,
            (self.efficiency * self._inside).astype(np.float32),
            self._row,
            self._tables[self.low_end],
            THICKNESSES,
        )

    def renew(self, density: FloatArray, scattering: FloatArray) -> None:
        """Set the acceptance for stopping [g/cm² a mm] and scattering [mrad²/mm].

        A muon of scattering power q leaves the straight line at the panel by a normal deviate
        of variance q ∫ λ D² dl, D the distance from there, and is seen if that keeps it within
        the panel's edges. The classes are those of the muons that survive.
        """
        crossed = self.integrals(density)
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

    def reset_efficiency(self) -> None:
        """Set that chance to what the layout lets expect."""
        self.efficiency = 1 - self._missed_before()

    def efficiency_prior(self) -> float:
        """Return the log prior of the present efficiency."""
        off = np.log((1 - self.efficiency) / self._missed_before()) / np.log(MISSED_FACTOR)
        return float(-0.5 * off**2)

    def profile(
        self,
        rows: NDArray[np.int64],
        outside: FloatArray,
        inside: FloatArray,
        densities: FloatArray,
        table: FloatArray | None = None,
    ) -> FloatArray:
        """Return the log likelihood of the density of a region, shape of ``densities``.

        Parameters
        ----------
        rows : ndarray of int
            Muons through the region.
        outside, inside : ndarray, shape (n,)
            Matter elsewhere on the way of each muon [g/cm²], and its length in the region [mm].
        densities : ndarray
            Stopping densities [g/cm² a mm].
        table : ndarray, optional
            Survival under another spectrum, see `other_tables`.
        """
        arrivals = self.arrivals if table is None else self.arrivals._replace(table=table)
        values = [kernel.profile(arrivals, rows, outside, inside, x) for x in densities]
        return np.array(values, dtype=float)

    def other_tables(self) -> list[FloatArray]:
        """Return the survival under other published spectra, each as far down as this one."""
        if len(self.spectra[0].momentum) < 10:  # a beam
            return []
        lowest, highest = self.spectra[self.low_end].momentum[[0, -1]]
        others = [
            MomentumSpectrum.from_intensity(load_flux(name).intensity, lowest, highest)
            for name in SPECTRA
        ]
        return [Survival(other, **self._matter).table for other in others]

    def _missed_before(self) -> float:
        """Return the fraction that the layout lets expect to be missed."""
        return max(1 - self.expected.efficiency, LEAST_MISSED)

    def chances(self, density: FloatArray) -> FloatArray:
        """Return the probability of each muon to be seen again, given a density [g/cm² a mm]."""
        return self.efficiency * self._arriving(density)

    def fit_efficiency(self, density: FloatArray) -> None:
        """Set the chance that a muon which is there is seen to its most probable value."""
        arrived = self._arriving(density)
        passed = self.expected.passed
        expected = self._missed_before()

        def slope(log_missed: float) -> float:
            missed = np.exp(log_missed)
            lost = np.maximum(1 - (1 - missed) * arrived[~passed], 1e-9)
            gain = (arrived[~passed] / lost).sum() - passed.sum() / (1 - missed)
            pull = (log_missed - np.log(expected)) / np.log(MISSED_FACTOR) ** 2
            return float(missed * gain - pull)

        low_end, high_end = np.log(LEAST_MISSED / 10), np.log(0.9)
        best = low_end if slope(low_end) <= 0 else brentq(slope, low_end, high_end, xtol=1e-4)
        self.efficiency = float(1 - np.exp(best))

    def _arriving(self, density: FloatArray) -> FloatArray:
        """Return the probability of each muon to reach the panels behind, in their edges."""
        crossed = self.integrals(density)
        table = self._tables[self.low_end][self._row]
        place = np.interp(crossed, THICKNESSES, np.arange(len(THICKNESSES)))
        low = np.minimum(place.astype(int), len(THICKNESSES) - 2)
        index = np.arange(len(crossed))
        part = place - low
        survived = (1 - part) * table[index, low] + part * table[index, low + 1]
        return np.asarray(survived * self._inside)

    def integrals(self, field: FloatArray) -> FloatArray:
        """Return the integral of a field over the way of each muon [times mm]."""
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
