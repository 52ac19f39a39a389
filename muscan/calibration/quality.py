"""Whether a scan's data are sound: everything counted, tried and compared with its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from muscan.calibration.channels import Channels
from muscan.calibration.clean import FloatArray, event_bounds
from muscan.calibration.probes import tried_by_group
from muscan.calibration.response import PanelResponse, map_shape
from muscan.model.acceptance import PanelRate
from muscan.model.detector import Detector, Panel
from muscan.model.events import Hits
from muscan.model.quality import Check, Limits, PanelQuality, judge

#: Cells of a map of hits along a panel's longer side.
HIT_CELLS = 40
#: A gap between events is one if chance makes such in a scan less often than this.
GAP_CHANCE = 1e-4
#: Seconds in the profile of the rate at most; times beyond are not those of a scan.
MOST_SECONDS = 10_000_000
#: Events from which every panel is to be crossed by some track.
EVENTS_TO_TRY = 1000


class Monitor:
    """Counts what goes by, piece by piece; memory does not grow with the events."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        n = len(detector.panels)
        self.hits = np.zeros(n, np.int64)
        self.maps = [np.zeros(map_shape(panel, HIT_CELLS)) for panel in detector.panels]
        self.events = self.id_backward = self.time_backward = self.duplicates = 0
        self.seconds = np.zeros(0)
        self.longest_gaps = np.zeros(0)
        self._last_id: int | None = None
        self._last_time: float | None = None
        self.span_ns = 0.0

    def add(self, hits: Hits) -> None:
        """Count a piece; no event may be parted between two."""
        if not len(hits):
            return
        for index, panel in enumerate(self.detector.panels):
            rows = hits.panel == index
            self.hits[index] += np.count_nonzero(rows)
            self.maps[index] += _map_of_hits(panel, hits.take(rows), self.maps[index].shape)
        bounds = event_bounds(hits.event_id)
        self._add_ids(hits.event_id[bounds[:-1]].astype(np.int64))
        self._add_times(np.minimum.reduceat(hits.time, bounds[:-1]))

    def _add_ids(self, ids: Any) -> None:
        self.events += len(ids)
        before = ids[:1] if self._last_id is None else [self._last_id]
        steps = np.diff(np.concatenate([before, ids]))
        self.id_backward += int(np.count_nonzero(steps < 0))
        self.duplicates += len(ids) - len(np.unique(ids))
        self._last_id = int(ids[-1])

    def _add_times(self, times: FloatArray) -> None:
        known = times[np.isfinite(times)]
        if not len(known):
            return
        before = known[:1] if self._last_time is None else [self._last_time]
        steps = np.diff(np.concatenate([before, known]))
        self.time_backward += int(np.count_nonzero(steps < -self.detector.gate_ns))
        self._last_time = float(known[-1])
        self.span_ns = max(self.span_ns, float(known.max()))
        # The longest gaps are all that can be too long.
        self.longest_gaps = np.sort(np.concatenate([self.longest_gaps, steps]))[-1000:]
        second = np.floor(known * 1e-9)
        counted = second[(second >= 0) & (second < MOST_SECONDS)].astype(np.int64)
        profile = np.bincount(counted, minlength=len(self.seconds)).astype(float)
        profile[: len(self.seconds)] += self.seconds
        self.seconds = profile


def first_events(hits: Hits, rows: int) -> Hits:
    """Return the first events of hits, about so many rows; no event is parted."""
    if len(hits) <= rows:
        return hits
    bounds = event_bounds(hits.event_id)
    return hits.take(slice(0, int(bounds[np.searchsorted(bounds, rows, side="left")])))


def _map_of_hits(panel: Panel, hits: Hits, shape: tuple[int, int]) -> FloatArray:
    # A coordinate that is not measured is put in the middle; errors may carry one over the edge.
    half = np.array(panel.size) / 2
    places = np.stack([np.nan_to_num(hits.u), np.nan_to_num(hits.v)], axis=1)
    places = np.clip(places, -half, half)
    edges = [np.linspace(-h, h, n + 1) for h, n in zip(half, shape, strict=True)]
    return np.asarray(np.histogram2d(places[:, 0], places[:, 1], bins=edges)[0])


