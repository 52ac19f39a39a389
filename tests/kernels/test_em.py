import numpy as np
import pytest
from scipy.stats import multivariate_normal

from muscan.kernels import em, observation
from muscan.kernels import paths as walks
from muscan.kernels.traversal import Grid
from muscan.model.track_errors import highland_factor, loss_lines, momentum_loss

GRID = Grid(-200.0, -200.0, -200.0, 50.0, 50.0, 50.0, 8, 8, 8)
CELLS = 512
POWERS = np.array([[20.0, 4.0, 1.0, 0.3]])
WEIGHTS = np.array([[0.1, 0.3, 0.4, 0.2]])
TILTS = np.array([[1.5, 0.6, 0.2, 0.0]])
GAINS = np.array([[2.0, 0.8, 0.2, 0.0]])
#: Momentum lost per scattering density, and anyhow [GeV/mm].
LOSS_SLOPE, LOSS_LEAST = 5e-3, 1e-5


def field(density):
    rate = LOSS_LEAST + LOSS_SLOPE * density
    slope = np.full(len(density), LOSS_SLOPE)
    return np.stack([density, rate, slope, 0 * slope], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def muons():
    """A few muons with random tracks: paths, what was seen, momentum classes."""
    rng = np.random.default_rng(3)
    n = 40
    u = np.concatenate([rng.normal(0, 0.2, (n, 2)), -np.ones((n, 1))], axis=1)
    u /= np.linalg.norm(u, axis=1)[:, None]
    w = u + rng.normal(0, 0.02, (n, 3))
    w /= np.linalg.norm(w, axis=1)[:, None]
    vertex = rng.uniform(-150, 150, (n, 3))
    p, q = vertex - 400 * u, vertex + 400 * w
    p_cov = np.broadcast_to(np.diag([0.04, 0.04, 1e-6, 1e-6]), (n, 4, 4)).copy()
    counts = np.empty(n, np.int64)
    walks.count_visits(GRID, p, u, q, w, counts)
    first = np.concatenate([[0], np.cumsum(counts)])
    paths = walks.Paths(
        first,
        np.empty(first[-1], np.int32),
        np.empty(first[-1], np.float32),
        np.empty(n, np.float32),
    )
    reference = np.empty((n, 2))
    walks.trace(GRID, p, u, q, w, paths, reference)
    seen = observation.Observed(
        np.empty((n, 4), np.float32), np.empty((n, 6), np.float32), np.empty((n, 3), np.float32)
    )
    none = np.zeros((n, 3), np.float32)
    observation.observe(p, u, p_cov, q, w, p_cov, none, none, 0.5, reference, paths.top, 8e-5, seen)
    done = np.concatenate([np.linspace(0, 255, k).astype(np.uint8) for k in counts])
    mixture = em.Mixture(
        POWERS, WEIGHTS, TILTS, GAINS, np.zeros(n, np.int32), np.full(n, 0.1, np.float32),
        done, 0.003, 100.0,
    )  # fmt: skip
    return paths, seen, mixture, (p, u, q, w)


@pytest.fixture(scope="module")
def density():
    return np.random.default_rng(4).lognormal(-3, 1, CELLS)


def elements(paths, density, done, n):
    """S and S' by adding up thin slices of the path: the slow way."""
    sums = np.zeros(6)
    t = float(paths.top[n])
    for m in range(paths.first[n], paths.first[n + 1]):
        length = float(paths.length[m])
        at = t - (np.arange(200) + 0.5) / 200 * length
        value = density[paths.voxel[m]] * length / 200
        part = value * np.array([200, at.sum(), (at**2).sum()])
        sums += np.concatenate([part, (done[m] / 255 - 0.5) * part])
        t -= length
    return sums


def log_density(paths, seen, mixture, density, n):
    """The mixture by scipy's normal distributions."""
    sums = elements(paths, density, mixture.done, n)
    sums[:3] += seen.fixed[n]
    s = highland_factor(sums[0] / 25.0) * sums
    own = slice(paths.first[n], paths.first[n + 1])
    loss = (paths.length[own].astype(float) * field(density)[paths.voxel[own], 1]).sum()
    powers = POWERS[0] * np.exp(GAINS[0] * (loss - 0.1))
    once = 1e4 * np.array([1, 0, float(paths.top[n]) ** 2 / 3])
    total = 0.0
    weights = WEIGHTS[0] * (1 - 0.003)
    rows = zip(powers, TILTS[0], weights, strict=True)
    parts = [(power * (s[:3] + tilt * s[3:]), weight) for power, tilt, weight in rows]
    for extra, weight in [*parts, (once, 0.003)]:
        product = weight
        for plane in range(2):
            aa, ab, bb = seen.noise[n, 3 * plane : 3 * plane + 3] + extra
            normal = multivariate_normal(cov=[[aa, ab], [ab, bb]], allow_singular=False)
            product *= normal.pdf(seen.data[n, 2 * plane : 2 * plane + 2]) * 2 * np.pi
        total += product
    return np.log(total), product / total


def value(muons, density):
    paths, seen, mixture, _ = muons
    return em.likelihood(paths, seen, mixture, field(density), 0, 40, np.zeros(CELLS))


def test_field_holds_the_momentum_lost_and_its_slope():
    density = np.geomspace(1e-5, 20, 20_001).astype(np.float32)
    volume = np.full((len(density), 4), np.nan, np.float32)
    unit, lines = loss_lines(256)
    em.fill_field(density, unit, 256, lines, volume)
    np.testing.assert_array_equal(volume[:, 0], density)
    known = density.astype(float)
    rate = momentum_loss(known)
    slope = (momentum_loss(1.001 * known) - momentum_loss(0.999 * known)) / (2e-3 * known)
    assert volume[:, 1] == pytest.approx(rate, rel=4e-4)
    assert np.median(np.abs(volume[:, 1] / rate - 1)) < 1e-6
    # The loss bends at eight densities, each in one line.
    close = np.abs(volume[:, 2] - slope) <= 3e-3 * np.abs(slope)
    assert (~close).sum() < 8 * 20
    plain = np.empty_like(volume)
    em.fill_field.py_func(density[::100], unit, 256, lines, plain[::100])
    np.testing.assert_allclose(plain[::100], volume[::100], rtol=1e-6)


def test_path_integrals_match_thin_slices(muons, density):
    for n in range(40):
        found = walks.project(muons[0], density, n)
        expected = elements(muons[0], density, muons[2].done, n)[:3]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * expected[2] / 100)


