"""Faults that are put into a sound scan are named, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import muscan
from muscan.calibration.modes import moved
from muscan.calibration.quality import Monitor, lost_time, order_checks
from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Hits
from muscan.model.quality import Limits, Quality, judge, load_limits


@pytest.fixture(scope="module")
def sound(straight: Hits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Quality, Path]:
    folder = tmp_path_factory.mktemp("quality")
    return muscan.quality(straight, output=folder), folder


def faults(quality: Quality) -> set[tuple[str, str]]:
    return {(check.name, check.subject) for check in quality.checks if check.verdict != "ok"}


def test_a_sound_scan_is_ok(sound: tuple[Quality, Path]) -> None:
    quality, _ = sound
    assert quality.reasons == []
    assert quality.verdict == "ok"
    for panel in quality.panels:
        assert panel.rate_hz == pytest.approx(panel.expected_hz, rel=0.03)
        assert panel.hit_map.sum() == panel.hits


def test_the_files_say_the_same(sound: tuple[Quality, Path]) -> None:
    quality, folder = sound
    data = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    assert (data["format"], data["format_version"]) == ("muscan-quality", 1)
    assert data["verdict"] == "ok"
    assert len(data["checks"]) == len(quality.checks)
    page = (folder / "quality.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 5
    assert "Nothing is beyond its limits." in page
    for panel in quality.panels:
        assert f"<td>{panel.name}</td>" in page


def test_a_panel_that_fades_is_bad(straight: Hits, rng: np.random.Generator) -> None:
    lost = (straight.panel == 1) & (rng.random(len(straight)) < 0.5)
    quality = muscan.quality(straight.take(~lost))
    assert {("efficiency", "upper-2"), ("rate", "upper-2")} <= faults(quality)
    assert quality.verdict == "bad"
    assert any("panel 'upper-2' has efficiency 0.4" in reason for reason in quality.reasons)
    assert not {name for name, subject in faults(quality) if subject == "lower-1"}


def test_a_misplaced_panel_is_told(straight: Hits, planes: Detector) -> None:
    turn = np.zeros((6, 6))
    turn[4, 5] = 3e-3
    quality = muscan.quality(straight, detector=moved(planes, turn))
    assert ("offset", "lower-2") in faults(quality)


def test_hits_of_no_tracks_are_bad(straight: Hits, rng: np.random.Generator) -> None:
    u, v = rng.uniform(-500, 500, (2, len(straight))).astype("f4")
    quality = muscan.quality(replace(straight, u=u, v=v))
    assert ("untried", "") in faults(quality)
    assert quality.verdict == "bad"


def test_gaps_are_told(straight: Hits) -> None:
    times = straight.time.copy()
    times[len(times) // 2 :] += 60e9
    live = straight.run.live_time_s + 60
    gap = replace(straight, time=times, run=replace(straight.run, live_time_s=live))
    quality = muscan.quality(gap)
    assert ("lost_time", "") in faults(quality)
    check = next(check for check in quality.checks if check.name == "lost_time")
    assert check.value == pytest.approx(60 / live, rel=0.01)


def test_disorder_is_told(straight: Hits) -> None:
    monitor = Monitor(straight.detector)
    monitor.add(straight.take(np.argsort(-straight.event_id.astype(np.int64), kind="stable")))
    checks = order_checks(monitor, straight.run.live_time_s, Limits())
    assert [check.verdict for check in checks if check.name == "disorder"] == ["bad", "bad"]


def test_chance_makes_no_gaps(bench: Detector, rng: np.random.Generator) -> None:
    monitor = Monitor(bench)
    monitor.events = 50_000
    monitor._add_times(np.cumsum(rng.exponential(1e7, 50_000)))
    assert lost_time(monitor) == 0
    monitor._add_times(np.array([monitor.span_ns + 3e9]))
    assert lost_time(monitor) == pytest.approx(3.0, rel=1e-3)


def test_counting_by_pieces_is_counting_at_once(straight: Hits, planes: Detector) -> None:
    whole, parts = Monitor(planes), Monitor(planes)
    whole.add(straight)
    cuts = [0, *np.flatnonzero(np.diff(straight.event_id))[[500, 9000, 20_000]] + 1, len(straight)]
    for begin, end in pairwise(cuts):
        parts.add(straight.take(slice(begin, end)))
    assert (whole.events, whole.id_backward) == (parts.events, parts.id_backward)
    np.testing.assert_array_equal(whole.hits, parts.hits)
    np.testing.assert_array_equal(whole.seconds, parts.seconds)
    np.testing.assert_array_equal(whole.longest_gaps, parts.longest_gaps)


def test_event_ids_that_stand_twice_are_bad(straight: Hits) -> None:
    doubled = straight.event_id.copy()
    doubled[doubled == 40] = 3
    monitor = Monitor(straight.detector)
    monitor.add(replace(straight, event_id=doubled))
    assert (monitor.duplicates, monitor.id_backward) == (1, 1)


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [(0.05, 0, "ok"), (0.2, 0, "warn"), (0.2, 0.05, "ok"), (-0.2, 0, "warn"), (0.5, 0, "bad"),
     (0.5, 0.05, "warn"), (np.nan, 0, "ok")],
)  # fmt: skip
def test_only_what_is_sure_counts(value: float, error: float, verdict: str) -> None:
    check = judge(Limits(), "rate", 1 + value, "", expected=1.0, error=error)
    assert check.verdict == verdict


def test_limits_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("rate = [0.5, 0.9]\n", encoding="utf-8")
    assert load_limits(path).rate == (0.5, 0.9)
    assert load_limits(path).chi2 == Limits().chi2
    path.write_text("rates = [0.5, 0.9]\n", encoding="utf-8")
    with pytest.raises(InputError, match="did you mean 'rate'"):
        load_limits(path)
    path.write_text("rate = [0.9, 0.5]\n", encoding="utf-8")
    with pytest.raises(InputError, match="must not be above"):
        load_limits(path)
