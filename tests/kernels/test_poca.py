import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscan.kernels.poca import accumulate, closest_approach, vertices
from muscan.kernels.traversal import Grid, locate

seeds = st.integers(0, 2**32 - 1)
GRID = Grid(-500.0, -400.0, -300.0, 50.0, 40.0, 60.0, 20, 20, 10)


def lines(rng, n, angle=0.05):
    """Pairs of lines that pass near each other inside the grid."""
    u = rng.normal(0, 0.3, (n, 3)) - [0, 0, 1]
    u /= np.linalg.norm(u, axis=1)[:, None]
    w = u + rng.normal(0, angle, (n, 3))
    w /= np.linalg.norm(w, axis=1)[:, None]
    vertex = rng.uniform([-450, -350, -250], [450, 350, 250], (n, 3))
    p = vertex - rng.uniform(600, 900, (n, 1)) * u
    q = vertex + rng.uniform(600, 900, (n, 1)) * w + rng.normal(0, 0.5, (n, 3))
    return p, u, q, w


def twin(p, u, q, w):
    """Midpoint of closest approach by least squares, as one would on paper."""
    r, _, _, _ = np.linalg.lstsq(np.stack([u, -w], axis=1), q - p, rcond=None)
    return (p + r[0] * u + q + r[1] * w) / 2


def test_matches_least_squares():
    p, u, q, w = lines(np.random.default_rng(1), 50)
    for n in range(50):
        *point, _, _, angle = closest_approach(*p[n], *u[n], *q[n], *w[n])
        assert point == pytest.approx(twin(p[n], u[n], q[n], w[n]), abs=1e-6)
        assert angle == pytest.approx(np.arccos(u[n] @ w[n]), rel=1e-6)


def test_small_angles_do_not_cancel():
    angle, depth = 1e-4, 123.0
    u, w = (0.0, 0.0, -1.0), (np.sin(angle), 0.0, -np.cos(angle))
    start = (0.0, 0.0, 1000.0)
    end = (w[0] * 1000, 0.0, depth + w[2] * 1000)
    *point, _, _, found = closest_approach(*start, *u, *end, *w)
    assert point == pytest.approx([0, 0, depth], abs=1e-3)
    assert found == pytest.approx(angle, rel=1e-9)


def test_parallel_lines_give_a_finite_point():
    *point, s, t, angle = closest_approach(0, 0, 100, 0, 0, -1, 4, 0, -100, 0, 0, -1)
    assert point == pytest.approx([2, 0, 0])
    assert (s, t, angle) == (100, -100, 0)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_rigid_motion_moves_the_vertex_along(seed):
    rng = np.random.default_rng(seed)
    p, u, q, w = (a[0] for a in lines(rng, 1))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    shift = rng.normal(0, 1000, 3)
    *here, _, _, angle = closest_approach(*p, *u, *q, *w)
    moved = closest_approach(*(turn @ p + shift), *(turn @ u), *(turn @ q + shift), *(turn @ w))
    assert moved[:3] == pytest.approx(turn @ np.array(here) + shift, abs=1e-4)
    assert moved[5] == pytest.approx(angle, rel=1e-6)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_swapping_in_and_out_changes_nothing(seed):
    p, u, q, w = (a[0] for a in lines(np.random.default_rng(seed), 1))
    forth = closest_approach(*p, *u, *q, *w)
    back = closest_approach(*q, *-w, *p, *-u)
    assert back[:3] == pytest.approx(forth[:3], abs=1e-5)
    assert back[5] == pytest.approx(forth[5], rel=1e-6)


def test_accumulate_puts_sharp_vertices_where_the_plain_kernel_does():
    p, u, q, w = lines(np.random.default_rng(2), 400)
    sharp = np.zeros((400, 4, 4))
    cells = GRID.nx * GRID.ny * GRID.nz
    counts, angle = np.zeros(cells), np.zeros(cells)
    vertices(GRID, p, u, q, w, counts, angle)
    sums, length, muons = np.zeros((cells, 4)), np.zeros(cells), np.zeros(cells, np.uint32)
    accumulate(GRID, p, u, sharp, q, w, sharp, sums, length, muons)
    assert counts.sum() > 390
    assert np.array_equal(sums[:, 0], counts)
    assert sums[:, 1] == pytest.approx(angle)
    assert (muons[counts > 0] > 0).all()


def test_spread_vertex_keeps_its_weight_and_its_middle():
    p, u, q, w = lines(np.random.default_rng(3), 1)
    # 2 mm over an angle of some 50 mrad: 40 mm and more along the track.
    cov = np.zeros((1, 4, 4))
    cov[0, 0, 0] = cov[0, 1, 1] = 4.0
    cov[0, 2, 2] = cov[0, 3, 3] = 1e-8
    cells = GRID.nx * GRID.ny * GRID.nz
    sums, length, muons = np.zeros((cells, 4)), np.zeros(cells), np.zeros(cells, np.uint32)
    accumulate(GRID, p, u, cov, q, w, cov, sums, length, muons)
    *point, _, _, angle = closest_approach(*p[0], *u[0], *q[0], *w[0])
    assert sums[:, 0].sum() == pytest.approx(1)
    assert sums[locate(GRID, *point), 0] == pytest.approx(2 / 3)
    assert sums[:, 1].sum() == pytest.approx(angle)
    assert sums[:, 3].sum() == pytest.approx(2e-8)
