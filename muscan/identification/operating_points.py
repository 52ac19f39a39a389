"""How often benign cargo raises an alert: a table of simulated scans, and its reader.

A row says: in ``scans`` benign scans of a kind of cargo, with a scanner, a declared container (or
none), a method and an exposure,
alerts of a severity or a higher one, at least as significant as a threshold, came up
``false_alarms`` times a scan. ``muscan study calibrate`` makes the table; the shipped one is
``operating_points.csv`` beside this file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from scipy.special import gammaincinv

from muscan.errors import InputError
from muscan.model.alerts import SEVERITIES, AlertReport, Severity

SHIPPED: Final = Path(__file__).with_name("operating_points.csv")
#: Kind of cargo of the rows that pool all kinds.
ANY_CARGO: Final = "any"
#: Thresholds of the table: what is more significant than the last counts as the last.
THRESHOLDS: Final = (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0)
#: A row serves exposures up to this many times shorter or longer than its own.
REACH: Final = 1.5


@dataclass(frozen=True)
class OperatingPoint:
    """A row of the table.

    Attributes
    ----------
    scanner : str
        Name of the layout.
    container : str
        The container that was declared (`muscan.model.containers`), "" for none.
    cargo : str
        The template of the benign scenes, or ``any`` for all kinds together.
    method : str
        Reconstruction method of the volume.
    exposure_s : float
    severity : str
        Alerts of this severity or a higher one are counted …
    significance : float
        … that are at least this significant.
    false_alarms : float
        Expected number of them a scan: (k + ½) / n for k in n scans, which is never nought.
    low, high : float
        Its central 68 % interval (Poisson, Jeffreys prior).
    scans : int
        n.
    provenance : str
        The command and the version that made the row.
    """

    scanner: str
    container: str
    cargo: str
    method: str
    exposure_s: float
    severity: Severity
    significance: float
    false_alarms: float
    low: float
    high: float
    scans: int
    provenance: str


@dataclass(frozen=True)
class FalseAlarms:
    """What the table says of one scan.

    Attributes
    ----------
    points : tuple of OperatingPoint
        The rows of the scanner, container, cargo and method, at the one or two nearest exposures.
    exposure_s : float
    """

    points: tuple[OperatingPoint, ...]
    exposure_s: float

    def rate(self, severity: Severity, significance: float) -> float | None:
        """Return the expected number of such alerts or worse in a benign scan.

        Linear in the logarithm of the rate between thresholds, and between exposures.
        None where the table does not go down to such a low significance.
        """
        exposures = sorted({point.exposure_s for point in self.points})
        logs = [self._log_rate(exposure, severity, significance) for exposure in exposures]
        known = {math.log(e): x for e, x in zip(exposures, logs, strict=True) if x is not None}
        if not known:
            return None
        here = math.log(self.exposure_s)
        return float(np.exp(np.interp(here, list(known), list(known.values()))))

    def _log_rate(self, exposure: float, severity: Severity, significance: float) -> float | None:
        rows = {
            point.significance: math.log(point.false_alarms)
            for point in self.points
            if point.exposure_s == exposure and point.severity == severity
        }
        thresholds = sorted(rows)
        if not rows or significance < thresholds[0]:
            return None
        return float(np.interp(significance, thresholds, [rows[x] for x in thresholds]))


def false_alarms_of(
    scanner: str,
    method: str,
    exposure_s: float,
    cargo: str = ANY_CARGO,
    container: str = "",
    points: Sequence[OperatingPoint] | None = None,
) -> FalseAlarms | None:
    """Return what the table says of a scan; None where no row fits.

    Parameters
    ----------
    scanner : str
        Name of the layout.
    method : str
        Reconstruction method.
    exposure_s : float
        Live time [s].
    cargo : str
        Declared kind of cargo; where the table lacks it, all kinds together.
    container : str
        Declared container. Undeclared, its posts are objects like any other: rows of scans that
        declared one do not say how often those alarm.
    points : sequence of OperatingPoint, optional
        The table; the shipped one unless given.
    """
    table = shipped_operating_points() if points is None else points
    case = scanner, container, method
    same = [p for p in table if (p.scanner, p.container, p.method) == case]
    rows = [p for p in same if p.cargo == cargo] or [p for p in same if p.cargo == ANY_CARGO]
    if not rows or not exposure_s > 0:
        return None
    exposures = {p.exposure_s for p in rows}
    around = {
        max((e for e in exposures if e <= exposure_s), default=min(exposures)),
        min((e for e in exposures if e >= exposure_s), default=max(exposures)),
    }
    if min(abs(math.log(e / exposure_s)) for e in around) > math.log(REACH) and len(around) == 1:
        return None
    return FalseAlarms(tuple(p for p in rows if p.exposure_s in around), exposure_s)


def count_false_alarms(
    reports: Iterable[AlertReport],
    *,
    scanner: str,
    container: str,
    cargo: str,
    method: str,
    exposure_s: float,
    provenance: str,
) -> list[OperatingPoint]:
    """Return the rows that benign scans make: one a severity and threshold.

    Parameters
    ----------
    reports : iterable of AlertReport
        Of scans of benign scenes, each with all its alerts.
    scanner, container, cargo, method, exposure_s, provenance
        As of `OperatingPoint`.

    Raises
    ------
    InputError
        If there are no scans.
    """
    scans = [
        [(SEVERITIES.index(alert.severity), alert.significance or 0.0) for alert in report.alerts]
        for report in reports
    ]
    if not scans:
        raise InputError("calibration", "no benign scans", "simulate some")
    rows = []
    for rank, severity in enumerate(SEVERITIES):
        for threshold in THRESHOLDS:
            k = sum(r >= rank and s >= threshold for scan in scans for r, s in scan)
            low, high = gammaincinv(k + 0.5, [0.15866, 0.84134]) / len(scans)
            rows.append(
                OperatingPoint(
                    scanner, container, cargo, method, exposure_s, severity, threshold,
                    (k + 0.5) / len(scans), float(low), float(high), len(scans), provenance,
                )
            )  # fmt: skip
    return rows


def operating_points_text(points: Iterable[OperatingPoint]) -> str:
    """Return the table as the text of its file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(OperatingPoint))
    for point in points:
        values = astuple(point)
        writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in values)
    return text.getvalue()


