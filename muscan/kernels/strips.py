"""Charge on strips: which strips a signal reaches, and the counts that they give."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.options import KERNEL, PART

#: Charge further off than this many standard deviations of its cloud is not shared out.
REACH = 4.0


class SignalColumns(NamedTuple):
    """Signals before any strip reads them; without room, none is noted.

    Attributes
    ----------
    panel : (k,) uint16
    u, v : (k,) float64
        Where the charge is centred [mm].
    time : (k,) float64, [ns]
    amplitude : (k,) float64
    n : (1,) int64
        How many there are.
    """

    panel: NDArray[np.uint16]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    time: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    n: NDArray[np.int64]


class StripModel(NamedTuple):
    """Strips of each panel (first index) along u and v (second); `muscan.model.strips.Strips`.

    Attributes
    ----------
    half, pitch, spread : (n, 2) float64
        Half the size, width of a strip (0 where none measures) and spread of the charge [mm].
    gain, pedestal, noise, threshold, largest, jitter : (n,) float64
    dead : (n, 2, m) bool
        Whether a strip is dead, by its number; higher ones live.
    """

    half: NDArray[np.float64]
    pitch: NDArray[np.float64]
    spread: NDArray[np.float64]
    gain: NDArray[np.float64]
    pedestal: NDArray[np.float64]
    noise: NDArray[np.float64]
    threshold: NDArray[np.float64]
    largest: NDArray[np.float64]
    jitter: NDArray[np.float64]
    dead: NDArray[np.bool_]


@njit(**PART)
def _below(x: float, spread: float) -> float:
    """Return the share of a cloud of charge at 0 that lies below x."""
    if spread > 0.0:
        return 0.5 * math.erfc(-x / (spread * math.sqrt(2.0)))
    return 1.0 if x > 0.0 else 0.0


@njit(**KERNEL)
def digitise(  # type: ignore[no-untyped-def]
    rng, model, signals, first, plane, channel, adc, time
):
    """Write the strips over threshold of signals.

    Parameters
    ----------
    rng : numpy Generator
    model : StripModel
    signals : SignalColumns
    first : int
        Signal to begin with.
    plane, channel : (m,) int32; adc, time : (m,) float64
        Receive the rows, as in `muscan.model.strips.StripRows`.

    Returns
    -------
    rows : int
        Number of rows written.
    following : int
        The first signal that found no room; the number of signals if all did.
    """
    row = 0
    for i in range(first, signals.n[0]):
        panel, start = signals.panel[i], row
        for axis in range(2):
            pitch, spread = model.pitch[panel, axis], model.spread[panel, axis]
            if pitch == 0.0:
                continue
            half = model.half[panel, axis]
            strips = int(2.0 * half / pitch + 0.5)
            x = (signals.u[i] if axis == 0 else signals.v[i]) + half
            x = min(max(x, 0.0), 2.0 * half - 1e-6 * pitch)
            low = max(int((x - REACH * spread) / pitch), 0)
            high = min(int((x + REACH * spread) / pitch), strips - 1)
            if row + high - low + 1 > plane.size:
                return start, i
            below = _below(low * pitch - x, spread)
            for number in range(low, high + 1):
                above = _below((number + 1) * pitch - x, spread)
                counts = model.gain[panel] * signals.amplitude[i] * (above - below)
                below = above
                counts += model.noise[panel] * rng.standard_normal()
                late = model.jitter[panel] * rng.standard_normal()
                if counts < model.threshold[panel]:
                    continue
                if number < model.dead.shape[2] and model.dead[panel, axis, number]:
                    continue
                plane[row] = 2 * panel + axis
                channel[row] = number
                adc[row] = min(counts + model.pedestal[panel], model.largest[panel])
                time[row] = signals.time[i] + late
                row += 1
    return row, signals.n[0]
