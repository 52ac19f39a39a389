"""The examples run, shortened, and give what they say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

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
