"""One muon over one straight piece of one material: scattering, displacement, energy loss."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.energy_loss import (
    MUON_MASS,
    P_FIRST,
    P_PER_OCTAVE,
    P_ROWS,
    SMALLEST_CUT,
    STOP_MOMENTUM,
    LossTables,
    lose_energy,
)
from muscan.kernels.lookup import locate
from muscan.kernels.options import KERNEL, PART
from muscan.kernels.scattering import Cut, ScatteringTables, choose_cut, scatter_hard

#: A step loses at most about this part of the momentum.
STEP_LOSS: Final = 0.06
#: A muon is handed back when the cosine to its first direction falls below this.
TURNED: Final = 0.3
#: A shorter piece [mm] does nothing: less than an atom's size, and its squares would be 0.
NOTHING: Final = 1e-9
#: Below this part of the momentum the loss of a step is taken at its start.
SMALL_LOSS: Final = 2e-3


class TransportTables(NamedTuple):
    """Per-material tables; build them with `muscan.simulation.tables.build_tables`."""

    scattering: ScatteringTables
    loss: LossTables


@njit(**KERNEL)
def cross_segment(
    rng: np.random.Generator, tables: TransportTables, m: int, p: float, length: float
) -> tuple[float, float, float, float, float, float, float]:
    """Carry one muon across a straight piece of one material.

    The piece is a layer normal to the muon's first direction d, with e1, e2 the two axes
    of that plane. Whatever happens, the end point is
    ``start + travelled * d + dx * e1 + dy * e2`` and the new direction is
    ``ux * e1 + uy * e2 + uz * d``.

    Parameters
    ----------
    rng : numpy Generator
    tables : TransportTables
    m : int
        Index of the material.
    p : float
        Momentum [GeV].
    length : float
        Thickness of the piece along the first direction [mm].

    Returns
    -------
    p_out : float
        Momentum at the end [GeV]; 0 if the muon stopped.
    ux, uy, uz : float
        Unit vector of the new direction; uz is negative if the muon turned back.
    dx, dy : float
        Displacement across the first direction [mm].
    travelled : float
        Distance covered along the first direction [mm]. Less than `length` if the muon
        stopped, or (rare, p_out > 0) if it was turned so far from its direction that the
        piece must be traced again from the new position.
    """
    if p < STOP_MOMENTUM:
        return 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0
    if length < NOTHING:
        return p, 0.0, 0.0, 1.0, 0.0, 0.0, max(length, 0.0)
    energy = math.sqrt(p * p + MUON_MASS * MUON_MASS)
    xi = length * (energy / p) ** 2
    cut = choose_cut(tables.scattering, m, xi)
    # Landau's ξ, so that about one electron is knocked on above the cut.
    loss_cut = max(tables.loss.landau[m] * xi, SMALLEST_CUT * p)
    i, f = locate(p, P_FIRST, P_PER_OCTAVE, P_ROWS)
    share = length * _momentum_loss(tables.loss, m, i, f, p, energy)
    if share < STEP_LOSS:
        p_out, ux, uy, uz, dx, dy = _step(
            rng, tables, m, p, energy, i, f, share, length, cut, cut.spread, loss_cut
        )
        return p_out, ux, uy, uz, dx, dy, length
    return _cross_thick(rng, tables, m, p, length, cut, xi, loss_cut)


@njit(**PART)
def _row(loss: LossTables, m: int, i: int, f: float, column: int) -> float:
    low = loss.rows[m, i, column]
    return low + f * (loss.rows[m, i + 1, column] - low)


@njit(**PART)
def _momentum_loss(loss: LossTables, m: int, i: int, f: float, p: float, energy: float) -> float:
    """Return the part of its momentum that the muon loses per length [1 / mm]."""
    return _row(loss, m, i, f, 0) * energy / (p * p)


@njit(**PART)
def _step(
    rng: np.random.Generator,
    tables: TransportTables,
    m: int,
    p: float,
    energy: float,
    i: int,
    f: float,
    share: float,
    length: float,
    cut: Cut,
    spread: float,
    loss_cut: float,
) -> tuple[float, float, float, float, float, float]:
    """Return momentum, direction and displacements after a step that costs little momentum.

    Row i and the part f of the next belong to p, and `share` is the part of p to be lost.
    """
    p_mid, energy_mid = p, energy
    if share > SMALL_LOSS:  # the middle of the step stands for it
        p_mid = p * (1.0 - 0.5 * share)
        energy_mid = math.sqrt(p_mid * p_mid + MUON_MASS * MUON_MASS)
        i, f = locate(p_mid, P_FIRST, P_PER_OCTAVE, P_ROWS)
    mean = length * _row(tables.loss, m, i, f, 0)
    n_radiative = length * tables.loss.rows[m, i, 1]
    lost = lose_energy(rng, tables.loss, m, p_mid, energy_mid, length, mean, n_radiative, loss_cut)
    end = energy - lost
    p_out2 = end * end - MUON_MASS * MUON_MASS
    if end <= MUON_MASS or p_out2 < STOP_MOMENTUM * STOP_MOMENTUM:
        return 0.0, 0.0, 0.0, 1.0, 0.0, 0.0
    p_out = math.sqrt(p_out2)
    pbeta_in, pbeta_out = p * p / energy, p_out2 / end

    # Soft collisions: Gaussian in angle and displacement, stronger towards the end where the
    # muon is slower, by 1 + tilt * (2u - 1) with u the depth.
    variance = cut.variance + _row(tables.loss, m, i, f, 2)
    variance += (cut.born - cut.spin / p) / p
    q2_electron = _row(tables.loss, m, i, f, 3)
    if cut.q2_plus > q2_electron:
        share_of_electrons = 0.5 * tables.scattering.rutherford[m, 1]
        variance -= share_of_electrons * math.log(cut.q2_plus / q2_electron)
    variance *= length / (pbeta_in * pbeta_out)
    spread = min(spread, 1.0)
    sigma = math.sqrt(max(variance * (1.0 + spread * (rng.standard_exponential() - 1.0)), 0.0))
    tilt = 2.0 * (pbeta_in - pbeta_out) / (pbeta_in + pbeta_out)
    ax = sigma * rng.standard_normal()
    ay = sigma * rng.standard_normal()
    along = 0.5 - tilt / 6.0
    across = 0.28867513459481287 * sigma  # 1 / sqrt(12)
    dx = length * (along * ax + across * rng.standard_normal())
    dy = length * (along * ay + across * rng.standard_normal())

    expected = cut.rate * length * p * p_out / (pbeta_in * pbeta_out)
    depth = rng.standard_exponential()
    while depth < expected:
        u = depth / expected
        p_here = p + u * (p_out - p)
        hx, hy = scatter_hard(rng, tables.scattering, m, cut.q2_plus, p_here, q2_electron)
        ax += hx
        ay += hy
        dx += hx * length * (1.0 - u)
        dy += hy * length * (1.0 - u)
        depth += rng.standard_exponential()
    r2 = ax * ax + ay * ay
    cosine, per_r = 1.0 - r2 * (0.5 - r2 / 24.0), 1.0 - r2 * (1.0 / 6.0 - r2 / 120.0)
    if r2 > 1e-2:
        r = min(math.sqrt(r2), math.pi)
        cosine, per_r = math.cos(r), math.sin(r) / math.sqrt(r2)
    return p_out, ax * per_r, ay * per_r, cosine, dx, dy


@njit(**PART)
def follow(
    x: float,
    y: float,
    z: float,
    ux: float,
    uy: float,
    uz: float,
    path: float,
    vx: float,
    vy: float,
    vz: float,
    dx: float,
    dy: float,
) -> tuple[float, float, float, float, float, float]:
    """Return position and direction after a piece of path with its turn and displacements.

    The turn (vx, vy, vz) is a unit vector along the axes across the direction and along it.

    The axes across the direction (ux, uy, uz) are those of T. Duff et al., JCGT 6 (2017) 1, which
    need no root; along z they are the x and y axes.
    """
    sign = math.copysign(1.0, uz)
    a = -1.0 / (sign + uz)
    b = a * ux * uy
    e1x, e1y, e1z = 1.0 + sign * a * ux * ux, sign * b, -sign * ux
    e2x, e2y, e2z = b, sign + a * uy * uy, -uy
    x += path * ux + dx * e1x + dy * e2x
    y += path * uy + dx * e1y + dy * e2y
    z += path * uz + dx * e1z + dy * e2z
    ux, uy, uz = (
        vz * ux + vx * e1x + vy * e2x,
        vz * uy + vx * e1y + vy * e2y,
        vz * uz + vx * e1z + vy * e2z,
    )
    # Rounding must not add up over many steps; one step of Newton's method suffices.
    norm = 1.5 - 0.5 * (ux * ux + uy * uy + uz * uz)
    return x, y, z, ux * norm, uy * norm, uz * norm


@njit(**KERNEL)
def _cross_thick(
    rng: np.random.Generator,
    tables: TransportTables,
    m: int,
    p: float,
    thickness: float,
    cut: Cut,
    xi: float,
    loss_cut: float,
) -> tuple[float, float, float, float, float, float, float]:
    """Cross in several steps, each along the direction that the muon then has."""
    x = y = z = 0.0
    ux, uy, uz = 0.0, 0.0, 1.0
    while z < thickness:
        energy = math.sqrt(p * p + MUON_MASS * MUON_MASS)
        i, f = locate(p, P_FIRST, P_PER_OCTAVE, P_ROWS)
        per_length = _momentum_loss(tables.loss, m, i, f, p, energy)
        limit = STEP_LOSS / per_length
        path = (thickness - z) / uz
        last = path <= limit
        if not last:
            path = min(limit, 0.5 * path)  # two like steps rather than a long and a short one
        spread = cut.spread * math.sqrt(xi / path) * p / energy
        p, ax, ay, az, bx, by = _step(
            rng, tables, m, p, energy, i, f, path * per_length, path, cut, spread, loss_cut
        )
        if p == 0.0:
            return 0.0, ux, uy, uz, x, y, min(max(z, 0.0), thickness)
        x, y, z, ux, uy, uz = follow(x, y, z, ux, uy, uz, path, ax, ay, az, bx, by)
        if uz < TURNED:
            return p, ux, uy, uz, x, y, min(max(z, 0.0), thickness)
        if last:
            break
    # The last step ends beside the far face by the displacement's share: go straight to it.
    x += (thickness - z) * ux / uz
    y += (thickness - z) * uy / uz
    return p, ux, uy, uz, x, y, thickness
