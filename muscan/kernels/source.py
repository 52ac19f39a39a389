"""Drawing muons on the faces of a box from tables of the flux."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class SourceTables(NamedTuple):
    """What a source needs to draw muons.

    Attributes
    ----------
    low, high : (3,) float64
        Corners of the box on whose faces muons start [mm].
    face_cdf : (5,) float64
        Cumulative probability of the top, +x, −x, +y and −y face.
    alias : (2, n, 2) float32
        Alias tables over the cells of (log p, cosθ), for a horizontal and a vertical face: the
        probability to keep a cell, and the number of the other one.
    n_cos : int
        Cells along cosθ, which spans 0…1; cells along log p are the rest.
    log_p : float, log_p_step : float
        Lower edge of the first cell and width of a cell along log p [log GeV].
    positive : float
        Probability of a positive charge.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    face_cdf: NDArray[np.float64]
    alias: NDArray[np.float32]
    n_cos: int
    log_p: float
    log_p_step: float
    positive: float


@njit(cache=True, nogil=True)
def fill_alias(weights, alias, small, large):  # type: ignore[no-untyped-def]
    """Fill Walker's alias table of some weights (Vose, IEEE TSE 17:972, 1991).

    Parameters
    ----------
    weights : (n,) float64
        Not negative; need not be normalised. Overwritten.
    alias : (n, 2) float32
        The table, filled. A float32 holds every number of a cell below 2²⁴.
    small, large : (n,) int32
        Scratch.
    """
    n = weights.size
    weights *= n / weights.sum()
    n_small = n_large = 0
    for i in range(n):
        alias[i, 0], alias[i, 1] = 1.0, i
        if weights[i] < 1.0:
            small[n_small] = i
            n_small += 1
        else:
            large[n_large] = i
            n_large += 1
    while n_small > 0 and n_large > 0:
        n_small -= 1
        n_large -= 1
        less, more = small[n_small], large[n_large]
        alias[less, 0], alias[less, 1] = weights[less], more
        weights[more] -= 1.0 - weights[less]
        if weights[more] < 1.0:
            small[n_small] = more
            n_small += 1
        else:
            large[n_large] = more
            n_large += 1


@njit(cache=True, nogil=True)
def draw_muon(rng, source):  # type: ignore[no-untyped-def]
    """Draw one muon.

    Returns
    -------
    p, charge, x, y, z, dx, dy, dz
        Momentum [GeV], charge, start on a face [mm] and unit vector of motion.
    """
    u = rng.random()
    face = 0
    while face < 4 and u >= source.face_cdf[face]:
        face += 1
    kind = 0 if face == 0 else 1
    scaled = rng.random() * source.alias.shape[1]
    cell = int(scaled)
    if scaled - cell >= source.alias[kind, cell, 0]:
        cell = int(source.alias[kind, cell, 1])
    row = cell // source.n_cos
    p = math.exp(source.log_p + source.log_p_step * (row + rng.random()))
    c = (cell - row * source.n_cos + rng.random()) / source.n_cos
    s = math.sqrt(1.0 - c * c)
    low, high = source.low, source.high
    a, b = rng.random(), rng.random()
    x = low[0] + a * (high[0] - low[0])
    y = low[1] + b * (high[1] - low[1])
    z = high[2]
    if face == 0:
        phi = 2.0 * math.pi * rng.random()
        dx, dy = s * math.cos(phi), s * math.sin(phi)
    else:
        # The rate goes as cosφ about the inward normal: sinφ is uniform.
        across = 2.0 * rng.random() - 1.0
        inward = s * math.sqrt(1.0 - across * across)
        across *= s
        z = low[2] + a * (high[2] - low[2])
        if face <= 2:
            x, dx, dy = (high[0], -inward, across) if face == 1 else (low[0], inward, across)
        else:
            x = low[0] + b * (high[0] - low[0])
            y, dy, dx = (high[1], -inward, across) if face == 3 else (low[1], inward, across)
    charge = 1 if rng.random() < source.positive else -1
    return p, charge, x, y, z, dx, dy, -c


@njit(cache=True, nogil=True)
def draw_muons(rng, source, momentum, charge, position, direction):  # type: ignore[no-untyped-def]
    """Fill columns with muons: (n,), (n,), (n, 3) and (n, 3)."""
    for i in range(momentum.size):
        p, q, x, y, z, dx, dy, dz = draw_muon(rng, source)
        momentum[i] = p
        charge[i] = q
        position[i, 0], position[i, 1], position[i, 2] = x, y, z
        direction[i, 0], direction[i, 1], direction[i, 2] = dx, dy, dz
