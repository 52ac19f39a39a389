import itertools
import sys
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.model.spectrum import MomentumSpectrum, sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import methods, reconstruct
from muscan.reconstruction.common import finer
from muscan.reconstruction.em import COARSE_SCALE, WEIGHTS, begin, remaining, strongest
from muscan.reconstruction.lbfgs import MAX_CHANGE, minimise
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import prepare
from muscan.reconstruction.outliers import outlier_probabilities
from muscan.reconstruction.prior import FLOOR, GROWTH, POWER, WATER, Prior, bounded_smoothness
from muscan.reconstruction.problem import Problem

SPECTRUM = sea_level_spectrum()
GRID = VoxelGrid.from_bounds([[-400, -400, -300], [400, 400, 300]], 100)


def volume_of(values, grid):
    empty = np.zeros(grid.shape)
    return Volume(values.astype("f4"), grid, "test", empty.astype("f4"), empty.astype("u4"))


@pytest.fixture(scope="module")
def image(scan):
    return reconstruct(scan[0], GRID, "em", spectrum=SPECTRUM)


def test_methods_are_known_by_name(scan):
    assert {"poca", "asr", "em", "mlem"} <= set(methods())
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


def test_input_is_checked(scan):
    with pytest.raises(InputError, match="no momentum was measured"):
        reconstruct(scan[0], GRID, "em", momentum="measured")
    with pytest.raises(InputError, match="no muon crosses the grid"):
        reconstruct(scan[0], VoxelGrid.from_bounds([[5e3] * 3, [6e3] * 3], 100), "em")
    with pytest.raises(InputError, match="not a number of threads"):
        reconstruct(scan[0], GRID, "poca", workers=0)
    with pytest.raises(InputError, match="no muon has both"):
        reconstruct(scan[0].take(slice(0, 0)), GRID, "poca")


def plain(logs, weight):
    """Return cost, gradient and curvature of the prior on a volume itself."""
    return of(Prior(weight, logs.shape), logs)


def over_image(logs, weight):
    """Return those of the prior on what a volume is over an image."""
    image = np.random.default_rng(1).lognormal(np.log(WATER), 2, logs.size)
    return of(Prior(weight, logs.shape, image), logs)


def of(prior, logs):
    cost, gradient = prior.cost(np.exp(logs.ravel()))
    curvature = prior.curvature(np.exp(logs.ravel()))
    return cost, gradient.reshape(logs.shape), curvature.reshape(logs.shape)


@pytest.mark.parametrize("prior", [plain, over_image, bounded_smoothness])
def test_gradient_of_the_prior(prior):
    rng = np.random.default_rng(0)
    logs = rng.normal(np.log(FLOOR), 2, (4, 3, 5))
    _, gradient, curvature = prior(logs, 0.7)
    assert (curvature > 0).all()
    for index in np.ndindex(logs.shape):
        up, down = logs.copy(), logs.copy()
        up[index] += 1e-5
        down[index] -= 1e-5
        slope = (prior(up, 0.7)[0] - prior(down, 0.7)[0]) / 2e-5
        assert gradient[index] == pytest.approx(slope, abs=1e-7)


def step_cost(prior, low, high):
    step = np.full((4, 1, 1), low)
    step[2:] = high
    return prior(step, 1.0)[0]


def test_cost_of_an_edge():
    # Thin matter and none are not told apart.
    assert step_cost(plain, np.log(FLOOR / 1e4), np.log(FLOOR / 1e2)) < 1e-4
    # Where density and floor are water, a small step of their logarithm costs half its square.
    low, high = np.log(WATER - FLOOR), np.log(WATER * np.exp(0.01) - FLOOR)
    assert step_cost(plain, low, high) == pytest.approx(0.5e-4, rel=0.01)
    assert step_cost(bounded_smoothness, 5.0, 5.01) == pytest.approx(0.5e-4, rel=0.01)
    # A high one costs by its height to the power GROWTH, or no more than the weight.
    high = [step_cost(plain, -50.0, np.log(x)) + 1 / GROWTH for x in (1e24, 1e26)]
    assert high[1] / high[0] == pytest.approx(100 ** (POWER * GROWTH), rel=1e-3)
    assert step_cost(bounded_smoothness, 0.0, 1e2) == pytest.approx(1.0, rel=0.02)


def test_edges_of_the_image_cost_nothing():
    image = np.random.default_rng(2).lognormal(np.log(WATER), 2, 60)
    prior = Prior(0.7, (4, 3, 5), image)
    cost, gradient = prior.cost(image)
    assert cost == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    # Nor do they at another height, where all is well above the floor.
    dense = image * 1e9
    assert Prior(0.7, (4, 3, 5), dense).cost(4 * dense)[0] == pytest.approx(0, abs=1e-6)


