from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import methods, reconstruct
from muscan.reconstruction.em import COARSE_SCALE
from muscan.reconstruction.lbfgs import minimise
from muscan.reconstruction.muons import MomentumModel, prepare
from muscan.reconstruction.prior import smoothness
from muscan.reconstruction.problem import Problem, finer
from muscan.reconstruction.region import RegionTester

SPECTRUM = sea_level_spectrum()
GRID = VoxelGrid.from_bounds([[-400, -400, -300], [400, 400, 300]], 100)


def volume_of(values, grid):
    empty = np.zeros(grid.shape)
    return Volume(values.astype("f4"), grid, "test", empty.astype("f4"), empty.astype("u4"))


@pytest.fixture(scope="module")
def load():
    """A load of λ = 1 mrad²/cm with a block of λ = 40 in it."""
    density = np.full(GRID.shape, 1.0)
    density[5:7, 5:7, 2:4] = 40.0
    return density


@pytest.fixture(scope="module")
def scan(toy, load):
    rng = np.random.default_rng(11)
    muons = toy.straight(12_000, 700, 450, 0.25, rng)
    crossing = np.abs(muons.in_position[:, :2]).max(axis=1) < 1000
    return toy.scatter(muons.take(crossing), load, GRID, SPECTRUM, rng)


@pytest.fixture(scope="module")
def image(scan):
    return reconstruct(scan[0], GRID, "em", spectrum=SPECTRUM)


def test_methods_are_known_by_name(scan):
    assert {"poca", "asr", "em"} <= set(methods())
    with pytest.raises(InputError, match="did you mean 'poca'"):
        reconstruct(scan[0], GRID, "pocca")


def test_block_comes_out_in_place_and_size(image, load):
    inner = image.values[1:7, 1:7]
    block = load[1:7, 1:7] > 10
    assert np.exp(np.log(inner[block]).mean()) == pytest.approx(40, rel=0.25)
    assert inner[block].min() > 3 * inner[~block].max()


def test_homogeneous_part_is_flat(image, load):
    rest = np.where(load > 10, np.nan, image.values)[1:7, 1:7]
    layers = np.exp(np.nanmean(np.log(rest), axis=(0, 1)))
    assert layers == pytest.approx(np.full(6, layers.mean()), rel=0.1)
    assert layers.mean() == pytest.approx(1.0, rel=0.1)


def test_image_says_how_it_converged(image):
    assert image.attributes["converged"]
    assert image.attributes["convergence_nats"] < 1.0
    assert image.n_muons.max() > 100
    assert np.isfinite(image.uncertainty[image.n_muons > 0]).all()
    assert ((image.channels["resolution"] >= 0) & (image.channels["resolution"] <= 1)).all()


def test_any_number_of_workers_gives_the_same_bits(scan):
    one, three = (
        reconstruct(
            scan[0], GRID, "em", spectrum=SPECTRUM, smoothing=1.0, iterations=5, workers=workers
        )
        for workers in (1, 3)
    )
    assert np.array_equal(one.values, three.values)
    assert np.array_equal(one.uncertainty, three.uncertainty)


def test_callback_counts_and_stops(scan):
    calls = []

    def callback(step, convergence):
        calls.append((step, convergence))
        return step == 3

    stopped = reconstruct(scan[0], GRID, "em", spectrum=SPECTRUM, smoothing=1.0, callback=callback)
    assert [step for step, _ in calls] == [1, 2, 3]
    assert stopped.attributes["iterations"] == 3
    assert not stopped.attributes["converged"]


@pytest.mark.parametrize("method", ["poca", "asr"])
def test_simple_methods_find_the_block_too(scan, load, method):
    image = reconstruct(scan[0], GRID, method, spectrum=SPECTRUM)
    brightest = np.unravel_index(np.nanargmax(image.values), GRID.shape)
    assert load[brightest] > 10
    assert np.isfinite(image.uncertainty[image.n_muons > 0]).all()


def test_poca_takes_portions(scan):
    whole = reconstruct(scan[0], GRID, "poca", spectrum=SPECTRUM)
    parts = [scan[0].take(slice(0, 5000)), scan[0].take(slice(5000, None))]
    streamed = reconstruct(iter(parts), GRID, "poca", spectrum=SPECTRUM)
    assert streamed.values == pytest.approx(whole.values, rel=1e-5, nan_ok=True)
    assert np.array_equal(streamed.n_muons, whole.n_muons)


@pytest.mark.parametrize("momentum, limit", [("spectrum", 2.18), ("measured", 0.65 * 1.09)])
def test_region_fit_is_unbiased_and_near_the_limit(toy, momentum, limit):
    # σ(ln λ) = c/√N of the project's physics notes; two angles and two offsets a muon instead of
    # two angles alone lower c by √2 where every momentum is known.
    grid = VoxelGrid(np.zeros(3), np.array([400.0, 400.0, 200.0]), (1, 1, 1))
    air = volume_of(np.full(grid.shape, 8e-4), grid)
    errors, widths = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        muons = toy.straight(300, 300, 600, 0.05, rng, sigma=0.1)
        scan, truth = toy.scatter(muons, np.full(grid.shape, 5.0), grid, SPECTRUM, rng)
        if momentum == "measured":
            truth = truth.astype("f4")
            scan = replace(scan, momentum=truth, sigma=0.01 * truth)
        tester = RegionTester(scan, air, spectrum=SPECTRUM, momentum=momentum, workers=1)
        fit = tester.fit(np.ones(grid.shape, bool))
        errors.append(np.log(fit.density / 5.0))
        widths.append(np.log(fit.high / fit.low) / 2)
    expected = limit / np.sqrt(300)
    # 30 seeds know a width to 13 % and a mean to a fifth of it.
    assert np.mean(errors) == pytest.approx(0, abs=0.6 * expected)
    assert 0.7 < np.std(errors) / expected < 1.5
    assert 0.7 < np.std(np.array(errors) / widths) < 1.3


