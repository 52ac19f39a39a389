"""Panels are found where they are, as far as straight tracks can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import muscan
from muscan.calibration.alignment import Alignment, _panel_derivatives, find_alignment
from muscan.calibration.clean import find_patterns
from muscan.calibration.lines import cross, fit
from muscan.calibration.mixture import whiten
from muscan.calibration.modes import affine_modes, difference, moved
from muscan.errors import InputError
from muscan.model.detector import Detector, load_detector, parse_detector
from muscan.model.events import Hits, Tracks, pair_tracks
from muscan.model.layout_text import layout_text


@pytest.fixture(scope="module")
def displaced(planes: Detector) -> Detector:
    """The layout that is believed: up to 3 mm and 3 mrad beside the true one."""
    rng = np.random.default_rng(11)
    return moved(planes, rng.uniform(-1, 1, (6, 6)) * np.array([3.0] * 3 + [3e-3] * 3))


@pytest.fixture(scope="module")
def found(straight: Hits, displaced: Detector) -> Alignment:
    return find_alignment(replace(straight, detector=displaced), max_tracks=6000)


def test_misplaced_panels_are_found_within_their_errors(
    found: Alignment, displaced: Detector, planes: Detector
) -> None:
    assert found.converged
    left = found.determined(difference(found.detector, planes))
    pulls = left / found.error
    assert np.abs(pulls).max() < 3
    # The errors are no larger than they must be, and a small part of what was corrected.
    assert 0.4 < np.sqrt(np.mean(pulls**2)) < 1.6
    assert found.error[:, :2].max() < 0.03
    assert found.error[:, 3:].max() < 0.5e-3
    before = found.determined(difference(displaced, planes))
    assert np.abs(before)[:, :2].max() > 1.0


def test_straight_tracks_of_horizontal_planes_leave_nine_modes(found: Alignment) -> None:
    assert found.weak.shape[1] == 9
    assert set(found.held) == set(affine_modes(found.detector))


def test_scattering_widths_return_to_nominal(
    straight: Hits, found: Alignment, displaced: Detector
) -> None:
    true, wrong, right = (
        muscan.track(straight, detector=layout) for layout in (None, displaced, found.detector)
    )
    nominal = _kink_width(true)
    assert _kink_width(right) == pytest.approx(nominal, rel=0.02)
    assert _kink_width(wrong) > 1.5 * nominal
    # Fast muons no longer pass for slow ones that scattered in the panels.
    slow = [tracks.run.counts["slow_muons"] / len(tracks) for tracks in (true, wrong, right)]
    assert slow[1] > 10 * slow[0]
    assert slow[2] == pytest.approx(slow[0], rel=0.1)


def _kink_width(tracks: Tracks) -> float:
    """Return the median angle between the tracks of a pair [rad]."""
    pairs = pair_tracks(tracks)
    kinks = np.cross(pairs.in_direction, pairs.out_direction)
    return float(np.median(np.linalg.norm(kinks, axis=1)))


def test_reference_panels_stay_where_they_are(straight: Hits, displaced: Detector) -> None:
    found = find_alignment(
        replace(straight, detector=displaced),
        reference=["upper-1", "lower-3"],
        max_tracks=1500,
    )
    for name in ("upper-1", "lower-3"):
        index = displaced.panel_index(name)
        np.testing.assert_allclose(found.correction[index], 0, atol=1e-12)
        assert np.isnan(found.error[index]).all()
    assert np.abs(found.correction[1, :2]).max() > 0.1


def test_panels_of_one_coordinate_keep_what_they_do_not_measure(rng: np.random.Generator) -> None:
    """Tracks through crossed planes, made here without scattering: only the errors of the hits."""
    layout = """
name = "crossed"
[inspection]
min_mm = [-1, -1, -1]
max_mm = [1, 1, 1]
[technology.strips]
size_mm = [1000, 1000]
thickness_mm = 0
measures = "u"
resolution_mm = [0.2, 0.2]
"""
    for i in range(8):
        z = 700 - 200 * i + 40 * (i % 2)
        turn = 90 * (i % 2)
        layout += f"""
