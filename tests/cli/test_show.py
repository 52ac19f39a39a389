"""What commands print: facts, tables of alerts, progress on a terminal only."""

from __future__ import annotations

import os
import sys

import pytest

from muscan.cli import main, show
from muscan.model.alerts import Alert, AlertReport, Interval, MaterialGuess, ScanInfo


def report(*, alerts: int, mass: Interval) -> AlertReport:
    """Return a report with some like alerts."""
    alert = Alert(
        id="run-a",
        severity="high",
        position_mm=(100.0, -20.4, 5.0),
        extent_mm=((50.0, -70.0, -45.0), (150.0, 30.0, 55.0)),
        volume_l=1.0,
        scattering_density=Interval(value=44.6, low=40.0, high=49.0),
        material=MaterialGuess(name="lead", category="metal", probability=0.8),
        mass_kg=Interval(value=None, low=None, high=None),
        significance=12.04,
        false_alarm_rate=None,
        n_muons=500,
        reason="Heavier than structural metal.",
    )
    scan = ScanInfo(run_id="run", live_time_s=60.0, n_muons=300, method="em", materials_version="t")
    return AlertReport(
        scan=scan, alerts=[alert] * alerts, total_mass_kg=mass, warnings=["too short"]
    )


def test_alerts_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_alerts(report(alerts=1, mass=Interval(value=60.0, low=50.0, high=70.0)))
    text = capsys.readouterr().out
    assert text.startswith("1 alert (60 s, 300 muons)")
    (row,) = [line for line in text.splitlines() if "lead" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        *("high", "lead 80%", "100, -20, 5", "44.6 (40–49)"),
        *("unknown", "1", "12.0", "unknown"),
    ]
    assert "Total mass: 60 (50–70) kg\nWarning: too short\n" in text


@pytest.mark.parametrize(
    ("rate", "told"), [(0.0389, "0.039"), (1e-9, "1e-09"), (2.8e-187, "< 1e-09"), (0.0, "< 1e-09")]
)
def test_a_rate_far_out_in_the_tail_is_a_limit(
    rate: float, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(alerts=1, mass=Interval(value=60.0, low=50.0, high=70.0))
    alerts = [found.alerts[0].model_copy(update={"false_alarm_rate": rate})]
    show.print_alerts(found.model_copy(update={"alerts": alerts}))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "lead" in line]
    assert row.strip("│").split("│")[-1].strip() == told


def test_no_alert_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_alerts(report(alerts=0, mass=Interval(value=None, low=None, high=None)))
    assert capsys.readouterr().out == (
        "No alerts (60 s, 300 muons)\nTotal mass: unknown kg\nWarning: too short\n"
    )


def test_facts_are_aligned_and_nested(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_facts({"a": 1, "long": None, "inner": {"x": [1, 2]}})
    assert capsys.readouterr().out == "a      1\nlong   unknown\ninner:\n  x  1, 2\n"


@pytest.mark.skipif(
    not hasattr(os, "openpty"),
    reason="Windows has no openpty to draw on; progress there is not tested",
)
def test_progress_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    # A bar appears after some time, and not on TERM=dumb, whatever the tests run in.
    monkeypatch.setattr(show, "_PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with show.progress_bar(quiet=False) as tell:
            assert tell is not None
            tell("simulate", 0.5)
        with show.progress_bar(quiet=True) as tell:
            assert tell is None
        terminal.flush()
        text = os.read(master, 65536).decode()
    os.close(master)
    assert "simulate" in text
    assert "50%" in text


def test_no_progress_where_there_is_no_terminal() -> None:
    with show.progress_bar(quiet=False) as tell:
        assert tell is None


def test_layouts_are_listed_and_shown(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    def out(*words: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        assert not stopped.value.code
        return capsys.readouterr().out

    assert "container-portal" in out("detectors", "list")
    assert '"container-portal"' in out("detectors", "list", "--json")
    assert "upper" in out("detectors", "show", "container-portal")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "portal.png"
    assert f"Written: {picture}" in out("detectors", "show", "parcel", "--png", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
