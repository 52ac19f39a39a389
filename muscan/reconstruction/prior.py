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

    The cost is weight/2 Σ ln(1 + (d/EDGE)²) over all pairs of voxels that share a face, with d
    the difference of their logarithms (Cauchy's function). Small differences cost as their
    square; the pull of a large one falls as 1/d, so that a dense object is neither smeared out
    nor drawn down towards what surrounds it, as a total variation would do.

    Parameters
    ----------
    log_values : ndarray, shape (nx, ny, nz)
    weight : float
        Strength of the prior.
    """
    gradient, curvature = np.zeros(log_values.size), np.zeros(log_values.size)
    scaled = np.ascontiguousarray(log_values, dtype=float).ravel() / EDGE
    cost = kernel.cauchy(scaled, *log_values.shape, gradient, curvature)
    shape = log_values.shape
    return (
        weight * cost,
        (weight / EDGE) * gradient.reshape(shape),
        (weight / EDGE**2) * curvature.reshape(shape),
    )