[[panel]]
name = "p{i}"
group = "all"
technology = "strips"
centre_mm = [0, 0, {z}]
rotation_deg = [0, 0, {turn}]
"""
    true = parse_detector(layout, "crossed")
    n, k = 2000, 8
    slope, start = rng.uniform(-0.4, 0.4, (n, 2)), rng.uniform(-200, 200, (n, 2))
    z = true.centres[:, 2]
    x, y = (start[:, i, None] + slope[:, i, None] * z for i in range(2))
    measured = np.where(np.arange(k) % 2 == 0, x, y) + rng.normal(0, 0.2, (n, k))
    hits = Hits(
        event_id=np.repeat(np.arange(n, dtype="u8"), k),
        panel=np.tile(np.arange(k, dtype="u2"), n),
        u=measured.ravel().astype("f4"),
        v=np.full(n * k, np.nan, "f4"),
        sigma_u=np.full(n * k, 0.2, "f4"),
        sigma_v=np.full(n * k, np.inf, "f4"),
        time=np.zeros(n * k),
        amplitude=np.ones(n * k, "f4"),
        detector=moved(true, rng.uniform(-1, 1, (k, 6)) * np.array([2.0] * 3 + [2e-3] * 3)),
    )
    found = find_alignment(hits, max_tracks=2000)
    assert np.isnan(found.error[:, 1]).all()
    assert np.isfinite(found.error[:, 0]).all()
    pulls = found.determined(difference(found.detector, true)) / found.error
    assert np.nanmax(np.abs(pulls)) < 4
    assert 0.4 < np.sqrt(np.nanmean(pulls**2)) < 1.6


def test_derivatives_are_those_of_moving_the_panels(straight: Hits, planes: Detector) -> None:
    pattern = next(p for p in find_patterns(straight)[0] if len(p.panels) == 6).take(slice(0, 20))
    lines = fit(planes, pattern)
    seen = whiten(planes, pattern, lines)
    analytic = _panel_derivatives(planes, pattern.panels, seen)
    before = cross(planes, pattern.panels, lines).place.reshape(20, -1)
    for panel in range(6):
        for parameter in range(6):
            step = np.zeros((6, 6))
            step[panel, parameter] = 1e-3 if parameter < 3 else 1e-6
            after = cross(moved(planes, step), pattern.panels, lines).place.reshape(20, -1)
            slope = (after - before) / step[panel, parameter]
            np.testing.assert_allclose(
                analytic[:, :, 6 * panel + parameter], slope, rtol=1e-3, atol=1e-2
            )


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_moving_and_comparing_are_inverse(parts: list[float]) -> None:
    room = load_detector("room")
    parameters = np.tile(np.array(parts) * [3, 3, 3, 3e-3, 3e-3, 3e-3], (len(room.panels), 1))
    np.testing.assert_allclose(difference(room, moved(room, parameters)), parameters, atol=1e-9)


def test_the_corrected_layout_reads_back_as_it_is(found: Alignment) -> None:
    again = parse_detector(layout_text(found.detector), "again")
    for written, panel in zip(again.panels, found.detector.panels, strict=True):
        np.testing.assert_allclose(written.centre, panel.centre, atol=1e-6)
        np.testing.assert_allclose([written.u, written.v], [panel.u, panel.v], atol=1e-12)
        assert (written.name, written.group) == (panel.name, panel.group)
        assert written.technology == panel.technology
        assert written.technology_name == panel.technology_name


def test_tracking_takes_the_corrected_resolutions(straight: Hits, planes: Detector) -> None:
    twice = planes.panels[0].technology.model_copy(update={"resolution_mm": (0.6, 0.6)})
    wide = replace(
        planes, panels=tuple(replace(panel, technology=twice) for panel in planes.panels)
    )
    some = straight.take(slice(0, 20_000))
    narrow, broad = (muscan.track(some, detector=layout) for layout in (None, wide))
    # Twice the error of each hit: four times the covariance, but for the scattering.
    ratio = np.median(broad.cov[:, 2, 2]) / np.median(narrow.cov[:, 2, 2])
    assert 2.5 < ratio < 4
    with pytest.raises(InputError, match="has 18 panels"):
        muscan.track(some, detector="room")


def test_hits_of_no_tracks_are_refused(straight: Hits, rng: np.random.Generator) -> None:
    u, v = rng.uniform(-500, 500, (2, len(straight))).astype("f4")
    with pytest.raises(InputError, match="tracks fit any place"):
        find_alignment(replace(straight, u=u, v=v), max_tracks=1000)


def test_too_few_events_are_refused(straight: Hits) -> None:
    with pytest.raises(InputError, match="over-determine"):
        find_alignment(straight.take(slice(0, 50)))
    with pytest.raises(InputError, match="did you mean 'upper-1'"):
        find_alignment(straight, reference=["uper-1"])
