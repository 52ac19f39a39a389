"""Tests of regions: geometry against closed forms, statistics against the model's own information.

The muons of the statistical tests are drawn from the model itself: a momentum class by its weight,
then angle and offset in both planes from the class's normal distribution. Their likelihood has a
Fisher information, and 1/√(N I) is the least spread that any unbiased estimate can have.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscan.errors import InputError
from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.kernels.lattice import Lattice, lattice_ratios
from muscan.kernels.level import bin_scores
from muscan.model.region import KnownBox
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import box_scan
from muscan.reconstruction.level import levelled
from muscan.reconstruction.region import MuonTester, RegionTester
from muscan.units import MM_PER_CM

_folder = Path(__file__).parents[2] / "benchmarks"
_spec = importlib.util.spec_from_file_location("region_toy", _folder / "region_toy.py")
region_toy = importlib.util.module_from_spec(_spec)
sys.modules["region_toy"] = region_toy
_spec.loader.exec_module(region_toy)

SPECTRUM = sea_level_spectrum()
GRID = VoxelGrid.from_bounds([[-400, -400, -300], [400, 400, 300]], 100)
CARGO = 0.4
BLOCK = np.array([[90.0, 40.0, -60.0], [210.0, 160.0, 60.0]])
DENSE = 60.0


@pytest.fixture(scope="module")
def tests(toy):
    """Tests against a uniform cargo in which muons were drawn that met a dense block."""
    rng = np.random.default_rng(3)
    muons = toy.straight(6000, 700, 450, 0.25, rng)
    made = RegionTester(
        muons, region_toy.volume_of(np.full(GRID.shape, CARGO), GRID), spectrum=SPECTRUM
    )
    moments = np.empty((len(made._muons), 4))
    way_kernel.crossings(made._muons.ways, np.arange(len(moments)), *BLOCK, moments)
    region_toy.draw(made, moments, DENSE, CARGO, rng)
    return made


def vertical(x, y, bend=0.0):
    """One muon straight down, or bent sideways at z = 0, from z = 450 to -450."""
    point = np.array([[[x, y, 450.0], [x, y, 0.0], [x + bend, y, -450.0]]])
    whole = 450.0 + np.hypot(450.0, bend)
    zero = np.zeros((1, 6), np.float32)
    return way_kernel.Ways(
        point, np.array([[whole / 2, whole]]), zero[:, :4], zero,
        np.zeros((1, 2, 3), np.float32), np.zeros(1, np.int32),
    )  # fmt: skip


def test_moments_in_a_box_have_closed_forms():
    moments = np.empty((1, 4))
    low, high = np.array([-50.0, -50.0, -20.0]), np.array([50.0, 50.0, 100.0])
    way_kernel.crossings(vertical(10.0, -5.0), np.arange(1), low, high, moments)
    # T is counted upwards from the middle of the path, at z = 0.
    expected = [
        120.0,
        (100**2 - 20**2) / 2,
        (100**3 + 20**3) / 3,
        (450 - 40) / 900 * way_kernel.BINS,
    ]
    assert moments[0] == pytest.approx(expected, rel=1e-9)
    way_kernel.crossings(vertical(51.0, 0.0), np.arange(1), low, high, moments)
    assert moments[0, :3] == pytest.approx(0.0)


@settings(max_examples=40, deadline=None)
@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(-400, 400), st.floats(-190, 190))
def test_moments_add_up_over_a_divided_box(x, y, bend, cut):
    ways, rows = vertical(x, y, bend), np.arange(1)
    low, high = np.array([-100.0, -100.0, -200.0]), np.array([100.0, 100.0, 200.0])
    whole, upper, lower = (np.empty((1, 4)) for _ in range(3))
    way_kernel.crossings(ways, rows, low, high, whole)
    way_kernel.crossings(ways, rows, np.array([-100.0, -100.0, cut]), high, upper)
    way_kernel.crossings(ways, rows, low, np.array([100.0, 100.0, cut]), lower)
    assert (upper + lower)[0, :3] == pytest.approx(whole[0, :3], rel=1e-9, abs=1e-6)


def test_bins_hold_all_that_is_crossed(tests):
    total = tests._bins.astype(float).sum(axis=1)
    ways = tests._muons.ways
    inside = region_toy.mask_moments(tests, np.ones(GRID.shape, bool))[:, 0]
    outside = ways.along[:, 1] - inside
    expected = inside * CARGO / MM_PER_CM + outside * AIR_DENSITY
    assert total[:, 0] == pytest.approx(expected, rel=1e-5)


def test_reach_is_range(tests):
    # PDG, muons in water: 0.42 GeV go 132 g/cm², at 1.99 MeV cm²/g.
    assert float(kernel.reach_of(0.42)) == pytest.approx(132 * 1.99e-3, rel=0.02)
    # Fast muons lose what the minimum of ionisation takes.
    step = float(kernel.reach_of(10.1) - kernel.reach_of(10.0))
    assert step == pytest.approx(0.1, rel=0.01)


def test_density_is_normalised(tests):
    """Over angle and offset of both planes, by importance sampling from normals of many widths."""
    ways, momenta = tests._muons.ways, tests._muons.momenta
    rng = np.random.default_rng(0)
    many, n = 40_000, 5
    one = way_kernel.Ways(*(np.repeat(column[n : n + 1], many, axis=0) for column in ways))
    bins = np.repeat(tests._bins[n : n + 1], many, axis=0)
    widths, scales = np.tile([1.0, 400.0], 2), np.geomspace(1, 1500, 12)
    data = rng.normal(size=(many, 4)) * widths * rng.choice(scales, many)[:, None]
    proposal = np.zeros(many)
    for scale in scales:
        z = data / (widths * scale)
        proposal += np.exp(-0.5 * (z**2).sum(1)) / (widths[:2].prod() * scale**2) ** 2 / len(scales)
    one.data[:] = data
    values = np.empty(many)
    kernel.base_densities(one, bins, momenta, np.arange(many), values)
    weight = np.exp(values) / proposal
    assert weight.mean() == pytest.approx(1.0, abs=5 * weight.std() / np.sqrt(many))
    assert weight.std() / np.sqrt(many) < 0.05


def test_lattice_agrees_with_boxes_one_by_one(tests):
    muons = tests._muons
    light = muons.momenta
    first = np.array([-250.0, -250.0, -150.0])
    shape = np.array([8, 8, 4])
    lattice = Lattice(first, np.array([50.0, 50.0, 75.0]), shape, 60.0)
    increases = np.array([4.0, 20.0, 100.0]) / MM_PER_CM
    ratios = np.zeros((4, 8, 8, 3))
    lattice_ratios(
        muons.ways, tests._bins, light, tests._base, lattice, increases,
        np.arange(len(muons)), ratios,
    )  # fmt: skip
    for cell in ((1, 1, 1), (5, 6, 2), (7, 5, 2), (6, 5, 0)):
        centre = first + np.array(cell) * lattice.pitch
        rows = np.arange(len(muons))
        moments = np.empty((len(muons), 4))
        way_kernel.crossings(muons.ways, rows, centre - 60, centre + 60, moments)
        rows = rows[moments[:, 0] > 0]
        for level, increase in enumerate(increases):
            direct = kernel.region_density(
                muons.ways, tests._bins, light, rows, moments[rows], increase, 0.0
            ) - tests._base[rows].sum()  # fmt: skip
            found = ratios[cell[2], cell[0], cell[1], level]
            assert found == pytest.approx(direct, abs=0.25 * abs(direct) + 4.0)


def test_scan_and_fit_find_the_block(tests):
    first = tests.scan(sizes=(100.0, 200.0))[0]
    middle = BLOCK.mean(axis=0)
    assert np.abs(first.centre - middle).max() < 60
    fit = tests.fit_box(first.centre, first.size, first.increase)
    assert np.abs(fit.centre - middle)[:2].max() < 15
    assert abs(fit.centre[2] - middle[2]) < 30
    assert fit.size == pytest.approx(BLOCK[1] - BLOCK[0], rel=0.35)
    assert abs(np.log(fit.density / DENSE)) < 3 * fit.relative
    assert fit.integral == pytest.approx(
        (DENSE - CARGO) * 120**3 / 1000, abs=4 * fit.integral_sigma
    )
    assert fit.log_ratio > 50
    assert (fit.centre_sigma < 30).all()
    again = tests.holding(fit).fit_box(middle, fit.size)
    assert again is None or again.log_ratio < 8


@pytest.mark.parametrize("most", [150_000, 6000])
def test_goods_in_goods_are_found_as_one_large_box(toy, monkeypatch, most):
    # So few muons are otherwise all used; of the 100 000s that are not, a test would take minutes.
    monkeypatch.setattr(box_scan, "SCAN_MUONS", most)
    rng = np.random.default_rng(5)
    muons = toy.straight(20_000, 700, 450, 0.25, rng)
    made = RegionTester(
        muons, region_toy.volume_of(np.full(GRID.shape, CARGO), GRID), spectrum=SPECTRUM
    )
    bounds = np.array([[-200.0, -200.0, -200.0], [200.0, 200.0, 200.0]])
    moments = np.empty((len(made._muons), 4))
    way_kernel.crossings(made._muons.ways, np.arange(len(moments)), *bounds, moments)
    region_toy.draw(made, moments, CARGO + 0.3, CARGO, rng)
    first = made.scan()[0]
    assert first.size.min() >= 200
    assert (np.abs(first.centre) <= [100, 100, 200]).all()
    fit = made.fit_box(first.centre, first.size)
    assert fit.log_ratio > 30
    assert abs(np.log(fit.density / (CARGO + 0.3))) < 3 * fit.relative
    assert (np.abs(fit.centre) < [60, 60, 120]).all()


def test_large_excesses_have_fewer_places_than_small_ones(tests):
    # 8 × 8 × 6 cubes of 100 mm, at half of their edges: eight times as many places; 4.7 octaves
    # from 30 to 800 mm.
    octaves = np.log2(800 / 30)
    assert tests.places(np.full(3, 100.0)) == pytest.approx(octaves * 8 * 8 * 8 * 6)
    assert tests.places(np.full(3, 200.0)) == pytest.approx(octaves * 8 * 4 * 4 * 3)
    assert tests.places(np.full(3, 5000.0)) == pytest.approx(octaves)


def test_a_box_that_takes_away_more_than_there_is_is_impossible(tests):
    near, _ = tests._search(np.zeros(3), np.full(3, 200.0), 10**6)
    gains, crossing = near.gains(np.zeros(3), np.full(3, 200.0), np.array([0.01, CARGO]), 40.0)
    assert crossing > 100
    assert np.isfinite(gains).all()
    assert (gains < -1e12).all()


def test_an_ordinary_place_is_not_significant(tests):
    fit = tests.fit_box(np.array([-200.0, -150.0, 0.0]), np.full(3, 150.0))
    assert fit is None or fit.log_ratio < 8
    mask = tests.box([[-300, -300, -100], [-100, -100, 100]])
    fit = tests.fit(mask)
    assert fit.low / 1.5 < CARGO < fit.high * 1.5
    assert fit.significance < 3


def test_level_of_the_background_is_corrected(tests):
    muons = tests._muons
    for factor in (0.5, 2.0):
        off = np.full(GRID.shape, factor * CARGO) / MM_PER_CM
        level = float(np.median(levelled(muons, GRID, off, 1))) * MM_PER_CM
        assert abs(np.log(level / CARGO)) < 0.5 * abs(np.log(factor))


def test_any_number_of_workers_gives_the_same_bits(toy):
    muons = toy.straight(1500, 600, 450, 0.2, np.random.default_rng(1))
    background = np.full(GRID.shape, CARGO)
    one, three = (
        MuonTester(muons, GRID, spectrum=SPECTRUM, workers=workers).against(background)
        for workers in (1, 3)
    )
    assert np.array_equal(one._background, three._background)
    assert np.array_equal(one._base, three._base)
    fits = [tests.fit_box(np.zeros(3), np.full(3, 200.0), 5.0) for tests in (one, three)]
    assert repr(fits[0]) == repr(fits[1])
    scans = [tests.scan(threshold=-1e3) for tests in (one, three)]
    assert len(scans[0]) == len(scans[1]) > 0
    for a, b in zip(*scans, strict=True):
        assert a.log_ratio == b.log_ratio
        assert np.array_equal(a.bounds, b.bounds)


def test_input_is_checked(toy, tests):
    muons = toy.straight(200, 300, 450, 0.1, np.random.default_rng(1))
    with pytest.raises(InputError, match="no momentum was measured"):
        MuonTester(muons, GRID, momentum="measured")
    with pytest.raises(InputError, match="no such choice"):
        MuonTester(muons, GRID, momentum="known")
    with pytest.raises(InputError, match="no muon crosses the grid"):
        MuonTester(muons, VoxelGrid.from_bounds([[5e3] * 3, [6e3] * 3], 100))
    with pytest.raises(InputError, match="mask of shape"):
        tests.fit(np.ones((2, 2, 2), bool))


def test_too_few_muons_are_no_fit(tests):
    assert tests.fit_box(np.array([3e3, 0.0, 0.0]), np.full(3, 100.0), 10.0) is None


@pytest.mark.parametrize("momentum", ["spectrum", "measured"])
def test_fit_is_unbiased_and_near_its_information_limit(toy, momentum):
    errors, widths, limit = region_toy.statistics(toy, momentum, 24, n=200)
    assert abs(errors.mean()) < 4 * limit / np.sqrt(24)
    # 24 seeds know a width to 14 %.
    assert 0.6 < errors.std() / limit < 1.6
    assert 0.6 < (errors / widths).std() < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("momentum", ["spectrum", "measured"])
def test_spread_and_pulls_of_a_hundred_seeds(toy, momentum):
    errors, widths, limit = region_toy.statistics(toy, momentum, 100)
    spread = errors.std(ddof=1) / limit
    # Never below the limit: 100 seeds know a width to 7 %.
    assert 0.85 < spread < 1.3
    assert (errors / widths).std(ddof=1) == pytest.approx(1.0, abs=0.15)


def test_gains_of_a_box_are_those_of_its_muons_one_by_one(tests):
    """The fit's kernel against chords and likelihoods of single muons, also beside a bend."""
    muons, size = tests._muons, np.array([120.0, 120.0, 90.0])
    for centre in (BLOCK.mean(axis=0), np.array([-150.0, 60.0, 20.0])):
        search, stride = tests._search(centre, 2 * size, len(muons))
        assert stride == 1
        densities = np.array([2.0, 60.0])
        gains, crossing = search.gains(centre, size, densities, CARGO)
        moments = np.empty((len(muons), 4))
        way_kernel.crossings(
            muons.ways, np.arange(len(muons)), centre - size / 2, centre + size / 2, moments
        )
        rows = np.flatnonzero(moments[:, 0] > 0)
        assert crossing == len(rows) > 30
        for density, gain in zip(densities, gains, strict=True):
            single = region_toy.log_densities(tests, rows, moments[rows], density, CARGO)
            assert gain == pytest.approx((single - tests._base[rows]).sum(), abs=1e-6)
        # The background's own density changes nothing.
        assert search.gain(centre, size, CARGO, CARGO) == pytest.approx(0.0, abs=1e-2)


