"""The muons' likelihood, against muons made step by step by other means (`toy_muons`)."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muscan.identification import identify
from muscan.identification.boxes import fit_box
from muscan.identification.likelihood import (
    box_moments,
    golden_section,
    local_muons,
    log_density,
)
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import VoxelGrid
from muscan.units import MM_PER_CM

_spec = importlib.util.spec_from_file_location(
    "toy_muons", Path(__file__).with_name("toy_muons.py")
)
toy_muons = importlib.util.module_from_spec(_spec)
sys.modules["toy_muons"] = toy_muons
_spec.loader.exec_module(toy_muons)

GRID = VoxelGrid.from_bounds(np.array([[-1500.0] * 2 + [-1300.0], [1500.0] * 2 + [1300.0]]), 100)
CENTRE = np.array([40.0, -30.0, 60.0])


def made(density, size, **options):
    """Return muons through a box in air."""
    air = AIR_DENSITY * MM_PER_CM
    return toy_muons.scatters(options.pop("n"), CENTRE, size, density, cargo=air, **options)


def local(scatters, size, cargo):
    filled = np.full(GRID.shape, cargo, dtype=np.float32)
    return local_muons(scatters, GRID, filled, CENTRE - size, CENTRE + size)


@pytest.fixture(scope="module")
def lead():
    """A 200 mm cube of lead in air, about 700 muons through it."""
    size = np.full(3, 200.0)
    scatters = made(44.5, size, n=4000, loss=16.5, spread=250, seed=5)
    return scatters, size


def test_moments_of_a_vertical_path_have_closed_forms(lead):
    muons = local(lead[0], lead[1], 0.0)
    path = np.array([[[40, -30, 1300], [40, -30, 0], [40, -30, -1300]]], dtype=float)
    one = replace(muons.take(np.arange(len(muons)) == 0), path=path)
    one = replace(one, down=np.array([[0.0, 0.0, -1.0]]))
    low, high = CENTRE - np.array([50, 50, 20]), CENTRE + np.array([50, 50, 100])
    rows, moments = box_moments(one, low, high)
    assert rows.tolist() == [0]
    lower, upper = -20.0, 100.0  # T is counted upwards from the reference, at CENTRE
    expected = [upper - lower, (upper**2 - lower**2) / 2, (upper**3 - lower**3) / 3]
    assert moments[0] == pytest.approx(expected, rel=1e-9)


def test_moments_add_up_over_a_divided_box(lead):
    muons = local(lead[0], lead[1], 0.0)
    low, high = CENTRE - 100, CENTRE + 100
    whole = np.zeros((len(muons), 3))
    parts = np.zeros((len(muons), 3))
    rows, moments = box_moments(muons, low, high)
    whole[rows] = moments
    for bottom, top in ((low[2], CENTRE[2] + 30), (CENTRE[2] + 30, high[2])):
        rows, moments = box_moments(muons, np.array([*low[:2], bottom]), np.array([*high[:2], top]))
        parts[rows] += moments
    assert parts == pytest.approx(whole, rel=1e-9, abs=1e-6)


def test_density_of_angles_is_normalised(lead):
    """One muon, offset left free: the density over the angle in both planes sums to about one."""
    muons = local(lead[0], lead[1], 0.0)
    first = muons.take(np.arange(len(muons)) == 0)
    noise = np.array([[1.0, 0.0, 1e12, 1.0, 0.0, 1e12]])
    edges = np.linspace(-249, 249, 400)
    step = edges[1] - edges[0]
    grid = np.stack(np.meshgrid(edges, edges), axis=-1).reshape(-1, 2)
    repeated = first.take(np.zeros(len(grid), dtype=int))
    data = np.zeros((len(grid), 4))
    data[:, 0], data[:, 2] = grid.T
    many = replace(repeated, data=data, noise=np.repeat(noise, len(grid), axis=0))
    elements = np.tile([900.0, 0.0, 1e-3], (len(grid), 1))
    density = np.exp(log_density(many, elements, np.zeros(len(grid))))
    # Without the constant: 1/2π each for the angles and, flat, for the offsets.
    total = density.sum() * step**2 / (2 * np.pi) * np.sqrt(1e12) ** 2
    assert total == pytest.approx(1.0, abs=0.02)


def test_lead_is_found_where_it_is(lead):
    scatters, size = lead
    muons = local(scatters, size, 0.0)
    fit = fit_box(muons, CENTRE + np.array([25.0, -20.0, 40.0]), np.full(3, 260.0), 0.0)
    assert fit.centre[:2] == pytest.approx(CENTRE[:2], abs=15.0)
    assert fit.centre[2] == pytest.approx(CENTRE[2], abs=25.0)
    assert np.log(fit.density / 44.5) == pytest.approx(0.0, abs=3 * np.hypot(fit.relative, 0.15))
    assert fit.integral == pytest.approx(44.5 * 8000, rel=0.35)
    assert fit.significance > 20


def test_more_scattering_gives_more_density():
    size = np.full(3, 200.0)
    found = []
    for density, loss in ((2.8, 5.0), (14.2, 13.9), (79.0, 26.6)):
        scatters = made(density, size, n=3000, loss=loss, spread=200, seed=8)
        found.append(fit_box(local(scatters, size, 0.0), CENTRE, size, 0.0).density)
    assert found == sorted(found)
    assert found[2] / found[0] > 8


def test_error_comes_near_the_information_limit_but_not_below(lead):
    """σ(ln λ) ≥ 2.18/√N for an unknown momentum, here with the size unknown as well."""
    scatters, size = lead
    fit = fit_box(local(scatters, size, 0.0), CENTRE, size, 0.0)
    assert 2.18 / np.sqrt(fit.n_muons) * 0.8 < fit.relative < 2.18 / np.sqrt(fit.n_muons) * 3


def test_nothing_gains_nothing():
    scatters = toy_muons.scatters(3000, CENTRE, np.full(3, 200.0), 0.4, cargo=0.4, seed=2)
    fit = fit_box(local(scatters, np.full(3, 200.0), 0.4), CENTRE, np.full(3, 150.0), 0.4)
    assert fit.significance < 5


def test_too_few_muons_are_no_fit(lead):
    few = lead[0].take(slice(0, 5))
    assert fit_box(local(few, lead[1], 0.0), CENTRE, lead[1], 0.0) is None


def test_golden_section_finds_the_least():
    assert golden_section(lambda x: (x - 0.7) ** 2, -3, 4, 30) == pytest.approx(0.7, abs=1e-4)


def test_identify_takes_place_and_density_from_the_muons(lead, make_volume, materials):
    scatters, size = lead
    values = np.zeros((30, 30, 26))
    low = np.rint((CENTRE - size / 2 - [-1500, -1500, -1300]) / 100).astype(int)
    values[tuple(slice(first, first + 2) for first in low)] = 20.0  # blurred: half of the truth
    volume = make_volume(values, sigma=0.3, voxel=100.0)
    alert = identify(volume, scatters, materials)[0].alerts[0]
    assert alert.position_mm == pytest.approx(tuple(CENTRE), abs=25.0)
    assert alert.scattering_density.value > 30.0
    assert alert.n_muons > 300


@pytest.mark.slow
def test_pulls_of_the_density_are_sound():
    """Sixteen cubes of lead: the truth within the interval with its systematic part."""
    size = np.full(3, 150.0)
    pulls = []
    for seed in range(16):
        scatters = made(44.5, size, n=2500, loss=16.5, spread=200, seed=seed)
        fit = fit_box(local(scatters, size, 0.0), CENTRE + 20.0, size * 1.2, 0.0)
        pulls.append(np.log(fit.density / 44.5) / np.hypot(fit.relative, 0.15))
    assert abs(np.mean(pulls)) < 1.2
    assert np.mean(np.abs(pulls) < 2) >= 0.8
