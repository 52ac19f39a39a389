"""A small database of well separated and of similar materials, and synthetic volumes."""

import numpy as np
import pytest

from muscan.model.material import Material, MaterialDatabase
from muscan.model.volume import Volume, VoxelGrid

WATER = {"H": 0.111894, "O": 0.888106}
ENTRIES = [
    ("dry-air", 0.0012, (0.0012, 0.0012), {"N": 0.76, "O": 0.24}, "gas", "gas"),
    ("uranium", 18.95, (18.6, 19.1), {"U": 1.0}, "special-nuclear", "solid"),
    ("tungsten", 19.3, (17.5, 19.3), {"W": 1.0}, "radioactive-shielding", "solid"),
    ("lead", 11.35, (11.0, 11.35), {"Pb": 1.0}, "radioactive-shielding", "solid"),
    ("steel", 7.87, (7.7, 7.9), {"Fe": 1.0}, "structural", "solid"),
    ("aluminium", 2.7, (2.6, 2.8), {"Al": 1.0}, "structural", "solid"),
    ("water", 1.0, (0.98, 1.05), WATER, "liquid", "liquid"),
    ("juice", 1.04, (1.0, 1.07), WATER, "food", "liquid"),
    ("fruit", 0.4, (0.3, 0.5), WATER, "food", "packed"),
    (
        "plastic-bonded",
        1.65,
        (1.6, 1.7),
        {"C": 0.2, "H": 0.03, "N": 0.37, "O": 0.4},
        "explosive",
        "solid",
    ),
]


@pytest.fixture(scope="session")
def materials():
    return MaterialDatabase(
        Material(name, density, composition, density_range, category, state=state)
        for name, density, density_range, composition, category, state in ENTRIES
    )


@pytest.fixture(scope="session")
def make_volume():
    def build(values, *, sigma=0.05, noise=0.0, voxel=50.0, method="em", seed=0, run=None):
        """Volume centred on the origin with Gaussian noise; sigma and noise in mrad²/cm."""
        values = np.asarray(values, dtype=np.float32)
        if noise:
            rng = np.random.default_rng(seed)
            values = values + rng.normal(0.0, noise, values.shape).astype(np.float32)
        half = np.array(values.shape) * voxel / 2
        grid = VoxelGrid.from_bounds(np.array([-half, half]), voxel)
        uncertainty = np.broadcast_to(np.float32(sigma), values.shape).copy()
        muons = np.full(values.shape, 80, dtype=np.uint32)
        return Volume(values, grid, method, uncertainty, muons, run=run)

    return build
