"""Voxel grids and the volumes that reconstruction fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.model.events import Run
from muscan.units import REFERENCE_MOMENTUM_GEV, SCATTERING_CONSTANT_MEV

FloatArray = NDArray[np.float64]

#: More voxels than this are refused: a slip in the units, rather than a wish.
MAX_VOXELS = 500_000_000


@dataclass(frozen=True)
class VoxelGrid:
    """A regular grid of box-shaped voxels.

    Attributes
    ----------
    origin : ndarray, shape (3,)
        Centre of voxel (0, 0, 0) [mm].
    spacing : ndarray, shape (3,)
        Size of a voxel along x, y and z [mm].
    shape : tuple of int
        Number of voxels along x, y and z.
    """

    origin: FloatArray
    spacing: FloatArray
    shape: tuple[int, int, int]

    @classmethod
    def from_bounds(cls, bounds: FloatArray, voxel: float | Sequence[float]) -> VoxelGrid:
        """Return the smallest grid of whole voxels, centred on a box, that covers it.

        Parameters
        ----------
        bounds : array_like, shape (2, 3)
            Lowest and highest corner [mm].
        voxel : float or sequence of 3 float
            Size of a voxel [mm].

        Raises
        ------
        InputError
            If a size is not positive, the corners are not ordered, or the grid is too large.
        """
        low, high = np.asarray(bounds, dtype=float)
        spacing = np.broadcast_to(np.asarray(voxel, dtype=float), 3).copy()
        if not (np.isfinite(spacing).all() and (spacing > 0).all()):
            raise InputError("--voxel", f"{voxel} mm is not a size", "give a positive length in mm")
        if not (np.isfinite([low, high]).all() and (low < high).all()):
            raise InputError(
                "--bounds",
                "the limits are not in order",
                "give xmin,xmax,ymin,ymax,zmin,zmax in mm",
            )
        counts = np.maximum(np.ceil((high - low) / spacing - 1e-9), 1)
        if counts.prod() > MAX_VOXELS:
            raise InputError(
                "--voxel",
                f"{counts.prod():.3g} voxels are more than {MAX_VOXELS:.3g}",
                "use larger voxels or tighter --bounds",
            )
        nx, ny, nz = (int(count) for count in counts)
        origin = (low + high) / 2 - (counts - 1) / 2 * spacing
        return cls(origin, spacing, (nx, ny, nz))

    @property
    def lower(self) -> FloatArray:
        """Lowest corner of the grid [mm]."""
        return np.asarray(self.origin - self.spacing / 2)

    @property
    def upper(self) -> FloatArray:
        """Highest corner of the grid [mm]."""
        return np.asarray(self.lower + self.spacing * np.array(self.shape))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel [mm³]."""
        return float(self.spacing.prod())

    def centres(self, axis: int) -> FloatArray:
        """Return the voxel centres along one axis [mm]."""
        return np.asarray(self.origin[axis] + self.spacing[axis] * np.arange(self.shape[axis]))

    def position(self, index: Sequence[float] | FloatArray) -> FloatArray:
        """Return the point [mm] at a (fractional) voxel index, shape (..., 3)."""
        return np.asarray(self.origin + np.asarray(index, dtype=float) * self.spacing)


@dataclass(frozen=True)
class Volume:
    """A reconstructed quantity on a grid.

    Attributes
    ----------
    values : ndarray, shape (nx, ny, nz) float32
        The quantity, by default the scattering density [mrad²/cm]; NaN where no muon went.
    grid : VoxelGrid
        Where the voxels are.
    method : str
        Name of the reconstruction method.
    uncertainty : ndarray, shape (nx, ny, nz) float32
        Standard deviation of ``values``, in the same unit; inf where nothing is known.
    n_muons : ndarray, shape (nx, ny, nz) uint32
        Muons whose path goes through each voxel.
    channels : mapping of str to ndarray
        Further quantities of the same shape, such as ``"stopping"``.
    channel_units : mapping of str to str
        Their units, where they have any.
    attributes : mapping
        What else the method says of itself (iterations, convergence, counts by reason).
    """

    values: NDArray[np.float32]
    grid: VoxelGrid
    method: str
    uncertainty: NDArray[np.float32]
    n_muons: NDArray[np.uint32]
    quantity: str = "scattering_density"
    units: str = "mrad2/cm"
    channels: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    scattering_constant_MeV: float = SCATTERING_CONSTANT_MEV
    reference_momentum_GeV: float = REFERENCE_MOMENTUM_GEV
    run: Run | None = None
    channel_units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MaterialMap:
    """Which material each voxel is, and how probably.

    Attributes
    ----------
    labels : ndarray, shape (nx, ny, nz) uint16
        Index into ``names``.
    probability : ndarray, shape (nx, ny, nz) float32
        Posterior probability of that label.
    names : tuple of str
        Material names; 0 is ``unknown`` and 1 is ``air``.
    grid : VoxelGrid
        Where the voxels are.
    materials_version : str
        Version (content hash) of the database.
    """

    labels: NDArray[np.uint16]
    probability: NDArray[np.float32]
    names: tuple[str, ...]
    grid: VoxelGrid
    materials_version: str
