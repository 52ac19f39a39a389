"""What a running scan shows when it is looked at, and whether that is enough."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

from muscan import io
from muscan.errors import InputError
from muscan.identification.clearance import Clearance, clearance
from muscan.identification.segment import known_voxels
from muscan.identification.verdict import chance_regions, independent_positions
from muscan.model.alerts import SEVERITIES, AlertReport
from muscan.model.events import pair_tracks
from muscan.model.material import MaterialDatabase
from muscan.model.volume import Volume
from muscan.pipeline import sequential
from muscan.pipeline.common import assumed_flux
from muscan.pipeline.gathering import Snapshot
from muscan.pipeline.notify import Notifier
from muscan.pipeline.record import record_alert, record_scan
from muscan.pipeline.sightings import Sightings
from muscan.pipeline.volumes import identify, reconstruct

Verdict = Literal["alert", "clear", "undecided"]

#: The statistical reconstruction is made again at this many times the muons of the last, and after
#: a pause as long as it took, so that it has half of the time at most.
WORTH_AGAIN: Final = 1.25
#: It is not made of fewer muons.
WORTH_FIRST: Final = 20_000


@dataclass(frozen=True)
class Look:
    """What a look at a running scan showed.

    Attributes
    ----------
    report : AlertReport
        The alerts as they stand, certain or not.
    certain : tuple of str
        Ids of the alerts of which chance makes no more than this look may.
    clearance : Clearance or None
        Whether there is room for a dangerous object; None where that was not tested.
    muons, rows : int
        Muons with both tracks, and hits, so far.
    live_time_s : float
    verdict : {"alert", "clear", "undecided"}
    reason : str
        Why the scan ends; empty while it goes on.
    lag_s : float
        Age of what it shows when it is shown: the time that the look took [s].
    behind_hits : int
        Hits that were in the file then, and not followed yet.
    """

    report: AlertReport
    certain: tuple[str, ...]
    clearance: Clearance | None
    muons: int
    rows: int
    live_time_s: float
    verdict: Verdict = "undecided"
    reason: str = ""
    lag_s: float = 0.0
    behind_hits: int = 0

    def summary(self) -> dict[str, Any]:
        """Return the look as JSON values, the alerts by their ids."""
        tested = self.clearance
        return {
            "live_time_s": round(self.live_time_s, 3) if self.live_time_s >= 0 else None,
            "n_hits": self.rows,
            "n_muons": self.muons,
            "alerts": [alert.id for alert in self.report.alerts],
            "certain": list(self.certain),
            "open_cells": None if tested is None else tested.open_cells,
            "cells": None if tested is None else tested.cells,
            "verdict": self.verdict,
            "reason": self.reason,
            "lag_s": round(self.lag_s, 3),
            "behind_hits": self.behind_hits,
        }


@dataclass(frozen=True)
class Rules:
    """How looks are made and what is enough; see `muscan.pipeline.watch.watch`."""

    method: str
    voxel: float
    flux: str
    watch: tuple[str, ...]
    materials: MaterialDatabase
    false_alarm: float
    miss: float
    clear_size: float
    stop_at: str
    early: bool
    workers: int | None

    @property
    def spare_workers(self) -> int:
        """Threads of a look while hits are followed: one is left for that."""
        return max((self.workers or os.cpu_count() or 1) - 1, 1)

    def __post_init__(self) -> None:
        for name, value in (("--false-alarm", self.false_alarm), ("--miss", self.miss)):
            if not 0 < value < 1:
                raise InputError(name, f"{value} is not between 0 and 1")
        if not self.clear_size > 0:
            raise InputError("--clear-size", f"{self.clear_size} mm is not positive")
        if self.stop_at not in SEVERITIES:
            known = ", ".join(SEVERITIES)
            raise InputError("--stop-at", f"'{self.stop_at}' is no severity", f"one of {known}")


class Analyst:
    """Looks at a running scan, writes what it finds, and sends what is certain.

    Parameters
    ----------
    folder : Path
        Of the scan.
    rules : Rules
    sightings : Sightings
    notifier : Notifier
    """

    def __init__(
        self, folder: Path, rules: Rules, sightings: Sightings, notifier: Notifier
    ) -> None:
        self._folder, self._rules = folder, rules
        self._sightings, self._notifier = sightings, notifier
        self._solved: Volume | None = None
        self._solved_muons = 0
        self._rested = 0.0

    def look(self, found: Snapshot) -> Look:
        """Look at what is known; decide only when the schedule says so."""
        rules = self._rules
        number = sequential.look_number(found.muons)
        due = number > self._sightings.look
        volume = self._volume(found, last=False)
        report = self._identify(volume, found, last=False)
        share = sequential.share_of_look(number, rules.false_alarm) if due else 0.0
        certain = self._certain(report, volume, share)
        look = Look(report, certain, None, found.muons, found.rows, found.run.live_time_s)
        if due:
            look = self._decided(look, volume, found)
        self._publish(look)
        if due:
            # Last: killed before, the decision is made again, and sent if it was not.
            self._sightings.look = number
            self._sightings.write()
        return look

    def _decided(self, look: Look, volume: Volume, found: Snapshot) -> Look:
        """Return the look with a verdict, if it allows one."""
        grave = self._grave(look)
        if grave and self._rules.early:
            return replace(look, verdict="alert", reason=f"alert {grave[0]} is certain")
        if look.report.alerts or not self._rules.early:
            return look
        tested = self._clearance(volume, found)
        if not tested.clear:
            return replace(look, clearance=tested)
        return replace(look, clearance=tested, verdict="clear", reason="the load is clear")

    def end(self, found: Snapshot, reason: str, decided: Look | None) -> Look:
        """Look for the last time, with what the end may still spend; see `sequential`."""
        volume = self._volume(found, last=True)
        share = sequential.share_of_end(self._rules.false_alarm)
        report = self._identify(volume, found, last=True)
        certain = self._certain(report, volume, share)
        kept = [alert for alert in report.alerts if alert.id in certain]
        report = report.model_copy(update={"alerts": kept})
        look = Look(report, certain, None, found.muons, found.rows, found.run.live_time_s)
        look = replace(look, reason=reason)
        if decided is not None and decided.reason:
            look = replace(look, verdict=decided.verdict, clearance=decided.clearance)
        elif self._grave(look):
            look = replace(look, verdict="alert")
        elif not kept:
            tested = self._clearance(volume, found)
            look = replace(look, verdict="clear" if tested.clear else "undecided", clearance=tested)
        self._publish(look)
        return look

    def _volume(self, found: Snapshot, *, last: bool) -> Volume:
        """Return the best volume: the statistical one once it is made, made anew if it pays."""
        if self._rules.method != "poca" and (self._pays(found.muons) or last):
            began = time.monotonic()
            solved = reconstruct(
                found.tracks,
                method=self._rules.method,
                voxel=self._rules.voxel,
                flux=self._rules.flux,
                workers=self._workers(last),
            )
            self._solved = cast(Volume, solved)  # no file was asked for
            self._solved_muons = found.muons
            self._rested = 2 * time.monotonic() - began
        return found.volume if self._solved is None else replace(self._solved, run=found.run)

    def _pays(self, muons: int) -> bool:
        enough = muons >= max(WORTH_AGAIN * self._solved_muons, WORTH_FIRST)
        return enough and time.monotonic() >= self._rested

    def _workers(self, last: bool) -> int | None:
        return self._rules.workers if last else self._rules.spare_workers

    def _identify(self, volume: Volume, found: Snapshot, *, last: bool) -> AlertReport:
        report, materials = identify(
            volume,
            tracks=found.tracks,
            materials=self._rules.materials,
            watch=self._rules.watch,
            flux=self._rules.flux,
            workers=self._workers(last),
        )
        io.write_volume(self._folder / "volume.h5", volume)
        io.write_materials(self._folder / "materials.h5", materials)
        scan = report.scan.model_copy(update={"n_muons": found.muons})
        return self._sightings.named(report.model_copy(update={"scan": scan}))

    def _certain(self, report: AlertReport, volume: Volume, share: float) -> tuple[str, ...]:
        """Return the ids of alerts of which chance makes no more than a share.

        The rate that an alert states may be that of benign scans; it has to be allowed, too.
        """
        places = independent_positions(volume, known_voxels(volume))
        return tuple(
            alert.id
            for alert in report.alerts
            if alert.significance is not None
            and chance_regions(alert.significance, places) <= share
            and (alert.false_alarm_rate or 0.0) <= self._rules.false_alarm
        )

    def _clearance(self, volume: Volume, found: Snapshot) -> Clearance:
        return clearance(
            volume,
            pair_tracks(found.tracks),
            size_mm=self._rules.clear_size,
            miss=self._rules.miss,
            flux=assumed_flux(self._rules.flux, found.run),
        )

    def _grave(self, look: Look) -> list[str]:
        """Return the certain alerts that are severe enough to end the scan."""
        least = SEVERITIES.index(self._rules.stop_at)
        return [
            alert.id
            for alert in look.report.alerts
            if alert.id in look.certain and SEVERITIES.index(alert.severity) >= least
        ]

    def _publish(self, look: Look) -> None:
        """Write the alerts; send the certain ones. What has an id has it for good before."""
        self._sightings.write()
        scan = look.report.scan.model_dump(mode="json")
        extra = {"verdict": look.verdict, "ended": look.reason}
        report = look.report.model_copy(update={"scan": look.report.scan.model_copy(update=extra)})
        io.write_alerts(self._folder / "alerts.json", report)
        for alert in look.report.alerts:
            if alert.id in look.certain:
                self._notifier.alert(alert, scan)
                record_alert(self._folder, alert)

    def close(self, look: Look) -> None:
        """Record and send how the scan ended."""
        name = look.report.scan.run_id or self._folder.resolve().name
        record_scan(self._folder, name, f"{look.verdict}: {look.reason}")
        self._notifier.ended(name, look.summary())
