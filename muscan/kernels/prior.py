"""Cauchy's edge-preserving smoothness on a grid: cost, gradient and a bound on its curvature."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, nogil=True)
def _pair(values, a, b, gradient, curvature):
    """Add one pair of neighbours and return the argument of its logarithm."""
    d = values[a] - values[b]
    ratio = 1.0 / (1.0 + d * d)
    gradient[a] += d * ratio
    gradient[b] -= d * ratio
    curvature[a] += ratio
    curvature[b] += ratio
    return 1.0 + d * d


@njit(cache=True, nogil=True)
def cauchy(values, nx, ny, nz, gradient, curvature):
    """Return Σ ln(1 + d²) / 2 over pairs of voxels that share a face.

    Parameters
    ----------
    values : ndarray, shape (nx * ny * nz,)
        In units of the difference that counts as an edge.
    nx, ny, nz : int
        Shape of the grid.
    gradient, curvature : ndarray, shape (nx * ny * nz,)
        Receive the derivative, and the curvature of the parabola that bounds each pair's cost.
    """
    cost = 0.0
    for i in range(nx):
        for j in range(ny):
            start = (i * ny + j) * nz
            # One logarithm for a column: a product of a few hundred terms may overflow, so the
            # logarithm is taken whenever it has grown.
            product = 1.0
            for k in range(nz):
                here = start + k
                if k + 1 < nz:
                    product *= _pair(values, here, here + 1, gradient, curvature)
                if j + 1 < ny:
                    product *= _pair(values, here, here + nz, gradient, curvature)
                if i + 1 < nx:
                    product *= _pair(values, here, here + ny * nz, gradient, curvature)
                if product > 1e150:
                    cost += math.log(product)
                    product = 1.0
            cost += math.log(product)
    return 0.5 * cost
