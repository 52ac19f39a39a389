"""One scan of a study: exposures that contain each other, truth apart, the same for a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import muscan
from muscan.errors import InputError
from muscan.model.events import MomentumMeasurements
from muscan.studies.scan import cut_exposure, study_scan
from muscan.studies.scenes import MATERIALS, study_scene


def parameters(**changes):
    return {
        "scene": "materials",
        "threat": True,
        "seed": 3,
        "exposures": [2.0, 4.0],
        "method": "poca",
        "voxel": 200.0,
        "weigh": False,
        "detector": "",
        **changes,
    }


def test_a_longer_exposure_contains_the_shorter(hits):
    timed = replace(hits, time=np.repeat(np.linspace(1, 59.9e9, 500), 4))
    short, long = cut_exposure(timed, 20), cut_exposure(timed, 40)
    assert set(short.event_id) < set(long.event_id) < set(timed.event_id)
    assert short.run.live_time_s == 20
    assert short.time.max() < 20e9
    assert len(short) % 4 == 0
    np.testing.assert_array_equal(cut_exposure(timed, 60).event_id, timed.event_id)


def test_an_event_is_kept_whole_or_not_at_all(hits):
    """Hits of one event stand on both sides of the cut: its first one decides."""
    time = np.repeat(np.linspace(1, 59.9e9, 500), 4) + np.tile([30.0, 0.0, 10.0, 20.0], 500)
    cut = cut_exposure(replace(hits, time=time), time[4] * 1e-9)
    np.testing.assert_array_equal(np.unique(cut.event_id), np.unique(hits.event_id)[:2])
    assert len(cut) == 8


def test_measured_momenta_go_with_their_events(hits):
    ids = np.unique(hits.event_id)
    momenta = MomentumMeasurements(ids, np.ones(500, "f4"), np.ones(500, "f4"))
    timed = replace(hits, time=np.repeat(np.linspace(1, 59.9e9, 500), 4), momenta=momenta)
    cut = cut_exposure(timed, 30)
    np.testing.assert_array_equal(cut.momenta.event_id, np.unique(cut.event_id))


def test_more_than_was_recorded_cannot_be_cut(hits):
    with pytest.raises(InputError, match="61 s of a run"):
        cut_exposure(hits, 61)


def test_the_materials_stand_apart_and_move_with_the_seed():
    scenes = [study_scene("materials", seed) for seed in range(5)]
    for scene in scenes:
        assert set(scene.threats) == set(MATERIALS)
        centres = np.array([body.centre for body in scene.bodies])
        apart = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 1e9 * np.eye(7)
        assert apart.min() > 600
    assert len({tuple(scene.bodies[0].centre) for scene in scenes}) == 5


def test_a_uniform_load_with_and_without_its_threat():
    benign, hidden = (study_scene("uniform-0.6", 7, threat) for threat in (False, True))
    assert (benign.threats, hidden.threats) == ((), ("hidden",))
    assert len(hidden.bodies) == len(benign.bodies) + 1
    places = np.array([study_scene("uniform-0.6", s, True).bodies[1].centre for s in range(200)])
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=300)
    assert np.abs(places).max(axis=0) == pytest.approx([2750, 1050, 1050], rel=0.05)


@pytest.mark.parametrize("name", ["uniform-", "uniform-x", "uniform-90"])
def test_a_wrong_density_is_refused(name):
    with pytest.raises(InputError, match="names no density"):
        study_scene(name, 1)


def test_a_scan_is_a_function_of_its_parameters():
    """Two exposures of one simulation, the truth beside what was found, and plain data."""
    first, again = study_scan(parameters()), study_scan(parameters())
    assert first["scanner"] == "blocks-lab"
    assert [result["exposure_s"] for result in first["results"]] == [2.0, 4.0]
    assert first["truth"]["threats"][0]["name"] == "water"
    assert {t["name"]: round(t["mass_kg"]) for t in first["truth"]["threats"]}["lead"] == 91
    muons = [result["report"]["scan"]["n_muons"] for result in first["results"]]
    assert 1.8 < muons[1] / muons[0] < 2.2
    assert [r["report"] for r in first["results"]] == [r["report"] for r in again["results"]]


def test_the_truth_does_not_reach_the_chain(monkeypatch):
    """What the verbs after the simulation are given knows nothing of the scene."""
    seen = []
    track = muscan.pipeline.track
    monkeypatch.setattr(
        "muscan.pipeline.track", lambda hits, **options: seen.append(hits) or track(hits, **options)
    )
    study_scan(parameters(exposures=[2.0]))
    (hits,) = seen
    assert not any("scene" in name or "truth" in name for name in vars(hits))
