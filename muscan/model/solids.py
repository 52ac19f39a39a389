"""Convex solids at a pose: how far they reach, and whether they overlap or hold each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muscan.errors import InputError
from muscan.model.pose import FloatArray

Shape = Literal["box", "cylinder", "sphere", "voxels"]

#: Bodies that reach into each other by less than this merely touch [mm].
TOUCHING_MM = 0.02


@dataclass(frozen=True)
class VoxelMap:
    """A box filled with voxels of several materials.

    Attributes
    ----------
    ids : ndarray, shape (nx, ny, nz) uint16
        Index of each voxel's material in ``materials``.
    materials : tuple of str
        Names of the materials.
    spacing : tuple of float
        Size of a voxel [mm].
    """

    ids: NDArray[np.uint16]
    materials: tuple[str, ...]
    spacing: tuple[float, float, float]

    @property
    def half(self) -> FloatArray:
        """Half the size of the whole box [mm]."""
        return np.asarray(np.array(self.ids.shape) * np.array(self.spacing) / 2)


def make_voxel_map(
    ids: ArrayLike,
    materials: Sequence[str],
    spacing: tuple[float, float, float],
    source: str | Path = "voxel map",
) -> VoxelMap:
    """Return a checked voxel map; ``source`` names it in errors.

    Parameters
    ----------
    ids : array_like of int, shape (nx, ny, nz)
        Index of each voxel's material in ``materials``.
    materials : sequence of str
        Names of the materials.
    spacing : tuple of float
        Size of a voxel [mm].

    Raises
    ------
    InputError
        If it is not a 3-d array of indices, or a size is not positive.
    """
    array = np.asarray(ids)
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "iu":
        raise InputError(
            source,
            f"a voxel map of shape {array.shape} and type {array.dtype}",
            "give whole numbers of shape (nx, ny, nz)",
        )
    if array.min() < 0 or array.max() >= len(materials):
        raise InputError(
            source,
            f"voxels name material {array.min()} to {array.max()}",
            f"there are {len(materials)}, counted from 0",
        )
    if not all(np.isfinite(width) and width > 0 for width in spacing):
        raise InputError(source, f"voxels of {spacing} mm", "give three positive lengths")
    return VoxelMap(array.astype(np.uint16), tuple(materials), spacing)


@dataclass(frozen=True)
class Body:
    """A piece of matter at its place.

    Attributes
    ----------
    name : str
    shape : {"box", "cylinder", "sphere", "voxels"}
        A cylinder stands along its own z axis.
    half : ndarray, shape (3,)
        Half the size [mm]; (radius, radius, half height) of a cylinder, the radius of a sphere.
    material : str
        Name in the material database; not used by a voxel map.
    centre : ndarray, shape (3,), [mm]
    rotation : ndarray, shape (3, 3)
        Takes body coordinates to global ones.
    density_g_cm3 : float, optional
        Bulk density, where it is not the material's own.
    mother : int
        Index of the body whose matter this one replaces, or −1 for the medium.
    surroundings : bool
        Whether it may stand outside the inspected space, as a building does.
    voxels : VoxelMap, optional
    """

    name: str
    shape: Shape
    half: FloatArray
    material: str
    centre: FloatArray = field(default_factory=lambda: np.zeros(3))
    rotation: FloatArray = field(default_factory=lambda: np.eye(3))
    density_g_cm3: float | None = None
    mother: int = -1
    surroundings: bool = False
    voxels: VoxelMap | None = None

    def reach(self, direction: FloatArray) -> FloatArray:
        """Return how far the body reaches from its centre along unit vectors (..., 3) [mm]."""
        local = np.abs(np.asarray(direction) @ self.rotation)
        if self.shape == "sphere":
            return np.full(local.shape[:-1], self.half[0])
        if self.shape == "cylinder":
            across = np.hypot(local[..., 0], local[..., 1])
            return np.asarray(across * self.half[0] + local[..., 2] * self.half[2])
        return np.asarray(local @ self.half)

    def bounds(self) -> FloatArray:
        """Return the lowest and highest corner of the box around the body, (2, 3) [mm]."""
        reach = self.reach(np.eye(3))
        return np.array([self.centre - reach, self.centre + reach])

    def volume_mm3(self) -> float:
        """Return the volume, daughters included [mm³]."""
        if self.shape == "sphere":
            return float(4 / 3 * np.pi * self.half[0] ** 3)
        if self.shape == "cylinder":
            return float(2 * np.pi * self.half[0] ** 2 * self.half[2])
        return float(8 * np.prod(self.half))

    def nearest_point(self, point: FloatArray, shrink: float = 0.0) -> FloatArray:
        """Return the point of the body, shrunk by a margin, that is nearest to a point."""
        local = (point - self.centre) @ self.rotation
        half = np.maximum(self.half - shrink, 0.0)
        if self.shape == "sphere":
            local = _within_radius(local, half[0])
        elif self.shape == "cylinder":
            local[:2] = _within_radius(local[:2], half[0])
            local[2] = np.clip(local[2], -half[2], half[2])
        else:
            local = np.clip(local, -half, half)
        return np.asarray(self.centre + self.rotation @ local)

    def is_aligned_box(self) -> bool:
        """Return whether the body is a box along the global axes."""
        return self.shape in ("box", "voxels") and bool(
            np.isin(np.abs(self.rotation), (0.0, 1.0)).all()
        )

    def extreme_points(self) -> FloatArray:
        """Return points of the surface whose hull is (nearly) the body, (n, 3) [mm]."""
        if self.shape in ("box", "voxels"):
            signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
            local = signs * self.half
        else:
            angle = np.arange(64) * (2 * np.pi / 64)
            rim = np.stack([np.cos(angle), np.sin(angle), np.zeros(64)], axis=1) * self.half[0]
            if self.shape == "cylinder":
                up = np.array([0.0, 0.0, self.half[2]])
                local = np.concatenate([rim + up, rim - up])
            else:
                local = np.concatenate([rim[:, axes] for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0))])
        return np.asarray(self.centre + local @ self.rotation.T)


def overlap(a: Body, b: Body) -> bool:
    """Return whether two bodies reach into each other by more than `TOUCHING_MM`.

    Two convex sets meet if projecting a point onto one and the other in turn ends in both
    (Cheney and Goldstein, Proc. AMS 10:448, 1959).
    """
    low, high = np.maximum(a.bounds()[0], b.bounds()[0]), np.minimum(a.bounds()[1], b.bounds()[1])
    if not (high - low > TOUCHING_MM).all():
        return False
    if a.is_aligned_box() and b.is_aligned_box():
        return True
    point = (low + high) / 2
    for _ in range(500):
        first = a.nearest_point(point, TOUCHING_MM / 2)
        point = b.nearest_point(first, TOUCHING_MM / 2)
        gap = float(np.linalg.norm(point - first))
        if gap < TOUCHING_MM / 10:
            return True
    return False


def sticks_out(mother: Body, daughter: Body) -> float:
    """Return how far a daughter reaches out of its mother [mm]; not positive if it is inside."""
    if mother.shape in ("box", "voxels"):
        offset = np.abs((daughter.centre - mother.centre) @ mother.rotation)
        return float(np.max(offset + daughter.reach(mother.rotation.T) - mother.half))
    points = daughter.centre[None] if daughter.shape == "sphere" else daughter.extreme_points()
    margin = daughter.half[0] if daughter.shape == "sphere" else 0.0
    local = (points - mother.centre) @ mother.rotation
    if mother.shape == "sphere":
        return float(np.linalg.norm(local, axis=1).max() + margin - mother.half[0])
    radial = np.hypot(local[:, 0], local[:, 1]).max() + margin - mother.half[0]
    along = np.abs(local[:, 2]).max() + margin - mother.half[2]
    return float(max(radial, along))


def _within_radius(vector: FloatArray, radius: float) -> FloatArray:
    length = float(np.linalg.norm(vector))
    return vector if length <= radius else vector * (radius / length)
