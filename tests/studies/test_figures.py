"""What the figures of studies show of their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.studies import figures
from muscan.studies.matching import NOTHING

pytest.importorskip("matplotlib", reason="figures are of an extra, which the gate installs")

NAN = float("nan")


@pytest.fixture
def axes() -> Any:
    from matplotlib.figure import Figure

    return Figure().subplots()


def bars(axes: Any) -> dict[str, np.ndarray]:
    """Return value, lower and upper end of each series with bars, by its label: (n, 3)."""
    found = {}
    for container in axes.containers:
        line, _, (segments,) = container.lines
        ends = np.array([segment[:, 1] for segment in segments.get_segments()])
        found[container.get_label()] = np.column_stack([line.get_ydata(), ends])
    return found


def fraction(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def test_time_shows_detection_and_clearing_with_their_intervals(axes: Any) -> None:
    table = [
        {"scene": "ore", "severity": severity, "exposure_s": exposure}
        | fraction("detected", detected, detected - 0.1, detected + 0.05)
        | fraction("cleared", NAN, NAN, NAN)
        for severity in ("info", "high")
        for exposure, detected in ((30.0, 0.25), (60.0, 0.75))
    ]
    figures._time(axes, {"time": table})
    # Alerts of any severity once, and nothing of what no scan tells.
    assert list(bars(axes)) == ["ore, detected"]
    expected = [[0.25, 0.15, 0.3], [0.75, 0.65, 0.8]]
    np.testing.assert_allclose(bars(axes)["ore, detected"], expected)
    assert axes.get_legend() is not None


def test_weights_are_drawn_over_the_true_ones_on_a_diagonal(axes: Any) -> None:
    rows = [
        {"what": "load", "true_kg": 5000.0, "mass_kg": 5200.0, "low_kg": 4900.0, "high_kg": 5400.0},
        {"what": "load", "true_kg": 9000.0, "mass_kg": 8000.0, "low_kg": 7000.0, "high_kg": NAN},
    ]
    figures._weight(axes, {"weights": rows})
    expected = [[5200, 4900, 5400], [8000, 7000, 8000]]  # an end that is not known is not drawn
    np.testing.assert_allclose(bars(axes)["load"], expected)
    diagonal = axes.lines[-1]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_a_threshold_is_drawn_over_the_scans_that_it_alarms(axes: Any) -> None:
    rows = [
        {"scene": "ore", "exposure_s": 60.0, "severity": "info", "highest": highest}
        for highest in (4.0, NOTHING, 7.0, 5.0)
    ]
    figures._calibrate(axes, {"highest": rows})
    (line,) = [line for line in axes.lines if line.get_label() == "ore, 60 s"]
    # Of four scans one has no alert at all: sorted, it comes last, and is not drawn.
    drawn = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert drawn == {7.0: 0.25, 5.0: 0.5, 4.0: 0.75}


def test_a_figure_is_a_file_that_appears_whole(tmp_path: Path) -> None:
    (path,) = figures.draw("calibrate", {"highest": []}, tmp_path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "calibrate.png"]
    with pytest.raises(InputError, match="does not exist"):
        figures.draw("calibrate", {"highest": []}, tmp_path / "none")