def test_scan_finds_the_block(scan, load):
    background = volume_of(np.full(GRID.shape, 1.0), GRID)
    tester = RegionTester(scan[0], background, spectrum=SPECTRUM)
    first = tester.scan(sizes=(200.0,), increases=(20.0,))[0]
    assert first.bounds.mean(axis=0) == pytest.approx([200, 200, 0], abs=1)
    fit = tester.fit(tester.box(first.bounds))
    assert fit.low < 40 < fit.high or fit.density == pytest.approx(40, rel=0.2)
    assert fit.significance > 10


def test_an_ordinary_region_is_not_significant(scan):
    tester = RegionTester(scan[0], volume_of(np.full(GRID.shape, 1.0), GRID), spectrum=SPECTRUM)
    fit = tester.fit(tester.box([[-300, -300, -100], [-100, -100, 100]]))
    assert fit.low / 1.2 < 1.0 < fit.high * 1.2
    assert fit.significance < 3


def test_input_is_checked(scan):
    with pytest.raises(InputError, match="no momentum was measured"):
        reconstruct(scan[0], GRID, "em", momentum="measured")
    with pytest.raises(InputError, match="no muon crosses the grid"):
        reconstruct(scan[0], VoxelGrid.from_bounds([[5e3] * 3, [6e3] * 3], 100), "em")
    with pytest.raises(InputError, match="not a number of threads"):
        reconstruct(scan[0], GRID, "poca", workers=0)
    with pytest.raises(InputError, match="no muon has both"):
        reconstruct(scan[0].take(slice(0, 0)), GRID, "poca")


def test_smoothness_gradient():
    rng = np.random.default_rng(0)
    logs = rng.normal(0, 2, (4, 3, 5))
    _, gradient, _ = smoothness(logs, 0.7)
    for index in np.ndindex(logs.shape):
        up, down = logs.copy(), logs.copy()
        up[index] += 1e-5
        down[index] -= 1e-5
        slope = (smoothness(up, 0.7)[0] - smoothness(down, 0.7)[0]) / 2e-5
        assert gradient[index] == pytest.approx(slope, abs=1e-7)


def test_weight_of_the_prior_on_larger_voxels():
    # A smooth field costs the same on voxels of twice the size with twice the weight.
    def ramp(cells):
        x = (np.arange(cells) + 0.5) / cells
        return 0.1 * np.broadcast_to(np.sin(np.pi * x)[:, None, None], (cells,) * 3)

    fine, coarse = smoothness(ramp(128), 0.5)[0], smoothness(ramp(64), COARSE_SCALE * 0.5)[0]
    assert coarse == pytest.approx(fine, rel=0.03)


def test_finer_puts_a_value_on_all_it_is_cut_into():
    values = np.arange(8.0).reshape(2, 2, 2)
    fine = finer(values, (4, 3, 4))
    assert fine.shape == (4, 3, 4)
    for index in np.ndindex(fine.shape):
        assert fine[index] == values[tuple(i // 2 for i in index)]


def test_larger_voxels_see_the_same_muons(scan):
    muons = prepare(scan[0], GRID)
    problem = Problem(muons, MomentumModel(muons, SPECTRUM), GRID)
    coarse = problem.coarser()
    assert coarse.grid.shape == (4, 4, 3)
    assert coarse.grid.lower == pytest.approx(GRID.lower)
    rng = np.random.default_rng(5)
    large = rng.lognormal(-2, 0.5, coarse.grid.shape)
    small = np.ascontiguousarray(finer(large, GRID.shape)).ravel()
    large = large.ravel()
    value, gradient = problem.likelihood(small, problem.momenta.mixture(small))
    found, slope = coarse.likelihood(large, coarse.momenta.mixture(large))
    assert found == pytest.approx(value, rel=1e-4)
    x, y, z = (n // 2 for n in GRID.shape)
    summed = gradient.reshape(x, 2, y, 2, z, 2).sum(axis=(1, 3, 5)).ravel()
    assert slope == pytest.approx(summed, rel=0.01, abs=1e-3 * np.abs(summed).max())


def test_minimise_goes_on_with_what_it_learnt():
    scales = np.geomspace(1, 1e3, 30)

    def bowl(x):
        return float((scales * x**2).sum() / 2), scales * x

    def run(start, steps, history):
        for number, step in enumerate(minimise(bowl, start, np.ones(30), history)):
            if number == steps:
                return step
        return step

    history = deque(maxlen=8)
    whole = run(np.ones(30), 12, deque(maxlen=8))
    half = run(np.ones(30), 6, history)
    again = run(half.point, 6, history)
    assert again.value == pytest.approx(whole.value, rel=1e-9)
    assert again.value < run(half.point, 6, None).value


def test_minimise_finds_the_bottom_of_a_curved_valley():
    def rosenbrock(x):
        a, b = x[:-1], x[1:] - x[:-1] ** 2
        gradient = np.zeros_like(x)
        gradient[:-1] += -2 * (1 - a) - 400 * a * b
        gradient[1:] += 200 * b
        return float((100 * b**2 + (1 - a) ** 2).sum()), gradient

    *_, last = (
        step
        for step, _ in zip(minimise(rosenbrock, np.zeros(6), np.ones(6)), range(200), strict=False)
    )
    assert last.point == pytest.approx(np.ones(6), abs=1e-3)
