"""Strips over threshold to clusters, and clusters to hits."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.options import KERNEL, PART

#: Rows that follow each other more closely than the window, at most: a longer burst is cut.
MOST_ROWS: Final = 512
#: Counts and times beyond this are damage, and would overflow further on.
LARGEST: Final = 1e30
#: Sizes of clusters that have their own uncertainty: one strip, two, and more.
SIZES: Final = 3

# What becomes of a row.
KEPT, NOT_FINITE, NO_CHANNEL, DEAD, BELOW_THRESHOLD = range(5)
# What `find_hits` counts.
CLUSTERS, UNMATCHED_U, UNMATCHED_V, LONE_HITS, HITS, EVENTS, BURSTS_CUT = range(7)
N_COUNTS: Final = 7


class PlaneTables(NamedTuple):
    """Planes of strips: twice the panel's index, plus 1 for those that measure v.

    Attributes
    ----------
    offset : (k + 1,) int64
        Where each plane's strips stand in the next two arrays.
    pedestal : (s,) float64
        Counts of each strip without signal.
    dead : (s,) bool
    gain, threshold, noise : (k,) float64
        Counts of a signal of amplitude 1, above the pedestal to be kept, and of the noise.
    pitch, half, smear : (k,) float64
        Width of a strip, half the panel's size, and what is added to the uncertainty [mm].
    sigma : (k, SIZES) float64
        Standard deviation of a cluster's position by its size, in strips.
    """

    offset: NDArray[np.int64]
    pedestal: NDArray[np.float64]
    dead: NDArray[np.bool_]
    gain: NDArray[np.float64]
    threshold: NDArray[np.float64]
    noise: NDArray[np.float64]
    pitch: NDArray[np.float64]
    half: NDArray[np.float64]
    smear: NDArray[np.float64]
    sigma: NDArray[np.float64]


class Boards(NamedTuple):
    """Boards, or whatever the data number channels by: which strips they read.

    Attributes
    ----------
    plane : (b,) int64
    first_channel : (b,) int64
        The lowest channel in the data.
    first_strip, strips : (b,) int64
        The lowest strip that the board reads, and how many.
    turned : (b,) bool
        Whether channels count against the axis.
    """

    plane: NDArray[np.int64]
    first_channel: NDArray[np.int64]
    first_strip: NDArray[np.int64]
    strips: NDArray[np.int64]
    turned: NDArray[np.bool_]


class StripColumns(NamedTuple):
    """Strips over threshold, in the order of time.

    Attributes
    ----------
    plane : (n,) int32
    strip : (n,) int32, from 0 at the lowest coordinate
    charge : (n,) float64, in amplitudes of a muon
    time : (n,) float64, [ns]
    """

    plane: NDArray[Any]
    strip: NDArray[Any]
    charge: NDArray[Any]
    time: NDArray[Any]


class ClusterColumns(NamedTuple):
    """Clusters of a burst, as long as `MOST_ROWS`, and which strips and clusters are used up."""

    plane: NDArray[np.int32]
    x: NDArray[np.float64]
    sigma: NDArray[np.float64]
    charge: NDArray[np.float64]
    time: NDArray[np.float64]
    order: NDArray[np.int32]
    used: NDArray[np.bool_]


class FoundColumns(NamedTuple):
    """Hits; meaning as in `muscan.model.events.Hits`."""

    event_id: NDArray[np.uint64]
    panel: NDArray[np.uint16]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    sigma_u: NDArray[np.float64]
    sigma_v: NDArray[np.float64]
    time: NDArray[np.float64]
    amplitude: NDArray[np.float64]


class Limits(NamedTuple):
    """How near things must be.

    Attributes
    ----------
    cluster_ns, match_ns, window_ns : float
        Longest time between strips of a cluster, between a hit's clusters, and between the first
        and the last hit of an event [ns].
    min_panels : int
        Panels with a hit that make an event.
    """

    cluster_ns: float
    match_ns: float
    window_ns: float
    min_panels: int


@njit(**KERNEL)
def select_rows(tables, boards, board, channel, adc, time, strips, fate):  # type: ignore[no-untyped-def]
    """Subtract pedestals and pick the rows with a signal of a live strip.

    Parameters
    ----------
    tables : PlaneTables
    boards : Boards
    board : (n,) int64; channel : (n,) uint64; adc, time : (n,) float64
        As in the data.
    strips : StripColumns
        Filled.
    fate : (5,) int64
        Added to: how many rows were kept or dropped.

    Returns
    -------
    int
        Number of rows kept.
    """
    kept = 0
    for i in range(board.size):
        b = board[i]
        k = boards.plane[b]
        if not (abs(adc[i]) < LARGEST and abs(time[i]) < LARGEST):
            fate[NOT_FINITE] += 1
            continue
        # Compared as floats: a channel may be any unsigned number.
        number = float(channel[i]) - boards.first_channel[b]
        if number < 0.0 or number >= boards.strips[b]:
            fate[NO_CHANNEL] += 1
            continue
        strip = int(number)
        if boards.turned[b]:
            strip = boards.strips[b] - 1 - strip
        strip += boards.first_strip[b]
        at = tables.offset[k] + strip
        if tables.dead[at]:
            fate[DEAD] += 1
            continue
        counts = adc[i] - tables.pedestal[at]
        if counts < tables.threshold[k]:
            fate[BELOW_THRESHOLD] += 1
            continue
        fate[KEPT] += 1
        strips.plane[kept] = k
        strips.strip[kept] = strip
        strips.charge[kept] = counts / tables.gain[k]
        strips.time[kept] = time[i]
        kept += 1
    return kept


@njit(**PART)
def _precedes(strips, i, j):  # type: ignore[no-untyped-def]
    """Tell whether row i stands before row j by plane, strip and time."""
    if strips.plane[i] != strips.plane[j]:
        return strips.plane[i] < strips.plane[j]
    if strips.strip[i] != strips.strip[j]:
        return strips.strip[i] < strips.strip[j]
    return strips.time[i] < strips.time[j]


@njit(**PART)
def _dead_neighbours(tables, k, low, high):  # type: ignore[no-untyped-def]
    """Return how many of the two strips beside a cluster are dead."""
    first, end = tables.offset[k], tables.offset[k + 1]
    n = 0
    if first + low > first and tables.dead[first + low - 1]:
        n += 1
    if first + high + 1 < end and tables.dead[first + high + 1]:
        n += 1
    return n


@njit(**KERNEL)
def find_clusters(tables, strips, begin, end, cluster_ns, clusters):  # type: ignore[no-untyped-def]
    """Gather adjacent strips of one plane and time; return the number of clusters.

    The position is weighed by the charge. Its variance is that of the cluster's size
    (`PlaneTables.sigma`), at least that of a uniform distribution over the cluster's dead
    neighbours and one strip, and the noise of the charges.
    """
    order, used = clusters.order, clusters.used
    n = end - begin
    for i in range(n):
        row, j = begin + i, i
        while j > 0 and _precedes(strips, row, order[j - 1]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = row
        used[i] = False
    found = 0
    for i in range(n):
        if used[i]:
            continue
        seed = order[i]
        plane, low, high = strips.plane[seed], strips.strip[seed], strips.strip[seed]
        rows = charge = moment = late = sum_x = sum_xx = 0.0
        for j in range(i, n):
            row = order[j]
            if strips.plane[row] != plane or strips.strip[row] > high + 1:
                break
            if used[j] or abs(strips.time[row] - strips.time[seed]) > cluster_ns:
                continue
            used[j] = True
            high = strips.strip[row]
            x, q = float(high - low), strips.charge[row]
            rows, sum_x, sum_xx = rows + 1.0, sum_x + x, sum_xx + x * x
            charge, moment = charge + q, moment + q * x
            late += q * (strips.time[row] - strips.time[seed])
        mean = moment / charge
        noise = tables.noise[plane] / (tables.gain[plane] * charge)
        spread = max(sum_xx - 2.0 * mean * sum_x + rows * mean * mean, 0.0)
        own = tables.sigma[plane, min(high - low, SIZES - 1)]
        dead = _dead_neighbours(tables, plane, low, high)
        if dead > 0:
            own = max(own, (1.0 + dead) / math.sqrt(12.0))
        pitch = tables.pitch[plane]
        clusters.plane[found] = plane
        clusters.x[found] = (low + mean + 0.5) * pitch - tables.half[plane]
        clusters.sigma[found] = math.sqrt(
            pitch * pitch * (own * own + noise * noise * spread) + tables.smear[plane] ** 2
        )
        clusters.charge[found] = charge
        clusters.time[found] = strips.time[seed] + late / charge
        found += 1
    return found


@njit(**PART)
def _put_hit(hits, row, panel, clusters, a, b):  # type: ignore[no-untyped-def]
    """Write the hit of a cluster along u and one along v; −1 where there is none."""
    hits.panel[row] = panel
    hits.u[row] = hits.v[row] = math.nan
    hits.sigma_u[row] = hits.sigma_v[row] = math.inf
    charge = late = 0.0
    if a >= 0:
        hits.u[row], hits.sigma_u[row] = clusters.x[a], clusters.sigma[a]
        charge, late = clusters.charge[a], clusters.time[a]
    if b >= 0:
        hits.v[row], hits.sigma_v[row] = clusters.x[b], clusters.sigma[b]
        charge, late = charge + clusters.charge[b], late + clusters.time[b]
    share = 0.5 if a >= 0 and b >= 0 else 1.0
    hits.amplitude[row] = share * charge
    hits.time[row] = share * late


@njit(**KERNEL)
def match_planes(tables, clusters, n, match_ns, hits, row, counts):  # type: ignore[no-untyped-def]
    """Join the clusters along u and v of each panel; return the next free row of the hits.

    Those nearest in time and charge are joined first, each once. A panel with strips along one
    axis gives a hit for each cluster.
    """
    begin = 0
    while begin < n:
        panel = clusters.plane[begin] // 2
        middle = begin
        while middle < n and clusters.plane[middle] == 2 * panel:
            middle += 1
        end = middle
        while end < n and clusters.plane[end] == 2 * panel + 1:
            end += 1
        if tables.pitch[2 * panel] == 0.0 or tables.pitch[2 * panel + 1] == 0.0:
            for i in range(begin, end):
                _put_hit(
                    hits, row, panel, clusters, i if i < middle else -1, -1 if i < middle else i
                )
                row += 1
            begin = end
            continue
        for i in range(begin, end):
            clusters.used[i] = False
        pairs = 0
        while True:
            best, a, b = math.inf, -1, -1
            for i in range(begin, middle):
                if clusters.used[i]:
                    continue
                for j in range(middle, end):
                    apart = abs(clusters.time[i] - clusters.time[j])
                    if clusters.used[j] or apart > match_ns:
                        continue
                    p, q = clusters.charge[i], clusters.charge[j]
                    score = apart / (match_ns + 1e-9) + abs(p - q) / (p + q)
                    if score < best:
                        best, a, b = score, i, j
            if a < 0:
                break
            clusters.used[a] = clusters.used[b] = True
            _put_hit(hits, row, panel, clusters, a, b)
            row += 1
            pairs += 1
        counts[UNMATCHED_U] += middle - begin - pairs
        counts[UNMATCHED_V] += end - middle - pairs
        begin = end
    return row
