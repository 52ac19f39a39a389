"""Commands for operators: alerts, audit, export, view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import muscan.cli.operator  # noqa: F401  (registers its commands)
from muscan import io
from muscan.cli import main
from muscan.model.alerts import Alert, AlertReport, Interval, MaterialGuess, ScanInfo
from muscan.model.volume import Volume, VoxelGrid


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "scan"
    path.mkdir()
    unknown = Interval(value=None, low=None, high=None)
    alert = Alert(
        id="run-1-abc",
        severity="high",
        position_mm=(1, 2, 3),
        extent_mm=((0, 1, 2), (2, 3, 4)),
        volume_l=1,
        scattering_density=unknown,
        material=MaterialGuess(name="lead", category="metal", probability=0.5),
        mass_kg=unknown,
        significance=9.0,
        false_alarm_rate=None,
        n_muons=5,
        reason="Dense.",
    )
    scan = ScanInfo(run_id="run-1", live_time_s=None, n_muons=9, method="m", materials_version="v")
    io.write_alerts(
        path / "alerts.json", AlertReport(scan=scan, alerts=[alert], total_mass_kg=unknown)
    )
    grid = VoxelGrid(np.zeros(3), np.ones(3), (2, 3, 4))
    values = np.arange(24, dtype="f4").reshape(grid.shape)
    io.write_volume(path / "volume.h5", Volume(values, grid, "m", values, values.astype("u4")))
    return path


@pytest.fixture
def run(capsys):
    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def test_an_alert_is_listed_resolved_and_verified(run, folder):
    status, out, _ = run("alerts", "list", folder)
    assert status == 0
    assert "run-1-abc" in out
    assert "open" in out
    words = ("--decision", "dismissed", "--reason", "opened: fruit", "--who", "Ana", "--json")
    status, out, _ = run("alerts", "resolve", folder, "1", *words)
    assert status == 0
    entry = json.loads(out)
    assert (entry["subject"], entry["who"]) == ("run-1-abc", "Ana")
    status, out, _ = run("alerts", "list", folder, "--json")
    (alert,) = json.loads(out)
    assert alert["decision"]["reason"] == "opened: fruit"
    status, out, _ = run("audit", "verify", folder, "--json", "--head", entry["sha256"])
    assert json.loads(out) == {
        "file": str(folder / "audit.jsonl"),
        "entries": 1,
        "head": entry["sha256"],
        "sound": True,
    }


def test_a_changed_log_is_refused(run, folder):
    run("alerts", "resolve", folder, "run-1-abc", "--decision", "confirmed", "--reason", "seen")
    log = folder / "audit.jsonl"
    log.write_text(log.read_text().replace("seen", "sent"))
    status, _, err = run("audit", "verify", folder)
    assert status == 2
    assert "line 1 was changed" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("2", "--decision", "dismissed", "--reason", "x"), "no alert '2'"),
        (("run-1-abd", "--decision", "dismissed", "--reason", "x"), "did you mean 'run-1-abc'?"),
        (("1", "--decision", "no", "--reason", "x"), "no decision"),
        (("1", "--decision", "dismissed", "--reason", " "), "--reason"),
    ],
)
def test_wrong_decisions(run, folder, words, message):
    status, _, err = run("alerts", "resolve", folder, *words)
    assert status == 2
    assert message in err
    assert not (folder / "audit.jsonl").exists()


def test_export_writes_beside_the_volume(run, folder):
    status, out, _ = run("export", folder / "volume.h5", "--to", "npz")
    assert status == 0
    assert str(folder / "volume.npz") in out
    with np.load(folder / "volume.npz") as found:
        assert found["scattering_density"].sum() == 276
    status, _, err = run("export", folder / "volume.h5", "--to", "stl")
    assert status == 2
    assert "stl" in err
    status, _, err = run("export", folder / "alerts.json", "--to", "npz")
    assert status == 2


def test_view_of_nothing(run, tmp_path):
    status, _, err = run("view", tmp_path)
    assert status in (1, 2)  # 1 where napari is not installed
    assert err.startswith("muscan: error: ")
    assert err.count("\n") == 1
