"""The table of operating points: how often benign cargo raises alerts, made by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from muscan import io
from muscan.identification.operating_points import (
    ANY_CARGO,
    OperatingPoint,
    count_false_alarms,
    operating_points_text,
    read_operating_points,
)
from muscan.model.alerts import AlertReport
from muscan.studies.matching import Scan

_Case = tuple[str, str, str, str, float]


def operating_points(found: Sequence[Scan]) -> list[OperatingPoint]:
    """Return the rows that benign scans make, for each kind of cargo and for all together.

    Parameters
    ----------
    found : sequence of Scan
        Scans with a threat are left out.
    """
    cases: dict[_Case, list[Scan]] = {}
    for scan in found:
        if scan.has_threat:
            continue
        for cargo in (scan.scene, ANY_CARGO):
            method = str(scan.parameters["method"])
            case = scan.scanner, scan.container, cargo, method, scan.exposure_s
            cases.setdefault(case, []).append(scan)
    return [
        point
        for (scanner, container, cargo, method, exposure), scans in sorted(cases.items())
        for point in count_false_alarms(
            (AlertReport.model_validate(scan.result["report"]) for scan in scans),
            scanner=scanner,
            container=container,
            cargo=cargo,
            method=method,
            exposure_s=exposure,
            provenance=f"muscan study calibrate, muscan {version('muscan')}",
        )
    ]


def write_operating_points(path: Path, found: Sequence[Scan]) -> Path:
    """Write the table, keeping the rows of other cases that the file has."""
    points = operating_points(found)
    made = {_case(point) for point in points}
    kept = read_operating_points(path) if path.exists() else []
    everything = [point for point in kept if _case(point) not in made] + points
    everything.sort(key=_case)
    io.write_text(path, operating_points_text(everything))
    return path


def _case(point: OperatingPoint) -> _Case:
    return point.scanner, point.container, point.cargo, point.method, point.exposure_s
