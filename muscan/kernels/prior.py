"""Edge-preserving smoothness on a grid: cost, gradient and a bound on its curvature."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def _pair(values, a, b, growth, gradient, curvature):
    """Add one pair of neighbours and return its cost."""
    d = values[a] - values[b]
    square = 1.0 + d * d
    power = square ** (0.5 * growth)
    pull = power / square
    gradient[a] += d * pull
    gradient[b] -= d * pull
    curvature[a] += pull
    curvature[b] += pull
    return (power - 1.0) / growth


@njit(cache=True, nogil=True)
def edge_cost(values, nx, ny, nz, growth, gradient, curvature):
    """Return Σ ((1 + d²)^(growth/2) - 1) / growth over pairs of voxels that share a face.

    Parameters
    ----------
    values : ndarray, shape (nx * ny * nz,)
        In units of the difference that counts as an edge.
    nx, ny, nz : int
        Shape of the grid.
    growth : float
        Power of the difference with which the cost of an edge grows; below 0 it is bounded.
    gradient, curvature : ndarray, shape (nx * ny * nz,)
        Receive the derivative, and the curvature of the parabola that bounds each pair's cost.
    """
    cost = 0.0
    for i in range(nx):
        for j in range(ny):
            start = (i * ny + j) * nz
            for k in range(nz):
                here = start + k
                if k + 1 < nz:
                    cost += _pair(values, here, here + 1, growth, gradient, curvature)
                if j + 1 < ny:
                    cost += _pair(values, here, here + nz, growth, gradient, curvature)
                if i + 1 < nx:
                    cost += _pair(values, here, here + ny * nz, growth, gradient, curvature)
    return cost
