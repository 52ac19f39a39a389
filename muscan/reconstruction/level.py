"""The level of a background volume, corrected region by region by what the muons say.

Methods differ in how much of the scattering they find and where along a path they put it. A factor
on the background in every cell of `CELL_MM` is fitted to the muons' likelihood, with steps between
neighbouring cells held small. Of the factors the running median counts: one cell that stands out
holds an object, which is no background. Every so many muons are asked, and only those.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize

from muscan.kernels import level as kernel
from muscan.kernels import ways as way_kernel
from muscan.kernels.ways import Ways
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.crossed import crossed_bins
from muscan.reconstruction.ways import TracedMuons, thinned

FloatArray = NDArray[np.float64]

#: Edge of a cell [mm].
CELL_MM: Final = 500.0
#: Expected difference of the factors' logarithms between neighbours, and from nothing.
STEP: Final = 0.2
RANGE: Final = 1.0
#: Evaluations at most.
EVALUATIONS: Final = 10
#: Of more muons, every second (third, …) is asked.
MOST_MUONS: Final = 60_000
#: How often the level is fitted, each time with the losses of the one before.
ROUNDS: Final = 2


def levelled(
    muons: TracedMuons, grid: VoxelGrid, background: FloatArray, workers: int | None = None
) -> FloatArray:
    """Return a background at the level that the muons say it has [mrad²/mm], shape of the grid.

    Parameters
    ----------
    muons : TracedMuons
    grid : VoxelGrid
    background : ndarray, shape of the grid
        Scattering density [mrad²/mm].
    workers : int, optional
        Threads.
    """
    asked = thinned(muons, MOST_MUONS)
    for _ in range(ROUNDS):
        factors = background_factors(
            asked, crossed_bins(asked, grid, background, workers), grid, workers
        )
        background = np.maximum(background * factors, AIR_DENSITY)
    return background


def background_factors(
    muons: TracedMuons,
    bins: NDArray[np.float32],
    grid: VoxelGrid,
    workers: int | None = None,
) -> FloatArray:
    """Return the factor on the background in each voxel, shape (nx, ny, nz).

    Parameters
    ----------
    muons : TracedMuons
    bins : ndarray, shape (n, BINS, 4)
        What they cross in the background, see `muscan.reconstruction.crossed`.
    grid : VoxelGrid
    workers : int, optional
        Threads.
    """
    extent = grid.upper - grid.lower
    shape = tuple(np.maximum(np.rint(extent / CELL_MM), 1).astype(int))
    cells = _cells(muons.ways, grid, shape)
    shares = lanes.bounds(len(cells))

    def cost(flat: FloatArray) -> tuple[float, FloatArray]:
        gradients = [np.zeros(flat.size) for _ in shares]
        factors = np.exp(flat)
        values = lanes.run(
            lambda lane: kernel.bin_scores(
                muons.ways, bins, muons.momenta, cells, factors, *shares[lane], gradients[lane]
            ),
            lanes.LANES,
            workers,
        )
        value, slope = _prior(flat.reshape(shape))
        return value - sum(values), slope.ravel() - sum(gradients)

    found = minimize(
        cost, np.zeros(int(np.prod(shape))), jac=True, method="L-BFGS-B",
        options={"maxfun": EVALUATIONS},
    )  # fmt: skip
    logs = ndimage.median_filter(found.x.reshape(shape), size=3, mode="nearest")
    places = np.meshgrid(
        *(
            (grid.centres(axis) - grid.lower[axis]) / extent[axis] * shape[axis] - 0.5
            for axis in range(3)
        ),
        indexing="ij",
    )
    return np.asarray(np.exp(ndimage.map_coordinates(logs, places, order=1, mode="nearest")))


def _cells(ways: Ways, grid: VoxelGrid, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the cell in which the middle of each bin lies, (n, BINS)."""
    point, whole = ways.point, ways.along[:, 1]
    upper = np.sqrt(np.square(point[:, 1] - point[:, 0]).sum(axis=1))
    cells = np.empty((len(whole), way_kernel.BINS), np.int32)
    for number in range(way_kernel.BINS):
        depth = (number + 0.5) / way_kernel.BINS * whole
        above = depth < upper
        part = np.where(above, depth / upper, (depth - upper) / np.maximum(whole - upper, 1e-9))
        start = np.where(above[:, None], point[:, 0], point[:, 1])
        end = np.where(above[:, None], point[:, 1], point[:, 2])
        place = start + part[:, None] * (end - start)
        index = np.floor((place - grid.lower) / (grid.upper - grid.lower) * shape).astype(int)
        index = np.clip(index, 0, np.array(shape) - 1)
        cells[:, number] = np.ravel_multi_index(tuple(index.T), shape)
    return cells


def _prior(logs: FloatArray) -> tuple[float, FloatArray]:
    """Return minus the log probability of factors, and its gradient."""
    value, slope = 0.5 * float(np.square(logs / RANGE).sum()), logs / RANGE**2
    for axis in range(3):
        step = np.diff(logs, axis=axis) / STEP**2
        value += 0.5 * STEP**2 * float(np.square(step).sum())
        lower = [slice(None)] * 3
        upper = [slice(None)] * 3
        lower[axis], upper[axis] = slice(0, -1), slice(1, None)
        slope[tuple(upper)] += step
        slope[tuple(lower)] -= step
    return value, slope