def test_paths_run_through_the_grid_from_top_to_bottom(muons):
    paths = muons[0]
    for n in range(40):
        own = slice(paths.first[n], paths.first[n + 1])
        assert paths.length[own].sum() == pytest.approx(2 * paths.top[n], rel=1e-5)
        heights = paths.voxel[own] % 8
        assert (np.diff(heights) <= 0).all()


def test_angles_and_offsets_match_the_tracks(muons):
    _, seen, _, (_, u, _, w) = muons
    scattering = np.arccos(np.einsum("ij,ij->i", u, w))
    found = np.arctan(np.hypot(seen.data[:, 0], seen.data[:, 2]) * 1e-3)
    assert found == pytest.approx(scattering, rel=1e-4)
    # The tracks meet: where they do, offset and angle are in proportion, b = a T.
    ratio = seen.data[:, 1] / seen.data[:, 0]
    other = seen.data[:, 3] / seen.data[:, 2]
    clear = np.abs(seen.data[:, [0, 2]]).min(axis=1) > 3
    assert clear.sum() > 10
    assert ratio[clear] == pytest.approx(other[clear], abs=0.2)


def test_likelihood_matches_scipy(muons, density):
    paths, seen, mixture, _ = muons
    expected = [log_density(paths, seen, mixture, density, n) for n in range(40)]
    volume = field(density)
    found = [
        em.likelihood(paths, seen, mixture, volume, n, n + 1, np.zeros(CELLS)) for n in range(40)
    ]
    # The change of the powers with the loss is (1 + x/8)⁸ for exp(x), x a few tenths here.
    assert found == pytest.approx([value for value, _ in expected], abs=0.02)
    logs, probability = np.empty((2, 40))
    em.each(paths, seen, mixture, volume, 0, 40, logs, probability)
    np.testing.assert_array_equal(logs, found)
    assert probability == pytest.approx([share for _, share in expected], rel=0.05, abs=1e-3)


def test_gradient_matches_finite_differences(muons, density):
    paths, seen, mixture, _ = muons
    gradient = np.zeros(CELLS)
    em.likelihood(paths, seen, mixture, field(density), 0, 40, gradient)
    for voxel in np.argsort(-np.abs(gradient))[:60:6]:
        step = 0.01 * density[voxel]
        up, down = density.copy(), density.copy()
        up[voxel] += step
        down[voxel] -= step
        slope = (value(muons, up) - value(muons, down)) / (2 * step)
        assert gradient[voxel] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_likelihoods_of_parts_add_up(muons, density):
    paths, seen, mixture, _ = muons
    head, tail, both = np.zeros(CELLS), np.zeros(CELLS), np.zeros(CELLS)
    parts = em.likelihood(paths, seen, mixture, field(density), 0, 13, head)
    parts += em.likelihood(paths, seen, mixture, field(density), 13, 40, tail)
    assert parts == pytest.approx(em.likelihood(paths, seen, mixture, field(density), 0, 40, both))
    assert head + tail == pytest.approx(both)


def test_information_is_the_sum_of_squared_scores(muons, density):
    paths, seen, mixture, _ = muons
    squares, numbers = np.zeros(CELLS), np.zeros(CELLS, np.uint32)
    em.information(paths, seen, mixture, field(density), 0, 40, squares, numbers)
    expected = np.zeros(CELLS)
    for n in range(40):
        own = np.zeros(CELLS)
        em.likelihood(paths, seen, mixture, field(density), n, n + 1, own)
        expected += own**2
    assert squares == pytest.approx(expected)
    assert numbers.sum() == len(paths.voxel)


@pytest.mark.parametrize("start, step", [(0, 1), (1, 3)])
def test_merged_paths_see_the_same_where_large_voxels_are_uniform(muons, density, start, step):
    paths, *_ = muons
    cells = np.arange(CELLS).reshape(8, 8, 8)
    i, j, k = np.indices(cells.shape) // 2
    parent = ((i * 4 + j) * 4 + k).astype(np.int32).ravel()
    counts = np.empty(len(range(start, 40, step)), np.int64)
    walks.count_merged(paths, parent, start, step, counts)
    first = np.concatenate([[0], np.cumsum(counts)])
    merged = walks.Paths(
        first,
        np.empty(first[-1], np.int32),
        np.empty(first[-1], np.float32),
        np.empty(len(counts), np.float32),
    )
    walks.merge(paths, parent, start, step, merged, 0, len(counts))
    assert len(merged.voxel) < 0.8 * sum(
        paths.first[n + 1] - paths.first[n] for n in range(start, 40, step)
    )
    coarse = density[:64]
    for row, n in enumerate(range(start, 40, step)):
        fine = walks.project(paths, coarse[parent], n)
        assert walks.project(merged, coarse, row) == pytest.approx(fine, rel=1e-5, abs=1e-3)
