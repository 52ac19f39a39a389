import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscan.kernels.path_sums import length_unit, unpack
from muscan.kernels.poca import (
    ANGLE2_UNIT,
    ANGLE_UNIT,
    NOISE_UNIT,
    NUMBER_UNIT,
    accumulate,
    closest_approach,
    scratch,
    vertices,
)
from muscan.kernels.traversal import Grid, clip, locate, walk

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


def plain_vertices(grid, p, u, q, w):
    cells = grid.nx * grid.ny * grid.nz
    counts, angle = np.zeros(cells + 1), np.zeros(cells + 1)
    vertices(grid, p, u, q, w, scratch(1, cells), counts, angle)
    return counts, angle


def accumulated(grid, p, u, p_cov, q, w, q_cov):
    """Sums over vertices in natural units, lengths [mm] and numbers of paths."""
    cells = grid.nx * grid.ny * grid.nz
    sums, packed = np.zeros((cells + 1, 4)), np.zeros(cells + 1, np.int64)
    accumulate(grid, p, u, p_cov, q, w, q_cov, scratch(len(p), cells), sums, packed)
    lengths, muons = np.zeros(cells, np.int64), np.zeros(cells, np.uint32)
    unpack(packed, lengths, muons)
    assert not packed.any()
    units = [1, ANGLE_UNIT, ANGLE2_UNIT, NOISE_UNIT]
    scale = length_unit([grid.dx, grid.dy, grid.dz])
    return sums[:-1] * units * NUMBER_UNIT, lengths * scale, muons


def walked(grid, p, u, q, w):
    """Lengths and numbers of the same paths one by one, by the walk in floats."""
    cells, room = grid.nx * grid.ny * grid.nz, 2 * (grid.nx + grid.ny + grid.nz)
    lengths, muons = np.zeros(cells), np.zeros(cells, int)
    voxels, steps = np.empty(room, np.int64), np.empty(room)
    for n in range(len(p)):
        *vertex, s, t, _ = closest_approach(*p[n], *u[n], *q[n], *w[n])
        if s > 0 and t < 0:
            used = walk(grid, *p[n], *vertex, voxels, steps, 0)
            used = walk(grid, *vertex, *q[n], voxels, steps, used)
        else:
            used = walk(grid, *p[n], *q[n], voxels, steps, 0)
        np.add.at(lengths, voxels[:used], steps[:used])
        # One that comes back to a voxel by a sharp kink counts twice.
        np.add.at(muons, voxels[:used][np.diff(voxels[:used], prepend=-1) != 0], 1)
    return lengths, muons


def test_vertices_matches_one_by_one():
    """More than a block of them, some bent by more than the series for the angle is good for."""
    p, u, q, w = lines(np.random.default_rng(7), 700, angle=0.2)
    counts, angles = plain_vertices(GRID, p, u, q, w)
    expected = np.zeros((2, len(counts)))
    for n in range(len(p)):
        *point, _, _, angle = closest_approach(*p[n], *u[n], *q[n], *w[n])
        expected[:, locate(GRID, *point)] += [1, angle]
    assert np.array_equal(counts, expected[0])
    assert angles == pytest.approx(expected[1], rel=1e-10)


def test_accumulate_puts_sharp_vertices_where_the_plain_kernel_does():
    p, u, q, w = lines(np.random.default_rng(2), 400)
    sharp = np.zeros((400, 4, 4))
    counts, angle = (a[:-1] for a in plain_vertices(GRID, p, u, q, w))
    sums, _, muons = accumulated(GRID, p, u, sharp, q, w, sharp)
    assert counts.sum() > 390
    assert sums[:, 0] == pytest.approx(counts)
    assert sums[:, 1] == pytest.approx(angle, abs=1e-8)
    assert (muons[counts > 0] > 0).all()


def test_spread_vertex_keeps_its_weight_and_its_middle():
    p, u, q, w = lines(np.random.default_rng(3), 1)
    # 2 mm over an angle of some 50 mrad: 40 mm and more along the track.
    cov = np.zeros((1, 4, 4))
    cov[0, 0, 0] = cov[0, 1, 1] = 4.0
    cov[0, 2, 2] = cov[0, 3, 3] = 1e-8
    sums, _, _ = accumulated(GRID, p, u, cov, q, w, cov)
    *point, _, _, angle = closest_approach(*p[0], *u[0], *q[0], *w[0])
    assert sums[:, 0].sum() == pytest.approx(1)
    assert sums[locate(GRID, *point), 0] == pytest.approx(2 / 3)
    assert sums[:, 1].sum() == pytest.approx(angle)
    assert sums[:, 3].sum() == pytest.approx(2e-8, rel=1e-6)


