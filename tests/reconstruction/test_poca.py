"""PoCA's densities: what they are solved from, and that nothing depends on who adds up."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.model.events import Scatters
from muscan.model.spectrum import class_weights, sea_level_spectrum
from muscan.model.volume import VoxelGrid
from muscan.reconstruction.poca import Sums, _MeanAngles, poca

GRID = VoxelGrid.from_bounds([[-500, -500, -500], [500, 500, 500]], 50)


@pytest.fixture(scope="module")
def scatters() -> Scatters:
    rng = np.random.default_rng(3)
    n = 6000
    u = np.concatenate([rng.normal(0, 0.3, (n, 2)), -np.ones((n, 1))], axis=1)
    u /= np.linalg.norm(u, axis=1)[:, None]
    w = u + rng.normal(0, 0.02, (n, 3))
    w /= np.linalg.norm(w, axis=1)[:, None]
    vertex = rng.uniform(-450, 450, (n, 3))
    cov = np.zeros((n, 4, 4), np.float32)
    for plane in range(4):
        cov[:, plane, plane] = rng.uniform(0.5, 2, n) * (0.1 if plane < 2 else 1e-6)
    columns = (vertex - 900 * u, u, vertex + 900 * w, w)
    p, u, q, w = (np.asarray(column, np.float32) for column in columns)
    unknown = np.full(n, np.nan, np.float32)
    return Scatters(np.arange(n, dtype=np.uint64), p, u, cov, q, w, cov, unknown, unknown)


def assert_same(a, b):
    for name in ("values", "uncertainty", "n_muons"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.attributes == b.attributes


def test_threads_portions_and_order_change_no_bit(scatters):
    alone = poca(scatters, GRID, workers=1)
    assert np.nanmax(alone.values) > 0
    assert_same(poca(scatters, GRID, workers=5), alone)
    cuts = [0, 17, 2500, 2501, 6000]
    portions = (scatters.take(slice(a, b)) for a, b in pairwise(cuts))
    assert_same(poca(portions, GRID, workers=2), alone)
    mixed = scatters.take(np.random.default_rng(1).permutation(len(scatters)))
    assert_same(poca(mixed, GRID), alone)


def test_a_volume_on_the_way_changes_nothing_later(scatters):
    sums = Sums(GRID)
    sums.add(scatters.take(slice(0, 3000)), GRID, 1)
    half = sums.volume(GRID)
    seen = half.n_muons.copy()
    sums.add(scatters.take(slice(3000, None)), GRID, 1)
    np.testing.assert_array_equal(half.n_muons, seen)
    assert_same(sums.volume(GRID), poca(scatters, GRID))


def test_shorter_paths_weigh_by_their_length(scatters):
    """Tracks that begin at the vertex cross only what is below it."""
    *_, lengths, _ = Sums.total(added(scatters))
    u = scatters.in_direction
    near = replace(scatters, in_position=(scatters.in_position + 450 * u).astype(np.float32))
    *_, fewer, _ = Sums.total(added(near))
    assert 0 < fewer.sum() < lengths.sum()


def added(scatters: Scatters) -> Sums:
    sums = Sums(GRID)
    sums.add(scatters, GRID, 1)
    return sums


@pytest.mark.parametrize("noise", [1e-8, 1e-6, 1e-4])
def test_the_scattering_behind_a_mean_angle(noise):
    """The relation of the docstring of `poca`, forth in full and back by the table."""
    powers = sea_level_spectrum().powers(0.9, 0.0)
    scattering = np.geomspace(1e-3, 1e4, 300) * noise
    spread = np.sqrt(scattering[:, None] * powers + noise)
    mean = np.sqrt(np.pi / 2) * (class_weights() * spread).sum(axis=1)
    found = _MeanAngles(powers).scattering(mean, np.full(300, noise))
    assert found == pytest.approx(scattering, rel=2e-4)


def test_angles_of_the_noise_alone_mean_no_scattering():
    powers = sea_level_spectrum().powers(0.9, 0.0)
    mean = np.array([0.0, 0.5, 0.99]) * np.sqrt(np.pi / 2 * 1e-6)
    assert not _MeanAngles(powers).scattering(mean, np.full(3, 1e-6)).any()


def test_no_muon_is_an_error(scatters):
    with pytest.raises(InputError, match="both an incoming and an outgoing"):
        poca(scatters.take(slice(0, 0)), GRID)
