"""What a panel made of muons that the other panels saw: each panel tried without its own hits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muscan.calibration.clean import FloatArray, IntArray, Pattern, find_patterns
from muscan.calibration.lines import Lines, cross, fit
from muscan.model.acceptance import incoming_groups
from muscan.model.detector import Detector
from muscan.model.events import Hits
from muscan.units import SPEED_OF_LIGHT_MM_PER_NS

#: A robust standard deviation of a Gaussian is this many median absolute deviations.
MAD = 1.4826
#: Half width of the window for a panel's hit: so many times what holds this part of the residuals,
#: so that the slowest muons are inside …
WINDOW_QUANTILES, WINDOW_PART = 8.0, 0.995
#: … and for what counts as near the muon, in windows; but at least so far [mm].
NEAR_WINDOWS, NEAR_MM = 1.5, 100.0
#: A probe stays this many robust standard deviations inside the panel and off dead channels.
MARGIN_SIGMAS = 8.0
#: Probes beyond which more do not help.
MOST_PROBES = 500_000


@dataclass(frozen=True)
class Probes:
    """Muons that crossed a panel by the word of others.

    Attributes
    ----------
    place : (n, 2) float64
        Where they crossed it, along u and v [mm].
    residual : (n, 2) float64
        Its nearest hit less that; NaN where it has none in the window, or does not measure.
    seen : (n,) bool
        Whether it has a hit in the window.
    far : (n,) int64
        Its hits far from the muon.
    window : (2,) float64
        Half width of the window along u and v [mm]; inf where not measured.
    near : (2,) float64
        Half width of what counts as near [mm].
    spread : (2,) float64
        Robust standard deviation of the residual [mm]; 0 where not measured.
    """

    place: FloatArray
    residual: FloatArray
    seen: NDArray[np.bool_]
    far: IntArray
    window: FloatArray
    near: FloatArray
    spread: FloatArray

    def __len__(self) -> int:
        return len(self.place)


def tried_by_group(detector: Detector, panel: int) -> bool:
    """Return whether the other panels of a panel's group can tell a muon's line."""
    return bool(np.isfinite(detector.sigmas[_group_mates(detector, panel)]).sum() >= 4)


def probing_panels(detector: Detector, panel: int) -> IntArray:
    """Return the panels that tell where a muon crossed one: of its group, or if too few, all.

    Within its group a cargo does not matter.
    """
    if tried_by_group(detector, panel):
        return _group_mates(detector, panel)
    return np.flatnonzero(np.arange(len(detector.panels)) != panel)


def _group_mates(detector: Detector, panel: int) -> IntArray:
    group = detector.group_index
    return np.flatnonzero((group == group[panel]) & (np.arange(len(group)) != panel))


def find_probes(hits: Hits, detector: Detector, panel: int) -> Probes:
    """Find the muons that crossed a panel by the word of others, and its hits.

    An event counts only if it would have been recorded without the panel: two of the probing
    hits are in one group through which muons come in, or the panel's group is not such a one.

    Parameters
    ----------
    hits : Hits
    detector : Detector
        The (aligned) layout.
    panel : int
        Index of the panel.
    """
    patterns, _ = find_patterns(hits, probing_panels(detector, panel))
    ids = [np.empty(0, np.uint64)]
    lines = [Lines(np.empty((0, 3)), np.empty((0, 3)), np.empty(0, bool))]
    for pattern in patterns:
        if np.isfinite(pattern.sigma[0]).sum() < 4 or not _recorded(detector, pattern, panel):
            continue
        own = fit(detector, pattern)
        good = own.sound & _in_time(detector, pattern)
        ids.append(pattern.event_id[good])
        lines.append(own.take(good))
    every = Lines(
        np.concatenate([own.point for own in lines]),
        np.concatenate([own.direction for own in lines]),
        np.concatenate([own.sound for own in lines]),
    )
    return _match(hits, detector, panel, np.concatenate(ids)[:MOST_PROBES], every)


def _recorded(detector: Detector, pattern: Pattern, panel: int) -> bool:
    group, incoming = detector.group_index, incoming_groups(detector)
    if not incoming[group[panel]] and set(group[pattern.panels]) == {group[panel]}:
        return True
    count = np.bincount(group[pattern.panels], minlength=len(incoming))
    return bool((count[incoming] >= 2).any())


def _in_time(detector: Detector, pattern: Pattern) -> NDArray[np.bool_]:
    """Return which events have hits of one muon by their times, cable delays taken out."""
    late = pattern.time[:, 1:] - pattern.time[:, :1]
    if not np.isfinite(late).any():
        return np.ones(len(pattern), bool)
    late = late - np.nanmedian(late, axis=0)
    sigma = max(detector.panels[i].technology.time_resolution_ns for i in pattern.panels)
    centres = detector.centres[pattern.panels]
    flight = np.linalg.norm(centres - centres[0], axis=1).max() / SPEED_OF_LIGHT_MM_PER_NS
    spread = MAD * float(np.nanmedian(np.abs(late)))
    limit = max(5 * np.sqrt(2) * sigma + flight, 6 * spread)
    return np.asarray(~(np.abs(late) > limit).any(axis=1))


def _match(
    hits: Hits, detector: Detector, panel: int, event_id: NDArray[np.uint64], lines: Lines
) -> Probes:
    own = detector.panels[panel]
    crossings = cross(detector, np.array([panel]), lines.take(np.arange(len(event_id))))
    place = crossings.place[:, 0]
    inside = (np.abs(place) < detector.half_sizes[panel]).all(axis=1)
    event_id, place = event_id[inside], place[inside]
    order = np.argsort(event_id, kind="stable")
    event_id, place = event_id[order], place[order]
    rows = np.flatnonzero(hits.panel == panel)
    probe = np.searchsorted(event_id, hits.event_id[rows])
    probe = np.minimum(probe, max(len(event_id) - 1, 0))
    rows, probe = _pairs(rows, probe, hits.event_id, event_id)
    measured = np.isfinite(detector.sigmas[panel])
    offset = np.stack([hits.u[rows], hits.v[rows]], axis=1) - place[probe]
    offset = np.where(measured, offset, 0.0)
    nearest = np.full((len(place), 2), np.nan)
    by_distance = np.argsort(-np.einsum("ij,ij->i", offset, offset), kind="stable")
    nearest[probe[by_distance]] = offset[by_distance]
    spread, outer = np.zeros((2, 2))
    for axis in np.flatnonzero(measured) if len(rows) else ():
        distance = np.abs(nearest[:, axis])
        spread[axis] = MAD * np.nanmedian(distance)
        outer[axis] = np.nanquantile(distance, WINDOW_PART)
    pitch = np.array(own.technology.pitch_mm or (0.0, 0.0))
    wide = np.maximum(WINDOW_QUANTILES * outer, 3 * pitch)
    window = np.where(measured, wide, np.inf)
    near = np.where(measured, np.maximum(NEAR_WINDOWS * wide, NEAR_MM), np.inf)
    seen = (np.abs(nearest) < window).all(axis=1)
    is_far = (np.abs(offset) > near)[:, measured].any(axis=1)
    far = np.bincount(probe[is_far], minlength=len(place))
    residual = np.where(seen[:, None] & measured, nearest, np.nan)
    safe = _on_live_part(place, detector, panel, spread)
    return Probes(place[safe], residual[safe], seen[safe], far[safe], window, near, spread)


def _pairs(
    rows: IntArray, probe: IntArray, hit_ids: NDArray[np.uint64], ids: NDArray[np.uint64]
) -> tuple[IntArray, IntArray]:
    if not len(ids):
        return rows[:0], probe[:0]
    same = ids[probe] == hit_ids[rows]
    return rows[same], probe[same]


def _on_live_part(
    place: FloatArray, detector: Detector, panel: int, spread: FloatArray
) -> NDArray[np.bool_]:
    """Return which places are off the panel's edges and its known dead channels."""
    own = detector.panels[panel]
    half = detector.half_sizes[panel]
    margin = MARGIN_SIGMAS * spread
    good = (np.abs(place) < half - margin).all(axis=1)
    if own.technology.pitch_mm is not None:
        for axis, dead in enumerate(own.dead_channels):
            width = own.technology.pitch_mm[axis]
            for channel in dead:
                low = channel * width - half[axis]
                hit = (place[:, axis] > low - margin[axis]) & (
                    place[:, axis] < low + width + margin[axis]
                )
                good &= ~hit
    return np.asarray(good)
