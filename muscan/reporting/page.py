"""The HTML page of a scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from muscan.model.alerts import LEAST_RATE, SEVERITIES, AlertReport
from muscan.model.volume import Volume
from muscan.reporting import catalogue, interactive, rendering

#: Alerts beyond this many have no pictures, so that the page stays small enough to mail.
MAX_PICTURED: Final = 20
_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(
    report: AlertReport,
    volume: Volume,
    facts: Mapping[str, Any],
    *,
    language: str | Path = "en",
    decisions: Mapping[str, Mapping[str, str]] | None = None,
    with_viewer: bool = True,
) -> str:
    """Return one self-contained HTML page.

    Parameters
    ----------
    report : AlertReport
        What was found.
    volume : Volume
        In which it was found.
    facts : mapping
        What else to tell of the scan, such as the events dropped by reason.
    language : str or Path
        ``"en"``, ``"fr"``, or the path of a catalogue like ``languages/en.toml``.
    decisions : mapping of str to mapping, optional
        What was decided on alerts, by id: ``decision`` (``"confirmed"`` or ``"dismissed"``),
        ``who``, ``time`` and ``reason``.
    with_viewer : bool
        Whether to inline the interactive volume (about 1 to 3 MB).

    Raises
    ------
    MissingExtraError
        If Jinja or Matplotlib is not installed.
    InputError
        If there is no such language, or its file is wrong.
    """
    words = catalogue.load(language)
    environment = rendering.environment()
    from muscan.reporting import pictures

    number, interval = _formats(words)

    def rate(value: float | None) -> str:
        too_small = value is not None and value < LEAST_RATE
        return f"< {number(LEAST_RATE)}" if too_small else number(value, 2)

    environment.filters.update(number=number, interval=interval, rate=rate)
    pictured = report.alerts[:MAX_PICTURED]
    return environment.get_template("page.html").render(
        words=words,
        report=report,
        worst=max((a.severity for a in report.alerts), key=SEVERITIES.index, default=""),
        overview=pictures.projections(volume, report.alerts, words["picture"]),
        cuts=[pictures.slices(volume, alert, words["picture"]) for alert in pictured],
        solids=[pictures.solid_view(volume, alert) for alert in pictured],
        quality=_quality(report, volume, words, number) + _given(facts, words),
        method=_method(report, volume, words, number),
        decisions=decisions or {},
        exposure=_exposure(report.scan.live_time_s, words, number),
        viewer=_viewer(report, volume, words) if with_viewer else None,
    )


def _viewer(report: AlertReport, volume: Volume, words: Mapping[str, Any]) -> dict[str, Any]:
    alerts = [{"position": a.position_mm, "name": a.material.name} for a in report.alerts]
    data = interactive.viewer_data(volume) | {
        "alerts": alerts,
        "unknown": words["page"]["unknown"],
        "decimal": words["decimal"],
    }
    return {"code": interactive.viewer_code(), "data": data}


def _formats(
    words: Mapping[str, Any],
) -> tuple[Callable[..., str], Callable[[Any], str]]:
    """Return how to write a number and an interval in the catalogue's language."""
    unknown = words["page"]["unknown"]

    def number(value: float | None, digits: int = 3) -> str:
        if value is None or not np.isfinite(value):
            return str(unknown)
        text = f"{value:.{digits}g}"
        if "e" in text and 1 <= abs(value) < 1e7:
            text = f"{float(text):.0f}"
        mantissa, _, power = text.partition("e")
        mantissa = mantissa.replace(".", words["decimal"])
        return f"{mantissa}·10{str(int(power)).translate(_SUPERSCRIPT)}" if power else mantissa

    def interval(value: Any) -> str:
        if value is None or value.value is None:
            return str(unknown)
        parts = {name: number(getattr(value, name)) for name in ("value", "low", "high")}
        return str(words["page"]["interval"].format(**parts))

    return number, interval


def _exposure(
    seconds: float | None, words: Mapping[str, Any], number: Callable[[float | None], str]
) -> str | None:
    if seconds is None:
        return None
    if seconds < 120:
        return str(words["page"]["seconds"].format(value=number(seconds)))
    return str(words["page"]["minutes"].format(value=number(seconds / 60)))


def _quality(
    report: AlertReport,
    volume: Volume,
    words: Mapping[str, Any],
    number: Callable[[float | None], str],
) -> list[tuple[str, str]]:
    """Return what tells how far the data can be trusted, as names and values."""
    names, unknown = words["facts"], words["page"]["unknown"]
    seen = volume.n_muons > 0
    sigma = volume.uncertainty[seen & np.isfinite(volume.uncertainty)]
    return [
        (names["exposure"], _exposure(report.scan.live_time_s, words, number) or unknown),
        (names["muons"], str(report.scan.n_muons)),
        (names["seen"], f"{number(100 * float(seen.mean()))} %"),
        (
            names["muons_per_voxel"],
            number(float(np.median(volume.n_muons[seen])) if seen.any() else None),
        ),
        (
            names["uncertainty"],
            f"{number(float(np.median(sigma)))} mrad²/cm" if len(sigma) else unknown,
        ),
    ]


def _given(facts: Mapping[str, Any], words: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that the scan handed over, in the catalogue's words where it has them."""
    given = words["given"]
    return [
        (str(given.get(name, name)), str(given.get(str(value), value)))
        for name, value in facts.items()
        if value not in (None, "")
    ]


def _method(
    report: AlertReport,
    volume: Volume,
    words: Mapping[str, Any],
    number: Callable[[float | None], str],
) -> list[tuple[str, str]]:
    names = words["facts"]
    x, y, z = (number(float(size)) for size in volume.grid.spacing)
    rows = [
        (names["run"], report.scan.run_id),
        (names["start"], volume.run.start_time if volume.run else ""),
        (names["reconstruction"], f"{volume.method}, {names['voxels'].format(x=x, y=y, z=z)}"),
        (
            names["density"],
            names["density_value"].format(
                constant=number(volume.scattering_constant_MeV),
                momentum=number(volume.reference_momentum_GeV),
            ),
        ),
        (names["database"], report.scan.materials_version),
        (names["software"], f"muscan {version('muscan')}"),
        (names["viewer"], "niivue 0.69.0 (BSD-2-Clause, © 2021 Niivue)"),
    ]
    return [(name, value) for name, value in rows if value]
