"""Likelihood of scatters given a volume: paths through voxels, mixture over momenta, gradient.

A muon shows, in each of two planes through its incoming direction, an angle a between the tracks
and an offset b between them at a reference point of its path. For a given momentum both are
normal with the covariance Σ = M + q S (Schultz et al., IEEE TIP 16:1985, 2007):

    S = Σ_v λ_v ∫ (1, T; T, T²) dl,

M from the errors of the tracks, T the distance from a place on the path down to the reference
point, q the scattering power of the momentum. Angles are in mrad, offsets in mrad mm and
scattering densities in mrad²/mm, so that all elements are of a similar size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.frame import transverse_axes
from muscan.kernels.poca import closest_approach
from muscan.kernels.traversal import clip, walk

_MRAD = 1e3
_LOWEST = 1e-290


class Paths(NamedTuple):
    """Voxels on the way of each muon, those of a muon adjacent, from top to bottom.

    Attributes
    ----------
    first : (n + 1,) int64, where each muon's voxels begin
    voxel : (visits,) int32, flat index
    length : (visits,) float32 [mm]
    top : (n,) float32, distance T where the path enters the grid [mm]
    """

    first: np.ndarray
    voxel: np.ndarray
    length: np.ndarray
    top: np.ndarray


class Observed(NamedTuple):
    """What each muon shows, and what of it does not depend on the volume.

    Attributes
    ----------
    data : (n, 4) float32, a and b in the first plane, then in the second [mrad, mrad mm]
    noise : (n, 6) float32, Maa, Mab, Mbb of the first plane, then of the second
    fixed : (n, 3) float32, elements aa, ab, bb of S from known matter around the grid
    """

    data: np.ndarray
    noise: np.ndarray
    fixed: np.ndarray


class Mixture(NamedTuple):
    """Momentum classes: each muon has a row of scattering powers, and of their weights.

    Attributes
    ----------
    power, weight : (rows, k) float64
    row : (n,) int32
    scale : (n,) float32
        Factor on S: Highland's logarithm of the thickness, and the loss where it is not in the row.
    outlier : float, fraction of muons that scatter once by any angle, or decay
    outlier_angle : float, its rms per plane [mrad]
    """

    power: np.ndarray
    weight: np.ndarray
    row: np.ndarray
    scale: np.ndarray
    outlier: float
    outlier_angle: float


@njit(cache=True, nogil=True)
def vertex_between(ax, ay, az, ux, uy, uz, bx, by, bz, wx, wy, wz):
    """Return a bend of the path between the points of two tracks: their vertex, or halfway."""
    x, y, z, s, t, _ = closest_approach(ax, ay, az, ux, uy, uz, bx, by, bz, wx, wy, wz)
    if s > 0.0 and t < 0.0:
        return x, y, z
    return 0.5 * (ax + bx), 0.5 * (ay + by), 0.5 * (az + bz)


@njit(cache=True, nogil=True)
def _bend(p, u, q, w, n):
    return vertex_between(
        np.float64(p[n, 0]), np.float64(p[n, 1]), np.float64(p[n, 2]),
        np.float64(u[n, 0]), np.float64(u[n, 1]), np.float64(u[n, 2]),
        np.float64(q[n, 0]), np.float64(q[n, 1]), np.float64(q[n, 2]),
        np.float64(w[n, 0]), np.float64(w[n, 1]), np.float64(w[n, 2]),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _walk_all(grid, p, q, n, x, y, z, voxels, lengths):
    bend = walk(grid, p[n, 0], p[n, 1], p[n, 2], x, y, z, voxels, lengths, 0)
    used = walk(grid, x, y, z, q[n, 0], q[n, 1], q[n, 2], voxels, lengths, bend)
    if bend == 0 or bend == used or voxels[bend] != voxels[bend - 1]:
        return used
    # The voxel of the bend is one visit, not two.
    lengths[bend - 1] += lengths[bend]
    for m in range(bend + 1, used):
        voxels[m - 1] = voxels[m]
        lengths[m - 1] = lengths[m]
    return used - 1


@njit(cache=True, nogil=True)
def count_visits(grid, p, u, q, w, counts):
    """Fill ``counts`` (n,) with the number of voxels on each muon's path."""
    room = 2 * (grid.nx + grid.ny + grid.nz)
    voxels, lengths = np.empty(room, np.int32), np.empty(room, np.float32)
    for n in range(p.shape[0]):
        x, y, z = _bend(p, u, q, w, n)
        counts[n] = _walk_all(grid, p, q, n, x, y, z, voxels, lengths)