def panel_checks(
    panel: Panel,
    found: PanelResponse,
    limits: Limits,
) -> list[Check]:
    """Return what is checked of one panel by its probes and channels."""
    name = panel.name
    technology = panel.technology
    nominal = technology.efficiency * float(np.mean(technology.efficiency_map or ((1.0,),)))
    checks = [
        judge(
            limits,
            "efficiency",
            found.efficiency,
            f"panel '{name}' has efficiency {found.efficiency:.3f}, its layout says {nominal:.3f}",
            subject=name,
            expected=nominal,
            error=found.efficiency_error,
        ),
        _offset_check(panel, found, limits),
    ]
    if technology.noise_hz_per_m2 > 0:
        expected = technology.noise_hz_per_m2
        checks.append(
            judge(
                limits,
                "noise",
                found.noise_hz_per_m2 / expected,
                f"panel '{name}' has {found.noise_hz_per_m2:.0f} Hz/m² of noise, its layout says "
                f"{expected:.0f}",
                subject=name,
                error=found.noise_error / expected,
            )
        )
    return checks + _channel_checks(panel, found.channels, limits)


def untried_check(
    detector: Detector, responses: Sequence[PanelResponse], events: int, limits: Limits
) -> list[Check]:
    """Return the check that panels with mates enough are crossed by tracks of them."""
    able = [i for i in range(len(detector.panels)) if tried_by_group(detector, i)]
    if not able or events < EVENTS_TO_TRY:
        return []
    missing = [responses[i].name for i in able if responses[i].probes == 0]
    shown = ", ".join(missing[:6]) + (", …" if len(missing) > 6 else "")
    text = f"no track of the other panels crosses: {shown}"
    return [judge(limits, "untried", len(missing) / len(able), text)]


def _offset_check(panel: Panel, found: PanelResponse, limits: Limits) -> Check:
    """Return the check of the surest and largest offset of a cell, in resolutions."""
    sigma = np.array(panel.sigma)[:, None, None]
    value, error = (
        np.where(np.isfinite(sigma), array / sigma, np.nan)
        for array in (found.offset_mm, found.offset_error_mm)
    )
    sure = np.abs(value) - limits.significance * error
    if np.isfinite(sure).any():
        worst = np.unravel_index(np.nanargmax(sure), sure.shape)
        off, own = float(value[worst]), float(error[worst])
    else:
        off = own = math.nan
    text = f"panel '{panel.name}' is off by {off:.2g} resolutions in a part of it: align"
    return judge(limits, "offset", off, text, subject=panel.name, error=own)


def _channel_checks(panel: Panel, channels: Channels, limits: Limits) -> list[Check]:
    checks = []
    for kind, numbers, said in (
        ("dead_channels", channels.dead, panel.dead_channels),
        ("hot_channels", channels.hot, ((), ())),
    ):
        total = sum(len(counts) for counts in channels.counts)
        if not total:
            continue
        new = [
            f"{number} along {axis}"
            for axis, own, known in zip("uv", numbers, said, strict=True)
            for number in own
            if number not in known
        ]
        shown = ", ".join(new[:6]) + (", …" if len(new) > 6 else "")
        text = f"panel '{panel.name}' has new {kind.replace('_', ' ')}: {shown}"
        checks.append(judge(limits, kind, len(new) / total, text, subject=panel.name))
    return checks


