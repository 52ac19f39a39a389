"""Which alert is of which threat, and what a scan's record says as one row of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muscan.model.alerts import SEVERITIES

Record = Mapping[str, Any]

#: An alert is of a threat if it lies within its box or this near to it on each axis [mm].
NEAR_MM = 100.0
#: False alarms a scan at which alerts are raised, and detection is told.
OPERATING_RATE = 0.05
#: What an alert without a significance, and a scan without an alert, count as.
NOTHING = -np.inf


@dataclass(frozen=True)
class Scan:
    """One scan of a study after one exposure.

    Attributes
    ----------
    parameters : mapping
        What the scan was made with.
    scanner : str
        Name of the layout.
    container : str
        The container that was declared, "" for none.
    truth : mapping
        Threats and masses, see `muscan.studies.scan.study_scan`.
    result : mapping
        What the chain found after the exposure.
    """

    parameters: Mapping[str, Any]
    scanner: str
    container: str
    truth: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def alerts(self) -> Sequence[Mapping[str, Any]]:
        """All alerts, as in ``alerts.json``, however often chance makes them."""
        found: Sequence[Mapping[str, Any]] = self.result["report"]["alerts"]
        return found

    @property
    def raised(self) -> list[Mapping[str, Any]]:
        """The alerts that are raised at the operating point."""
        return [alert for alert in self.alerts if is_raised(alert)]

    def worst(self, severity: str) -> list[Mapping[str, Any]]:
        """Return the alerts of at least a severity."""
        return [alert for alert in self.alerts if is_severe(alert, severity)]

    def of_threats(self, alerts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return those of the alerts that are of one of the threats."""
        return [a for a in alerts if any(is_of(a, threat) for threat in self.truth["threats"])]

    @property
    def scene(self) -> str:
        """Name of its scene or template."""
        return str(self.parameters["scene"])

    @property
    def exposure_s(self) -> float:
        """Exposure [s]."""
        return float(self.result["exposure_s"])

    @property
    def has_threat(self) -> bool:
        """Whether there is anything to find."""
        return bool(self.truth["threats"])


def scans(jobs: Sequence[Mapping[str, Any]], records: Sequence[Record | None]) -> list[Scan]:
    """Return every scan that did not fail after every exposure."""
    return [
        Scan(parameters, record["scanner"], record["container"], record["truth"], result)
        for parameters, record in zip(jobs, records, strict=True)
        if record is not None
        for result in record["results"]
    ]


def grouped(found: Iterable[Scan]) -> dict[tuple[str, float], list[Scan]]:
    """Return the scans by scene and exposure, each in order."""
    groups: dict[tuple[str, float], list[Scan]] = {}
    for scan in found:
        groups.setdefault((scan.scene, scan.exposure_s), []).append(scan)
    return dict(sorted(groups.items()))


def highest(alerts: Iterable[Mapping[str, Any]]) -> float:
    """Return the significance of the surest of some alerts."""
    return max(map(significance, alerts), default=NOTHING)


def is_raised(alert: Mapping[str, Any]) -> bool:
    """Whether an alert is raised at the operating point."""
    rate = alert["false_alarm_rate"]
    return rate is None or rate <= OPERATING_RATE


def is_severe(alert: Mapping[str, Any], severity: str) -> bool:
    """Whether an alert is of at least a severity."""
    return SEVERITIES.index(alert["severity"]) >= SEVERITIES.index(severity)


def significance(alert: Mapping[str, Any]) -> float:
    """Return an alert's significance."""
    value = alert["significance"]
    return NOTHING if value is None else float(value)


def is_of(alert: Mapping[str, Any], threat: Mapping[str, Any]) -> bool:
    """Whether an alert lies in a threat's box, or near it."""
    return bool((offset(alert, threat) <= np.array(threat["size_mm"]) / 2 + NEAR_MM).all())


def offset(alert: Mapping[str, Any], threat: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the distance between their centres along each axis [mm]."""
    apart = np.asarray(alert["position_mm"], float) - np.asarray(threat["centre_mm"], float)
    return np.asarray(np.abs(apart))


def best_alert(
    alerts: Iterable[Mapping[str, Any]], threat: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return the surest of the alerts that are of a threat, None if there is none."""
    near = [alert for alert in alerts if is_of(alert, threat)]
    return max(near, key=significance, default=None)


def mass_inside(alert: Mapping[str, Any], threats: Iterable[Mapping[str, Any]]) -> float:
    """Return the mass of the threats whose centres an alert's box holds, or which it is of [kg].

    Pieces packed together, such as bricks, are one region to a scanner.
    """
    low, high = np.array(alert["extent_mm"])
    return float(
        sum(
            threat["mass_kg"]
            for threat in threats
            if is_of(alert, threat)
            or ((threat["centre_mm"] >= low) & (threat["centre_mm"] <= high)).all()
        )
    )
