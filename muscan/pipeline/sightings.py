"""One name for one object, while its place is measured better and better.

An alert's id is made from its place to a millimetre, which moves as muons come in. A running scan
keeps the id that an object got first, in ``watch.json`` in its folder, so that ids outlive a
restart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from muscan import io
from muscan.errors import InputError
from muscan.model.alerts import Alert, AlertReport

FILE_NAME: Final = "watch.json"
#: Two regions are one object if their centres are no farther apart, along each axis, than half of
#: the larger box and this [mm].
SLACK_MM: Final = 100.0


class Sightings:
    """The objects that a running scan has seen.

    Parameters
    ----------
    folder : Path
        Of the scan.
    hits : Path
        The file that it follows.

    Attributes
    ----------
    look : int
        The last decision that was made, −1 before any.

    Raises
    ------
    InputError
        If the folder is that of another scan, or its state is damaged.
    """

    def __init__(self, folder: Path, hits: Path) -> None:
        self._path = folder / FILE_NAME
        self._hits = str(hits.resolve())
        self._known: list[dict[str, Any]] = []
        self.look = -1
        if self._path.is_file():
            self._read()

    def _read(self) -> None:
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
            hits, self.look, self._known = state["hits"], int(state["look"]), state["objects"]
            for known in self._known:
                str(known["id"]), float(known["centre"][2]), float(known["size"][2])
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise InputError(self._path, "is damaged", "remove it, or use another --out") from error
        if hits != self._hits:
            raise InputError(self._path, f"belongs to a scan of {hits}", "use another --out")

    def named(self, report: AlertReport) -> AlertReport:
        """Return the report with the ids that its objects got first."""
        free = list(self._known)
        alerts = []
        for alert in report.alerts:
            known = min(free, key=lambda one: _distance(one, alert), default=None)
            if known is not None and _distance(known, alert) <= 1.0:
                free.remove(known)
            else:
                known = {"id": self._unused(alert.id)}
                self._known.append(known)
            known |= {"centre": list(alert.position_mm), "size": _size(alert)}
            alerts.append(alert.model_copy(update={"id": known["id"]}))
        return report.model_copy(update={"alerts": alerts})

    def write(self) -> None:
        """Write the state, whole or not at all."""
        state = {"hits": self._hits, "look": self.look, "objects": self._known}
        io.write_text(self._path, json.dumps(state, indent=1) + "\n")

    def _unused(self, alert_id: str) -> str:
        taken = {known["id"] for known in self._known}
        number, name = 1, alert_id
        while name in taken:
            number, name = number + 1, f"{alert_id}-{number + 1}"
        return name


def _size(alert: Alert) -> list[float]:
    low, high = alert.extent_mm
    return [b - a for a, b in zip(low, high, strict=True)]


def _distance(known: dict[str, Any], alert: Alert) -> float:
    """Return how far apart two regions are, 1 at the limit of being one."""
    return max(
        float(abs(a - b) / (max(s, t) / 2 + SLACK_MM))
        for a, b, s, t in zip(
            known["centre"], alert.position_mm, known["size"], _size(alert), strict=True
        )
    )
