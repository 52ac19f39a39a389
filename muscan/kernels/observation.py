"""What tracks show of a muon's scattering: angle and offset in two planes, and their errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.frame import transverse_axes

_MRAD = 1e3


class Observed(NamedTuple):
    """What each muon shows, and what of it does not depend on the volume.

    Attributes
    ----------
    data : (n, 4) float32, a and b in the first plane, then in the second [mrad, mrad mm]
    noise : (n, 6) float32, Maa, Mab, Mbb of the first plane, then of the second
    fixed : (n, 3) float32, elements aa, ab, bb of S from known matter around the grid, times the
        factor that `observe` was given
    """

    data: np.ndarray
    noise: np.ndarray
    fixed: np.ndarray


@njit(cache=True, nogil=True)
def _line_error(cov, c, s, distance):
    """Errors aa, ab, bb of a line in the plane (c, s) at a distance from where it is given."""
    bb = c * c * cov[0, 0] + 2.0 * c * s * cov[0, 1] + s * s * cov[1, 1]
    ab = c * c * cov[0, 2] + c * s * (cov[0, 3] + cov[1, 2]) + s * s * cov[1, 3]
    aa = np.float64(c * c * cov[2, 2] + 2.0 * c * s * cov[2, 3] + s * s * cov[3, 3])
    return aa, ab + distance * aa, bb + 2.0 * distance * ab + distance * distance * aa


@njit(cache=True, nogil=True)
def moments(upper, lower):
    """Integrals of 1, T and T² between two distances from the reference point, upper first."""
    length = upper - lower
    middle = 0.5 * (upper + lower)
    return (
        length,
        length * middle,
        length * (middle * middle + length * length / 12.0),
    )


@njit(cache=True, nogil=True)
def _shifted(errors, distance):
    """Errors aa, ab, bb that are alike in every plane, at a distance from where they are given."""
    aa, ab, bb = np.float64(errors[0]), np.float64(errors[1]), np.float64(errors[2])
    return aa, ab + distance * aa, bb + 2.0 * distance * ab + distance * distance * aa


@njit(cache=True, nogil=True)
def _remainder(whole, part):
    """Noise (aa, ab, bb) without a part of it, as far as that leaves a covariance."""
    share = 1.0
    for element in (0, 2):
        if part[element] > 0.0:
            share = min(share, 0.99 * whole[element] / part[element])
    aa, bb = whole[0] - share * part[0], whole[2] - share * part[2]
    limit = 0.99 * math.sqrt(aa * bb)
    return aa, min(max(whole[1] - share * part[1], -limit), limit), bb


@njit(cache=True, nogil=True)
def observe(p, u, p_cov, q, w, q_cov, p_panels, q_panels, factor, reference, top, air, seen):
    """Fill what muons show, their errors and the scattering in the matter around the grid.

    Parameters
    ----------
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing tracks [mm].
    p_cov, q_cov : ndarray, shape (n, 4, 4)
        Covariances in the frames of `transverse_axes` [mm, rad].
    p_panels, q_panels : ndarray, shape (n, 3)
        The part of them that the panels' scattering causes, see `PanelScattering.errors`.
    factor : float
        On the panels' and the air's scattering: Highland's, or 1 where that of the whole path is
        applied later.
    reference : ndarray, shape (n, 2)
        From `trace`.
    top : ndarray, shape (n,)
        Distance T where the path enters the grid; it leaves at -T.
    air : float
        Scattering density outside the grid [mrad²/mm].
    seen : Observed
        To be filled.
    """
    for n in range(p.shape[0]):
        ux, uy, uz = np.float64(u[n, 0]), np.float64(u[n, 1]), np.float64(u[n, 2])
        wx, wy, wz = np.float64(w[n, 0]), np.float64(w[n, 1]), np.float64(w[n, 2])
        e1x, e1y, e1z, e2x, e2y, e2z = transverse_axes(ux, uy, uz)
        # Planes in which the errors of the two angles are independent; those of the offsets then
        # nearly are, for panels that are parallel.
        skew = p_cov[n, 2, 3] + q_cov[n, 2, 3]
        excess = p_cov[n, 2, 2] + q_cov[n, 2, 2] - p_cov[n, 3, 3] - q_cov[n, 3, 3]
        turn = 0.5 * math.atan2(2.0 * skew, excess)
        along = reference[n, 0]
        rx, ry, rz = p[n, 0] + along * ux, p[n, 1] + along * uy, p[n, 2] + along * uz
        straight = wx * ux + wy * uy + wz * uz
        gx, gy, gz = q[n, 0] - rx, q[n, 1] - ry, q[n, 2] - rz
        back = -(gx * ux + gy * uy + gz * uz) / straight
        gx, gy, gz = gx + back * wx, gy + back * wy, gz + back * wz
        before, after = _shifted(p_panels[n], along), _shifted(q_panels[n], back)
        panels = (before[0] + after[0], before[1] + after[1], before[2] + after[2])
        for plane in range(2):
            c, s = math.cos(turn + plane * 0.5 * math.pi), math.sin(turn + plane * 0.5 * math.pi)
            ex, ey, ez = c * e1x + s * e2x, c * e1y + s * e2y, c * e1z + s * e2z
            seen.data[n, 2 * plane] = _MRAD * (ex * wx + ey * wy + ez * wz) / straight
            seen.data[n, 2 * plane + 1] = _MRAD * (ex * gx + ey * gy + ez * gz)
            iaa, iab, ibb = _line_error(p_cov[n], c, s, along)
            oaa, oab, obb = _line_error(q_cov[n], c, s, back)
            rest = _remainder((iaa + oaa, iab + oab, ibb + obb), panels)
            for element in range(3):
                seen.noise[n, 3 * plane + element] = _MRAD * _MRAD * rest[element]
        above = moments(along, top[n])
        below = moments(-top[n], along - reference[n, 1])
        for element in range(3):
            seen.fixed[n, element] = factor * air * (above[element] + below[element])
            seen.fixed[n, element] += _MRAD * _MRAD * factor * panels[element]
