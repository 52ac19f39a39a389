"""What is under the cursor, against places that are known."""

from __future__ import annotations

import numpy as np
import pytest

from muscan.model.events import Scatters
from muscan.viewer import probe


def test_a_reading_of_lead(volume, materials):
    place = volume.grid.position([5, 9, 4])
    reading = probe.read_at(volume, place + 10, materials)
    assert reading is not None
    assert reading.index == (5, 9, 4)
    assert reading.density == pytest.approx(44.6)
    assert reading.n_muons == 120
    assert reading.likely[0][0] == "lead"
    assert reading.label == "lead 90%"
    assert "44.6 ± 0.2 mrad²/cm" in reading.text()
    assert "lead" in reading.text()


def test_where_no_muon_went(volume):
    reading = probe.read_at(volume, volume.grid.position([0, 0, 0]))
    assert reading is not None
    assert "unknown" in reading.text()
    assert reading.likely == ()


def test_outside_there_is_nothing(volume):
    assert probe.read_at(volume, volume.grid.upper + 1) is None
    assert probe.read_at(volume, [np.nan, 0, 0]) is None


def test_the_brightest_voxel_on_a_ray(volume):
    inside = volume.grid.position([5, 9, 4])
    for direction in ([1, 0, 0], [0, 0, -1], [0.5, -0.3, 0.7]):
        way = 2000 * np.array(direction, dtype=float)
        found = probe.brightest_on_ray(volume, inside - way, inside + way)
        assert found is not None
        reading = probe.read_at(volume, found)
        assert reading is not None
        assert reading.density == pytest.approx(44.6)


def test_a_ray_that_misses(volume):
    far = volume.grid.upper + 500
    assert probe.brightest_on_ray(volume, far, far + np.array([1000, 0, 0])) is None
    corner = volume.grid.position([0, 0, 0])
    assert probe.brightest_on_ray(volume, corner, corner) is None


def scatters(in_position, in_direction, out_position, out_direction) -> Scatters:
    n = len(in_position)
    unit = [np.asarray(d, "f8") / np.linalg.norm(d, axis=1, keepdims=True)
            for d in (in_direction, out_direction)]  # fmt: skip
    return Scatters(
        event_id=np.arange(n, dtype="u8"),
        in_position=np.asarray(in_position, "f8"),
        in_direction=unit[0],
        in_cov=np.zeros((n, 4, 4), "f4"),
        out_position=np.asarray(out_position, "f8"),
        out_direction=unit[1],
        out_cov=np.zeros((n, 4, 4), "f4"),
        momentum=np.full(n, np.nan, "f4"),
        sigma=np.full(n, np.nan, "f4"),
    )


def test_tracks_meet_where_they_were_bent():
    bend = np.array([30.0, -20.0, 100.0])
    u, v = np.array([0.1, 0.0, -1.0]), np.array([-0.05, 0.2, -1.0])
    pair = scatters([bend - 500 * u], [u], [bend + 700 * v], [v])
    near_in, near_out = probe.meeting(pair)
    np.testing.assert_allclose(near_in[0], bend, atol=1e-6)
    np.testing.assert_allclose(near_out[0], bend, atol=1e-6)


def test_parallel_tracks_meet_half_way():
    pair = scatters([[0, 0, 500]], [[0, 0, -1]], [[0, 0, -300]], [[0, 0, -1]])
    near_in, near_out = probe.meeting(pair)
    np.testing.assert_allclose(near_in[0], [0, 0, 100])
    np.testing.assert_allclose(near_out[0], [0, 0, 100])


def test_tracks_through_a_box_most_scattered_first():
    straight = [0, 0, -1]
    pair = scatters(
        [[0, 0, 500], [0, 0, 500], [400, 0, 500], [0, 0, 500]],
        [straight, straight, straight, straight],
        [[0, 0, -500], [50, 0, -500], [400, 0, -500], [200, 0, -500]],
        [straight, [0.1, 0, -1], straight, [0.4, 0, -1]],
    )
    found = probe.tracks_through(pair, [-20, -20, -20], [20, 20, 20])
    assert found.event_id.tolist() == [3, 1, 0]
    below = probe.tracks_through(pair, [195, -20, -505], [205, 20, -495])
    assert below.event_id.tolist() == [3]
