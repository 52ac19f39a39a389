"""Voxel grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscan.errors import InputError
from muscan.model.volume import VoxelGrid

lengths = st.floats(1.0, 5000.0)


@given(st.tuples(lengths, lengths, lengths), st.floats(20.0, 500.0))
def test_grid_covers_the_bounds_with_less_than_a_voxel_to_spare(size, voxel):
    low = np.array([-10.0, 20.0, 300.0])
    high = low + size
    grid = VoxelGrid.from_bounds([low, high], voxel)
    assert (grid.lower <= low + 1e-6).all()
    assert (grid.upper >= high - 1e-6).all()
    assert (grid.upper - grid.lower < np.array(size) + voxel + 1e-6).all()
    np.testing.assert_allclose((grid.lower + grid.upper) / 2, (low + high) / 2, atol=1e-6)


def test_exact_multiples_are_not_rounded_up():
    grid = VoxelGrid.from_bounds([[0, 0, 0], [0.3, 0.6, 0.9]], 0.1)
    assert grid.shape == (3, 6, 9)


@pytest.mark.parametrize("voxel", [0, -5, np.nan, np.inf])
def test_sizes_that_are_none_are_refused(voxel):
    with pytest.raises(InputError, match="positive length"):
        VoxelGrid.from_bounds([[0, 0, 0], [1, 1, 1]], voxel)


def test_reversed_limits_and_huge_grids_are_refused():
    with pytest.raises(InputError, match="not in order"):
        VoxelGrid.from_bounds([[0, 0, 5], [1, 1, 1]], 1)
    with pytest.raises(InputError, match="voxels are more"):
        VoxelGrid.from_bounds([[0, 0, 0], [1e4, 1e4, 1e4]], 0.1)