def test_level_of_a_box_is_the_mean_of_what_it_covers(tests):
    values = np.random.default_rng(0).uniform(0.1, 1.0, GRID.shape)
    other = RegionTester.__new__(RegionTester)
    other.__dict__.update(tests.__dict__)
    other._background = values / MM_PER_CM
    search, _ = other._search(np.zeros(3), np.full(3, 100.0), 4000)
    # Halves and quarters of voxels along each axis, of 100 mm and from -400, -400, -300.
    parts = np.array([0.5, 1.0, 0.25])
    covered = values[3:6, 4:6, 2:4]
    expected = np.einsum("ijk,i,j,k", covered, parts, [1.0, 1.0], [0.5, 1.0]) / (1.75 * 2 * 1.5)
    low, high = np.array([-50.0, 0.0, -50.0]), np.array([125.0, 200.0, 100.0])
    assert search.level((low + high) / 2, high - low) == pytest.approx(expected, rel=1e-9)


def test_held_boxes_stay_in_what_is_tested(tests):
    """Placed among the muons near another box, or among all, they make the same densities."""
    fit = tests.fit_box(BLOCK.mean(axis=0), np.full(3, 120.0), DENSE)
    held = tests.holding(fit)
    place, size = BLOCK.mean(axis=0) + np.array([60.0, 0.0, 0.0]), np.full(3, 120.0)
    near, everywhere, free = (
        each._search(place, size, 4000)[0]._near for each in (held, held._placed(), tests)
    )
    assert np.array_equal(near.bins, everywhere.bins)
    assert np.array_equal(near.base, everywhere.base)
    assert not np.array_equal(near.base, free.base)


