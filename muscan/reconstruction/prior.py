"""An edge-preserving smoothness prior on the logarithm of a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import prior as kernel

FloatArray = NDArray[np.float64]

#: Difference of the logarithms of neighbours at which a slope counts as an edge: a factor of e.
EDGE = 1.0


def smoothness(log_values: FloatArray, weight: float) -> tuple[float, FloatArray, FloatArray]:
    """Return the prior's cost, its gradient and a bound on the diagonal of its curvature.

    The cost is weight Σ 1 - 1/√(1 + (d/EDGE)²) over all pairs of voxels that share a face, with
    d the difference of their logarithms. Small differences cost half their square; an edge costs
    no more than the weight, and its pull falls as 1/d². So neither is a dense object smeared out or
    drawn down towards what surrounds it, nor a load towards the air around it, whose logarithm
    lies far below.

    Parameters
    ----------
    log_values : ndarray, shape (nx, ny, nz)
    weight : float
        Strength of the prior.
    """
    gradient, curvature = np.zeros(log_values.size), np.zeros(log_values.size)
    scaled = np.ascontiguousarray(log_values, dtype=float).ravel() / EDGE
    nx, ny, nz = shape = log_values.shape
    cost = kernel.edge_cost(scaled, nx, ny, nz, gradient, curvature)
    return (
        weight * cost,
        (weight / EDGE) * gradient.reshape(shape),
        (weight / EDGE**2) * curvature.reshape(shape),
    )
