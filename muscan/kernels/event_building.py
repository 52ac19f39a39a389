"""Hits of strips to events."""

from __future__ import annotations

from numba import njit

from muscan.kernels.clustering import (
    BURSTS_CUT,
    CLUSTERS,
    EVENTS,
    HITS,
    LONE_HITS,
    MOST_ROWS,
    find_clusters,
    match_planes,
)
from muscan.kernels.options import KERNEL, PART


@njit(**PART)
def _swap(hits, i, j):  # type: ignore[no-untyped-def]
    hits.panel[i], hits.panel[j] = hits.panel[j], hits.panel[i]
    for column in (
        hits.u, hits.v, hits.sigma_u, hits.sigma_v, hits.time, hits.amplitude,
    ):  # fmt: skip
        column[i], column[j] = column[j], column[i]


@njit(**PART)
def _copy(hits, to, row, event):  # type: ignore[no-untyped-def]
    """Move a hit up and give it its event."""
    hits.event_id[to] = event
    hits.panel[to] = hits.panel[row]
    for column in (
        hits.u, hits.v, hits.sigma_u, hits.sigma_v, hits.time, hits.amplitude,
    ):  # fmt: skip
        column[to] = column[row]


@njit(**KERNEL)
def build_events(hits, first, end, limits, event, counts):  # type: ignore[no-untyped-def]
    """Join the hits of a burst that are within the window; drop those of too few panels.

    Returns
    -------
    row : int
        The next free row of the hits.
    event : int
        The next event's number.
    """
    for i in range(first + 1, end):
        j = i
        while j > first and hits.time[j] < hits.time[j - 1]:
            _swap(hits, j, j - 1)
            j -= 1
    row, i = first, first
    while i < end:
        j, panels = i, 0
        while j < end and hits.time[j] - hits.time[i] <= limits.window_ns:
            new = 1
            for m in range(i, j):
                if hits.panel[m] == hits.panel[j]:
                    new = 0
            panels += new
            j += 1
        if panels < limits.min_panels:
            counts[LONE_HITS] += 1
            i += 1
            continue
        counts[HITS] += j - i
        counts[EVENTS] += 1
        while i < j:
            _copy(hits, row, i, event)
            row += 1
            i += 1
        event += 1
    return row, event


@njit(**KERNEL)
def find_hits(  # type: ignore[no-untyped-def]
    tables, strips, n, flush, limits, clusters, hits, event, counts
):
    """Turn strips in the order of time into events of hits.

    Parameters
    ----------
    tables : PlaneTables
    strips : StripColumns
    n : int
        Rows of ``strips``.
    flush : bool
        Whether no further rows follow: the last burst is otherwise left for the next call.
    limits : Limits
    clusters : ClusterColumns
    hits : FoundColumns
        Filled; as long as ``strips``.
    event : int
        Number of the next event.
    counts : (N_COUNTS,) int64
        Added to.

    Returns
    -------
    used : int
        Rows of ``strips`` that are dealt with.
    rows : int
        Hits written.
    event : int
        Number of the next event.
    """
    begin = row = 0
    while begin < n:
        end = begin + 1
        while (
            end < n
            and end - begin < MOST_ROWS
            and strips.time[end] - strips.time[end - 1] <= limits.window_ns
        ):
            end += 1
        if end - begin == MOST_ROWS:
            counts[BURSTS_CUT] += 1
        elif end == n and not flush:
            break
        found = find_clusters(tables, strips, begin, end, limits.cluster_ns, clusters)
        counts[CLUSTERS] += found
        last = match_planes(tables, clusters, found, limits.match_ns, hits, row, counts)
        row, event = build_events(hits, row, last, limits, event, counts)
        begin = end
    return begin, row, event
