"""Straight lines through hits on planes of any pose: a Kalman filter with panel scattering.

About a reference line x(t) = p + t d a muon's path is x(t) + a e1 + b e2, where e1 and e2 span
the plane across d and (a, b) drifts with the angles (α, β). It meets a plane with axes u, v and
normal n at t = n·(c - p)/(n·d), where a measured u differs from that of the reference line by
w·(a e1 + b e2) with w = u - n (u·d)/(n·d). So every measured coordinate is one linear equation,
for horizontal, vertical and tilted planes alike. The filter (Frühwirth, NIM A 262:444, 1987) goes
from the outermost plane to the innermost one, adds the scattering in each panel and in the
medium between them as process noise, and so ends with the best estimate where the muon enters or
leaves the inspected space.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.frame import transverse_axes
from muscan.kernels.options import KERNEL, PART

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Variances before any hit [mm², rad²]: nothing is known, yet doubles keep 8 digits of the result.
PRIOR_OFFSET = 1e8
PRIOR_ANGLE = 1e4
#: A fit whose variances end above these [mm², rad²] is not determined by its hits.
LOOSE_OFFSET = 1e5
LOOSE_ANGLE = 0.1
#: The reference line is renewed until it turns by less than this [rad] …
TURN_TOLERANCE = 2e-3
#: … or this often.
MAX_TURNS = 8
#: Panels seen at a smaller |n·d| than this are not used: their crossing point is ill-defined.
MIN_COSINE = 0.02
#: What a fit returns if the hits do not determine a line.
UNDETERMINED = -1.0


# Columns of a table of planes: centre [mm], unit vectors u, v and normal, half extents along u
# and v [mm], variance of the projected scattering angle through the panel at normal incidence
# [rad²], and the same a length of the medium that follows [rad²/mm].
CENTRE, U_AXIS, V_AXIS, NORMAL, HALF, LAYER, MEDIUM = 0, 3, 6, 9, 12, 14, 15
PLANE_COLUMNS = 16
# Entries of a hit: position along u and v and its standard deviations [mm].
U, V, SIGMA_U, SIGMA_V = range(4)

#: (offset e1, offset e2, angle e1, angle e2) [mm, rad].
State = tuple[float, float, float, float]
#: Upper triangle of their covariance, row by row.
Packed = tuple[float, float, float, float, float, float, float, float, float, float]
#: Point [mm] and unit direction of a line.
Line = tuple[float, float, float, float, float, float]


@njit(**PART)
def _step(state: State, cov: Packed, step: float, power: float) -> tuple[State, Packed]:
    """Carry a state along the reference line, with the scattering of a medium on the way."""
    a, b, alpha, beta = state
    c00, c01, c02, c03, c11, c12, c13, c22, c23, c33 = cov
    length = abs(step)
    angle = power * length
    mixed = angle * step / 2
    offset = angle * step * step / 3
    return (
        (a + step * alpha, b + step * beta, alpha, beta),
        (
            c00 + step * (2 * c02 + step * c22) + offset,
            c01 + step * (c03 + c12 + step * c23),
            c02 + step * c22 + mixed,
            c03 + step * c23,
            c11 + step * (2 * c13 + step * c33) + offset,
            c12 + step * c23,
            c13 + step * c33 + mixed,
            c22 + angle,
            c23,
            c33 + angle,
        ),
    )


@njit(**PART)
def _update(
    state: State, cov: Packed, h0: float, h1: float, residual: float, variance: float
) -> tuple[State, Packed, float]:
    """Take in one measured coordinate h·(a, b); returns also the χ² that it adds."""
    a, b, alpha, beta = state
    c00, c01, c02, c03, c11, c12, c13, c22, c23, c33 = cov
    g0 = c00 * h0 + c01 * h1
    g1 = c01 * h0 + c11 * h1
    g2 = c02 * h0 + c12 * h1
    g3 = c03 * h0 + c13 * h1
    weight = 1.0 / (g0 * h0 + g1 * h1 + variance)
    surprise = residual - h0 * a - h1 * b
    gain = surprise * weight
    k0, k1, k2, k3 = g0 * weight, g1 * weight, g2 * weight, g3 * weight
    return (
        (a + g0 * gain, b + g1 * gain, alpha + g2 * gain, beta + g3 * gain),
        (
            c00 - g0 * k0,
            c01 - g0 * k1,
            c02 - g0 * k2,
            c03 - g0 * k3,
            c11 - g1 * k1,
            c12 - g1 * k2,
            c13 - g1 * k3,
            c22 - g2 * k2,
            c23 - g2 * k3,
            c33 - g3 * k3,
        ),
        surprise * gain,
    )


@njit(**PART)
def _filter(
    planes: FloatArray,
    hits: FloatArray,
    chosen: IntArray,
    first: int,
    last: int,
    scatter_scale: float,
    line: Line,
) -> tuple[float, Line, State, Packed]:
    """Run the filter about a reference line through the planes `first` to `last`.

    Returns χ², the reference line from where it meets the innermost plane, and the state and its
    covariance relative to it there, after the scattering in that plane.
    """
    px, py, pz, dx, dy, dz = line
    e1x, e1y, e1z, e2x, e2y, e2z = transverse_axes(dx, dy, dz)
    state = (0.0, 0.0, 0.0, 0.0)
    o, a = PRIOR_OFFSET, PRIOR_ANGLE
    cov = (o, 0.0, 0.0, 0.0, o, 0.0, 0.0, a, 0.0, a)
    chi2 = 0.0
    at = 0.0
    power = 0.0
    begun = False
    for k in range(first, last):
        hit = chosen[k]
        if hit < 0 and not begun:
            continue
        nx, ny, nz = planes[k, NORMAL], planes[k, NORMAL + 1], planes[k, NORMAL + 2]
        cosine = nx * dx + ny * dy + nz * dz
        if abs(cosine) < MIN_COSINE:
            continue
        steep = 1.0 / cosine
        cx, cy, cz = planes[k, CENTRE] - px, planes[k, CENTRE + 1] - py, planes[k, CENTRE + 2] - pz
        t = (nx * cx + ny * cy + nz * cz) * steep
        if begun:
            state, cov = _step(state, cov, t - at, power)
        at = t
        power = planes[k, MEDIUM] * scatter_scale
        # Where the reference line meets the panel, from the panel's centre.
        rx, ry, rz = t * dx - cx, t * dy - cy, t * dz - cz
        ux, uy, uz = planes[k, U_AXIS], planes[k, U_AXIS + 1], planes[k, U_AXIS + 2]
        vx, vy, vz = planes[k, V_AXIS], planes[k, V_AXIS + 1], planes[k, V_AXIS + 2]
        ru = ux * rx + uy * ry + uz * rz
        rv = vx * rx + vy * ry + vz * rz
        layer = planes[k, LAYER] * scatter_scale * abs(steep)
        if hit >= 0:
            n1 = (nx * e1x + ny * e1y + nz * e1z) * steep
            n2 = (nx * e2x + ny * e2y + nz * e2z) * steep
            sigma = hits[k, hit, SIGMA_U]
            if sigma < np.inf:
                tilt = ux * dx + uy * dy + uz * dz
                h0 = ux * e1x + uy * e1y + uz * e1z - n1 * tilt
                h1 = ux * e2x + uy * e2y + uz * e2z - n2 * tilt
                state, cov, gain = _update(state, cov, h0, h1, hits[k, hit, U] - ru, sigma * sigma)
                chi2 += gain
            sigma = hits[k, hit, SIGMA_V]
            if sigma < np.inf:
                tilt = vx * dx + vy * dy + vz * dz
                h0 = vx * e1x + vy * e1y + vz * e1z - n1 * tilt
                h1 = vx * e2x + vy * e2y + vz * e2z - n2 * tilt
                state, cov, gain = _update(state, cov, h0, h1, hits[k, hit, V] - rv, sigma * sigma)
                chi2 += gain
            begun = True
        elif abs(ru) > planes[k, HALF] or abs(rv) > planes[k, HALF + 1]:
            layer = 0.0
        c00, c01, c02, c03, c11, c12, c13, c22, c23, c33 = cov
        cov = (c00, c01, c02, c03, c11, c12, c13, c22 + layer, c23, c33 + layer)
    return chi2, (px + at * dx, py + at * dy, pz + at * dz, dx, dy, dz), state, cov


@njit(**PART)
def _move(line: Line, state: State) -> Line:
    """Return the fitted line, to be the next reference line."""
    px, py, pz, dx, dy, dz = line
    e1x, e1y, e1z, e2x, e2y, e2z = transverse_axes(dx, dy, dz)
    a, b, alpha, beta = state
    dx, dy, dz = _unit(
        dx + alpha * e1x + beta * e2x, dy + alpha * e1y + beta * e2y, dz + alpha * e1z + beta * e2z
    )
    return px + a * e1x + b * e2x, py + a * e1y + b * e2y, pz + a * e1z + b * e2z, dx, dy, dz


@njit(**PART)
def _unit(dx: float, dy: float, dz: float) -> tuple[float, float, float]:
    """Return a vector at unit length and never upward."""
    scale = 1.0 / sqrt(dx * dx + dy * dy + dz * dz)
    if dz > 0.0:
        scale = -scale
    return dx * scale, dy * scale, dz * scale


@njit(**PART)
def _spot(planes: FloatArray, k: int, u: float, v: float) -> tuple[float, float, float]:
    """Return the global position of a point of a plane [mm]."""
    return (
        planes[k, CENTRE] + u * planes[k, U_AXIS] + v * planes[k, V_AXIS],
        planes[k, CENTRE + 1] + u * planes[k, U_AXIS + 1] + v * planes[k, V_AXIS + 1],
        planes[k, CENTRE + 2] + u * planes[k, U_AXIS + 2] + v * planes[k, V_AXIS + 2],
    )


@njit(**PART)
def crossing(planes: FloatArray, k: int, line: Line) -> tuple[float, float, bool]:
    """Return where a line meets a plane, along u and v [mm], and whether it does."""
    px, py, pz, dx, dy, dz = line
    nx, ny, nz = planes[k, NORMAL], planes[k, NORMAL + 1], planes[k, NORMAL + 2]
    cosine = nx * dx + ny * dy + nz * dz
    if abs(cosine) < MIN_COSINE:
        return 0.0, 0.0, False
    x, y, z = px - planes[k, CENTRE], py - planes[k, CENTRE + 1], pz - planes[k, CENTRE + 2]
    t = -(nx * x + ny * y + nz * z) / cosine
    x, y, z = x + t * dx, y + t * dy, z + t * dz
    return (
        planes[k, U_AXIS] * x + planes[k, U_AXIS + 1] * y + planes[k, U_AXIS + 2] * z,
        planes[k, V_AXIS] * x + planes[k, V_AXIS + 1] * y + planes[k, V_AXIS + 2] * z,
        True,
    )


@njit(**PART)
def start_line(
    planes: FloatArray, hits: FloatArray, chosen: IntArray, first: int, last: int
) -> tuple[bool, Line]:
    """Return whether a reference line near the hits can be told at once, and a reference line.

    It goes through the first and the last hit that have both coordinates; without two of them,
    along the normal of the innermost plane, from which parallel planes are reached in one step.
    """
    begin = -1
    end = -1
    for k in range(first, last):
        hit = chosen[k]
        if hit >= 0 and hits[k, hit, SIGMA_U] < np.inf and hits[k, hit, SIGMA_V] < np.inf:
            if begin < 0:
                begin = k
            end = k
    if end > begin:
        qx, qy, qz = _spot(
            planes, begin, hits[begin, chosen[begin], U], hits[begin, chosen[begin], V]
        )
        px, py, pz = _spot(planes, end, hits[end, chosen[end], U], hits[end, chosen[end], V])
        dx, dy, dz = px - qx, py - qy, pz - qz
        if dx * dx + dy * dy + dz * dz > 1e-6:
            dx, dy, dz = _unit(dx, dy, dz)
            return True, (px, py, pz, dx, dy, dz)
    k = last - 1
    px, py, pz = _spot(planes, k, 0.0, 0.0)
    dx, dy, dz = _unit(planes[k, NORMAL], planes[k, NORMAL + 1], planes[k, NORMAL + 2])
    return False, (px, py, pz, dx, dy, dz)


@njit(**KERNEL)
def fit_line(
    planes: FloatArray,
    hits: FloatArray,
    chosen: IntArray,
    first: int,
    last: int,
    scatter_scale: float,
) -> tuple[float, Line, Packed]:
    """Fit a straight line to at most one hit in each plane of one group.

    Parameters
    ----------
    planes : (n, 16) float64
        Planes from the outermost of a group to its innermost; the columns are named above.
    hits : (n, h, 4) float64
        The hits in each plane: u, v and their standard deviations [mm]; inf if not measured.
    chosen : (n,) int64
        Which of its hits is taken in each plane; -1 for none.
    first, last : int
        Range of planes that makes up the group.
    scatter_scale : float
        Factor on the scattering variances of `planes`, 1 at the momentum that they are for.

    Returns
    -------
    chi2 : float
        χ², or `UNDETERMINED`.
    line : tuple of 6 float
        The point where the line meets the innermost plane [mm] and its direction, never upward.
    cov : tuple of 10 float
        Upper triangle of the covariance there, after the scattering in the innermost panel.
    """
    near, line = start_line(planes, hits, chosen, first, last)
    worst = 0.0
    for _ in range(MAX_TURNS):
        chi2, line, state, cov = _filter(planes, hits, chosen, first, last, scatter_scale, line)
        line = _move(line, state)
        if near:
            # The largest, or else hits of no muon would turn the line until it grazes the
            # panels, where they scatter so much that anything fits.
            worst = max(worst, chi2)
            if max(cov[0], cov[4]) > LOOSE_OFFSET or max(cov[7], cov[9]) > LOOSE_ANGLE:
                return UNDETERMINED, line, cov
            if state[2] * state[2] + state[3] * state[3] < TURN_TOLERANCE * TURN_TOLERANCE:
                break
        near = True
    return worst, line, cov
