"""Regions of a volume that stand above their local background.

A region grows around a significant peak of the excess down to a fraction of it, so its size does
not depend on how significant it is. Touching objects are parted where the excess between two
peaks falls well and significantly below the lower one: every voxel is led to a peak by steepest
ascent, and peaks are joined again, highest saddle first, unless there is such a fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from muscan.errors import InputError
from muscan.identification.background import SMEARING_METHODS, Contrast, contrast
from muscan.model.volume import Volume, VoxelGrid

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: A region has a voxel this significant …
SEED_SIGNIFICANCE: Final = 5.0
#: … and grows over voxels this significant.
GROW_SIGNIFICANCE: Final = 2.0
#: Two peaks are one object if the saddle between them is this fraction of the lower peak.
SADDLE: Final = 0.75
#: Two peaks are one object if the lower one is not this many standard deviations above the saddle.
PROMINENCE: Final = 4.0
#: The core of a region: at least this fraction of its peak excess.
CORE: Final = 0.5
#: Relative error of the mean λ of a region's core, from blur and partly filled voxels.
BLUR_ERROR: Final = 0.25
#: Integral of the excess below which an object is too small to matter [mrad²/cm · cm³]: that of
#: 0.5 kg of uranium or 1.1 kg of steel.
LEAST_EXCESS: Final = 2000.0
#: The excess of a region is at least this many of its own standard deviations. They are larger
#: than those of the background where a few muons with large angles make all of the excess.
OWN_SIGNIFICANCE: Final = 2.5


@dataclass(frozen=True)
class Region:
    """A connected part of a volume above its background.

    Attributes
    ----------
    centre : ndarray, shape (3,)
        Excess-weighted centre of the core [mm].
    lower, upper : ndarray, shape (3,)
        Corners of the box around the core [mm].
    volume_mm3 : float
        Volume of the object [mm³]; for a method that smears vertically, the object is taken to
        be no taller than it is wide.
    scattering_density : float
        Mean λ of the core's voxels [mrad²/cm]; lower than the object's where blur is wider than
        the object.
    sigma : float
        Its standard deviation, with `BLUR_ERROR`.
    background : float
        λ of the surrounding cargo [mrad²/cm].
    excess : float
        Integral of the excess scattering density over the region [mrad²/cm · cm³].
    excess_sigma : float
        Its standard deviation.
    significance : float
        Peak excess in standard deviations.
    n_muons : int
        Most muons through any voxel of the region.
    voxels : ndarray
        Flat indices of the region's voxels, ascending.
    chance : float or None
        Expected number of such regions a scan that chance makes, where the muons tell; None for
        one that only the volume shows.
    """

    centre: FloatArray
    lower: FloatArray
    upper: FloatArray
    volume_mm3: float
    scattering_density: float
    sigma: float
    background: float
    excess: float
    excess_sigma: float
    significance: float
    n_muons: int
    voxels: IntArray
    chance: float | None = None


def known_voxels(volume: Volume) -> NDArray[np.bool_]:
    """Return where a volume has a value with an uncertainty, shape (nx, ny, nz).

    Raises
    ------
    InputError
        If that is nowhere, or the volume is not a scattering density.
    """
    if volume.quantity != "scattering_density":
        raise InputError(
            "volume", f"holds {volume.quantity}, not scattering_density", "reconstruct it again"
        )
    known = np.isfinite(volume.values) & np.isfinite(volume.uncertainty) & (volume.n_muons > 0)
    if not known.any():
        raise InputError("volume", "no voxel has a value and an uncertainty", "record more muons")
    return known


def find_regions(
    volume: Volume, *, significance: float = SEED_SIGNIFICANCE, saddle: float = SADDLE
) -> list[Region]:
    """Return the regions above the local background, the most significant first.

    Parameters
    ----------
    volume : Volume
        Scattering density with its uncertainty.
    significance : float
        Least peak significance of a region.
    saddle : float
        Two peaks are one object if the excess between them is at least this fraction of the
        lower one.

    Raises
    ------
    InputError
        If the volume has no known voxel.
    """
    return regions_of(volume, contrast(volume, known_voxels(volume)), significance, saddle)


def regions_of(
    volume: Volume, above: Contrast, significance: float = SEED_SIGNIFICANCE, saddle: float = SADDLE
) -> list[Region]:
    """Return the regions of a volume whose contrast is known; see `find_regions`."""
    mask = (above.significance > GROW_SIGNIFICANCE) & (above.relief > 0)
    parts = split(above.relief, mask, saddle, PROMINENCE * above.relief_sigma)
    order = np.argsort(parts, axis=None, kind="stable")
    counts = np.bincount(parts.ravel())
    groups = np.split(order, np.cumsum(counts)[:-1])[1:]
    flat = above.significance.ravel()
    found = [
        _measure(volume, above, voxels)
        for voxels in groups
        if len(voxels) and flat[voxels].max() >= significance
    ]
    solid = [
        region
        for region in found
        if region.excess > max(OWN_SIGNIFICANCE * region.excess_sigma, LEAST_EXCESS)
    ]
    return sorted(solid, key=lambda region: -region.significance)


def split(
    excess: NDArray[np.floating],
    mask: NDArray[np.bool_],
    saddle: float = SADDLE,
    prominence: NDArray[np.floating] | float = 0.0,
) -> IntArray:
    """Label the objects in a mask, from 1; 0 is outside.

    Parameters
    ----------
    excess : ndarray, shape (nx, ny, nz)
        Height by which the objects are parted.
    mask : ndarray of bool
        Where there are objects.
    saddle : float
        See `find_regions`.
    prominence : ndarray, shape (nx, ny, nz), or float
        Least height of a peak above the saddle to a higher one.
    """
    number = np.full(mask.shape, -1, dtype=np.int64)
    height = excess[mask].astype(float)
    number[mask] = np.arange(len(height))
    pairs = _neighbours(number)
    peak = _ascend(height, pairs)
    least = np.broadcast_to(prominence, mask.shape)[mask].astype(float)
    limit = np.minimum(saddle * height, height - least)
    labels = _join(height, pairs, peak, limit)
    result = np.zeros(mask.shape, dtype=np.int64)
    result[mask] = labels + 1
    return result


def _neighbours(number: IntArray) -> IntArray:
    """Return the pairs of numbered voxels that touch by a face, an edge or a corner, (n, 2)."""
    pairs = []
    offsets = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
    for step in offsets:
        here = tuple(
            slice(max(0, -s), n - max(0, s)) for s, n in zip(step, number.shape, strict=True)
        )
        there = tuple(
            slice(max(0, s), n - max(0, -s)) for s, n in zip(step, number.shape, strict=True)
        )
        a, b = number[here].ravel(), number[there].ravel()
        both = (a >= 0) & (b >= 0)
        pairs.append(np.column_stack([a[both], b[both]]))
    return np.concatenate(pairs)


def _ascend(height: FloatArray, pairs: IntArray) -> IntArray:
    """Return the peak to which each voxel climbs, always to its highest neighbour."""
    count = len(height)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(height, kind="stable")] = np.arange(count)
    best = rank.copy()
    np.maximum.at(best, pairs[:, 0], rank[pairs[:, 1]])
    np.maximum.at(best, pairs[:, 1], rank[pairs[:, 0]])
    by_rank = np.argsort(rank, kind="stable")
    up = by_rank[best]
    while not np.array_equal(up, up[up]):
        up = up[up]
    return up


def _join(height: FloatArray, pairs: IntArray, peak: IntArray, limit: FloatArray) -> IntArray:
    """Join peaks over saddles at or above their limit; return consecutive labels from 0."""
    a, b = peak[pairs[:, 0]], peak[pairs[:, 1]]
    pass_height = np.minimum(height[pairs[:, 0]], height[pairs[:, 1]])
    apart = a != b
    a, b, pass_height = a[apart], b[apart], pass_height[apart]
    root = {int(index): int(index) for index in np.unique(peak)}

    def top(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for edge in np.argsort(-pass_height, kind="stable"):
        first, second = top(int(a[edge])), top(int(b[edge]))
        if first == second:
            continue
        low, high = sorted((first, second), key=lambda index: (height[index], index))
        if pass_height[edge] >= limit[low]:
            root[low] = high
    roots = np.array([top(int(index)) for index in np.unique(peak)])
    merged = roots[np.searchsorted(np.unique(peak), peak)]
    return np.unique(merged, return_inverse=True)[1].astype(np.int64)


def _measure(volume: Volume, above: Contrast, voxels: IntArray) -> Region:
    grid = volume.grid
    relief = above.relief.ravel()
    core = voxels[relief[voxels] >= CORE * relief[voxels].max()]
    weights = relief[core].astype(float)
    index = np.column_stack(np.unravel_index(core, grid.shape))
    centre = grid.position(np.average(index, axis=0, weights=weights))
    lower = grid.position(index.min(axis=0)) - grid.spacing / 2
    upper = grid.position(index.max(axis=0)) + grid.spacing / 2
    background = float(np.median(above.background.ravel()[core]))
    near = with_margin(voxels, grid)
    raw = (above.values - above.background).ravel()[near].astype(float)
    litre = grid.voxel_volume_mm3 / 1000.0
    total = max(float(raw.sum()), 0.0) * litre
    total_sigma = float(np.sqrt(np.square(above.sigma.ravel()[near].astype(float)).sum())) * litre
    size = _object_volume(len(core), lower, upper, grid, volume.method)
    inside = max(float((above.values - above.background).ravel()[core].mean()), 1e-3)
    noise = np.sqrt(np.square(above.sigma.ravel()[core].astype(float)).sum()) / len(core)
    spread = np.hypot(noise, BLUR_ERROR * inside)
    return Region(
        centre=centre,
        lower=lower,
        upper=upper,
        volume_mm3=size,
        scattering_density=background + inside,
        sigma=float(spread),
        background=background,
        excess=total,
        excess_sigma=total_sigma,
        significance=float(above.significance.ravel()[voxels].max()),
        n_muons=int(volume.n_muons.ravel()[voxels].max()),
        voxels=voxels,
    )


def with_margin(voxels: IntArray, grid: VoxelGrid) -> IntArray:
    """Return the flat indices of a region's voxels and of those that touch it by a face."""
    index = np.column_stack(np.unravel_index(voxels, grid.shape))
    low = np.maximum(index.min(axis=0) - 1, 0)
    shape = np.minimum(index.max(axis=0) + 2, grid.shape) - low
    mask = np.zeros(shape, dtype=bool)
    mask[tuple((index - low).T)] = True
    grown = np.column_stack(np.nonzero(ndimage.binary_dilation(mask))) + low
    return np.asarray(np.ravel_multi_index(tuple(grown.T), grid.shape), dtype=np.int64)


def _object_volume(
    count: int, lower: FloatArray, upper: FloatArray, grid: VoxelGrid, method: str
) -> float:
    size = count * grid.voxel_volume_mm3
    if method in SMEARING_METHODS:
        extent = upper - lower
        size *= min(1.0, float(extent[:2].mean() / extent[2]))
    return size