@njit(cache=True, nogil=True)
def _entry(grid, p, q, n, x, y, z):
    """Distance along the path from its start to the grid, and the length of the path."""
    ax, ay, az = np.float64(p[n, 0]), np.float64(p[n, 1]), np.float64(p[n, 2])
    bx, by, bz = np.float64(q[n, 0]), np.float64(q[n, 1]), np.float64(q[n, 2])
    upper = math.sqrt((x - ax) ** 2 + (y - ay) ** 2 + (z - az) ** 2)
    lower = math.sqrt((x - bx) ** 2 + (y - by) ** 2 + (z - bz) ** 2)
    enter, leave = clip(grid, ax, ay, az, x, y, z)
    if enter < leave:
        return enter * upper, upper + lower
    enter, leave = clip(grid, x, y, z, bx, by, bz)
    return upper + enter * lower, upper + lower


@njit(cache=True, nogil=True)
def trace(grid, p, u, q, w, paths, reference):
    """Fill the paths of muons, and the distance of each one's reference point from its start.

    Parameters
    ----------
    grid : Grid
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing tracks [mm].
    paths : Paths
        Of these muons, with ``first`` set.
    reference : ndarray, shape (n, 2)
        Receives the distance along the incoming track from its point to the middle of the path
        in the grid, and the length of the whole path [mm].
    """
    room = 2 * (grid.nx + grid.ny + grid.nz)
    voxels, lengths = np.empty(room, np.int32), np.empty(room, np.float32)
    for n in range(p.shape[0]):
        x, y, z = _bend(p, u, q, w, n)
        used = _walk_all(grid, p, q, n, x, y, z, voxels, lengths)
        start = paths.first[n]
        inside = 0.0
        for m in range(used):
            paths.voxel[start + m] = voxels[m]
            paths.length[start + m] = lengths[m]
            inside += lengths[m]
        before, whole = _entry(grid, p, q, n, x, y, z)
        reference[n, 0] = before + 0.5 * inside
        reference[n, 1] = whole
        paths.top[n] = 0.5 * inside


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
            share = min(share, 0.95 * whole[element] / part[element])
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
        Highland's factor for the panels and the air.
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


@njit(cache=True, nogil=True, inline="always")
def _decay(x):
    """exp(-x) for x >= 0 to 1e-5 relative, and 0 beyond 80, in a form that vectorises.

    Taylor's series at x / 256, squared eight times.
    """
    y = -x * (1.0 / 256.0)
    e = 1.0 + y * (1.0 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y * (1 / 720))))))
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e if x < 80.0 else 0.0


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def log_density(data, noise, saa, sab, sbb, power, weight, outlier, once_aa, once_bb):
    """Log of the mixture density of one muon, and its derivatives in the elements of S.

    Parameters
    ----------
    data, noise : ndarray, shape (4,) and (6,)
        As in `Observed`.
    saa, sab, sbb : float
        Elements of S at the reference momentum.
    power, weight : ndarray, shape (k,)
        Momentum classes.
    outlier : float
        Fraction of outliers.
    once_aa, once_bb : float
        Elements of S of an outlier.

    Returns
    -------
    value, daa, dab, dbb : float
        The constant (2π)⁻² is left out.
    """
    a1, b1, a2, b2 = (
        np.float64(data[0]),
        np.float64(data[1]),
        np.float64(data[2]),
        np.float64(data[3]),
    )
    n0, n1, n2 = np.float64(noise[0]), np.float64(noise[1]), np.float64(noise[2])
    n3, n4, n5 = np.float64(noise[3]), np.float64(noise[4]), np.float64(noise[5])
    det1 = (n0 + once_aa) * (n2 + once_bb) - n1 * n1
    det2 = (n3 + once_aa) * (n5 + once_bb) - n4 * n4
    far1 = ((n2 + once_bb) * a1 * a1 - 2 * n1 * a1 * b1 + (n0 + once_aa) * b1 * b1) / det1
    far2 = ((n5 + once_bb) * a2 * a2 - 2 * n4 * a2 * b2 + (n3 + once_aa) * b2 * b2) / det2
    total = outlier / math.sqrt(det1 * det2) * math.exp(-0.5 * (far1 + far2)) + _LOWEST
    daa = dab = dbb = 0.0
    for k in range(power.shape[0]):
        q = power[k]
        qaa, qab, qbb = q * saa, q * sab, q * sbb
        vaa, vab, vbb = n0 + qaa, n1 + qab, n2 + qbb
        waa, wab, wbb = n3 + qaa, n4 + qab, n5 + qbb
        v_inverse = 1.0 / (vaa * vbb - vab * vab)
        w_inverse = 1.0 / (waa * wbb - wab * wab)
        # Σ⁻¹ d of each plane; the score in Σ is half of Σ⁻¹ d dᵀ Σ⁻¹ - Σ⁻¹.
        va, vb = (vbb * a1 - vab * b1) * v_inverse, (vaa * b1 - vab * a1) * v_inverse
        wa, wb = (wbb * a2 - wab * b2) * w_inverse, (waa * b2 - wab * a2) * w_inverse
        exponent = 0.5 * (a1 * va + b1 * vb + a2 * wa + b2 * wb)
        part = weight[k] * math.sqrt(v_inverse * w_inverse) * _decay(exponent)
        total += (1.0 - outlier) * part
        part *= q
        daa += part * (va * va - vbb * v_inverse + wa * wa - wbb * w_inverse)
        dab += part * (va * vb + vab * v_inverse + wa * wb + wab * w_inverse)
        dbb += part * (vb * vb - vaa * v_inverse + wb * wb - waa * w_inverse)
    share = (1.0 - outlier) / total
    return math.log(total), 0.5 * share * daa, share * dab, 0.5 * share * dbb


