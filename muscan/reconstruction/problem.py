"""The likelihood of a volume given muons, and the same on a grid of larger voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import em as kernel
from muscan.model.track_errors import AIR_DENSITY, loss_lines, momentum_loss
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.common import coarser_grid, parents
from muscan.reconstruction.lbfgs import History, Step, minimise
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import Muons, merge_voxels, rearrange
from muscan.reconstruction.prior import Prior
from muscan.reconstruction.team import tree_sum

FloatArray = NDArray[np.float64]

#: Straight lines in an octave of density that stand for the momentum lost: within 1e-6 of it, and
#: 4e-4 at its bends. A gradient is that of the lines, so that it is the objective's own.
LINES = 256


@dataclass(frozen=True)
class Problem:
    """Muons, their momenta and a grid: the likelihood of a volume.

    Attributes
    ----------
    muons : Muons
    momenta : MomentumModel
    grid : VoxelGrid
    workers : int or None
    known : ndarray or None, shape (voxels,)
        Scattering density that every voxel has at least [mrad²/mm]; None for air everywhere.
    shares : tuple of (int, int), optional
        First and last row (exclusive) of each lane; equal shares unless given. They fix the order
        of every sum.
    """

    muons: Muons
    momenta: MomentumModel
    grid: VoxelGrid
    workers: int | None = None
    known: FloatArray | None = None
    shares: tuple[tuple[int, int], ...] | None = None

    @property
    def least(self) -> FloatArray | float:
        """Scattering density that every voxel has at least [mrad²/mm]."""
        return AIR_DENSITY if self.known is None else self.known

    def densities(self, logs: FloatArray) -> FloatArray:
        """Return densities [mrad²/mm] from the logarithms of what exceeds the known matter."""
        return np.exp(logs) + self.least

    def mixture(self, density: FloatArray) -> kernel.Mixture:
        """Return the momentum classes given what a volume takes of the momenta."""
        return self.momenta.mixture(density, momentum_loss(density), self.workers)

    def field(self, density: FloatArray) -> NDArray[np.float32]:
        """Return a volume with what it takes of the momenta, as the kernels want it.

        All of it is that of densities in single precision: so many bytes are sent to workers.
        """
        field = np.empty((len(density), 4), np.float32)
        unit, lines = _losses()
        kernel.fill_field(density.astype(np.float32, copy=False), unit, LINES, lines, field)
        return field

    def each(
        self, density: FloatArray, mixture: kernel.Mixture, scale: float = 1.0
    ) -> tuple[FloatArray, FloatArray]:
        """Return each muon's log likelihood given a volume, and its probability to be an outlier.

        Parameters
        ----------
        density : ndarray, shape (voxels,)
            Scattering density [mrad²/mm].
        mixture : Mixture
        scale : float
            Variance of the hits over the stated one.

        Returns
        -------
        logs, outliers : ndarray, shape (n,)
        """
        logs, outliers = np.empty((2, len(self.muons)))
        shares, count = self._lanes()
        field = self.field(density)
        seen = self.erring(scale).muons.observed

        def work(lane: int) -> None:
            rows = slice(*shares[lane])
            kernel.each(
                self.muons.paths, seen, mixture, field, *shares[lane], logs[rows], outliers[rows]
            )

        lanes.run(work, count, self.workers)
        return logs, outliers

    def likelihood(self, density: FloatArray, mixture: kernel.Mixture) -> tuple[float, FloatArray]:
        """Return the log likelihood of the muons and its gradient in the densities [mrad²/mm]."""
        shares, count = self._lanes()
        gradients = [np.zeros(self.muons.voxels) for _ in range(count)]
        field = self.field(density)

        def work(lane: int) -> float:
            return float(
                kernel.likelihood(
                    self.muons.paths,
                    self.muons.observed,
                    mixture,
                    field,
                    *shares[lane],
                    gradients[lane],
                )
            )

        values = lanes.run(work, count, self.workers)
        return tree_sum(values), tree_sum(gradients)

    def asked(
        self, density: FloatArray, mixture: kernel.Mixture
    ) -> Callable[[], tuple[float, FloatArray]]:
        """Return what gives the `likelihood`; workers elsewhere go about it at once."""
        return lambda: self.likelihood(density, mixture)

    def information(
        self, density: FloatArray, mixture: kernel.Mixture
    ) -> tuple[FloatArray, NDArray[np.uint32]]:
        """Return the information on each density [(mrad²/mm)⁻²] and the muons in each voxel."""
        shares, count = self._lanes()
        squares = [np.zeros(self.muons.voxels) for _ in range(count)]
        numbers = [np.zeros(self.muons.voxels, np.uint32) for _ in range(count)]
        field = self.field(density)

        def work(lane: int) -> None:
            kernel.information(
                self.muons.paths,
                self.muons.observed,
                mixture,
                field,
                *shares[lane],
                squares[lane],
                numbers[lane],
            )

        lanes.run(work, count, self.workers)
        return tree_sum(squares), tree_sum(numbers)

    def _lanes(self) -> tuple[tuple[tuple[int, int], ...], int]:
        """Return the rows of each lane, and the number of lanes."""
        shares = self.shares or lane_rows(len(self.muons), self.muons.voxels)
        return shares, len(shares)

    def steps(
        self, start: FloatArray, prior: Prior, history: History | None = None
    ) -> Iterator[Step]:
        """Yield the steps of a minimisation over the logarithms of the densities.

        The objective is minus the log likelihood plus the prior, in nats; losses and thicknesses
        are those of the start.

        Parameters
        ----------
        start : ndarray, shape (voxels,)
            Logarithms of what the densities exceed the known matter by.
        prior : Prior
        history : deque, optional
            See `minimise`.
        """
        density = self.densities(start)
        mixture = self.mixture(density)
        matter = np.exp(start)
        squares, _ = self.information(density, mixture)
        least = self.least

        def objective(logs: FloatArray) -> tuple[float, FloatArray]:
            matter = np.exp(logs)
            answer = self.asked(matter + least, mixture)
            cost, slope = prior.cost(matter)
            value, gradient = answer()
            slope -= np.multiply(gradient, matter, out=matter)
            return cost - value, slope

        # Voxels that tell nothing yet may move once others have; hence the floor.
        curvature = squares * matter**2 + prior.curvature(matter) + 1e-3
        yield from minimise(objective, start, curvature, history)

    def erring(self, scale: float) -> Problem:
        """Return the problem with hits of so many times the stated variance."""
        seen = self.muons.observed
        noise = seen.noise * np.float32(scale)
        return replace(self, muons=replace(self.muons, observed=seen._replace(noise=noise)))

    def by_place(self) -> Problem:
        """Return the problem with the muons of each lane ordered by where their paths are.

        Neighbours then find the voxels that they share in the processor's cache.
        """
        shares, _ = self._lanes()
        first, voxel = self.muons.paths.first, self.muons.paths.voxel
        middle = voxel[(first[:-1] + first[1:]) // 2]
        order = np.concatenate([a + np.argsort(middle[a:b], kind="stable") for a, b in shares])
        muons = rearrange(self.muons, order, self.workers)
        return replace(self, muons=muons, momenta=self.momenta.of(muons, order), shares=shares)

    def coarser(self, start: int = 0, step: int = 1) -> Problem:
        """Return the problem with voxels of twice the size, for muons start, start + step, ….

        The paths are those through this grid, joined voxel by voxel, not walked again.
        """
        return self._joined(coarser_grid(self.grid), parents(self.grid), start, step)

    def some(self, start: int, step: int) -> Problem:
        """Return the problem for muons start, start + step, … alone."""
        own = np.arange(self.muons.voxels, dtype=np.int32)
        return self._joined(self.grid, own, start, step)

    def _joined(self, grid: VoxelGrid, parent: NDArray[np.int32], start: int, step: int) -> Problem:
        """Return the problem for some muons on a grid whose voxels join those of this one."""
        muons = merge_voxels(self.muons, parent, slice(start, None, step), self.workers)
        momenta = self.momenta.of(muons, slice(start, None, step))
        known = coarser_field(self.known, parent)
        # A muon stays in its lane, so that whoever holds the lane's muons has all it needs.
        shares = tuple(
            (max(-((start - a) // step), 0), max(-((start - b) // step), 0))
            for a, b in self._lanes()[0]
        )
        return Problem(muons, momenta, grid, self.workers, known, shares)


@lru_cache(maxsize=1)
def _losses() -> tuple[float, FloatArray]:
    return loss_lines(LINES)


def lane_rows(rows: int, voxels: int) -> tuple[tuple[int, int], ...]:
    """Return the rows of each lane, of equal shares, for a grid of so many voxels."""
    return tuple(lanes.bounds(rows, lanes.lane_count(12 * voxels)))


def coarser_field(field: FloatArray | None, parent: NDArray[np.int32]) -> FloatArray | None:
    """Return the mean of a field over each larger voxel."""
    if field is None:
        return None
    return np.asarray(np.bincount(parent, field) / np.bincount(parent))