def test_height_of_the_cheapest_body():
    # A body of the base a × a and of a given column of matter λh costs (2a² + 4ah) λ^e with
    # e = POWER GROWTH, the least where h = a/2 · e/(1 - e); by logarithms a thin slab is cheapest.
    side = 24

    def cheapest(prior):
        costs = []
        for height in range(1, 16):
            body = np.full((side + 2, side + 2, 20), -50.0)
            body[1:-1, 1:-1, 2 : 2 + height] = np.log(1e9 / height)
            costs.append(prior(body, 1.0)[0])
        return 1 + int(np.argmin(costs))

    def logarithmic(logs, weight):
        return of(Prior(weight, logs.shape, np.full(logs.size, np.exp(-50.0))), logs)

    exponent = POWER * GROWTH
    assert cheapest(plain) == pytest.approx(side / 2 * exponent / (1 - exponent), abs=0.6)
    assert cheapest(logarithmic) == 1


def test_weight_of_the_prior_on_larger_voxels():
    # A smooth field costs the same on voxels of twice the size with twice the weight.
    def ramp(cells):
        x = (np.arange(cells) + 0.5) / cells
        wave = 0.1 * np.broadcast_to(np.sin(np.pi * x)[:, None, None], (cells,) * 3)
        return np.log(WATER) + wave

    fine, coarse = plain(ramp(128), 0.5)[0], plain(ramp(64), COARSE_SCALE * 0.5)[0]
    assert coarse == pytest.approx(fine, rel=0.03)


def test_weight_is_the_one_that_predicts_other_muons_best(scan, image):
    problem = Problem(prepare(scan[0], GRID), None, GRID)
    problem = replace(problem, momenta=MomentumModel(problem.muons, SPECTRUM))
    weight, logs = begin(problem)
    assert weight in WEIGHTS
    assert image.attributes["smoothing"] == weight
    judged = problem.some(1, 2)

    def likelihood(logs):
        density = judged.densities(logs)
        return judged.likelihood(density, judged.mixture(density))[0]

    for other in (WEIGHTS[0], WEIGHTS[-1]):
        given, there = begin(problem, other)
        assert given == other
        assert likelihood(logs) >= likelihood(there)


def test_some_muons_say_what_they_say_among_all(scan, load):
    muons = prepare(scan[0], GRID)
    problem = Problem(muons, MomentumModel(muons), GRID)
    density = load.ravel() / 10
    parts = [problem.some(start, 3) for start in range(3)]
    found = [part.likelihood(density, part.mixture(density)) for part in parts]
    value, gradient = problem.likelihood(density, problem.mixture(density))
    assert sum(v for v, _ in found) == pytest.approx(value, rel=1e-9)
    scale = np.abs(gradient).max()
    assert sum(g for _, g in found) == pytest.approx(gradient, rel=1e-6, abs=1e-6 * scale)
    assert np.array_equal(parts[1].muons.event_id, muons.event_id[1::3])


