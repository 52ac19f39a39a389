"""Edge-preserving smoothness priors on a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import prior as kernel

FloatArray = NDArray[np.float64]
Shape = tuple[int, int, int]

#: Power of the density whose steps count for the first image, and the scattering density of water
#: [mrad²/mm], near which they count as those of the logarithm do.
POWER = 1 / 3
WATER = 0.069
#: How much more steps of what a volume is over the first image cost. Of the powers 0, 1/4, 1/3 and
#: 1/2, and of 1, 1.5, 2 and 4 here, those by which half of the muons of four scans predict the
#: other half best in sum.
OVER_IMAGE = 1.5
#: Density below which ratios count less and less [mrad²/mm], some ten times that of air and a
#: seventieth of that of water: thin matter and none are not told apart.
FLOOR = 1e-3
#: Power of the difference with which the cost of an edge grows.
GROWTH = kernel.GROWTH


class Prior:
    """Smoothness of a volume, or of what it is over an image.

    The cost is weight Σ ((1 + d²)^(GROWTH/2) - 1) / GROWTH over all pairs of voxels that share a
    face, OVER_IMAGE times as much over an image. Small differences d cost half their square; a high
    edge costs as its height to the power GROWTH. Were it bounded, a body would best be a thin slab
    of any density, for only its surface counted.

    Without an image, d is of ((λ + FLOOR)/WATER)^POWER / POWER. By logarithms a body whose height
    is not resolved is cheapest as a thin slab of more density; a power makes bodies more compact,
    but draws dense ones down. Over an image of that kind, d is of ln(λ + FLOOR) less that of the
    image: edges that the image has cost nothing, at any height. So what the first prior took away
    comes back and the shapes stay, as in iterated regularisation (Osher et al., Multiscale Model.
    Simul. 4:460, 2005) and Tukey's twicing (1977). Without the floor the nearly empty space around,
    whose logarithm may lie anywhere, would draw a body down.

    Parameters
    ----------
    weight : float
        [nats].
    shape : tuple of int
        Of the grid.
    image : ndarray, shape (voxels,), optional
        Its scattering densities [mrad²/mm].
    """

    def __init__(self, weight: float, shape: Shape, image: FloatArray | None = None) -> None:
        self._shape = shape
        self._weight = weight if image is None else OVER_IMAGE * weight
        self._image = None if image is None else np.log(image + FLOOR)

    def cost(self, matter: FloatArray) -> tuple[float, FloatArray]:
        """Return the cost of a volume and its gradient in the logarithms of the densities.

        Parameters
        ----------
        matter : ndarray, shape (voxels,)
            Scattering densities λ [mrad²/mm].
        """
        heights, slopes = self._heights(matter)
        cost, gradient, _ = _edges(heights, self._shape, bounded=False, bend=False)
        slopes *= self._weight
        gradient *= slopes
        return self._weight * cost, gradient

    def curvature(self, matter: FloatArray) -> FloatArray:
        """Return a bound on the diagonal of the cost's curvature in the logarithms.

        Parameters
        ----------
        matter
            As for `cost`.
        """
        heights, slopes = self._heights(matter)
        _, _, curvature = _edges(heights, self._shape, bounded=False, bend=True)
        return self._weight * curvature * np.square(slopes)

    def _heights(self, matter: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return that whose differences count, and its derivative in the logarithms."""
        floored = matter + FLOOR
        slopes = matter / floored
        heights = np.log(floored, out=floored)
        if self._image is not None:
            heights -= self._image
            return heights, slopes
        heights -= np.log(WATER)
        heights *= POWER
        power = np.exp(heights, out=heights)
        slopes *= power
        power /= POWER
        return power, slopes


def bounded_smoothness(
    log_values: FloatArray, weight: float
) -> tuple[float, FloatArray, FloatArray]:
    """Return the cost weight Σ 1 - 1/√(1 + d²), its gradient and a bound on its curvature.

    d is the difference of the logarithms of neighbours. An edge costs no more than the weight, and
    its pull falls as 1/d².

    Parameters
    ----------
    log_values : ndarray, shape (nx, ny, nz)
    weight : float
        Strength of the prior [nats].
    """
    nx, ny, nz = log_values.shape
    values = np.ascontiguousarray(log_values, dtype=float).ravel()
    cost, gradient, curvature = _edges(values, (nx, ny, nz), bounded=True, bend=True)
    shape = log_values.shape
    return weight * cost, weight * gradient.reshape(shape), weight * curvature.reshape(shape)


def _edges(
    values: FloatArray, shape: Shape, bounded: bool, bend: bool
) -> tuple[float, FloatArray, FloatArray]:
    """Return the cost of a weight of one, its gradient, and its curvature or nothing."""
    gradient, curvature = np.zeros(values.size), np.zeros(values.size if bend else 0)
    cost = kernel.edge_cost(values, *shape, bounded, gradient, curvature)
    return cost, gradient, curvature