def read_operating_points(path: str | Path) -> list[OperatingPoint]:
    """Return the rows of a table's file.

    Raises
    ------
    InputError
        If it cannot be read, or a row is wrong, naming its line.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    found = []
    for line, row in enumerate(rows, start=2):
        try:
            found.append(_point(row))
        except (KeyError, TypeError, ValueError) as error:
            problem = f"line {line}: not a row of operating points ({error})"
            raise InputError(path, problem, "rebuild it: muscan study calibrate") from error
    return found


def _point(row: dict[str, str]) -> OperatingPoint:
    severity = next((s for s in SEVERITIES if s == row["severity"]), None)
    if severity is None:
        raise ValueError(f"severity {row['severity']}")
    point = OperatingPoint(
        scanner=row["scanner"],
        container=row["container"],
        cargo=row["cargo"],
        method=row["method"],
        exposure_s=float(row["exposure_s"]),
        severity=severity,
        significance=float(row["significance"]),
        false_alarms=float(row["false_alarms"]),
        low=float(row["low"]),
        high=float(row["high"]),
        scans=int(row["scans"]),
        provenance=row["provenance"],
    )
    if not (point.exposure_s > 0 and point.false_alarms > 0):
        raise ValueError("an exposure or a rate is not positive")
    return point


@lru_cache(maxsize=1)
def shipped_operating_points() -> tuple[OperatingPoint, ...]:
    """Return the shipped table."""
    return tuple(read_operating_points(SHIPPED))


def with_rates(report: AlertReport, rates: FalseAlarms | None) -> AlertReport:
    """Return a report whose alerts have the false-alarm rates of the table.

    Benign scans are few: an alert keeps the rate that counts chance only where that is the higher
    one. Where the table has none, it keeps it as well, and a warning says so.
    """
    if not report.alerts:
        return report
    found = [
        rates.rate(alert.severity, alert.significance or 0.0) if rates else None
        for alert in report.alerts
    ]
    alerts = [
        alert
        if rate is None
        else alert.model_copy(update={"false_alarm_rate": max(rate, alert.false_alarm_rate or 0.0)})
        for alert, rate in zip(report.alerts, found, strict=True)
    ]
    missing = sum(rate is None for rate in found)
    if not missing:
        return report.model_copy(update={"alerts": alerts})
    which = "" if missing == len(found) else f" of {missing} alerts"
    warning = (
        f"false-alarm rates{which} count chance only: there are no benign scans of this scanner, "
        "declared container, method and exposure to compare with"
    )
    return report.model_copy(update={"alerts": alerts, "warnings": [*report.warnings, warning]})
