"""Lines and their scattering against plain NumPy, event by event."""

from __future__ import annotations

import numpy as np
import pytest

from muscan.calibration.clean import Pattern, find_patterns
from muscan.calibration.lines import (
    Lines,
    cross,
    fit,
    layer_scattering,
    scattering_covariance,
)
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits
from muscan.model.material import load_materials


def test_patterns_are_the_events_with_at_most_one_hit_a_panel(straight: Hits) -> None:
    patterns, unclean = find_patterns(straight)
    some = straight.take(slice(0, 4000))
    found = {
        int(event): (tuple(pattern.panels), place)
        for pattern in patterns
        for event, place in zip(pattern.event_id, pattern.place, strict=True)
    }
    twice = 0
    for event in np.unique(some.event_id)[:-1]:
        rows = np.flatnonzero(some.event_id == event)
        panels = some.panel[rows]
        if len(np.unique(panels)) < len(panels):
            assert int(event) not in found
            twice += 1
            continue
        order = rows[np.argsort(panels)]
        assert found[int(event)][0] == tuple(some.panel[order])
        np.testing.assert_array_equal(
            found[int(event)][1], np.stack([some.u[order], some.v[order]], axis=1)
        )
    assert twice > 0
    assert sum(map(len, patterns)) + unclean == len(np.unique(straight.event_id))


def test_lines_are_those_of_least_squares(straight: Hits, planes: Detector) -> None:
    pattern = next(p for p in find_patterns(straight)[0] if len(p.panels) == 6).take(slice(0, 50))
    lines = fit(planes, pattern)
    assert lines.sound.all()
    z = planes.centres[pattern.panels, 2]
    for place, point, direction in zip(pattern.place, lines.point, lines.direction, strict=True):
        for axis in range(2):
            slope, offset = np.polyfit(z, place[:, axis], 1)
            assert direction[axis] / direction[2] == pytest.approx(slope, abs=1e-8)
            at_zero = point[axis] - point[2] * direction[axis] / direction[2]
            assert at_zero == pytest.approx(offset, abs=1e-5)


def test_lines_through_walls_and_roof_are_exact(rng: np.random.Generator) -> None:
    """A line from a roof to a wall is found from its exact crossings."""
    room = load_detector("room")
    names = ("roof-1", "roof-2", "roof-3", "east-1", "east-2", "east-3")
    panels = np.array([room.panel_index(name) for name in names])
    start = np.column_stack(
        [rng.uniform(0, 1500, 30), rng.uniform(-800, 800, 30), np.full(30, 1500)]
    )
    end = np.column_stack(
        [np.full(30, 2200), rng.uniform(-800, 800, 30), rng.uniform(-900, 500, 30)]
    )
    direction = (end - start) / np.linalg.norm(end - start, axis=1, keepdims=True)
    true = Lines(start, direction, np.ones(30, bool))
    place = cross(room, panels, true).place
    found = fit(room, Pattern(panels, np.arange(30, dtype="u8"), place, np.ones((30, 6, 2)),
                              np.zeros((30, 6))))  # fmt: skip
    assert found.sound.all()
    np.testing.assert_allclose(found.direction, direction, atol=1e-9)


def test_lines_that_hits_do_not_fix_are_not_sound() -> None:
    """Parallel strips alone do not tell where a muon is along them."""
    portal = load_detector("truck-portal")
    panels = np.array([portal.panel_index(f"upper-{i}x") for i in (1, 2, 3)])
    sigma = np.tile([0.4, np.inf], (5, 3, 1))
    pattern = Pattern(
        panels, np.arange(5, dtype="u8"), np.zeros((5, 3, 2)), sigma, np.zeros((5, 3))
    )
    assert not fit(portal, pattern).sound.any()


@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_scattering_covariance_is_that_of_random_kinks(
    planes: Detector, rng: np.random.Generator, tilt: float
) -> None:
    n = 40_000
    direction = np.array([[np.sin(tilt), 0, -np.cos(tilt)]])
    lines = Lines(np.array([[0.0, 0.0, 700.0]]), direction, np.ones(1, bool))
    panels = np.arange(6)
    crossings = cross(planes, panels, lines)
    covariance = scattering_covariance(planes, panels, lines, crossings)[0]
    # Kinks in each panel, and in 400 layers of air; small angles, offset across the line.
    along = crossings.along[0]
    depth = along[-1] - along[0]
    air = load_materials()["air"].radiation_length_mm
    layers = np.linspace(along[0], along[-1], 401)
    middle = (layers[1:] + layers[:-1]) / 2
    beta2 = 9 / (9 + 0.10566**2)
    factor = 0.0136 / 3 / np.sqrt(beta2) * (1 + 0.038 * np.log(depth / air / beta2))
    kinks = np.concatenate([along, middle])
    variance = np.concatenate(
        [layer_scattering(planes) / np.cos(tilt), np.full(400, factor**2 * depth / air / 400)]
    )
    lever = np.maximum(along[:, None] - kinks, 0)
    offsets = rng.normal(0, 1, (n, len(kinks))) * np.sqrt(variance) @ lever.T
    sampled = np.cov(offsets.T)
    # Offsets in the plane of the tilt are 1/cos longer on the panel.
    v = covariance[1::2, 1::2]
    u = covariance[::2, ::2]
    np.testing.assert_allclose(v[1:, 1:], sampled[1:, 1:], rtol=0.04)
    np.testing.assert_allclose(u[1:, 1:], sampled[1:, 1:] / np.cos(tilt) ** 2, rtol=0.04)
