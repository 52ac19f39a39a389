"""Commands on the detector itself, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import muscan
from muscan.cli import detectors, main
from muscan.model.detector import load_detector
from muscan.model.layout_text import layout_text


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder; returns its status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)  # commands write beside where they are run

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def hit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hits") / "hits.h5"
    return muscan.simulate("empty", detector="parcel", muons=40_000, seed=1, output=path)


def test_align_writes_a_layout_that_track_takes(run, hit_file: Path) -> None:
    status, out, _ = run("align", hit_file, "-o", "aligned.toml", "--max-tracks", 2000)
    assert status == 0
    assert "upper-1" in out
    assert "Written: aligned.toml" in out
    assert "± " in Path("aligned.toml").read_text(encoding="utf-8")
    # The layout was right: it moves by little, and tracks are found with it.
    aligned, nominal = load_detector("aligned.toml"), load_detector("parcel")
    np.testing.assert_allclose(aligned.centres, nominal.centres, atol=0.2)
    status, _, _ = run("track", hit_file, "--detector", "aligned.toml", "-o", "tracks.h5")
    assert status == 0


def test_align_tells_machines(run, hit_file: Path) -> None:
    status, out, _ = run("align", hit_file, "--json", "--max-tracks", 1500)
    facts = json.loads(out)
    assert status == 0
    assert facts["converged"] is True
    assert facts["modes held"] == 9
    value, error = facts["panels"]["lower-3"]["shift u [mm]"]
    assert abs(value) < 5 * error < 1.0


def test_calibrate_writes_a_layout(run, hit_file: Path) -> None:
    status, out, _ = run("calibrate", hit_file, "-o", "calibrated.toml")
    assert status == 0
    assert "Written: calibrated.toml" in out
    found = load_detector("calibrated.toml")
    for panel in found.panels:
        assert panel.technology.efficiency == pytest.approx(0.95, abs=0.02)
        assert panel.technology.resolution_mm[0] == pytest.approx(0.13, rel=0.15)


def test_quality_gives_a_verdict(run, hit_file: Path) -> None:
    status, out, _ = run("quality", hit_file, "--out", "quality")
    assert status == 0
    assert out.startswith("Verdict: ok\n")
    assert {path.name for path in Path("quality").iterdir()} == {"quality.json", "quality.html"}
    status, out, _ = run("quality", hit_file, "--json")
    assert json.loads(out)["verdict"] == "ok"
    Path("limits.toml").write_text("chi2 = [0.01, 0.02]\n", encoding="utf-8")
    status, out, _ = run("quality", hit_file, "--limits", "limits.toml")
    assert status == 0
    assert out.startswith("Verdict: bad\n  bad: the tracks' median χ²")


def test_wrong_input_is_one_line(run, hit_file: Path) -> None:
    for words, message in (
        (("align", "none.h5"), "none.h5"),
        (("align", hit_file, "--reference", "uper-1"), "did you mean 'upper-1'"),
        (("quality", hit_file, "--limits", "none.toml"), "none.toml"),
        (("quality", hit_file, "--flux", "nosuch"), "nosuch"),
        (("align", hit_file, "--max-tracks", 500, "-o", "no/such.toml"), "folder no"),
        (("detectors", "check", "nosuch"), "nosuch"),
    ):
        status, _, err = run(*words)
        assert (status, err.count("\n")) == (2, 1), err
        assert message in err


def test_detectors_check_tells_acceptance_and_refuses_overlaps(run) -> None:
    status, out, _ = run("detectors", "check", "parcel", "room")
    assert status == 0
    assert "upper → lower: 0.183" in out
    assert "no fault found" in out
    text = layout_text(load_detector("parcel")).replace("350.0]", "252.0]")
    Path("tight.toml").write_text(text, encoding="utf-8")
    status, _, err = run("detectors", "check", "tight.toml")
    assert status == 2
    assert "panels 'upper-2' and 'upper-3' overlap" in err


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        (6260.4, 17.0, "6260 ± 20"),
        (2082.2, 0.96, "2082.2 ± 1.0"),
        (13.219, 0.0092, "13.219 ± 0.009"),
        (0.0, 0.0, "0.000 ± 0.000"),
    ],
)
def test_a_value_is_told_to_its_error(value: float, error: float, told: str) -> None:
    assert detectors._with_error(value, error) == told


def test_detectors_check_tells_machines(run) -> None:
    status, out, _ = run("detectors", "check", "parcel", "--json")
    (pair,) = json.loads(out)["parcel"]["pairs"]
    assert status == 0
    value, error = pair["rate [Hz]"]
    assert value == pytest.approx(13.5, abs=0.2 + 4 * error)


def test_detectors_show_draws(run) -> None:
    status, out, _ = run("detectors", "show", "room", "--png", "room.png")
    assert status == 0
    assert "Written: room.png" in out
    assert Path("room.png").read_bytes().startswith(b"\x89PNG")