def rate_checks(
    monitor: Monitor, expected: Sequence[PanelRate], live_time_s: float, limits: Limits
) -> tuple[list[Check], FloatArray]:
    """Return the checks of the rates, and the expected rate of each panel's hits [Hz]."""
    detector = monitor.detector
    noise = np.array([p.technology.noise_hz_per_m2 * p.area_m2 for p in detector.panels])
    event_rate = monitor.events / live_time_s
    wanted = np.array([rate.recorded_hz.value for rate in expected])
    wanted = wanted + noise * detector.gate_ns * 1e-9 * event_rate
    sure = np.array([rate.recorded_hz.error for rate in expected])
    seen = monitor.hits / live_time_s
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(wanted > 0, seen / wanted, np.nan)
        error = np.hypot(np.sqrt(monitor.hits) / (wanted * live_time_s), sure / wanted)
    common = float(np.nanmedian(ratio)) if np.isfinite(ratio).any() else math.nan
    checks = [
        judge(
            limits,
            "common_rate",
            common,
            f"the panels see {common:.2f} of the muons that the flux lets expect",
            expected=1.0,
            error=float(np.nanmedian(error)) if np.isfinite(error).any() else math.nan,
        )
    ]
    for panel, own, uncertainty, rate, hope in zip(
        detector.panels, ratio, error, seen, wanted, strict=True
    ):
        checks.append(
            judge(
                limits,
                "rate",
                float(own / common) if common else math.nan,
                f"panel '{panel.name}' has {rate:.4g} hits/s where {hope * common:.4g} go with "
                "the others",
                subject=panel.name,
                expected=1.0,
                error=float(uncertainty / common) if common else math.nan,
            )
        )
    return checks, wanted


def order_checks(monitor: Monitor, live_time_s: float, limits: Limits) -> list[Check]:
    """Return the checks of event ids and times."""
    events = max(monitor.events, 1)
    ids, times = monitor.id_backward, monitor.time_backward
    checks = [
        judge(limits, "disorder", ids / events, f"{ids} event ids are below the one before"),
        judge(limits, "disorder", times / events, f"{times} events are before the one before"),
        judge(
            limits,
            "duplicates",
            float(monitor.duplicates),
            f"{monitor.duplicates} event ids stand twice",
        ),
    ]
    lost = lost_time(monitor)
    span = live_time_s if math.isfinite(live_time_s) else monitor.span_ns * 1e-9
    if monitor.span_ns > 0 and span > 0:
        text = f"{lost:.3g} s of {span:.4g} s are gaps without events"
        checks.append(judge(limits, "lost_time", lost / span, text))
    return checks


def lost_time(monitor: Monitor) -> float:
    """Return the time in gaps between events that are too long for chance [s].

    The rate is that of the time outside them.
    """
    gaps = monitor.longest_gaps[::-1]
    left = monitor.span_ns
    lost = 0.0
    for gap in gaps:
        mean = (left - gap) / max(monitor.events, 1)
        if mean <= 0 or monitor.events * math.exp(-gap / mean) > GAP_CHANCE:
            break
        left -= gap
        lost += gap
    return float(lost * 1e-9)


def track_checks(chi2: FloatArray, counts: Mapping[str, int], limits: Limits) -> list[Check]:
    """Return the checks of a sample of tracks."""
    events = max(counts.get("events", 0), 1)
    bad = counts.get("bad_chi2", 0)
    middle = float(np.median(chi2)) if len(chi2) else math.nan
    error = 1.2533 * float(np.std(chi2)) / math.sqrt(len(chi2)) if len(chi2) else math.nan
    share = bad / events
    lost = 1 - (counts.get("in_and_out", 0) + counts.get("incoming_only", 0)) / events
    return [
        judge(
            limits,
            "no_track",
            lost,
            f"{lost:.1%} of the events have no track",
            error=math.sqrt(lost * (1 - lost) / events),
        ),
        judge(
            limits,
            "chi2",
            middle,
            f"the tracks' median χ² per degree of freedom is {middle:.2f}",
            error=error,
        ),
        judge(
            limits,
            "bad_chi2",
            share,
            f"{share:.1%} of the events make no track by their χ²",
            error=math.sqrt(share * (1 - share) / events),
        ),
    ]


def describe_panel(
    monitor: Monitor,
    index: int,
    found: PanelResponse,
    live_time_s: float,
    expected_hz: float,
) -> PanelQuality:
    """Return what was seen of one panel."""
    return PanelQuality(
        name=monitor.detector.panels[index].name,
        hits=int(monitor.hits[index]),
        rate_hz=float(monitor.hits[index] / live_time_s),
        expected_hz=expected_hz,
        efficiency=found.efficiency,
        efficiency_error=found.efficiency_error,
        noise_hz_per_m2=found.noise_hz_per_m2,
        hit_map=monitor.maps[index],
        residual_maps=found.offset_mm,
    )
