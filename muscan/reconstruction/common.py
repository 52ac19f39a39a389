"""What every method needs: the grid as kernels see it."""

from __future__ import annotations

from muscan.kernels.traversal import Grid
from muscan.model.volume import VoxelGrid


def kernel_grid(grid: VoxelGrid) -> Grid:
    """Return a grid in the form that kernels take."""
    lower, spacing = (tuple(map(float, values)) for values in (grid.lower, grid.spacing))
    return Grid(*lower, *spacing, *map(int, grid.shape))
