"""Objects found and measured on muons, against muons made step by step by other means."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import muscan
from muscan.identification import identify
from muscan.identification.background import contrast
from muscan.identification.refine import (
    _is_echo,
    cargo_background,
    chance_objects,
    measured_on_muons,
)
from muscan.identification.segment import known_voxels, regions_of
from muscan.model.events import pair_tracks
from muscan.model.scene import parse_scene
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import VoxelGrid
from muscan.reconstruction.region import MuonTester
from muscan.units import MM_PER_CM

_spec = importlib.util.spec_from_file_location(
    "toy_muons", Path(__file__).with_name("toy_muons.py")
)
toy_muons = importlib.util.module_from_spec(_spec)
sys.modules["toy_muons"] = toy_muons
_spec.loader.exec_module(toy_muons)

GRID = VoxelGrid.from_bounds(np.array([[-600.0] * 2 + [-600.0], [600.0] * 2 + [600.0]]), 100)
CENTRE = np.array([40.0, -30.0, 60.0])
SIZE = np.full(3, 200.0)


def made(density, **options):
    """Return the tester of muons through a box in air."""
    air = AIR_DENSITY * MM_PER_CM
    scatters = toy_muons.scatters(
        options.pop("n"), CENTRE, options.pop("size", SIZE), density, cargo=air, **options
    )
    return MuonTester(scatters, GRID)


@pytest.fixture(scope="module")
def lead():
    """A 200 mm cube of lead in air, about 400 muons through it."""
    return made(44.5, n=2500, loss=12.7, spread=250, seed=5)


@pytest.fixture(scope="module")
def flat(make_volume):
    return make_volume(np.zeros(GRID.shape), sigma=0.3, voxel=100.0)


def objects(volume, tester):
    above = contrast(volume, known_voxels(volume))
    return measured_on_muons(regions_of(volume, above), volume, tester)


def test_lead_is_found_that_the_volume_does_not_show(lead, flat):
    found = objects(flat, lead)
    first = found[0]
    assert first.centre == pytest.approx(CENTRE, abs=15.0)
    assert first.upper - first.lower == pytest.approx(SIZE, rel=0.15)
    relative = first.sigma / first.scattering_density
    assert abs(np.log(first.scattering_density / 44.5)) < 3 * relative
    assert first.excess == pytest.approx(44.5 * 8000, rel=0.35)
    assert first.significance > 20
    assert first.chance < 1e-10
    assert all(other.significance < 0.3 * first.significance for other in found[1:])
    inside = np.stack(np.unravel_index(first.voxels, GRID.shape), axis=1)
    assert np.abs(GRID.position(inside) - CENTRE).max() < 200


def test_more_scattering_gives_more_density(flat):
    densities = []
    for density, loss in ((2.8, 4.4), (14.2, 11.4), (79.0, 20.5)):
        tester = made(density, n=2000, loss=loss, spread=200, seed=8)
        densities.append(objects(flat, tester)[0].scattering_density)
    assert densities == sorted(densities)
    assert densities[2] / densities[0] > 8


def test_nothing_is_found_where_there_is_nothing(flat):
    tester = made(AIR_DENSITY * MM_PER_CM, n=2500, spread=400, seed=2)
    for region in objects(flat, tester):
        assert region.significance < 6
        assert region.scattering_density < 8


@pytest.mark.parametrize(("method", "height"), [("em", slice(5, 7)), ("poca", slice(1, 11))])
def test_a_bright_volume_without_muons_to_confirm_it_is_no_object(make_volume, method, height):
    """A small object is a column a metre high by a method that draws it out along z."""
    values = np.zeros(GRID.shape)
    values[2:4, 2:4, height] = 40.0
    tester = made(AIR_DENSITY * MM_PER_CM, n=2500, spread=500, seed=3)
    place = GRID.position([2.5, 2.5, 5.5])
    volume = make_volume(values, sigma=0.3, voxel=100.0, method=method)
    assert len(regions_of(volume, contrast(volume, known_voxels(volume)))) == 1
    for region in objects(volume, tester):
        assert np.abs(region.centre - place).max() > 150


def test_chance_is_wilks_times_the_places():
    # χ² of six degrees of freedom exceeds 22.458 once in a thousand.
    assert chance_objects(22.458 / 2, 500.0) == pytest.approx(0.5, rel=1e-3)


def test_identify_takes_place_density_and_chance_from_the_muons(lead, make_volume, materials):
    values = np.zeros(GRID.shape)
    low = np.rint((CENTRE - SIZE / 2 - GRID.lower) / 100).astype(int)
    values[tuple(slice(first, first + 2) for first in low)] = 20.0  # blurred: half of the truth
    volume = make_volume(values, sigma=0.3, voxel=100.0)
    report, _ = identify(volume, lead, materials)
    alert = report.alerts[0]
    assert alert.position_mm == pytest.approx(tuple(CENTRE), abs=15.0)
    assert alert.scattering_density.value > 30.0
    assert alert.material.category not in ("food", "liquid")
    assert alert.n_muons > 200
    assert alert.false_alarm_rate < 1e-6
    assert report.scan.n_muons == lead.n_muons


def test_cargo_is_seen_by_the_muons_themselves_without_what_is_hidden_in_it():
    reach = np.array([2000.0, 2000.0, 1300.0])  # goods all along every path
    grid = VoxelGrid.from_bounds(np.array([-reach, reach]), 100)
    cargo = 0.5
    muons = toy_muons.scatters(
        9000, CENTRE, SIZE, 44.5, loss=12.7, cargo=cargo, spread=500, seed=4
    )  # fmt: skip
    background = cargo_background(MuonTester(muons, grid), grid)
    assert background.shape == grid.shape
    away = [np.abs(grid.centres(axis) - CENTRE[axis]) for axis in range(3)]
    cube = np.ix_(*(distance < 100 for distance in away))
    near = np.ix_(away[0] < 400, away[1] < 400, away[2] < 1000)
    inner = background[near]
    assert np.median(inner) == pytest.approx(cargo, rel=0.25)
    assert background[cube].max() < 2 * cargo
    # The toy itself is good to a fifth. As thick in the middle of its height as above and below.
    layers = np.median(inner, axis=(0, 1))
    assert layers.max() / layers.min() < 1.5


LEAD_CUBE = """
name = "lead cube"
[[body]]
name = "cube"
material = "lead"
size_mm = [150.0, 150.0, 150.0]
centre_mm = [40.0, -30.0, 60.0]
"""


def simulated(seed):
    """Return the tester of ninety seconds of simulated muons about a cube of lead."""
    scene = parse_scene(LEAD_CUBE, "cube.toml")
    tracks = muscan.track(muscan.simulate(scene, detector="blocks-lab", minutes=1.5, seed=seed))
    spectrum = sea_level_spectrum("guan2015")
    return MuonTester(pair_tracks(tracks), GRID, spectrum=spectrum, detector=tracks.detector)


@pytest.mark.slow
def test_density_of_simulated_lead_is_unbiased_with_sound_pulls(flat):
    """Eight cubes by the simulation, which shares neither Highland's formula nor mean losses."""
    found = [objects(flat, simulated(seed))[0] for seed in range(8)]
    logs = np.log([one.scattering_density / 44.5 for one in found])
    errors = [np.sqrt(np.log1p((one.sigma / one.scattering_density) ** 2)) for one in found]
    assert abs(logs.mean()) < 0.15
    assert (logs / errors).std() < 1.4
    assert np.abs(logs / errors).max() < 3
    for one in found:
        assert (np.abs(one.centre - CENTRE) < [15, 15, 40]).all()


def test_what_a_strong_object_leaves_over_is_no_object(lead, flat):
    tests = lead.against(np.full(GRID.shape, AIR_DENSITY * MM_PER_CM))
    strong = tests.fit_box(CENTRE, SIZE)
    beside = replace(strong, centre=strong.centre + np.array([180.0, 0.0, 0.0]), size=SIZE / 4)
    weak = replace(beside, integral=0.1 * strong.integral)
    assert _is_echo(weak, strong)
    assert not _is_echo(strong, weak)
    assert not _is_echo(replace(beside, integral=0.2 * strong.integral), strong)
    assert not _is_echo(replace(weak, centre=strong.centre + np.array([300.0, 0.0, 0.0])), strong)
