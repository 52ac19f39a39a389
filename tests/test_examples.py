"""The examples run, shortened, and give what they say."""

from __future__ import annotations

import runpy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import muscan
from muscan import io

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the `main` of an example by its name, imported as when it is run."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def test_every_example_is_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert lengths
    assert {name for name, length in lengths.items() if length >= 60} == set()


def test_the_readme_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f"`{path.name}`" not in text] == []


def test_first_scan(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main("first_scan")(minutes=0.5)
    assert "with a track in and a track out" in capsys.readouterr().out


def test_custom_detector_resolves_angles_as_its_planes_allow(main: Any) -> None:
    # Three planes 200 mm apart with 0.2 mm each: 0.2 / sqrt(200² + 200²) without scattering.
    assert 0.707 < main("custom_detector")(minutes=0.5) < 1.6


def test_their_csv_gives_tracks(main: Any) -> None:
    assert main("read_csv")(minutes=0.05) > 1000


def test_finer_planes_see_the_brick_better(main: Any) -> None:
    fine, coarse = main("detector_sweep")(minutes=4.0, resolutions=(0.3, 3.0))
    assert fine > 2 * coarse > 0


def test_alignment_finds_the_moved_plane(main: Any) -> None:
    found, error = main("alignment")(minutes=0.5)
    assert 0 < error < 0.1
    assert found == pytest.approx(0.8, abs=5 * error)


def test_a_detection_study_goes_on_where_it_was(
    main: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"scenes": ["uniform-0.6"], "exposures": [5.0], "voxel": 200}
    options |= {"folder": tmp_path, "scans": 1, "method": "poca", "workers": 1}
    rows = main("detection_study")(**options)
    assert [(row["severity"], row["n_benign"], row["n_threat"]) for row in rows] == [
        ("info", 1, 1),
        ("high", 1, 1),
    ]
    assert "2 of 2 scans made now" in capsys.readouterr().out
    assert main("detection_study")(**options) == rows
    assert "0 of 2 scans made now" in capsys.readouterr().out


def test_a_live_scan_gives_the_hits_it_was_made_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    muscan.simulate("blocks", minutes=0.05, seed=1, output=tmp_path / "whole.h5")
    import_module("live_scan").replay(tmp_path / "whole.h5", tmp_path / "live.h5", 20.0, 512)
    whole, live = (io.read_hits(tmp_path / name) for name in ("whole.h5", "live.h5"))
    for column in ("event_id", "panel", "u", "v", "time", "amplitude"):
        np.testing.assert_array_equal(getattr(whole, column), getattr(live, column))
    assert live.run.live_time_s == whole.run.live_time_s == pytest.approx(3.0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_campaign_on_dask_gives_what_it_gives_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")  # an extra of its own, which the gate installs
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))  # for the workers
    campaign = import_module("dask_campaign")
    found = campaign.main("local:1", tmp_path, minutes=(0.1,), seeds=1)
    here = campaign.noise({"minutes": 0.1, "seed": 0})
    assert found == {0.1: here["spread"] / here["mean"]}
