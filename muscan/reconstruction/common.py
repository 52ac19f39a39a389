"""What the methods share: the grid as kernels see it, and grids of larger voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from muscan.kernels.traversal import Grid
from muscan.model.volume import VoxelGrid

_Column = NDArray[np.float32]
#: Positions and directions of incoming and of outgoing tracks, as kernels take them.
Lines = tuple[_Column, _Column, _Column, _Column]


def kernel_grid(grid: VoxelGrid) -> Grid:
    """Return a grid in the form that kernels take."""
    numbers: tuple[Any, ...] = (*map(float, grid.lower), *map(float, grid.spacing))
    return Grid(*numbers, *map(int, grid.shape))


def coarser_grid(grid: VoxelGrid) -> VoxelGrid:
    """Return the grid of voxels of twice the size, from the same lowest corner."""
    nx, ny, nz = ((n + 1) // 2 for n in grid.shape)
    return VoxelGrid(grid.lower + grid.spacing, 2 * grid.spacing, (nx, ny, nz))


def parents(grid: VoxelGrid) -> NDArray[np.int32]:
    """Return the voxel of the coarser grid that holds each voxel, shape (voxels,)."""
    shape = coarser_grid(grid).shape
    every = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    return np.ascontiguousarray(finer(every, grid.shape)).ravel()


def finer(values: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return each value on the eight voxels that a voxel is cut into, on a grid of a shape."""
    for axis in range(3):
        values = values.repeat(2, axis=axis)
    return values[: shape[0], : shape[1], : shape[2]]
