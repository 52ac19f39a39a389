"""A whole scan against Geant4: five blocks in the lab of six planes, and the air between.

The figures were taken from two files that Geant4 11.4.0 made (standard muons, EcoMug's sky; five
cubes of 200 mm and 5 min, and 2 min of air): tracks through all upper planes whose straight line
meets all lower ones, by what the line meets. Angles are projected ones between the directions
before and after, both projections pooled; a track is lost if a lower plane misses it.
"""

import numpy as np
import pytest

from muscan.model.detector import load_detector, parse_detector
from muscan.simulation import Simulation

# Half width of 68.27 % of the angles and its statistical error [mrad]; share of lost tracks and its
# error, all as `figures` finds them. A line counts for a block if it runs through more than 100 mm
# of it.
GEANT4 = {
    "aluminium": (13.57, 0.65, 0.0327, 0.0056),
    "iron": (28.01, 1.33, 0.1091, 0.0096),
    "lead": (54.49, 2.56, 0.1168, 0.0099),
    "uranium": (64.24, 3.90, 0.1904, 0.0124),
    "water": (6.10, 0.27, 0.0264, 0.0043),
    "air": (2.289, 0.010, 0.0082, 0.0002),
    "everything": (2.443, 0.007, 0.0108, 0.0002),
}
GEANT4_EMPTY = (2.265, 0.013, 0.0088, 0.0003)


def ideal_lab():
    text = load_detector("blocks-lab").text
    for old, new in (
        ("resolution_mm = [0.3, 0.3]", "resolution_mm = [1e-6, 1e-6]"),
        ("efficiency = 0.98", "efficiency = 1.0"),
        ("noise_hz_per_m2 = 3125.0", "noise_hz_per_m2 = 0.0"),
    ):
        assert old in text
        text = text.replace(old, new)
    return parse_detector(text, "ideal-lab")


def tracks(hits, detector):
    """Points of the events that cross all upper planes, (n, 6, 3), NaN where not crossed."""
    row = (hits.event_id - hits.event_id[0]).astype(int)
    points = np.full((row[-1] + 1, 6, 3), np.nan)
    points[row, hits.panel, 0], points[row, hits.panel, 1] = hits.u, hits.v
    points[..., 2] = detector.centres[:, 2]
    return points[np.isfinite(points[:, :3, 0]).all(axis=1)]


def chord(points, slope, centre):
    """Length of the incoming straight line in a cube of 200 mm."""
    with np.errstate(divide="ignore"):
        a, b = ((centre[:2] + side - points[:, 2, :2]) / slope + 1300 for side in (-100, 100))
    low = np.maximum(np.minimum(a, b).max(axis=1), -100)
    high = np.minimum(np.maximum(a, b).min(axis=1), 100)
    return (high - low) * np.sqrt(1 + (slope**2).sum(axis=1))


def sort_tracks(points, scene):
    """Angles of the tracks that are not lost, and the number of all, by what they meet."""
    before = (points[:, 2, :2] - points[:, 0, :2]) / -600
    after = (points[:, 5, :2] - points[:, 3, :2]) / -600
    angles = np.arctan(after) - np.arctan(before)
    ends = [points[:, 2, :2] + before * (z - 1300) for z in (-1300, -1900)]
    aimed = (np.abs(ends) < 1950).all(axis=(0, 2))
    angles, points, before = angles[aimed], points[aimed], before[aimed]
    chords = {body.material: chord(points, before, body.centre) for body in scene.bodies}
    chosen = {name: length > 100 for name, length in chords.items()}
    near = np.zeros(len(points), bool)
    for body in scene.bodies:
        ends = np.array([points[:, 2, :2] + before * (z - 1300) for z in (-120, 120)])
        ends -= body.centre[:2]
        near |= ((ends.min(axis=0) < 150) & (ends.max(axis=0) > -150)).all(axis=1)
    chosen["air"], chosen["everything"] = ~near, np.ones(len(points), bool)
    kept = np.isfinite(angles).all(axis=1)
    return {name: (angles[mask & kept], int(mask.sum())) for name, mask in chosen.items()}


def figures(angles, n):
    """Width of the angles (m, 2) with its error [mrad], share of the n tracks lost with its error.

    The error of the width is the spread of tracks drawn anew (bootstrap). Whole tracks: their two
    projections share a momentum, so that they are not independent.
    """

    def width(rows):
        return np.quantile(np.abs(angles[rows]), 0.6827) * 1e3

    rng, m = np.random.default_rng(1), len(angles)
    error = np.std([width(rng.integers(0, m, m)) for _ in range(200 if m < 100_000 else 30)])
    lost = 1 - m / n
    return width(slice(None)), error, lost, np.sqrt(lost * (1 - lost) / n)


def scan(scene, minutes):
    detector = ideal_lab()
    simulation = Simulation(scene, detector, minutes=minutes, seed=11, flux="ecomug",
                            momentum_range=(0.05, 10_000.0))  # fmt: skip
    parts = [
        sort_tracks(tracks(hits, detector), simulation.scene) for hits, _ in simulation.chunks()
    ]
    found = {}
    for name in parts[0]:
        angles = np.concatenate([part[name][0] for part in parts])
        found[name] = figures(angles, sum(part[name][1] for part in parts))
    return found


@pytest.mark.slow
def test_blocks_like_geant4():
    found = scan("blocks", 20)
    for name, (width, width_error, lost, lost_error) in GEANT4.items():
        measured, error, measured_lost, our_lost_error = found[name]
        # 5 % and 10 %, and the statistics, mostly of the reference: a fourth of the exposure.
        error = np.hypot(width_error, error)
        assert measured == pytest.approx(width, abs=0.05 * width + 1.5 * error), name
        error = np.hypot(lost_error, our_lost_error)
        assert measured_lost == pytest.approx(lost, abs=0.1 * lost + 2 * error), name


@pytest.mark.slow
def test_air_like_geant4():
    width, width_error, lost, our_lost_error = scan("empty", 5)["air"]
    expected, error, expected_lost, lost_error = GEANT4_EMPTY
    error = np.hypot(error, width_error)
    assert width == pytest.approx(expected, abs=0.02 * expected + 2 * error)
    error = np.hypot(lost_error, our_lost_error)
    assert lost == pytest.approx(expected_lost, abs=0.1 * expected_lost + 2 * error)
