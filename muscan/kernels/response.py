"""What panels make of the muons that cross them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.options import KERNEL, PART


class Response(NamedTuple):
    """What each panel does to a crossing.

    Attributes
    ----------
    half : (n, 2) float64
        Half the sensitive size along u and v [mm].
    sigma : (n, 2) float64
        Standard deviation along u and v as reported [mm]; inf where not measured.
    smear : (n, 2) float64
        Standard deviation of the Gaussian error [mm].
    pitch : (n, 2) float64
        Width of a channel whose centre is reported [mm]; 0 for a readout without.
    channel : (n, 2) float64
        Width of a channel that may be dead [mm]; inf where none is.
    dead : (n, 2, m) bool
        Whether a channel is dead, by its number; higher ones live.
    cells : (n, 2) float64
        Cells of the efficiency's map along u and v; (1, 1) for a flat one.
    efficiency : (n, a, b) float64
        Efficiency by cell, in the first ones.
    extra : (n,) float64
        Probability of one more hit after each of a muon's hits.
    extra_distance : (n,) float64
        Standard deviation of its distance along u and v [mm].
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
    smear: NDArray[np.float64]
    pitch: NDArray[np.float64]
    channel: NDArray[np.float64]
    dead: NDArray[np.bool_]
    cells: NDArray[np.float64]
    efficiency: NDArray[np.float64]
    extra: NDArray[np.float64]
    extra_distance: NDArray[np.float64]
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


@njit(**PART)
def _drift(rng, response, panel, axis, x):  # type: ignore[no-untyped-def]
    """Return where a muon's signal reaches the channels of a readout by pitch."""
    if response.pitch[panel, axis] > 0.0 and response.smear[panel, axis] > 0.0:
        x += response.smear[panel, axis] * rng.standard_normal()
    return x


@njit(**PART)
def _note(signals, panel, u, v, time, amplitude):  # type: ignore[no-untyped-def]
    """Note a signal, where signals are wanted."""
    k = signals.n[0]
    if k < signals.u.size:
        signals.panel[k] = panel
        signals.u[k], signals.v[k] = u, v
        signals.time[k], signals.amplitude[k] = time, amplitude
        signals.n[0] = k + 1


@njit(**PART)
def _measure(rng, response, panel, axis, x):  # type: ignore[no-untyped-def]
    """Return a coordinate as it is read out, and whether a live channel reads it."""
    half, pitch = response.half[panel, axis], response.pitch[panel, axis]
    if pitch > 0.0:
        last = 2.0 * half / pitch - 0.5  # the size is a whole number of channels
        x = (math.floor(min(max((x + half) / pitch, 0.0), last)) + 0.5) * pitch - half
    # Of a Gaussian readout the channel is that of the muon, not of the measurement.
    number = int((x + half) / response.channel[panel, axis])
    if 0 <= number < response.dead.shape[2] and response.dead[panel, axis, number]:
        return x, False
    if pitch == 0.0:
        x += response.smear[panel, axis] * rng.standard_normal()
    return x, True


@njit(**PART)
def _write(rng, response, hits, signals, row, event, panel, u, v, time, amplitude):  # type: ignore[no-untyped-def]
    """Write one hit, its coordinates as they are measured; return the next free row.

    A dead channel and a full set of columns both give no hit. The signal is noted all the same:
    strips beside a dead one may see it.
    """
    u = _drift(rng, response, panel, 0, u)
    v = _drift(rng, response, panel, 1, v)
    _note(signals, panel, u, v, time, amplitude)
    if row >= hits.event_id.size:
        return row
    su, sv = response.sigma[panel, 0], response.sigma[panel, 1]
    hits.u[row], hits.v[row] = math.nan, math.nan
    if su < math.inf:
        hits.u[row], lives = _measure(rng, response, panel, 0, u)
        if not lives:
            return row
    if sv < math.inf:
        hits.v[row], lives = _measure(rng, response, panel, 1, v)
        if not lives:
            return row
    hits.event_id[row] = event
    hits.panel[row] = panel
    hits.sigma_u[row] = su
    hits.sigma_v[row] = sv
    hits.time[row] = time
    hits.amplitude[row] = amplitude
    return row + 1


