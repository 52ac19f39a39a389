"""Known matter: what stands in every scan, such as a container's shell, as a fixed background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.model.material import Material, MaterialDatabase, load_materials
from muscan.model.scene import Scene
from muscan.model.solids import Body
from muscan.model.survival import stopping_density
from muscan.model.volume import VoxelGrid

FloatArray = NDArray[np.float64]

#: Points a voxel and axis by which the share of a round or turned body is counted.
POINTS = 8


@dataclass(frozen=True)
class FixedMatter:
    """What is known to stand in the grid, spread over its voxels.

    Attributes
    ----------
    name : str
    scattering : ndarray, shape of the grid
        Scattering density [mrad²/cm].
    stopping : ndarray, shape of the grid
        Stopping density [g/cm³ of water].
    """

    name: str
    scattering: FloatArray
    stopping: FloatArray


def rasterise(
    scene: Scene, grid: VoxelGrid, materials: MaterialDatabase | None = None
) -> FixedMatter:
    """Return the bodies of a scene as fixed matter on a grid.

    A voxel holds the mean over its volume: exactly for boxes along the axes, however thin, and
    to 1/8 of a voxel at the faces of other shapes. Matter outside the grid is left out.

    Parameters
    ----------
    scene : Scene
    grid : VoxelGrid
    materials : MaterialDatabase, optional

    Raises
    ------
    InputError
        If a material is unknown, a body is a voxel map, or nothing stands in the grid.
    """
    known = scene.materials(materials or load_materials())
    total = np.zeros((2, *grid.shape))
    for body in scene.bodies:
        if body.voxels is not None:
            problem = f"body '{body.name}' is a voxel map, which cannot be fixed matter"
            raise InputError(scene.source or scene.name, problem, "give it as boxes")
        own = _densities(body, known)
        mother = scene.bodies[body.mother] if body.mother >= 0 else None
        # A daughter takes its mother's place; the medium counts as nothing.
        instead = _densities(mother, known) if mother is not None else np.zeros(2)
        if body.mother < 0 and body.material == scene.medium:
            own = np.zeros(2)
        part, share = _share(body, grid)
        total[(slice(None), *part)] += (own - instead)[:, None, None, None] * share
    if not (total > 0).any():
        raise InputError(scene.source or scene.name, "no body stands in the space to reconstruct")
    total = np.maximum(total, 0.0)
    return FixedMatter(scene.name, total[0], total[1])


def _densities(body: Body, known: dict[str, Material]) -> FloatArray:
    """Return scattering [mrad²/cm] and stopping density [g/cm³] of a body's matter."""
    material = known[body.material]
    if body.density_g_cm3 is not None and body.density_g_cm3 != material.density_g_cm3:
        material = material.with_density(body.density_g_cm3)
    if material.state == "gas":
        return np.zeros(2)
    return np.array([material.scattering_density, stopping_density(material)])


def _share(body: Body, grid: VoxelGrid) -> tuple[tuple[slice, ...], FloatArray]:
    """Return the voxels that a body may reach, and its share of the volume of each."""
    low, high = body.bounds()
    edges = [
        grid.lower[axis] + grid.spacing[axis] * np.arange(grid.shape[axis] + 1) for axis in range(3)
    ]
    part = tuple(
        slice(
            max(int(np.searchsorted(edge, low[axis], "right")) - 1, 0),
            max(int(np.searchsorted(edge, high[axis], "left")), 0),
        )
        for axis, edge in enumerate(edges)
    )
    upright = body.shape == "box" and np.array_equal(body.rotation, np.eye(3))
    if upright:
        along = [
            np.clip(
                np.minimum(edges[axis][1:], high[axis]) - np.maximum(edges[axis][:-1], low[axis]),
                0,
                None,
            )[part[axis]]
            / grid.spacing[axis]
            for axis in range(3)
        ]
        return part, np.einsum("i,j,k->ijk", *along)
    return part, _sampled(body, grid, part)


def _sampled(body: Body, grid: VoxelGrid, part: tuple[slice, ...]) -> FloatArray:
    """Return the share of the points of a lattice in each voxel that a body holds."""
    sub = (np.arange(POINTS) + 0.5) / POINTS
    axes = [
        grid.lower[axis]
        + grid.spacing[axis] * np.add.outer(np.arange(*part[axis].indices(n)), sub).ravel()
        for axis, n in enumerate(grid.shape)
    ]
    shape = tuple(len(values) // POINTS for values in axes)
    shares = np.zeros(shape)
    # Layer by layer, so that a large body does not need much memory.
    for i in range(shape[0]):
        x = axes[0][POINTS * i : POINTS * (i + 1)]
        points = np.stack(np.meshgrid(x, axes[1], axes[2], indexing="ij"), axis=-1)
        inside = _holds(body, (points - body.centre) @ body.rotation)
        cut = inside.reshape(POINTS, shape[1], POINTS, shape[2], POINTS)
        shares[i] = cut.mean(axis=(0, 2, 4))
    return shares


def _holds(body: Body, local: FloatArray) -> NDArray[np.bool_]:
    """Return which points in a body's own frame (..., 3) are in it."""
    if body.shape == "sphere":
        return np.asarray((local**2).sum(axis=-1) <= body.half[0] ** 2)
    if body.shape == "cylinder":
        across = local[..., 0] ** 2 + local[..., 1] ** 2
        return np.asarray((across <= body.half[0] ** 2) & (np.abs(local[..., 2]) <= body.half[2]))
    return np.asarray((np.abs(local) <= body.half).all(axis=-1))
