"""Alerts leave the machine: into a scan's outbox, and from it to the targets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from muscan.errors import InputError
from muscan.io import outbox as queue
from muscan.io.targets import event_body, sender
from muscan.model.alerts import Alert, AlertReport
from muscan.pipeline.common import PathLike
from muscan.pipeline.record import record_alert, record_scan, record_unsent

RAISED: Final = "muscan.alert.raised"
ENDED: Final = "muscan.scan.ended"


class Notifier:
    """A scan's outbox and a thread that sends from it; without targets it does nothing.

    Parameters
    ----------
    folder : Path
        Of the scan.
    targets : sequence of str
        See `muscan.io.targets.sender`.

    Raises
    ------
    InputError
        If a target or the outbox is unsound.
    MissingExtraError
        If there is a target, and the extra ``notify`` is not installed.
    """

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self._targets = tuple(dict.fromkeys(targets))
        self._source = f"/muscan/scans/{folder.resolve().name}"
        self._courier: queue.Courier | None = None
        if self._targets:
            check_targets(self._targets)
            senders = {target: sender(target) for target in self._targets}
            self._outbox = queue.Outbox(folder / queue.FILE_NAME)
            self._courier = queue.Courier(self._outbox, senders)

    def alert(self, alert: Alert, scan: dict[str, Any]) -> None:
        """Send an alert; once only, by its id."""
        data = {"alert": alert.model_dump(mode="json"), "scan": scan}
        self._put(alert.id, RAISED, alert.id, data)

    def ended(self, name: str, data: dict[str, Any]) -> None:
        """Send what came out of a scan; once only."""
        self._put(f"{name}-ended", ENDED, name, data)

    def _put(self, event_id: str, kind: str, subject: str, data: dict[str, Any]) -> None:
        if self._courier is None:
            return
        body = event_body(event_id, kind, self._source, subject, data)
        self._outbox.put(event_id, body, self._targets)
        self._courier.wake()

    def close(self, patience_s: float = 10.0) -> dict[str, int]:
        """Wait until all is sent, not longer than given; return what is left, by target."""
        if self._courier is None:
            return {}
        self._courier.stop(patience_s)
        return self._outbox.unsent()


def check_targets(targets: Sequence[str]) -> None:
    """Raise InputError or MissingExtraError unless all targets can be sent to."""
    if targets:
        event_body("check", RAISED, "/muscan", "check", {})
    for target in targets:
        sender(target)


def announce(folder: Path, report: AlertReport, targets: Sequence[str]) -> None:
    """Enter a finished scan and its alerts in its audit trail, and send them to the targets."""
    name = report.scan.run_id or folder.resolve().name
    scan = report.scan.model_dump(mode="json")
    notifier = Notifier(folder, targets)
    for alert in report.alerts:
        notifier.alert(alert, scan)
        record_alert(folder, alert)
    outcome = f"{len(report.alerts)} alerts by {report.scan.method}"
    record_scan(folder, name, outcome)
    notifier.ended(name, {"scan": scan, "alerts": [alert.id for alert in report.alerts]})
    record_unsent(folder, notifier.close())


def flush(folder: PathLike, *, wait: float = 0.0) -> dict[str, int]:
    """Send what a scan's outbox still holds.

    Parameters
    ----------
    folder : path
        Of the scan.
    wait : float
        How long to go on trying [s]; each event is tried at once, at least.

    Returns
    -------
    dict of str to int
        How many events each target has still not taken; empty when all are sent.

    Raises
    ------
    InputError
        If there is no outbox, or a target in it is unsound.
    """
    path = Path(folder) / queue.FILE_NAME
    if not path.is_file():
        raise InputError(path, "no such file", "give the folder of a scan that had --notify")
    outbox = queue.Outbox(path)
    senders = {target: sender(target) for target in outbox.unsent()}
    deadline = time.monotonic() + wait
    again = outbox.deliver(senders, now=True)
    while again is not None and time.monotonic() < deadline:
        time.sleep(min(max(again - time.time(), 0.05), max(deadline - time.monotonic(), 0.0)))
        again = outbox.deliver(senders)
    return outbox.unsent()