@njit(**PART)
def _efficiency(response, panel, u, v):  # type: ignore[no-untyped-def]
    """Return the probability that a muon gives a hit where it crosses."""
    a, b = response.cells[panel, 0], response.cells[panel, 1]
    if a * b == 1.0:
        return response.efficiency[panel, 0, 0]
    i = int(min(max(0.5 * (u / response.half[panel, 0] + 1.0) * a, 0.0), a - 1.0))
    j = int(min(max(0.5 * (v / response.half[panel, 1] + 1.0) * b, 0.0), b - 1.0))
    return response.efficiency[panel, i, j]


@njit(**KERNEL)
def _add_extra(rng, response, hits, signals, row, event, panel, u, v, time):  # type: ignore[no-untyped-def]
    """Write the further hits of a muon beside it; return the next free row."""
    while rng.random() < response.extra[panel]:
        du = response.extra_distance[panel] * rng.standard_normal()
        dv = response.extra_distance[panel] * rng.standard_normal()
        late = response.time_sigma[panel] * rng.standard_normal()
        # As of noise, the amplitude is small: an exponential, a third of a muon's on average.
        amplitude = 0.33 * rng.standard_exponential()
        if max(abs(u + du) - response.half[panel, 0], abs(v + dv) - response.half[panel, 1]) < 0:
            row = _write(
                rng, response, hits, signals, row, event, panel,
                u + du, v + dv, time + late, amplitude,
            )  # fmt: skip
    return row


@njit(**KERNEL)
def record_crossings(  # type: ignore[no-untyped-def]
    rng, response, panels, crossings, n, event, start, hits, signals, row
):
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
    signals : SignalColumns
    row : int
        First free row.

    Returns
    -------
    int
        The next free row.
    """
    for i in range(n):
        panel, u, v = panels[i], crossings[i, 0], crossings[i, 1]
        if rng.random() >= _efficiency(response, panel, u, v):
            continue
        crossed = start + crossings[i, 2]
        time = crossed + response.time_sigma[panel] * rng.standard_normal()
        # Moyal's approximation to Landau's distribution: −ln z² of a normal z
        # (J. E. Moyal, Phil. Mag. 46:263, 1955), about 1 for a perpendicular crossing.
        moyal = -2.0 * math.log(abs(rng.standard_normal()) + 1e-12)
        amplitude = crossings[i, 3] * (1.0 + 0.1 * moyal)
        end = _write(rng, response, hits, signals, row, event, panel, u, v, time, amplitude)
        if end > row and response.extra[panel] > 0.0:
            end = _add_extra(rng, response, hits, signals, end, event, panel, u, v, crossed)
        row = end
    return row


@njit(**KERNEL)
def triggers(response, hits, first, end):  # type: ignore[no-untyped-def]
    """Return whether two of an event's hits are in one group that can trigger."""
    for i in range(first, end):
        group = response.group[hits.panel[i]]
        if group >= 0:
            for j in range(first, i):
                if response.group[hits.panel[j]] == group:
                    return True
    return False


@njit(**KERNEL)
def add_noise(rng, response, event, start, hits, signals, row):  # type: ignore[no-untyped-def]
    """Write the noise hits in an event's gate, from ``row`` on; return the next free row."""
    product = rng.random()
    while product > response.no_noise:
        u = rng.random()
        panel = 0
        while u >= response.noise_cdf[panel]:
            panel += 1
        time = start + (rng.random() - 0.5) * response.gate
        # Noise is small pulses: exponential, a third of a muon's on average.
        amplitude = 0.33 * rng.standard_exponential()
        row = _write(
            rng, response, hits, signals, row, event, panel,
            (2.0 * rng.random() - 1.0) * response.half[panel, 0],
            (2.0 * rng.random() - 1.0) * response.half[panel, 1],
            time, amplitude,
        )  # fmt: skip
        product *= rng.random()
    return row


@njit(**KERNEL)
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