def test_finer_puts_a_value_on_all_it_is_cut_into():
    values = np.arange(8.0).reshape(2, 2, 2)
    fine = finer(values, (4, 3, 4))
    assert fine.shape == (4, 3, 4)
    for index in np.ndindex(fine.shape):
        assert fine[index] == values[tuple(i // 2 for i in index)]


def test_larger_voxels_see_the_same_muons(scan):
    muons = prepare(scan[0], GRID)
    # Fast muons: where slow ones lose their momentum is known less well with larger voxels.
    problem = Problem(muons, MomentumModel(muons, MomentumSpectrum.single(50.0)), GRID)
    coarse = problem.coarser()
    assert coarse.grid.shape == (4, 4, 3)
    assert coarse.grid.lower == pytest.approx(GRID.lower)
    rng = np.random.default_rng(5)
    large = rng.lognormal(-2, 0.5, coarse.grid.shape)
    small = np.ascontiguousarray(finer(large, GRID.shape)).ravel()
    large = large.ravel()
    value, gradient = problem.likelihood(small, problem.mixture(small))
    found, slope = coarse.likelihood(large, coarse.mixture(large))
    assert found == pytest.approx(value, rel=1e-4)
    x, y, z = (n // 2 for n in GRID.shape)
    summed = gradient.reshape(x, 2, y, 2, z, 2).sum(axis=(1, 3, 5)).ravel()
    assert slope == pytest.approx(summed, rel=0.01, abs=1e-3 * np.abs(summed).max())


def test_muons_ordered_by_place_say_the_same(scan, load):
    muons = prepare(scan[0], GRID)
    shares = ((0, 3000), (3000, len(muons)))
    problem = Problem(muons, MomentumModel(muons), GRID, shares=shares)
    ordered = problem.by_place()
    for first, last in shares:
        own = np.sort(ordered.muons.event_id[first:last])
        assert np.array_equal(own, np.sort(muons.event_id[first:last]))
        paths = ordered.muons.paths
        middle = (paths.first[first:last] + paths.first[first + 1 : last + 1]) // 2
        assert (np.diff(paths.voxel[middle]) >= 0).all()
    density = load.ravel() / 10
    value, gradient = problem.likelihood(density, problem.mixture(density))
    found, slope = ordered.likelihood(density, ordered.mixture(density))
    assert found == pytest.approx(value, rel=1e-9)
    assert slope == pytest.approx(gradient, rel=1e-6, abs=1e-6 * np.abs(gradient).max())


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


def test_minimise_moves_what_is_told_while_another_runs_off():
    # The first component lowers the cost for ever, by less and less; the others end at 1.5.
    def slide(x):
        gradient = x - 1.5
        gradient[0] = -np.exp(-x[0])
        return float(((x[1:] - 1.5) ** 2).sum() / 2 + np.exp(-x[0])), gradient

    curvature = np.append(1e-3, np.ones(5))
    steps = [
        step for step, _ in zip(minimise(slide, np.zeros(6), curvature), range(5), strict=False)
    ]
    assert steps[-1].point[1:] == pytest.approx(np.full(5, 1.5), abs=0.02)
    for before, after in itertools.pairwise(steps):
        assert np.abs(after.point - before.point).max() <= MAX_CHANGE


def test_mlem_shows_the_block_with_one_momentum(scan, load):
    gains = []
    image = reconstruct(
        scan[0], GRID, "mlem", spectrum=SPECTRUM, iterations=20,
        callback=lambda step, gain: gains.append(gain),
    )  # fmt: skip
    # One momentum makes false bright voxels of slow muons, so the medians are compared.
    assert np.nanmedian(image.values[load > 10]) > 1.5 * np.nanmedian(image.values[load < 10])
    # The first step has nothing to compare with.
    assert sum(gains[1:]) > 100 * abs(gains[-1])
    assert image.attributes["iterations"] == len(gains) == 20
    with pytest.raises(InputError, match="mlem cannot use"):
        reconstruct(scan[0], GRID, "mlem", momentum="measured")


def test_outliers_are_flagged(scan, image):
    # Muons turned by 150 mrad, which no momentum in this thin load explains.
    some = scan[0].take(slice(0, 2000))
    turned = some.out_direction.astype(float)
    turned[:20, 0] += 0.15
    turned /= np.linalg.norm(turned, axis=1)[:, None]
    thin = volume_of(np.full(GRID.shape, 0.05), GRID)
    odd = replace(some, out_direction=turned.astype("f4"))
    before = outlier_probabilities(some, thin, spectrum=SPECTRUM)
    after = outlier_probabilities(odd, thin, spectrum=SPECTRUM)
    assert ((after >= 0) & (after <= 1)).all()
    assert np.median(after[:20]) > 0.5
    assert np.median(before) < 0.01
    assert 0 < image.attributes["outlier_fraction"] < 0.01


def test_portions_give_the_same_image(scan):
    parts = [scan[0].take(slice(0, 5000)), scan[0].take(slice(5000, None))]
    options = {"spectrum": SPECTRUM, "smoothing": 1.0, "iterations": 3}
    whole = reconstruct(scan[0], GRID, "em", **options)
    streamed = reconstruct(iter(parts), GRID, "em", **options)
    assert np.array_equal(streamed.values, whole.values)


def test_remaining_gain_of_a_geometric_series():
    gains = [100 * 0.5**n for n in range(12)]
    assert remaining(gains) == pytest.approx(sum(100 * 0.5**n for n in range(12, 60)))
    assert np.isnan(remaining(gains[:5]))


def test_a_body_taken_for_nothing_comes_back(scan, image, load, monkeypatch):
    """Of a voxel without matter the likelihood has no slope in the logarithm of its density."""
    # A start from nearly nothing stands for what a strong weight leaves: the trap itself needs a
    # room of many voxels. `muscan.reconstruction.em` names the function, hence the module so.
    monkeypatch.setattr(sys.modules[begin.__module__], "START", 1e-12)
    lost = reconstruct(scan[0], GRID, "em", spectrum=SPECTRUM)
    block = load > 10
    assert np.log(lost.values[block]).mean() == pytest.approx(
        np.log(image.values[block]).mean(), abs=0.1
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 0, 0, 0], [9, 11, 10, 10], [8, 8, 9, 8]], 1),  # clearly best
        ([[0, 0, 0, 0], [9, 11, 10, 10], [30, 0, 20, -5]], 1),  # the best by 1.25 ± 8 a fold
        ([[7, 7, 7, 7]], 0),
    ],
)
def test_of_weights_that_predict_as_well_the_strongest_counts(values, expected):
    assert strongest(np.array(values, float)) == expected
