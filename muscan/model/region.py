"""What tests of regions say, and what whoever makes such tests must offer.

Reconstruction makes the tests from the muons and identification asks them; the two know only
what stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from muscan.model.volume import Volume

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A box that may scatter more than what is around it.

    Attributes
    ----------
    bounds : ndarray, shape (2, 3)
        Lowest and highest corner [mm].
    log_ratio : float
        Log likelihood ratio against the background, at the best of the tried densities [nats].
    increase : float
        That density above the background's [mrad²/cm].
    """

    bounds: FloatArray
    log_ratio: float
    increase: float

    @property
    def centre(self) -> FloatArray:
        """Middle of the box [mm], shape (3,)."""
        return np.asarray(self.bounds.mean(axis=0))

    @property
    def size(self) -> FloatArray:
        """Edges of the box [mm], shape (3,)."""
        return np.asarray(self.bounds[1] - self.bounds[0])


@dataclass(frozen=True)
class KnownBox:
    """A body of known matter, such as a container's post.

    Attributes
    ----------
    name : str
    bounds : ndarray, shape (2, 3)
        Lowest and highest corner [mm].
    density : float
        Scattering density [mrad²/cm].
    """

    name: str
    bounds: FloatArray
    density: float


@dataclass(frozen=True)
class RegionFit:
    """What the muons say of one region, taken as an upright box.

    Attributes
    ----------
    density, low, high : float
        Scattering density and its 68 % interval [mrad²/cm].
    log_ratio : float
        Log of the largest likelihood over that of the background alone [nats].
    n_muons : int
        Muons through the region.
    centre, size : ndarray, shape (3,)
        Middle and edges of the most likely box [mm].
    centre_sigma : ndarray, shape (3,)
        Standard deviation of its middle [mm].
    background : float
        Scattering density of what the region replaced [mrad²/cm].
    integral, integral_sigma : float
        Integral of the excess density over the region, which is better known than either factor
        where the region is small, and its standard deviation [mrad²/cm · cm³].
    """

    density: float
    low: float
    high: float
    log_ratio: float
    n_muons: int
    centre: FloatArray
    size: FloatArray
    centre_sigma: FloatArray
    background: float
    integral: float
    integral_sigma: float

    @property
    def relative(self) -> float:
        """Standard deviation of the logarithm of the density."""
        return float(np.log(self.high / self.low) / 2)

    @property
    def significance(self) -> float:
        """Gaussian equivalent of the log ratio at this place, √(2 ΔlnL)."""
        return float(np.sqrt(2 * max(self.log_ratio, 0.0)))

    @property
    def bounds(self) -> FloatArray:
        """Lowest and highest corner [mm], shape (2, 3)."""
        return np.array([self.centre - self.size / 2, self.centre + self.size / 2])


class RegionTests(Protocol):
    """Tests of boxes against one background."""

    def places(self, size: FloatArray) -> float:
        """Return at how many places chance could have made an excess of a size.

        Parameters
        ----------
        size : ndarray, shape (3,)
            Edges of the excess [mm]. What chance makes is shared out evenly among sizes.
        """

    def scan(self, threshold: float = ...) -> list[Candidate]:
        """Return the boxes that scatter more than the background, the surest first.

        Parameters
        ----------
        threshold : float
            Least log likelihood ratio [nats].
        """

    def fit_box(
        self,
        centre: FloatArray,
        size: FloatArray,
        density: float | None = None,
        least: float = ...,
    ) -> RegionFit | None:
        """Return the most likely box near a place, None where the muons say nothing of it.

        Parameters
        ----------
        centre, size : ndarray, shape (3,)
            First guess [mm].
        density : float, optional
            First guess of its scattering density [mrad²/cm].
        least : float
            Least log likelihood ratio [nats].
        """

    def locating(self, known: Sequence[KnownBox]) -> list[RegionFit]:
        """Return known boxes where the muons find them, together; none where they find none.

        Parameters
        ----------
        known : sequence of KnownBox
            Such as a container's frame, where it is said to stand.
        """

    def holding(self, fit: RegionFit) -> RegionTests:
        """Return the tests against the background with a box in it."""


class RegionTester(Protocol):
    """Muons ready to be asked."""

    @property
    def n_muons(self) -> int:
        """Muons through the volume."""

    @property
    def hit_error_scale(self) -> float:
        """How much the hits err over what is stated, once a background is known."""

    def image(self, voxel_mm: float) -> Volume:
        """Return the most probable volume in voxels of a size, from a part of many muons.

        Parameters
        ----------
        voxel_mm : float
            Edge of a voxel [mm].
        """

    def against(self, background: NDArray[Any]) -> RegionTests:
        """Return tests against a background.

        Parameters
        ----------
        background : ndarray, shape (nx, ny, nz)
            Scattering density on the volume's grid, without what is looked for [mrad²/cm].
        """
