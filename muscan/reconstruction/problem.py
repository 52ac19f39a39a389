"""The likelihood of a volume given muons, and the same on a grid of larger voxels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import em as kernel
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.lbfgs import History, Step, minimise
from muscan.reconstruction.muons import MomentumModel, Muons, merge_voxels
from muscan.reconstruction.prior import smoothness

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Muons, their momenta and a grid: the likelihood of a volume.

    Attributes
    ----------
    muons : Muons
    momenta : MomentumModel
    grid : VoxelGrid
    workers : int or None
    """

    muons: Muons
    momenta: MomentumModel
    grid: VoxelGrid
    workers: int | None = None

    def likelihood(self, density: FloatArray, mixture: kernel.Mixture) -> tuple[float, FloatArray]:
        """Return the log likelihood of the muons and its gradient in the densities [mrad²/mm]."""
        count = lanes.lane_count(8 * self.muons.voxels)
        shares = lanes.bounds(len(self.muons), count)
        gradients = [np.zeros(self.muons.voxels) for _ in range(count)]

        def work(lane: int) -> float:
            return float(
                kernel.likelihood(
                    self.muons.paths,
                    self.muons.observed,
                    mixture,
                    density,
                    *shares[lane],
                    gradients[lane],
                )
            )

        values = lanes.run(work, count, self.workers)
        return sum(values), sum(gradients, np.zeros(self.muons.voxels))

    def information(
        self, density: FloatArray, mixture: kernel.Mixture
    ) -> tuple[FloatArray, NDArray[np.uint32]]:
        """Return the information on each density [(mrad²/mm)⁻²] and the muons in each voxel."""
        count = lanes.lane_count(12 * self.muons.voxels)
        shares = lanes.bounds(len(self.muons), count)
        squares = [np.zeros(self.muons.voxels) for _ in range(count)]
        numbers = [np.zeros(self.muons.voxels, np.uint32) for _ in range(count)]

        def work(lane: int) -> None:
            kernel.information(
                self.muons.paths,
                self.muons.observed,
                mixture,
                density,
                *shares[lane],
                squares[lane],
                numbers[lane],
            )

        lanes.run(work, count, self.workers)
        return (
            sum(squares, np.zeros(self.muons.voxels)),
            sum(numbers, np.zeros(self.muons.voxels, np.uint32)),
        )

    def steps(
        self, start: FloatArray, weight: float, history: History | None = None
    ) -> Iterator[Step]:
        """Yield the steps of a minimisation over the logarithms of the densities.

        The objective is minus the log likelihood plus the prior, in nats; losses and thicknesses
        are those of the start.

        Parameters
        ----------
        start : ndarray, shape (voxels,)
            Logarithms of what the densities exceed air by.
        weight : float
            Of the prior.
        history : deque, optional
            See `minimise`.
        """
        mixture = self.momenta.mixture(densities(start), self.workers)
        matter = np.exp(start)
        squares, _ = self.information(densities(start), mixture)
        shape = self.grid.shape
        bend = smoothness(start.reshape(shape), weight)[2].ravel()

        def objective(logs: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self.likelihood(densities(logs), mixture)
            cost, slope, _ = smoothness(logs.reshape(shape), weight)
            return cost - value, slope.ravel() - gradient * np.exp(logs)

        # Voxels that tell nothing yet may move once others have; hence the floor.
        yield from minimise(objective, start, squares * matter**2 + bend + 1e-3, history)

    def coarser(self, start: int = 0, step: int = 1) -> Problem:
        """Return the problem with voxels of twice the size, for muons start, start + step, ….

        The paths are those through this grid, joined voxel by voxel, not walked again.
        """
        grid = VoxelGrid(
            self.grid.lower + self.grid.spacing,
            2 * self.grid.spacing,
            tuple((n + 1) // 2 for n in self.grid.shape),  # type: ignore[arg-type]
        )
        every = np.arange(int(np.prod(grid.shape)), dtype=np.int32).reshape(grid.shape)
        parent = np.ascontiguousarray(finer(every, self.grid.shape)).ravel()
        muons = merge_voxels(self.muons, parent, slice(start, None, step), self.workers)
        return Problem(muons, self.momenta.of(muons, slice(start, None, step)), grid, self.workers)


def finer(values: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return each value on the eight voxels that a voxel is cut into, on a grid of a shape."""
    for axis in range(3):
        values = values.repeat(2, axis=axis)
    return values[: shape[0], : shape[1], : shape[2]]


def densities(logs: FloatArray) -> FloatArray:
    """Return densities [mrad²/mm] from the logarithms of what exceeds air."""
    return np.exp(logs) + AIR_DENSITY
