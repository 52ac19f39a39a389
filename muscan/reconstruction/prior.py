"""Edge-preserving smoothness priors on the logarithm of a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import prior as kernel

FloatArray = NDArray[np.float64]

#: Difference of the logarithms of neighbours at which a slope counts as an edge: a factor of e.
EDGE = 1.0
#: Density below which differences count less and less [mrad²/mm], some ten times that of air and
#: a seventieth of that of water: thin matter and none are not told apart.
FLOOR = 1e-3
#: Power of the difference with which the cost of an edge grows.
GROWTH = kernel.GROWTH


def smoothness(log_values: FloatArray, weight: float) -> tuple[float, FloatArray, FloatArray]:
    """Return the prior's cost, its gradient and a bound on the diagonal of its curvature.

    The cost is weight Σ ((1 + d²)^(GROWTH/2) - 1) / GROWTH over all pairs of voxels that share a
    face, with d the difference of ln(λ + FLOOR) over EDGE. Small differences cost half their
    square; a high edge costs as its height to the power GROWTH. Were it bounded, a body would best
    be a thin slab of any density, for only its surface counted. Without the floor the nearly empty
    space around, whose logarithm may lie anywhere, would draw a body down.

    Parameters
    ----------
    log_values : ndarray, shape (nx, ny, nz)
        Logarithms of scattering densities λ [mrad²/mm].
    weight : float
        Strength of the prior [nats].
    """
    matter = np.exp(log_values)
    floored = matter + FLOOR
    share = np.divide(matter, floored, out=matter)
    cost, gradient, curvature = _edges(np.log(floored, out=floored), weight, bounded=False)
    gradient *= share
    curvature *= np.square(share, out=share)
    return cost, gradient, curvature


def bounded_smoothness(
    log_values: FloatArray, weight: float
) -> tuple[float, FloatArray, FloatArray]:
    """Return as `smoothness` for a cost of weight Σ 1 - 1/√(1 + (d/EDGE)²).

    d is the difference of the logarithms themselves. An edge costs no more than the weight, and
    its pull falls as 1/d².

    Parameters
    ----------
    log_values : ndarray, shape (nx, ny, nz)
    weight : float
        Strength of the prior [nats].
    """
    return _edges(log_values, weight, bounded=True)


def _edges(
    values: FloatArray, weight: float, bounded: bool
) -> tuple[float, FloatArray, FloatArray]:
    gradient, curvature = np.zeros(values.shape), np.zeros(values.shape)
    scaled = np.ascontiguousarray(values, dtype=float) / EDGE
    nx, ny, nz = values.shape
    cost = kernel.edge_cost(
        scaled.ravel(), nx, ny, nz, bounded, gradient.ravel(), curvature.ravel()
    )
    gradient *= weight / EDGE
    curvature *= weight / EDGE**2
    return weight * cost, gradient, curvature
