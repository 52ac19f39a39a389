"""Figures of studies (extra ``plot``): one file a study, intervals drawn as bars and bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from muscan.errors import MissingExtraError
from muscan.io.atomic import whole_file
from muscan.studies.kinds import Table, Tables
from muscan.studies.matching import OPERATING_RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 150


def draw(kind: str, tables: Tables, folder: Path) -> list[Path]:
    """Draw a study's figure into its folder and return its path.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plot", "matplotlib") from error
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    _DRAWN[kind](figure.subplots(), tables)
    path = folder / f"{kind}.png"
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=_DPI)
    return [path]


def _cases(table: Table, *columns: str) -> dict[tuple[Any, ...], Table]:
    cases: dict[tuple[Any, ...], Table] = {}
    for row in table:
        cases.setdefault(tuple(row[name] for name in columns), []).append(row)
    return cases


def _any(table: Table) -> Table:
    """Return the rows that count alerts of any severity."""
    return [row for row in table if row["severity"] == "info"]


def _column(rows: Table, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=float)


def _bars(
    axes: Axes, x: Sequence[float] | np.ndarray, rows: Table, name: str, **style: Any
) -> None:
    value = _column(rows, name)
    low, high = value - _column(rows, f"{name}_low"), _column(rows, f"{name}_high") - value
    # A fraction at the end of its range may round to the outside of its interval.
    axes.errorbar(x, value, np.maximum([low, high], 0), capsize=3, marker="o", ms=4, **style)


def _roc(axes: Axes, tables: Tables) -> None:
    for (scene, exposure), rows in _cases(_any(tables["roc"]), "scene", "exposure_s").items():
        x = _column(rows, "false_alarms_per_scan")
        axes.step(x, _column(rows, "detected"), where="post", label=f"{scene}, {exposure:g} s")
        axes.fill_between(
            x, _column(rows, "detected_low"), _column(rows, "detected_high"), step="post", alpha=0.1
        )
    axes.axvline(OPERATING_RATE, color="grey", lw=0.8, ls=":")
    axes.set(xlabel="false alarms a benign scan", ylabel="threats detected", ylim=(0, 1.02))
    _legend(axes)


def _time(axes: Axes, tables: Tables) -> None:
    for number, ((scene,), group) in enumerate(_cases(_any(tables["time"]), "scene").items()):
        x = _column(group, "exposure_s") * 1.01**number
        colour = f"C{number % 10}"
        for name, line in (("detected", "-"), ("cleared", "--")):
            if np.isfinite(_column(group, name)).any():
                _bars(axes, x, group, name, ls=line, color=colour, label=f"{scene}, {name}")
    axes.set(xlabel="exposure [s]", ylabel="fraction of scans", ylim=(0, 1.02))
    _legend(axes)


def _weight(axes: Axes, tables: Tables) -> None:
    for (what,), rows in _cases(tables["weights"], "what").items():
        true = _column(rows, "true_kg")
        mass, low, high = (_column(rows, name) for name in ("mass_kg", "low_kg", "high_kg"))
        error = np.nan_to_num(np.maximum([mass - low, high - mass], 0))
        axes.errorbar(true, mass, error, fmt="o", ms=3, lw=0.7, alpha=0.6, label=what)
    ends = np.array(axes.get_xlim() if tables["weights"] else (1, 10))
    ends = np.maximum(ends, 0.5)
    axes.plot(ends, ends, color="grey", lw=0.8)
    axes.set(xscale="log", yscale="log", xlabel="true mass [kg]", ylabel="estimated mass [kg]")
    _legend(axes)


def _confusion(axes: Axes, tables: Tables) -> None:
    table = tables["confusion"]
    answers = [name for name in (table[0] if table else {}) if name not in _HEADINGS]
    share = np.array([[row[name] for name in answers] for row in table])
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (i, j), value in np.ndenumerate(share):
        if value > 0:
            colour = "white" if value > 0.6 else "black"
            axes.text(j, i, f"{value:.0%}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(answers)), answers, rotation=60, ha="right", fontsize=7)
    names = [f"{row['true']}, {row['exposure_s']:g} s ({row['n']})" for row in table]
    axes.set_yticks(range(len(table)), names, fontsize=8)
    axes.set(xlabel="named", ylabel="true")


_HEADINGS = ("exposure_s", "true", "n")


def _calibrate(axes: Axes, tables: Tables) -> None:
    for (scene, exposure), rows in _cases(_any(tables["highest"]), "scene", "exposure_s").items():
        ordered = np.sort(_column(rows, "highest"))[::-1]
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        kept = np.isfinite(ordered)
        axes.step(ordered[kept], share[kept], where="pre", label=f"{scene}, {exposure:g} s")
    axes.axhline(OPERATING_RATE, color="grey", lw=0.8, ls=":")
    axes.set(
        xlabel="threshold on the significance", ylabel="benign scans with an alarm", yscale="log"
    )
    _legend(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


_DRAWN: dict[str, Callable[[Any, Tables], None]] = {
    "roc": _roc,
    "time": _time,
    "weight": _weight,
    "confusion": _confusion,
    "calibrate": _calibrate,
}
