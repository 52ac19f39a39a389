"""The main job, end to end, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import jsonschema
import numpy as np
import pytest

import muscan
from muscan import io, resources
from muscan.cli import main

HIDDEN_CUBE = "hidden cube"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def first_scan(tmp_path_factory) -> Path:
    """The README's scan: the shipped container, five minutes."""
    folder = tmp_path_factory.mktemp("scan") / "first-scan"
    assert run("scan", "--out", folder, "--seed", 1, "--quiet") == 0
    return folder


def cube_centre() -> np.ndarray:
    bodies = muscan.load_scene("container").bodies
    return np.array(next(body.centre for body in bodies if body.name == HIDDEN_CUBE))


def test_every_file_is_there_and_reads_back(first_scan):
    assert {path.name for path in first_scan.iterdir()} == {
        "hits.h5", "tracks.h5", "volume.h5", "materials.h5", "alerts.json", "report.html",
        "audit.jsonl",
    }  # fmt: skip
    for path in first_scan.glob("*.h5"):
        assert muscan.read(path) is not None
    hits = muscan.read(first_scan / "hits.h5")
    assert hits.run.live_time_s == pytest.approx(300, rel=1e-6)
    assert hits.run.source == "simulated"


def test_alerts_follow_the_schema_and_name_the_hidden_cube(first_scan):
    alerts = json.loads((first_scan / "alerts.json").read_text())
    schema = resources.shipped_folder("schemas") / "alerts.schema.json"
    jsonschema.validate(alerts, json.loads(schema.read_text()))
    away = [
        np.linalg.norm(np.array(alert["position_mm"]) - cube_centre()) for alert in alerts["alerts"]
    ]
    assert min(away, default=np.inf) < 100


def test_truth_is_not_passed_on(first_scan):
    with h5py.File(first_scan / "hits.h5") as file:
        assert "truth" in file
    for name in ("tracks.h5", "volume.h5", "materials.h5"):
        with h5py.File(first_scan / name) as file:
            assert "truth" not in file


def test_same_result_without_the_truth(first_scan, tmp_path):
    """Whatever comes after the simulation works from what panels can know."""
    blind = tmp_path / "hits.h5"
    blind.write_bytes((first_scan / "hits.h5").read_bytes())
    with h5py.File(blind, "r+") as file:
        del file["truth"]
    assert run("scan", blind, "--out", tmp_path / "blind", "--quiet") == 0
    for name in ("alerts.json",):
        assert (tmp_path / "blind" / name).read_bytes() == (first_scan / name).read_bytes()


def test_same_seed_same_bytes_whatever_the_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for workers in (1, 2, 3):
        words = ["--minutes", 0.2, "--seed", 5, "--workers", workers, "--quiet"]
        assert run("scan", "blocks", "--out", tmp_path / str(workers), *words) == 0
    for name in ("hits.h5", "tracks.h5", "volume.h5", "materials.h5", "alerts.json"):
        first = (tmp_path / "1" / name).read_bytes()
        assert (tmp_path / "2" / name).read_bytes() == first, name
        assert (tmp_path / "3" / name).read_bytes() == first, name


def test_files_and_objects_give_the_same(tmp_path):
    muscan.simulate("blocks", minutes=0.1, seed=2, output=tmp_path / "h.h5")
    hits = muscan.simulate("blocks", minutes=0.1, seed=2)
    stored = io.read_hits(tmp_path / "h.h5")
    for name, column in hits.columns().items():
        np.testing.assert_array_equal(getattr(stored, name), column)
    assert stored.run.counts == hits.run.counts
    volume = muscan.reconstruct(muscan.track(hits), voxel=100)
    muscan.track(tmp_path / "h.h5", output=tmp_path / "t.h5")
    muscan.reconstruct(tmp_path / "t.h5", voxel=100, output=tmp_path / "v.h5")
    np.testing.assert_array_equal(io.read_volume(tmp_path / "v.h5").values, volume.values)


def test_measured_momenta_reach_the_tracks(tmp_path):
    words = ["--minutes", 0.05, "--momentum-resolution", 0.1, "--momentum-range", "1,50", "-q"]
    assert run("simulate", "blocks", "-o", tmp_path / "h.h5", *words) == 0
    tracks = muscan.track(tmp_path / "h.h5")
    truth, _ = io.read_truth(tmp_path / "h.h5")
    assert truth.momentum.min() >= 1
    assert truth.momentum.max() <= 50
    assert np.isfinite(tracks.momentum).all()
    rows = np.searchsorted(truth.event_id, tracks.event_id)
    ratio = tracks.momentum / truth.momentum[rows]
    assert np.std(ratio) == pytest.approx(0.1, rel=0.1)


def test_steps_and_info_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("simulate", "blocks", "-o", "h.h5", "--minutes", 0.1, "--seed", 3) == 0
    assert run("track", "h.h5", "-o", "t.h5") == 0
    assert run("reconstruct", "t.h5", "-o", "v.h5", "--voxel", 100) == 0
    assert run("identify", "v.h5", "--tracks", "t.h5", "-o", "a.json") == 0
    assert (tmp_path / "materials.h5").exists()
    capsys.readouterr()
    assert run("info", "h.h5", "t.h5", "v.h5", "a.json", "materials.h5", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["h.h5"]["live time [s]"] == pytest.approx(6, rel=1e-3)
    assert facts["t.h5"]["detector"] == "blocks-lab, 6 panels"
    assert facts["v.h5"]["method"] == "poca"


def test_blocks_recorded_elsewhere_come_out_in_order(tmp_path):
    """A minute's hits of another program's simulation; see tests/data/README.md."""
    source = Path(__file__).resolve().parents[2] / "shared/reference/blocks_1min_long.csv.gz"
    if not source.exists():
        pytest.skip("the reference scan is not part of a checkout")
    muscan.import_hits(source, detector="blocks-lab", output=tmp_path / "h.h5")
    assert run("scan", tmp_path / "h.h5", "--out", tmp_path / "d", "--quiet") == 0
    alerts = muscan.read(tmp_path / "d" / "alerts.json").alerts
    centres = {"U": (600, 600, 0), "Pb": (-600, 600, 0), "Fe": (600, -600, 0)}
    nearest = {
        name: min(alerts, key=lambda a: np.linalg.norm(np.array(a.position_mm) - centre))
        for name, centre in centres.items()
    }
    for name, centre in centres.items():
        assert np.linalg.norm(np.array(nearest[name].position_mm) - centre) < 100, name
    densities = [nearest[name].scattering_density.value for name in ("U", "Pb", "Fe")]
    assert densities == sorted(densities, reverse=True)


def test_fail_on_alert_says_so_by_its_status(first_scan, tmp_path):
    words = [first_scan / "volume.h5", "-o", tmp_path / "a.json", "--quiet"]
    assert run("identify", *words) == 0
    assert run("identify", *words, "--fail-on-alert") == 3
