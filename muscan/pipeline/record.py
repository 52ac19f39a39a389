"""The audit trail of a scan's folder: scans and alerts, beside the operators' decisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from muscan.io import audit
from muscan.model.alerts import Alert

SCANNED: Final = "scanned"
RAISED: Final = "alert"
UNSENT: Final = "not sent yet"


def record_alert(folder: Path, alert: Alert) -> None:
    """Enter an alert, once by its id."""
    log = folder / audit.FILE_NAME
    if any(e["action"] == RAISED and e["subject"] == alert.id for e in audit.read(log)):
        return
    what = f"{alert.severity}: {alert.material.name} {alert.material.probability:.0%}"
    audit.append(log, RAISED, subject=alert.id, reason=what, evidence=folder / "alerts.json")


def record_scan(folder: Path, name: str, outcome: str) -> None:
    """Enter a scan and what came out of it, with the hash of its alerts."""
    evidence = folder / "alerts.json"
    audit.append(folder / audit.FILE_NAME, SCANNED, subject=name, reason=outcome, evidence=evidence)


def record_unsent(folder: Path, left: Mapping[str, int]) -> None:
    """Enter how many events no target has taken yet, if there are some."""
    if left:
        waiting = ", ".join(f"{count} to {target}" for target, count in left.items())
        audit.append(folder / audit.FILE_NAME, UNSENT, reason=waiting)
