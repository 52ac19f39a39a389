"""Points in space to positions in panels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# What became of a point.
KEPT, NOT_FINITE, OFF_PLANE, OUTSIDE = range(4)
#: Components of an axis below this do not count: the coordinate need not be known.
NEGLIGIBLE = 1e-9


@njit(cache=True, nogil=True)
def _along(axis: FloatArray, point: FloatArray, centre: FloatArray) -> float:
    """Return axis · (point - centre); coordinates that do not enter may be NaN."""
    total = 0.0
    for i in range(3):
        if abs(axis[i]) > NEGLIGIBLE:
            total += axis[i] * (point[i] - centre[i])
    return total


@njit(cache=True, nogil=True)
def _spread(axis: FloatArray, sigma_x: float, sigma_y: float, usual: float) -> float:
    """Return the standard deviation along an in-plane axis from those along x and y.

    The usual one where they are not given, or where the axis is more upright than level.
    """
    level = axis[0] ** 2 + axis[1] ** 2
    if level < 0.5:
        return usual
    variance = 0.0
    if abs(axis[0]) > NEGLIGIBLE:
        variance += (axis[0] * sigma_x) ** 2
    if abs(axis[1]) > NEGLIGIBLE:
        variance += (axis[1] * sigma_y) ** 2
    sigma = np.sqrt(variance / level)
    return sigma if 0.0 < sigma < np.inf else usual


@njit(cache=True, nogil=True)
def project_points(
    points: FloatArray,
    sigmas: FloatArray,
    panel: NDArray[np.int64],
    centre: FloatArray,
    axes: FloatArray,
    half: FloatArray,
    usual: FloatArray,
    reach: FloatArray,
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    sigma_u: NDArray[np.float32],
    sigma_v: NDArray[np.float32],
    fate: NDArray[np.int8],
) -> None:
    """Project points along the normal of their panel onto it.

    Parameters
    ----------
    points : (n, 3) float64
        Global coordinates [mm]; one that the panel does not need may be NaN.
    sigmas : (n, 2) float64
        Standard deviations along x and y [mm], or NaN.
    panel : (n,) int64
    centre, axes, half : (p, 3), (p, 3, 3), (p, 2) float64
        Of the panels: centre [mm], unit vectors u, v and normal, half extents [mm].
    usual : (p, 2) float64
        Standard deviations where none are given [mm]; inf where not measured.
    reach : (p,) float64
        Largest distance from the mid-plane [mm].
    u, v, sigma_u, sigma_v : (n,) float32
        Receive the position in the panel and its standard deviation [mm]; NaN and inf where not
        measured.
    fate : (n,) int8
        Receives `KEPT`, or why the point is no hit.
    """
    for i in range(panel.size):
        p = panel[i]
        measures_u, measures_v = usual[p, 0] < np.inf, usual[p, 1] < np.inf
        pu = _along(axes[p, 0], points[i], centre[p]) if measures_u else np.nan
        pv = _along(axes[p, 1], points[i], centre[p]) if measures_v else np.nan
        su = _spread(axes[p, 0], sigmas[i, 0], sigmas[i, 1], usual[p, 0]) if measures_u else np.inf
        sv = _spread(axes[p, 1], sigmas[i, 0], sigmas[i, 1], usual[p, 1]) if measures_v else np.inf
        u[i], v[i], sigma_u[i], sigma_v[i] = pu, pv, su, sv
        depth = _along(axes[p, 2], points[i], centre[p])
        if (measures_u and not np.isfinite(pu)) or (measures_v and not np.isfinite(pv)):
            fate[i] = NOT_FINITE
        elif abs(depth) > reach[p] or np.isinf(depth):
            fate[i] = OFF_PLANE
        elif (measures_u and abs(pu) > half[p, 0] + 5 * su) or (
            measures_v and abs(pv) > half[p, 1] + 5 * sv
        ):
            fate[i] = OUTSIDE
        else:
            fate[i] = KEPT
