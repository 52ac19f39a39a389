"""From the hits of events to one incoming and one outgoing track each.

Each group of panels gives candidates (`muscan.kernels.candidates`). Where several remain, the
pair of groups decides: the lines of one muon nearly meet, at a small angle.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.candidates import (
    CHI2,
    CHOSEN,
    COORDINATES,
    COV,
    FOUND,
    LINE,
    N_HITS,
    N_SLOWER,
    SCORE,
    TOO_FEW_HITS,
    TOO_MANY_HITS,
    Candidates,
    EventHits,
    HitColumns,
    search,
    sort_hits,
)
from muscan.kernels.line_fit import FloatArray, IntArray
from muscan.kernels.options import KERNEL, PART

#: Scales of the kink [rad] and of the gap [mm] between the tracks of a pair. They only rank the
#: candidates of ambiguous events: wider than the scattering in most loads, narrower than chance.
KINK_SCALE = 0.05
GAP_SCALE = 50.0
#: Tracks that go together worse than this in score are not one muon's. Only asked where a track is
#: not over-determined, so that nothing else tells a hit of noise in it; a kink of 0.5 rad with a
#: gap of 200 mm still passes.
MAX_MISMATCH = 30.0
#: A kink of more than 45° counts as if this were its square [rad²]: no muon does that and goes on
#: through the panels, so it is beyond `MAX_MISMATCH` on its own.
LEAST_COSINE = 0.7
TURNED_BACK = 8.0
#: A choice that leads by less than this in score counts as ambiguous.
CLEAR_MARGIN = 6.0

#: What becomes of an event, every event once; then what is remarked of those that are kept.
COUNT_NAMES = (
    "in_and_out",
    "too_few_hits",
    "too_many_hits",
    "bad_chi2",
    "incoming_only",
    "no_incoming_track",
    "unmatched",
    "ambiguous",
    "several_muons",
    "hits_left_out",
    "slow_muons",
)
IN_AND_OUT, INCOMING_ONLY, NO_INCOMING, UNMATCHED = FOUND, 4, 5, 6
AMBIGUOUS, SEVERAL, LEFT_OUT, SLOW = range(7, 11)


class Planes(NamedTuple):
    """A detector's panels, group by group, from the outermost of a group to the innermost.

    Attributes
    ----------
    table : (n, 16) float64
        See `muscan.kernels.line_fit.fit_line`.
    plane_of : (n,) int64
        Plane of each panel of the detector.
    start : (g + 1,) int64
        Limits of the groups.
    inward : (g, 3) float64
        Unit vector from each group to the inspected space.
    """

    table: FloatArray
    plane_of: IntArray
    start: IntArray
    inward: FloatArray


class Found(NamedTuple):
    """Rows of tracks to be filled, as in `muscan.model.events.Tracks`; `event` is the event's row.

    Attributes
    ----------
    event : (n,) int64
    side : (n,) int8
    position, direction : (n, 3) float32
    cov : (n, 4, 4) float32
    chi2 : (n,) float32
    ndof : (n,) int16
    n_hits : (n,) uint8
    """

    event: IntArray
    side: NDArray[np.int8]
    position: NDArray[np.float32]
    direction: NDArray[np.float32]
    cov: NDArray[np.float32]
    chi2: NDArray[np.float32]
    ndof: NDArray[np.int16]
    n_hits: NDArray[np.uint8]


@njit(**PART)
def _mismatch(line: FloatArray, one: int, i: int, two: int, j: int) -> float:
    """Rank how ill two candidates, `line[one, i]` and `line[two, j]`, go together as one muon's.

    The kink and the gap at closest approach each count 4 ln(1 + (·/scale)²), minus twice the
    logarithm of a density with the heavy tail of scattering.
    """
    ax, ay, az = line[one, i, 3], line[one, i, 4], line[one, i, 5]
    bx, by, bz = line[two, j, 3], line[two, j, 4], line[two, j, 5]
    rx = line[two, j, 0] - line[one, i, 0]
    ry = line[two, j, 1] - line[one, i, 1]
    rz = line[two, j, 2] - line[one, i, 2]
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    sin2 = cx * cx + cy * cy + cz * cz
    if sin2 > 1e-8:
        gap2 = (rx * cx + ry * cy + rz * cz) ** 2 / sin2
    else:
        gap2 = max(rx * rx + ry * ry + rz * rz - (rx * ax + ry * ay + rz * az) ** 2, 0.0)
    kink2 = sin2 if ax * bx + ay * by + az * bz > LEAST_COSINE else TURNED_BACK
    return 4.0 * log(1.0 + kink2 / KINK_SCALE**2) + 4.0 * log(1.0 + gap2 / GAP_SCALE**2)


@njit(**KERNEL)
def _best_pair(one: int, two: int, found: Candidates) -> tuple[int, int, float]:
    """Return the candidates of two groups that go best together, and by how much."""
    numbers = found.numbers
    best_i = 0
    best_j = 0
    least = np.inf
    second = np.inf
    for i in range(found.count[one]):
        for j in range(found.count[two]):
            score = numbers[one, i, SCORE] + numbers[two, j, SCORE]
            score += _mismatch(numbers, one, i, two, j)
            if score < least:
                second = least
                least = score
                best_i, best_j = i, j
            elif score < second:
                second = score
    return best_i, best_j, second - least


@njit(**PART)
def _first_and_last(planes: Planes, found: Candidates) -> tuple[int, int]:
    """Return the groups that the muon met first and last.

    Judged by the best candidate of each, along that which is over-determined most. The second is
    -1 if only one group has a track, the first is -1 if that track leaves the inspected space
    rather than enters it.
    """
    line = found.numbers
    sure = -1
    for g in range(found.count.size):
        if found.count[g] > 0 and (
            sure < 0 or found.whole[g, 0, COORDINATES] > found.whole[sure, 0, COORDINATES]
        ):
            sure = g
    dx, dy, dz = line[sure, 0, 3], line[sure, 0, 4], line[sure, 0, 5]
    first = -1
    last = -1
    low = np.inf
    high = -np.inf
    for g in range(found.count.size):
        if found.count[g] > 0:
            along = line[g, 0, 0] * dx + line[g, 0, 1] * dy + line[g, 0, 2] * dz
            if along < low:
                low = along
                first = g
            if along > high:
                high = along
                last = g
    if first != last:
        return first, last
    inward = planes.inward
    if dx * inward[first, 0] + dy * inward[first, 1] + dz * inward[first, 2] > 0.0:
        return first, -1
    return -1, -1


@njit(**KERNEL)
def _another_muon(planes: Planes, group: int, chosen: int, found: Candidates) -> bool:
    """Tell whether a group has a second track of other hits; both must be over-determined."""
    whole = found.whole
    if whole[group, chosen, COORDINATES] <= 4:
        return False
    for other in range(found.count[group]):
        if other != chosen and whole[group, other, COORDINATES] > 4:
            shared = False
            for k in range(planes.start[group], planes.start[group + 1]):
                hit = whole[group, chosen, CHOSEN + k]
                shared = shared or (hit >= 0 and hit == whole[group, other, CHOSEN + k])
            if not shared:
                return True
    return False


@njit(**PART)
def _write(
    row: int, event: int, side: int, group: int, slot: int, found: Candidates, out: Found
) -> None:
    """Write a candidate to a row of the result."""
    out.event[row] = event
    out.side[row] = side
    numbers = found.numbers
    for i in range(3):
        out.position[row, i] = numbers[group, slot, LINE + i]
        out.direction[row, i] = numbers[group, slot, LINE + 3 + i]
    packed = COV
    for i in range(4):
        for j in range(i, 4):
            value = numbers[group, slot, packed]
            out.cov[row, i, j] = value
            out.cov[row, j, i] = value
            packed += 1
    out.chi2[row] = numbers[group, slot, CHI2]
    out.ndof[row] = found.whole[group, slot, COORDINATES] - 4
    out.n_hits[row] = min(found.whole[group, slot, N_HITS], 255)


@njit(**PART)
def _settle(
    planes: Planes,
    event: int,
    n_hits: int,
    first: int,
    last: int,
    row: int,
    found: Candidates,
    out: Found,
    counts: IntArray,
) -> int:
    """Choose among the candidates of the first and the last group, write and count them."""
    numbers, whole = found.numbers, found.whole
    i = j = 0
    margin = np.inf
    several = False
    if last >= 0:
        if found.count[first] > 1 or found.count[last] > 1:
            i, j, margin = _best_pair(first, last, found)
            several = _another_muon(planes, last, j, found)
        exact = min(whole[first, i, COORDINATES], whole[last, j, COORDINATES]) == 4
        if exact and _mismatch(numbers, first, i, last, j) > MAX_MISMATCH:
            counts[UNMATCHED] += 1
            return row
    elif found.count[first] > 1:
        margin = numbers[first, 1, SCORE] - numbers[first, 0, SCORE]
    several = several or _another_muon(planes, first, i, found)
    _write(row, event, 0, first, i, found, out)
    used = whole[first, i, N_HITS]
    slow = whole[first, i, N_SLOWER] > 0
    row += 1
    if last >= 0:
        _write(row, event, 1, last, j, found, out)
        used += whole[last, j, N_HITS]
        slow = slow or whole[last, j, N_SLOWER] > 0
        row += 1
    counts[IN_AND_OUT if last >= 0 else INCOMING_ONLY] += 1
    counts[AMBIGUOUS] += margin < CLEAR_MARGIN and not several
    counts[SEVERAL] += several
    counts[LEFT_OUT] += n_hits > used
    counts[SLOW] += slow
    return row


@njit(**KERNEL)
def find_in_events(
    planes: Planes,
    hits: HitColumns,
    starts: IntArray,
    begin: int,
    end: int,
    max_chi2: float,
    event_hits: EventHits,
    found: Candidates,
    out: Found,
    counts: IntArray,
) -> int:
    """Find the tracks of a range of events.

    Parameters
    ----------
    planes : Planes
    hits : HitColumns
    starts : (n + 1,) int64
        First row of each event in `hits`, and their number.
    begin, end : int
        Range of events.
    max_chi2 : float
        Largest χ² per degree of freedom.
    event_hits : EventHits
    found : Candidates
        Work space of this call alone.
    out : Found
        Rows from ``2 * begin`` on receive the tracks.
    counts : (11,) int64
        Is increased by the number of events that came to each of `COUNT_NAMES`.

    Returns
    -------
    int
        Number of rows written.
    """
    groups = planes.start.size - 1
    row = 2 * begin
    for event in range(begin, end):
        n_hits = starts[event + 1] - starts[event]
        if not sort_hits(hits, starts[event], starts[event + 1], planes.plane_of, event_hits):
            counts[TOO_MANY_HITS] += 1
            continue
        outcome = TOO_FEW_HITS
        tracks = 0
        for g in range(groups):
            result = search(
                planes.table,
                event_hits,
                g,
                planes.start[g],
                planes.start[g + 1],
                max_chi2,
                found,
            )
            if result == FOUND:
                tracks += 1
            else:
                outcome = max(outcome, result)
        if tracks == 0:
            counts[outcome] += 1
            continue
        first, last = _first_and_last(planes, found)
        if first < 0:
            counts[NO_INCOMING] += 1
            continue
        row = _settle(planes, event, n_hits, first, last, row, found, out, counts)
    return row - 2 * begin


@njit(cache=True, nogil=True)
def event_starts(event_id: NDArray[np.uint64]) -> IntArray:
    """Return the first row of each run of equal ids, and the number of rows as the last entry."""
    n = 0
    for row in range(event_id.size):
        n += row == 0 or event_id[row] != event_id[row - 1]
    starts = np.empty(n + 1, np.int64)
    n = 0
    for row in range(event_id.size):
        if row == 0 or event_id[row] != event_id[row - 1]:
            starts[n] = row
            n += 1
    starts[n] = event_id.size
    return starts


@njit(**KERNEL)
def close_gaps(out: Found, begins: IntArray, lengths: IntArray) -> int:
    """Move the rows of each chunk up to those before it; returns the number of rows."""
    end = 0
    for chunk in range(begins.size):
        for source in range(begins[chunk], begins[chunk] + lengths[chunk]):
            if source != end:
                _move_row(source, end, out)
            end += 1
    return end


@njit(**PART)
def _move_row(source: int, target: int, out: Found) -> None:
    out.event[target] = out.event[source]
    out.side[target] = out.side[source]
    for i in range(3):
        out.position[target, i] = out.position[source, i]
        out.direction[target, i] = out.direction[source, i]
    for i in range(4):
        for j in range(4):
            out.cov[target, i, j] = out.cov[source, i, j]
    out.chi2[target] = out.chi2[source]
    out.ndof[target] = out.ndof[source]
    out.n_hits[target] = out.n_hits[source]
