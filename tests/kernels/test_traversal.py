import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscan.kernels.traversal import Grid, clip, locate, walk

GRID = Grid(-100.0, -50.0, 0.0, 10.0, 12.5, 7.0, 20, 8, 15)
UPPER = np.array([100.0, 50.0, 105.0])
LOWER = np.array([-100.0, -50.0, 0.0])
# Off the faces: a line within a face may count to either side.
points = st.tuples(*(st.integers(-250_000, 250_000).map(lambda n: n / 1000 + 3e-4),) * 3)


def path(a, b):
    voxels, lengths = np.empty(60, np.int64), np.empty(60)
    used = walk(GRID, *a, *b, voxels, lengths, 0)
    return voxels[:used], lengths[:used]


def sampled(a, b, steps=200_000):
    """Lengths in voxels by brute force: many points along the segment."""
    a, b = np.array(a), np.array(b)
    at = a + (np.arange(steps)[:, None] + 0.5) / steps * (b - a)
    index = np.floor((at - LOWER) / [10, 12.5, 7]).astype(int)
    inside = ((index >= 0) & (index < [20, 8, 15])).all(axis=1)
    flat = np.ravel_multi_index(index[inside].T, (20, 8, 15))
    lengths = np.bincount(flat, minlength=20 * 8 * 15).astype(float)
    return lengths / steps * np.linalg.norm(b - a)


def slab_chord(a, b):
    """Length of the segment inside the grid's box, by clipping against its six faces."""
    a, b = np.array(a), np.array(b)
    enter, leave = 0.0, 1.0
    for axis in range(3):
        step = b[axis] - a[axis]
        if step == 0:
            if not LOWER[axis] <= a[axis] < UPPER[axis]:
                return 0.0
            continue
        ends = sorted([(LOWER[axis] - a[axis]) / step, (UPPER[axis] - a[axis]) / step])
        enter, leave = max(enter, ends[0]), min(leave, ends[1])
    return max(leave - enter, 0.0) * np.linalg.norm(b - a)


@given(points, points)
@settings(max_examples=200, deadline=None)
def test_lengths_sum_to_the_chord(a, b):
    voxels, lengths = path(a, b)
    assert lengths.sum() == pytest.approx(slab_chord(a, b), rel=1e-9, abs=1e-6)
    assert (lengths >= 0).all()
    assert ((voxels >= 0) & (voxels < 20 * 8 * 15)).all()


@given(points, points)
@settings(max_examples=100, deadline=None)
def test_backwards_is_the_same_path(a, b):
    forth, back = np.zeros(20 * 8 * 15), np.zeros(20 * 8 * 15)
    for total, (voxels, lengths) in ((forth, path(a, b)), (back, path(b, a))):
        np.add.at(total, voxels, lengths)
    assert back == pytest.approx(forth, abs=1e-5)


def test_matches_brute_force():
    rng = np.random.default_rng(5)
    for _ in range(20):
        a, b = rng.uniform(-150, 150, (2, 3))
        total = np.zeros(20 * 8 * 15)
        np.add.at(total, *path(a, b))
        assert total == pytest.approx(sampled(a, b), abs=0.01)


def test_vertical_line_through_a_column():
    voxels, lengths = path((3.0, 0.0, 200.0), (3.0, 0.0, -50.0))
    assert lengths == pytest.approx(np.full(15, 7.0))
    assert list(voxels) == [(10 * 8 + 4) * 15 + k for k in range(14, -1, -1)]


@pytest.mark.parametrize("x, inside", [(-100.0, True), (100.0, False), (-100.1, False)])
def test_a_line_in_a_face_belongs_to_the_voxel_above_it(x, inside):
    assert path((x, 0.0, 200.0), (x, 0.0, -50.0))[1].sum() == pytest.approx(105 if inside else 0)


def test_locate_floors_below_zero():
    assert locate(GRID, -100.0, -50.0, 0.0) == 0
    assert locate(GRID, -100.5, -50.0, 0.0) == -1
    assert locate(GRID, 99.9, 49.9, 104.9) == 20 * 8 * 15 - 1
    assert locate(GRID, 100.0, 0.0, 50.0) == -1


def test_clip_of_a_miss_is_empty():
    enter, leave = clip(GRID, 300.0, 0.0, 200.0, 300.0, 1.0, -200.0)
    assert enter >= leave