@njit(cache=True, nogil=True)
def project(paths, density, n):
    """Return the elements of S of one muon's path through a volume [mrad², mm]."""
    saa = sab = sbb = 0.0
    t = np.float64(paths.top[n])
    for m in range(paths.first[n], paths.first[n + 1]):
        length = np.float64(paths.length[m])
        value = density[paths.voxel[m]] * length
        middle = t - 0.5 * length
        saa += value
        sab += value * middle
        sbb += value * (middle * middle + length * length / 12.0)
        t -= length
    return saa, sab, sbb


@njit(cache=True, nogil=True)
def _muon(paths, observed, mixture, density, n):
    """Log density of one muon and its derivatives in the sums of its path."""
    saa, sab, sbb = project(paths, density, n)
    scale, row = np.float64(mixture.scale[n]), mixture.row[n]
    fixed = observed.fixed[n]
    # An outlier scatters once, anywhere on the path in the grid.
    once = mixture.outlier_angle * mixture.outlier_angle
    half = np.float64(paths.top[n])
    value, daa, dab, dbb = log_density(
        observed.data[n], observed.noise[n],
        scale * saa + fixed[0], scale * sab + fixed[1], scale * sbb + fixed[2],
        mixture.power[row], mixture.weight[row], mixture.outlier, once, once * half * half / 3.0,
    )  # fmt: skip
    return value, scale * daa, scale * dab, scale * dbb


@njit(cache=True, nogil=True)
def likelihood(paths, observed, mixture, density, first, last, step, gradient):
    """Return the log likelihood of muons and add its gradient in the scattering densities.

    Parameters
    ----------
    paths : Paths
    observed : Observed
    mixture : Mixture
    density : ndarray, shape (voxels,)
        Scattering densities [mrad²/mm].
    first, last, step : int
        Range of muons.
    gradient : ndarray, shape (voxels,) float64
        Receives the sum.
    """
    total = 0.0
    for n in range(first, last, step):
        value, daa, dab, dbb = _muon(paths, observed, mixture, density, n)
        total += value
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length = np.float64(paths.length[m])
            middle = t - 0.5 * length
            gradient[paths.voxel[m]] += length * (
                daa + middle * dab + (middle * middle + length * length / 12.0) * dbb
            )
            t -= length
    return total


@njit(cache=True, nogil=True)
def information(paths, observed, mixture, density, first, last, squares, muons):
    """Add the squared scores of the densities, whose sum is the observed information.

    Parameters
    ----------
    paths, observed, mixture, density, first, last
        As for `likelihood`.
    squares : ndarray, shape (voxels,) float64
        Receives the squares of each muon's derivative of its log likelihood.
    muons : ndarray of integer, shape (voxels,)
        Receives the number of paths.
    """
    for n in range(first, last):
        _, daa, dab, dbb = _muon(paths, observed, mixture, density, n)
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length = np.float64(paths.length[m])
            middle = t - 0.5 * length
            score = length * (daa + middle * dab + (middle * middle + length * length / 12.0) * dbb)
            squares[paths.voxel[m]] += score * score
            muons[paths.voxel[m]] += 1
            t -= length


@njit(cache=True, nogil=True)
def line_integrals(paths, field, first, last, sums):
    """Fill ``sums[first:last]`` with the integral of a field over each muon's path."""
    for n in range(first, last):
        total = 0.0
        for m in range(paths.first[n], paths.first[n + 1]):
            total += np.float64(paths.length[m]) * field[paths.voxel[m]]
        sums[n] = total


@njit(cache=True, nogil=True)
def spread(paths, values, sums, numbers):
    """Add one value of each muon, and the muon itself, to every voxel of its path."""
    for n in range(values.shape[0]):
        for m in range(paths.first[n], paths.first[n + 1]):
            sums[paths.voxel[m]] += values[n]
            numbers[paths.voxel[m]] += 1
