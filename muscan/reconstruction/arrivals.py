"""Which incoming muons should come out again where panels see them, and whether they did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.model.detector import Detector, Panel
from muscan.model.events import Tracks
from muscan.model.material import load_materials
from muscan.model.survival import stopping_density
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: A plane nearer than this ahead of a track is the one in which it was measured [mm].
AHEAD_MM = 10.0
#: Planes that an outgoing track needs, for each coordinate.
PLANES_NEEDED = 2


@dataclass(frozen=True)
class Expected:
    """Incoming tracks whose straight line crosses every plane of another group of panels.

    Attributes
    ----------
    passed : ndarray of bool, shape (n,)
        Whether the event has an outgoing track.
    start, direction, end : ndarray, shape (n, 3) float32
        Incoming track, and where its line meets the first plane of that group [mm].
    edges : ndarray, shape (n, 4) float32
        Distance from the line to the four edges of the second plane [mm].
    reach : ndarray, shape (n,) float32
        Distance along the line from the start to that second plane [mm].
    efficiency : float
        Probability that the panels see a muon which crosses them, mean of the muons.
    counts : mapping of str to int
        What became of the incoming tracks.
    """

    passed: NDArray[np.bool_]
    start: NDArray[np.float32]
    direction: NDArray[np.float32]
    end: NDArray[np.float32]
    edges: NDArray[np.float32]
    reach: NDArray[np.float32]
    efficiency: float
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.passed)


def expect_all(
    tracks: Tracks | Iterable[Tracks], detector: Detector | None = None
) -> tuple[Expected, Detector]:
    """Return the incoming tracks that should have an outgoing one, and the layout.

    Parameters
    ----------
    tracks : Tracks or iterable of Tracks
        Rows of an event adjacent, the incoming one first; portions part no event.
    detector : Detector, optional
        The layout, by default that of the tracks.

    Raises
    ------
    InputError
        If there is no layout, or no track aims at a second group of panels.
    """
    portions = [tracks] if isinstance(tracks, Tracks) else tracks
    parts: list[Expected] = []
    layout = detector
    for portion in portions:
        layout = layout or portion.detector
        if layout is None:
            raise InputError("tracks", "have no layout", "stopping needs to know where panels are")
        parts.append(_expect(portion, layout))
    if layout is None or not any(len(part) for part in parts):
        raise InputError("tracks", "no incoming track aims at panels on the other side")
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Expected)
        if field.name not in ("efficiency", "counts")
    }
    number = sum(len(part) for part in parts)
    efficiency = sum(part.efficiency * len(part) for part in parts) / number
    counts = {name: sum(part.counts[name] for part in parts) for name in parts[0].counts}
    return Expected(efficiency=float(efficiency), counts=counts, **columns), layout


def _expect(tracks: Tracks, layout: Detector) -> Expected:
    incoming = np.flatnonzero(tracks.side == 0)
    follower = np.minimum(incoming + 1, len(tracks) - 1)
    passed = (tracks.side[follower] == 1) & (tracks.event_id[follower] == tracks.event_id[incoming])
    start = tracks.position[incoming].astype(float)
    direction = tracks.direction[incoming].astype(float)
    n = len(incoming)
    aimed = np.zeros(n, bool)
    end, edges, reach = np.zeros((n, 3)), np.zeros((n, 4)), np.zeros(n)
    chance = np.zeros(n)
    for group in range(len(layout.groups)):
        panels = [p for p, g in zip(layout.panels, layout.group_index, strict=True) if g == group]
        ways, margins = zip(*(_meet(panel, start, direction) for panel in panels), strict=True)
        way, margin = np.array(ways), np.array(margins)
        hit = (way > AHEAD_MM).all(axis=0) & (margin > 0).all(axis=(0, 2)) & ~aimed
        if not hit.any():
            continue
        order = np.argsort(way[:, hit].mean(axis=1))
        second = order[min(PLANES_NEEDED, len(order)) - 1]
        aimed |= hit
        end[hit] = start[hit] + way[order[0], hit, None] * direction[hit]
        reach[hit], edges[hit] = way[second, hit], margin[second, hit]
        chance[hit] = _group_efficiency(panels)
    counts = {
        "n_incoming": n,
        "n_expected": int(aimed.sum()),
        "n_not_seen_again": int((aimed & ~passed).sum()),
    }
    lines = {"start": start, "direction": direction, "end": end, "edges": edges, "reach": reach}
    return Expected(
        passed=passed[aimed],
        efficiency=float(chance[aimed].mean()) if aimed.any() else 1.0,
        counts=counts,
        **{name: values[aimed].astype(np.float32) for name, values in lines.items()},
    )


def _meet(panel: Panel, start: FloatArray, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far lines go to a panel's plane, and their distances from its four edges."""
    with np.errstate(divide="ignore", invalid="ignore"):
        way = (panel.centre - start) @ panel.normal / (direction @ panel.normal)
        at = start + way[:, None] * direction - panel.centre
        place = np.stack([at @ panel.u, at @ panel.v], axis=1)
    half = np.array(panel.size) / 2
    margins = np.concatenate([half - place, half + place], axis=1)
    return np.nan_to_num(way, posinf=-1, neginf=-1), np.nan_to_num(margins, nan=-1)


def _group_efficiency(panels: list[Panel]) -> float:
    """Return the probability that enough planes of a group give a hit."""
    total = 0.0
    for seen in product((False, True), repeat=len(panels)):
        chance = 1.0
        number = {"u": 0, "v": 0}
        for panel, hit in zip(panels, seen, strict=True):
            chance *= panel.technology.efficiency if hit else 1 - panel.technology.efficiency
            for axis in panel.technology.measures if hit else "":
                number[axis] += 1
        if min(number.values()) >= min(PLANES_NEEDED, len(panels)):
            total += chance
    return total


def panel_matter(detector: Detector) -> float:
    """Return the matter of one group of panels, mean of the groups [g/cm² of water]."""
    materials = load_materials()
    total = sum(
        panel.technology.thickness_mm / MM_PER_CM
        * stopping_density(materials[panel.technology.material])
        for panel in detector.panels
    )  # fmt: skip
    return float(total / len(detector.groups))
