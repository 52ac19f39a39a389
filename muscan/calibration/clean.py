"""Events in which each panel has at most one hit, sorted by the panels that were hit.

Nearly all events of a sound detector are such; what is measured of the panels is measured on
them, so that no choice between hits can favour what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muscan.model.events import Hits

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Pattern:
    """Events with one hit in each of the same panels and none elsewhere.

    Attributes
    ----------
    panels : (k,) int64
        Ascending.
    event_id : (n,) uint64
    place : (n, k, 2) float64
        Measured u and v [mm]; 0 where not measured.
    sigma : (n, k, 2) float64
        Their standard deviations [mm]; inf where not measured.
    time : (n, k) float64, [ns]
    """

    panels: IntArray
    event_id: NDArray[np.uint64]
    place: FloatArray
    sigma: FloatArray
    time: FloatArray

    def __len__(self) -> int:
        return len(self.event_id)

    def take(self, rows: slice | IntArray | NDArray[np.bool_]) -> Pattern:
        """Return some of the events."""
        return Pattern(
            self.panels, self.event_id[rows], self.place[rows], self.sigma[rows], self.time[rows]
        )

    def chunks(self, size: int) -> Iterator[Pattern]:
        """Yield the events, at most ``size`` at a time."""
        for begin in range(0, len(self), size):
            yield self.take(slice(begin, begin + size))


def event_bounds(event_id: NDArray[np.uint64]) -> IntArray:
    """Return where each run of equal ids begins, and the length at the end; shape (events + 1,)."""
    changes = np.flatnonzero(np.diff(event_id)) + 1
    return np.concatenate([[0], changes, [len(event_id)]]).astype(np.int64)


def find_patterns(hits: Hits, panels: IntArray | None = None) -> tuple[list[Pattern], int]:
    """Return the clean events by pattern, and how many events have two hits in one panel.

    Parameters
    ----------
    hits : Hits
        Rows of an event adjacent.
    panels : (k,) int64, optional
        Look only at the hits in these panels.

    Returns
    -------
    patterns : list of Pattern
        In the order of their first panels.
    unclean : int
        Events left out.
    """
    if panels is not None:
        hits = hits.take(np.isin(hits.panel, panels))
    if not len(hits):
        return [], 0
    bounds = event_bounds(hits.event_id)
    event = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((hits.panel, event))
    panel = hits.panel[order].astype(np.int64)
    twice = (np.diff(panel) == 0) & (np.diff(event) == 0)
    unclean = np.zeros(len(bounds) - 1, bool)
    unclean[event[1:][twice]] = True
    # Events with the same panels have the same sum of the panels' random numbers.
    numbers = np.random.default_rng(0).integers(
        1, 1 << 63, size=len(hits.detector.panels), dtype=np.uint64
    )
    key = np.add.reduceat(numbers[panel], bounds[:-1])
    clean = np.flatnonzero(~unclean)
    _, first, which = np.unique(key[clean], return_index=True, return_inverse=True)
    found = []
    for pattern, example in enumerate(clean[first]):
        members = clean[which == pattern]
        count = int(bounds[example + 1] - bounds[example])
        rows = order[bounds[members][:, None] + np.arange(count)]
        found.append(_pattern(hits, panel[bounds[example] : bounds[example + 1]], rows))
    return sorted(found, key=lambda pattern: tuple(pattern.panels)), int(unclean.sum())


def _pattern(hits: Hits, panels: IntArray, rows: IntArray) -> Pattern:
    sigma = np.stack([hits.sigma_u[rows], hits.sigma_v[rows]], axis=-1).astype(float)
    place = np.stack([hits.u[rows], hits.v[rows]], axis=-1).astype(float)
    return Pattern(
        panels=panels,
        event_id=hits.event_id[rows[:, 0]],
        place=np.where(np.isfinite(sigma), place, 0.0),
        sigma=sigma,
        time=hits.time[rows].astype(float),
    )