@pytest.mark.parametrize("bent", [0.02, 0.5])
def test_paths_are_those_of_the_walk_in_floats(bent):
    """Kinked and straight ones, some that miss the grid, in more than one block."""
    rng = np.random.default_rng(4)
    p, u, q, w = lines(rng, 600, bent)
    p[::7] -= 1500 * u[::7]  # far away
    q[::11] += rng.uniform(-2000, 2000, (len(q[::11]), 3))
    sharp = np.zeros((600, 4, 4))
    _, lengths, muons = accumulated(GRID, p, u, sharp, q, w, sharp)
    expected, number = walked(GRID, p, u, q, w)
    assert lengths == pytest.approx(expected, abs=1e-4)
    # A path through an edge may take either side of it, or touch both.
    assert np.abs(muons.astype(int) - number).sum() <= 2
    assert number.sum() > 5000


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_no_order_and_no_cut_changes_a_bit(seed):
    rng = np.random.default_rng(seed)
    p, u, q, w = lines(rng, 500)
    cov = np.zeros((500, 4, 4), np.float32)
    cov[:, [0, 1, 2, 3], [0, 1, 2, 3]] = rng.uniform(
        [1, 1, 1e-6, 1e-6], [4, 4, 1e-5, 1e-5], (500, 4)
    )
    whole = accumulated(GRID, p, u, cov, q, w, cov)
    mixed, cut = rng.permutation(500), rng.integers(1, 500)
    parts = [
        accumulated(GRID, *(a[rows] for a in (p, u, cov, q, w, cov)))
        for rows in (mixed[:cut], mixed[cut:])
    ]
    for together, first, second in zip(whole, *parts, strict=True):
        assert np.allclose(together, first + second, rtol=1e-14, atol=0)
    cells = len(whole[1])
    sums = [np.zeros((cells + 1, 4)) for _ in range(2)]
    packed = [np.zeros(cells + 1, np.int64) for _ in range(2)]
    for rows, own, path in zip((slice(None), mixed), sums, packed, strict=True):
        columns = (a[rows] for a in (p, u, cov, q, w, cov))
        accumulate(GRID, *columns, scratch(500, cells), own, path)
    assert np.array_equal(sums[0][:-1], sums[1][:-1])
    assert np.array_equal(packed[0][:-1], packed[1][:-1])


@pytest.mark.parametrize(
    "start, end",
    [
        ((25.0, 20.0, 900.0), (25.0, 20.0, -900.0)),  # down the middle of a column
        ((0.0, 0.0, 900.0), (0.0, 0.0, -900.0)),  # down an edge
        ((-900.0, 20.0, 30.0), (900.0, 20.0, 30.0)),  # across
        ((-500.0, -400.0, -300.0), (500.0, 400.0, 300.0)),  # from corner to corner
        ((10.0, 10.0, 10.0), (10.0, 10.0, 10.0)),  # nowhere
        ((-700.0, 20.0, 30.0), (-600.0, 20.0, 30.0)),  # before the grid
        ((500.0, 20.0, 900.0), (500.0, 20.0, -900.0)),  # in the upper face, which is outside
        ((-500.0, 20.0, 900.0), (-500.0, 20.0, -900.0)),  # in the lower face, which is inside
        ((3e7, 11.0, 12.0), (-3e7, 13.0, 14.0)),  # from kilometres away
    ],
)
def test_straight_paths_of_every_kind_keep_their_length(start, end):
    a, b = np.array(start), np.array(end)
    u = (b - a) / max(np.linalg.norm(b - a), 1e-9)
    arrays = [np.ascontiguousarray(x[None]) for x in (a, u, b, u)]
    none = np.zeros((1, 4, 4))
    _, lengths, muons = accumulated(GRID, arrays[0], arrays[1], none, arrays[2], arrays[3], none)
    enter, leave = clip(GRID, *a, *b)
    chord = max(leave - enter, 0) * np.linalg.norm(b - a)
    assert lengths.sum() == pytest.approx(chord, rel=1e-6, abs=1e-6)
    assert np.array_equal(muons > 0, lengths > 0)
    assert muons.max() <= 1


def test_what_is_not_a_number_counts_nowhere():
    p, u, q, w = lines(np.random.default_rng(6), 8)
    none = np.zeros((8, 4, 4))
    for column in (p, u, q, w):
        column[:] = np.nan
    sums, lengths, muons = accumulated(GRID, p, u, none, q, w, none)
    for found in (sums, lengths, muons):
        assert not found.any()


def test_many_voxels_are_taken_in_order_of_place():
    """More voxels than fit a cache: the ordering must lose nobody."""
    fine = Grid(-500.0, -400.0, -300.0, 10.0, 10.0, 10.0, 100, 80, 60)
    p, u, q, w = lines(np.random.default_rng(8), 300)
    none = np.zeros((300, 4, 4))
    _, lengths, muons = accumulated(fine, p, u, none, q, w, none)
    expected, number = walked(fine, p, u, q, w)
    assert lengths == pytest.approx(expected, abs=1e-4)
    assert np.abs(muons.astype(int) - number).sum() <= 2
