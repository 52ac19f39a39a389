"""The benchmarks' toy muons, for tests of statistics, and a load that they went through."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import VoxelGrid


@pytest.fixture(scope="session")
def toy():
    path = Path(__file__).parents[2] / "benchmarks" / "toy.py"
    spec = importlib.util.spec_from_file_location("toy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def grid():
    return VoxelGrid.from_bounds([[-400, -400, -300], [400, 400, 300]], 100)


@pytest.fixture(scope="session")
def load(grid):
    """A load of λ = 1 mrad²/cm with a block of λ = 40 in it."""
    density = np.full(grid.shape, 1.0)
    density[5:7, 5:7, 2:4] = 40.0
    return density


@pytest.fixture(scope="session")
def scan(toy, load, grid):
    """Muons through the load, and their momenta."""
    rng = np.random.default_rng(11)
    muons = toy.straight(12_000, 700, 450, 0.25, rng)
    crossing = np.abs(muons.in_position[:, :2]).max(axis=1) < 1000
    return toy.scatter(muons.take(crossing), load, grid, sea_level_spectrum(), rng, moliere=True)