def test_classes_are_those_of_the_spectrum(tests):
    assert tests._muons.momenta.reach.shape[1] == kernel.CLASSES


def test_scores_are_derivatives_of_the_likelihood(tests):
    muons, rng = tests._muons, np.random.default_rng(4)
    cells = rng.integers(0, 3, (len(muons), way_kernel.BINS)).astype(np.int32)
    logs = np.array([0.3, -0.2, 0.1])

    def value(logs, gradient):
        return bin_scores(
            muons.ways, tests._bins, muons.momenta, cells, np.exp(logs), 0, 500, gradient
        )

    gradient, unused = np.zeros(3), np.zeros(3)
    value(logs, gradient)
    for number in range(3):
        step = 1e-4 * np.eye(3)[number]
        slope = (value(logs + step, unused) - value(logs - step, unused)) / 2e-4
        assert gradient[number] == pytest.approx(slope, rel=2e-3, abs=0.02)


def test_known_boxes_are_found_where_they_stand(tests):
    """The block itself as a frame of two halves, said to stand 60 and -40 mm beside its place."""
    low, high = BLOCK
    middle = np.array([high[0], high[1], (low[2] + high[2]) / 2])
    aside = np.array([60.0, -40.0, 0.0])
    halves = [
        KnownBox("lower", np.array([low, middle]) + aside, 79.0),
        KnownBox("upper", np.array([[*low[:2], middle[2]], high]) + aside, 79.0),
    ]
    found = tests.locating(halves)
    assert len(found) == 2
    centre = np.mean([fit.centre for fit in found], axis=0)
    assert np.abs(centre - BLOCK.mean(axis=0)).max() < 25
    elsewhere = [
        KnownBox(box.name, box.bounds + np.array([-300.0, 250.0, 0.0]), box.density)
        for box in halves
    ]
    assert tests.locating(elsewhere) == []
