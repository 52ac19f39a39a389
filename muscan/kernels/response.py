"""What panels make of the muons that cross them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class Response(NamedTuple):
    """What each panel does to a crossing.

    Attributes
    ----------
    half : (n, 2) float64
        Half the sensitive size along u and v [mm].
    sigma : (n, 2) float64
        Resolution along u and v [mm]; inf where not measured.
    efficiency : (n,) float64
    time_sigma : (n,) float64, [ns]
    noise_cdf : (n,) float64
        Cumulative share of each panel in the noise.
    no_noise : float
        Probability of no noise hit at all in an event's gate.
    gate : float
        Length of an event's gate [ns].
    group : (n,) int32
        Group of panels that each counts for in the trigger, or −1 if it cannot trigger.
    """

    half: NDArray[np.float64]
    sigma: NDArray[np.float64]
    efficiency: NDArray[np.float64]
    time_sigma: NDArray[np.float64]
    noise_cdf: NDArray[np.float64]
    no_noise: float
    gate: float
    group: NDArray[np.int32]


class HitColumns(NamedTuple):
    """Columns of hits that kernels fill; meaning as in `muscan.model.events.Hits`."""

    event_id: NDArray[np.uint64]
    panel: NDArray[np.uint16]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    sigma_u: NDArray[np.float32]
    sigma_v: NDArray[np.float32]
    time: NDArray[np.float64]
    amplitude: NDArray[np.float32]


@njit(cache=True, nogil=True)
def _write(rng, response, hits, row, event, panel, u, v, time, amplitude):  # type: ignore[no-untyped-def]
    """Write one hit, its coordinates as they are measured."""
    hits.event_id[row] = event
    hits.panel[row] = panel
    su, sv = response.sigma[panel, 0], response.sigma[panel, 1]
    hits.u[row] = u + su * rng.standard_normal() if su < math.inf else math.nan
    hits.v[row] = v + sv * rng.standard_normal() if sv < math.inf else math.nan
    hits.sigma_u[row] = su
    hits.sigma_v[row] = sv
    hits.time[row] = time
    hits.amplitude[row] = amplitude


@njit(cache=True, nogil=True)
def record_crossings(rng, response, panels, crossings, n, event, start, hits, row):  # type: ignore[no-untyped-def]
    """Write the hits of one muon's crossings.

    Parameters
    ----------
    panels : (k,) int32, crossings : (k, 4) float64
        Panel, and u, v [mm], time since the start of the muon [ns] and path relative to a
        perpendicular one of each of the ``n`` crossings.
    event : int
    start : float
        Time at which the muon starts [ns].
    hits : HitColumns
    row : int
        First free row.

    Returns
    -------
    int
        The next free row.
    """
    for i in range(n):
        panel = panels[i]
        if rng.random() >= response.efficiency[panel]:
            continue
        time = start + crossings[i, 2] + response.time_sigma[panel] * rng.standard_normal()
        # Moyal's approximation to Landau's distribution: −ln z² of a normal z
        # (J. E. Moyal, Phil. Mag. 46:263, 1955), about 1 for a perpendicular crossing.
        moyal = -2.0 * math.log(abs(rng.standard_normal()) + 1e-12)
        amplitude = crossings[i, 3] * (1.0 + 0.1 * moyal)
        _write(
            rng,
            response,
            hits,
            row,
            event,
            panel,
            crossings[i, 0],
            crossings[i, 1],
            time,
            amplitude,
        )
        row += 1
    return row


@njit(cache=True, nogil=True)
def triggers(response, hits, first, end):  # type: ignore[no-untyped-def]
    """Return whether two of an event's hits are in one group that can trigger."""
    for i in range(first, end):
        group = response.group[hits.panel[i]]
        if group >= 0:
            for j in range(first, i):
                if response.group[hits.panel[j]] == group:
                    return True
    return False


@njit(cache=True, nogil=True)
def add_noise(rng, response, event, start, hits, row):  # type: ignore[no-untyped-def]
    """Write the noise hits in an event's gate, from ``row`` on; return the next free row."""
    product = rng.random()
    while product > response.no_noise and row < hits.event_id.size:
        u = rng.random()
        panel = 0
        while u >= response.noise_cdf[panel]:
            panel += 1
        time = start + (rng.random() - 0.5) * response.gate
        # Noise is small pulses: exponential, a third of a muon's on average.
        amplitude = 0.33 * rng.standard_exponential()
        _write(
            rng, response, hits, row, event, panel,
            (2.0 * rng.random() - 1.0) * response.half[panel, 0],
            (2.0 * rng.random() - 1.0) * response.half[panel, 1],
            time, amplitude,
        )  # fmt: skip
        row += 1
        product *= rng.random()
    return row


@njit(cache=True, nogil=True)
def sort_by_time(hits, first, end):  # type: ignore[no-untyped-def]
    """Put the rows of one event in the order of their times."""
    for i in range(first + 1, end):
        j = i
        while j > first and hits.time[j] < hits.time[j - 1]:
            for column in (hits.u, hits.v, hits.sigma_u, hits.sigma_v, hits.amplitude):
                column[j - 1], column[j] = column[j], column[j - 1]
            hits.time[j - 1], hits.time[j] = hits.time[j], hits.time[j - 1]
            hits.panel[j - 1], hits.panel[j] = hits.panel[j], hits.panel[j - 1]
            j -= 1
