"""Candidate tracks of one group of panels in one event: which hits belong together.

Every combination of hits, at most one a panel, is fitted. One that fails as a muon of the
reference momentum is tried as a slower one, which scatters more in the panels; if that passes, it
is kept, with the line, covariance and χ² at the reference momentum, so that these mean the same
for all. Candidates are ranked by a score in units of χ²: that of the trial that passed, plus what
a slower muon costs, plus what left-out hits cost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.line_fit import (
    SIGMA_U,
    SIGMA_V,
    UNDETERMINED,
    FloatArray,
    IntArray,
    Line,
    U,
    V,
    crossing,
    fit_line,
    start_line,
)
from muscan.kernels.options import KERNEL, PART

#: Hits that an event may have in one panel, candidates kept, combinations fitted in a group.
MAX_HITS = 16
MAX_CANDIDATES = 8
MAX_FITS = 64
MAX_FITS_LEFT_OUT = 256
#: A slower muon has 1/3 of the momentum, 9 times the scattering variance; at most three times.
SLOWER = 9.0
MAX_SLOWER = 3
MOST_SCATTERING = SLOWER**MAX_SLOWER
#: Each such step costs about -2 ln of the share of muons that need it, and of the wider density.
SLOWER_COST = 8.0
#: A coordinate of a panel with hits that is left out: half of -2 ln of the odds of a noise hit
#: (density 1 % on 10 m²) in a panel that missed the muon (2 %), against a measured hit (1 mm²).
LEFT_OUT_COST = 25.0

# What became of the search in a group.
FOUND, TOO_FEW_HITS, TOO_MANY_HITS, BAD_CHI2 = range(4)


class HitColumns(NamedTuple):
    """Columns of hits, as in `muscan.model.events.Hits`.

    Attributes
    ----------
    panel : (n,) uint16
    u, v, sigma_u, sigma_v : (n,) float32, [mm]
    """

    panel: NDArray[np.uint16]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    sigma_u: NDArray[np.float32]
    sigma_v: NDArray[np.float32]


# Numbers of a candidate: point [mm] and direction, upper triangle of the covariance, χ², score.
LINE, COV, CHI2, SCORE = 0, 6, 16, 17
CANDIDATE_NUMBERS = 18
# Its whole numbers: coordinates and hits used, how often the momentum was divided by 3; then which
# hit was taken in each plane, or -1.
COORDINATES, N_HITS, N_SLOWER, CHOSEN = range(4)


class Candidates(NamedTuple):
    """The best candidates of each group, least score first.

    Attributes
    ----------
    count : (g,) int64
    numbers : (g, k, 18) float64
    whole : (g, k, 3 + n) int64
    """

    count: IntArray
    numbers: FloatArray
    whole: IntArray


class EventHits(NamedTuple):
    """The hits of one event by plane, and the combination that is being tried.

    Attributes
    ----------
    count : (n,) int64, number of hits in each plane
    hits : (n, MAX_HITS, 4) float64, see `muscan.kernels.line_fit.fit_line`
    choices : (m, n) int64, the combinations: which hit in each plane, or -1
    chosen : (n,) int64, the one that is tried
    pick : (n,) int64, scratch
    """

    count: IntArray
    hits: FloatArray
    choices: IntArray
    chosen: IntArray
    pick: IntArray


def new_candidates(groups: int, planes: int) -> Candidates:
    """Return room for the candidates of one event."""
    return Candidates(
        np.zeros(groups, np.int64),
        np.empty((groups, MAX_CANDIDATES, CANDIDATE_NUMBERS)),
        np.empty((groups, MAX_CANDIDATES, CHOSEN + planes), np.int64),
    )


def new_event_hits(planes: int) -> EventHits:
    """Return room for the hits of one event."""
    return EventHits(
        np.zeros(planes, np.int64),
        np.empty((planes, MAX_HITS, 4)),
        np.empty((MAX_FITS_LEFT_OUT, planes), np.int64),
        np.empty(planes, np.int64),
        np.empty(planes, np.int64),
    )


@njit(**PART)
def sort_hits(
    columns: HitColumns, begin: int, end: int, plane_of: IntArray, event: EventHits
) -> bool:
    """List the hits of an event by plane; False if a plane has more than `MAX_HITS`.

    Parameters
    ----------
    columns : HitColumns
    begin, end : int
        Rows of the event.
    plane_of : (n,) int64
        Plane of each panel of the detector.
    event : EventHits
        Receives the hits.
    """
    for k in range(event.count.size):
        event.count[k] = 0
    for row in range(begin, end):
        k = plane_of[columns.panel[row]]
        n = event.count[k]
        if n == MAX_HITS:
            return False
        event.hits[k, n, U] = columns.u[row]
        event.hits[k, n, V] = columns.v[row]
        event.hits[k, n, SIGMA_U] = columns.sigma_u[row]
        event.hits[k, n, SIGMA_V] = columns.sigma_v[row]
        event.count[k] = n + 1
    return True


@njit(**PART)
def _coordinates(hits: FloatArray, k: int, hit: int) -> int:
    """Count the coordinates that a hit measures."""
    return int(hits[k, hit, SIGMA_U] < np.inf) + int(hits[k, hit, SIGMA_V] < np.inf)


@njit(**KERNEL)
def search(
    planes: FloatArray,
    event: EventHits,
    group: int,
    first: int,
    last: int,
    max_chi2: float,
    found: Candidates,
) -> int:
    """Fill the candidates of a group from the hits of an event.

    Parameters
    ----------
    planes : (n, 16) float64
        See `muscan.kernels.line_fit.fit_line`.
    event : EventHits
    group, first, last : int
        The group and its range of planes.
    max_chi2 : float
        Largest χ² per degree of freedom.
    found : Candidates
        Receives the candidates.

    Returns
    -------
    int
        `FOUND`, or why there is none.
    """
    found.count[group] = 0
    available = 0
    choices = 1
    left_out = 1
    crossed = 0
    for k in range(first, last):
        n = event.count[k]
        if n > 0:
            available += _coordinates(event.hits, k, 0)
            choices = min(choices * n, MAX_FITS + 1)
            left_out = min(left_out * (n + 1), MAX_FITS_LEFT_OUT + 1)
            crossed += 1
    if available < 4:
        return TOO_FEW_HITS
    can_spare = available > 4 and crossed > 2 and left_out <= MAX_FITS_LEFT_OUT
    # Second, what remains when all hits of some planes are taken for noise.
    for spare in range(2):
        if spare == 1 and (found.count[group] > 0 or not can_spare):
            break
        if spare == 1 or choices <= MAX_FITS:
            n = _choose_all(event, first, last, spare)
        else:
            n = _choose_by_seeds(planes, event, first, last)
        for choice in range(n):
            for k in range(first, last):
                event.chosen[k] = event.choices[choice, k]
            _try(planes, event, group, first, last, max_chi2, available, found)
    if found.count[group] > 0:
        return FOUND
    return BAD_CHI2 if choices <= MAX_FITS else TOO_MANY_HITS


@njit(**PART)
def _try(
    planes: FloatArray,
    event: EventHits,
    group: int,
    first: int,
    last: int,
    max_chi2: float,
    available: int,
    found: Candidates,
) -> None:
    """Fit the trial hits, and keep the line if it is good and among the best.

    `available` is the number of coordinates in planes with hits.
    """
    hits, chosen = event.hits, event.chosen
    coordinates = 0
    n_hits = 0
    for k in range(first, last):
        hit = chosen[k]
        if hit >= 0:
            n_hits += 1
            coordinates += _coordinates(hits, k, hit)
    if coordinates < 4:
        return
    limit = max_chi2 * max(coordinates - 4, 1)
    chi2, line, cov = fit_line(planes, hits, chosen, first, last, 1.0)
    # Scattering s times as wide takes χ² down by s at most, so what is worse fails for sure.
    if not 0.0 <= chi2 <= limit * MOST_SCATTERING:
        return
    slower = 0
    trial = chi2
    scale = 1.0
    while trial > limit:
        if slower == MAX_SLOWER:
            return
        slower += 1
        scale *= SLOWER
        trial, _, _ = fit_line(planes, hits, chosen, first, last, scale)
        if trial == UNDETERMINED:
            return
    score = trial + SLOWER_COST * slower + LEFT_OUT_COST * (available - coordinates)
    slot = _make_room(group, score, found)
    if slot < 0:
        return
    numbers, whole = found.numbers, found.whole
    for i in range(6):
        numbers[group, slot, LINE + i] = line[i]
    for i in range(10):
        numbers[group, slot, COV + i] = cov[i]
    numbers[group, slot, CHI2] = chi2
    numbers[group, slot, SCORE] = score
    whole[group, slot, COORDINATES] = coordinates
    whole[group, slot, N_HITS] = n_hits
    whole[group, slot, N_SLOWER] = slower
    for k in range(first, last):
        whole[group, slot, CHOSEN + k] = chosen[k]


@njit(**PART)
def _make_room(group: int, score: float, found: Candidates) -> int:
    """Return the slot of a new candidate with that score, or -1 if it is not among the best."""
    count, numbers, whole = found.count, found.numbers, found.whole
    n = count[group]
    place = n
    while place > 0 and numbers[group, place - 1, SCORE] > score:
        place -= 1
    if place == MAX_CANDIDATES:
        return -1
    if n < MAX_CANDIDATES:
        n += 1
        count[group] = n
    for slot in range(n - 1, place, -1):
        for i in range(numbers.shape[2]):
            numbers[group, slot, i] = numbers[group, slot - 1, i]
        for i in range(whole.shape[2]):
            whole[group, slot, i] = whole[group, slot - 1, i]
    return place


@njit(**PART)
def _choose_all(event: EventHits, first: int, last: int, spare: int) -> int:
    """List every choice of one hit a plane; with `spare` 1, also none in planes that have hits.

    Returns how many there are.
    """
    for k in range(first, last):
        event.pick[k] = 0
    n = 0
    k = first
    while k < last:
        for i in range(first, last):
            event.choices[n, i] = event.pick[i] if event.pick[i] < event.count[i] else -1
        n += 1
        # Count up, as an odometer does.
        k = first
        while k < last:
            event.pick[k] += 1
            if event.pick[k] < event.count[k] + (spare if event.count[k] > 0 else 0):
                break
            event.pick[k] = 0
            k += 1
    return n


@njit(**PART)
def _choose_by_seeds(planes: FloatArray, event: EventHits, first: int, last: int) -> int:
    """List pairs of hits with both coordinates, each with the nearest hits in the other planes.

    Those come first whose planes lie far apart. Returns how many there are.
    """
    n = 0
    for distance in range(last - first - 1, 0, -1):
        for a in range(first, last - distance):
            b = a + distance
            for i in range(event.count[a]):
                for j in range(event.count[b]):
                    if n == MAX_FITS_LEFT_OUT:
                        return n
                    for k in range(first, last):
                        event.chosen[k] = -1
                    event.chosen[a] = i
                    event.chosen[b] = j
                    near, line = start_line(planes, event.hits, event.chosen, first, last)
                    if not near:
                        continue
                    for k in range(first, last):
                        hit = event.chosen[k]
                        event.choices[n, k] = hit if hit >= 0 else _nearest(planes, event, k, line)
                    n += 1
    return n


@njit(**PART)
def _nearest(planes: FloatArray, event: EventHits, k: int, line: Line) -> int:
    """Return which hit in a plane is nearest to a line, or -1."""
    nearest = -1
    least = np.inf
    pu, pv, met = crossing(planes, k, line)
    if not met:
        return nearest
    for hit in range(event.count[k]):
        distance = 0.0
        if event.hits[k, hit, SIGMA_U] < np.inf:
            distance += (event.hits[k, hit, U] - pu) ** 2
        if event.hits[k, hit, SIGMA_V] < np.inf:
            distance += (event.hits[k, hit, V] - pv) ** 2
        if distance < least:
            least = distance
            nearest = hit
    return nearest
