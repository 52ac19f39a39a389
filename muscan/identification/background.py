"""The local cargo background of a volume, and how far it fluctuates.

What extends over half a window in two directions at least is background: a stack of goods, the
floor, a wall, a deck. What is smaller than that, in all but one direction, stands above it. For
each of the three orientations of a plane the running median along one of its axes and then along
the other removes small objects; a running maximum over half the window then lets the level reach
the edges and corners of what is extended (a grey opening with the median in the place of the
minimum, so that noise does not drag it down). The background is the highest of the three, but
never above what structure and goods can be: a slab of lead is no background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from muscan.model.volume import Volume

Array32 = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

#: Window of the background [mm]: objects narrower than half of it stand out.
WINDOW_MM: Final = 900.0
#: A background above this [mrad²/cm] is cut off: solid steel has 14.2.
HIGHEST_BACKGROUND: Final = 15.0
#: No matter scatters more [mrad²/cm]: osmium and iridium have 86 and 85 (X0 of 0.29 cm, PDG).
DENSEST: Final = 90.0
#: Widths (standard deviations) of the Gaussian filters with which objects are looked for [mm].
SCALES_MM: Final = (0.0, 40.0, 80.0)
#: Methods that put all of a muon's scattering in one point, and so smear objects along z.
SMEARING_METHODS: Final = frozenset({"poca", "asr"})
#: How much longer the filters are along z for those methods: most muons are within 30° of the
#: vertical, where an error of the point across the path is several times as long along it.
SMEARED_STRETCH: Final = 2.5
#: Standard deviation of a normal distribution over its median absolute deviation.
_MAD: Final = 1.4826


@dataclass(frozen=True)
class Contrast:
    """A volume as it stands above its background.

    Attributes
    ----------
    valid : ndarray of bool, shape (nx, ny, nz)
        Voxels in which something is known.
    values : ndarray, shape (nx, ny, nz)
        Scattering density [mrad²/cm], with unknown voxels filled from their nearest neighbour.
    sigma : ndarray, shape (nx, ny, nz)
        Its standard deviation (of unknown voxels: the largest known one).
    background : ndarray, shape (nx, ny, nz)
        The local background [mrad²/cm].
    significance : ndarray, shape (nx, ny, nz)
        Excess over the background in standard deviations, at the scale where that is the most;
        0 where nothing is known.
    relief, relief_sigma : ndarray, shape (nx, ny, nz)
        Excess at the middle scale, by which touching objects are parted, and its standard
        deviation [mrad²/cm].
    """

    valid: BoolArray
    values: Array32
    sigma: Array32
    background: Array32
    significance: Array32
    relief: Array32
    relief_sigma: Array32


def contrast(volume: Volume, valid: BoolArray) -> Contrast:
    """Return how a volume stands above its local background.

    The question is what the surroundings alone would show at a place. An error that grows with
    the scattering, as every method's does, is therefore taken from the surroundings: the local
    median of the voxels' standard deviations. The fluctuation is the larger of that, after the
    filter, and of the local spread of the excess (1.48 times the median absolute value), which
    holds the texture of the cargo. Values are cut at the densest matter there is, so that a voxel
    with a few unlucky muons cannot make a region by itself.

    Parameters
    ----------
    volume : Volume
        Scattering density with its uncertainty.
    valid : ndarray of bool
        Voxels with a finite value and uncertainty.
    """
    values, sigma = _fill(volume, valid)
    window = _window(volume)
    expected = _median(np.minimum(sigma, np.float32(DENSEST)), window)
    bounded = np.minimum(values, np.float32(DENSEST))
    best = np.zeros_like(values)
    for scale in SCALES_MM:
        widths = filter_widths(volume, scale)
        smooth, spread = _smooth(bounded, expected, valid, widths)
        background = _opening(smooth, window)
        above = smooth - background
        ratio = above / np.maximum(spread, _MAD * _median(np.abs(above), window))
        np.maximum(best, ratio, out=best)
        if scale == SCALES_MM[1]:
            level, relief, relief_sigma = background, above, spread
    best[~valid] = 0.0
    return Contrast(valid, values, sigma, level, best, relief, relief_sigma)


def filter_widths(volume: Volume, scale_mm: float) -> NDArray[np.float64]:
    """Return the widths of a filter along x, y and z [voxels]."""
    stretch = SMEARED_STRETCH if volume.method in SMEARING_METHODS else 1.0
    return np.asarray(scale_mm * np.array([1.0, 1.0, stretch]) / volume.grid.spacing)


def _fill(volume: Volume, valid: BoolArray) -> tuple[Array32, Array32]:
    values = volume.values.astype(np.float32)
    sigma = volume.uncertainty.astype(np.float32)
    if not valid.all():
        nearest = ndimage.distance_transform_edt(
            ~valid, sampling=volume.grid.spacing, return_distances=False, return_indices=True
        )
        values = values[tuple(nearest)]
        sigma = np.where(valid, sigma, sigma[valid].max())
    return values, np.maximum(sigma, np.float32(1e-6))


def _window(volume: Volume) -> tuple[int, int, int]:
    """Return the window in voxels, odd, and at most the size of the grid."""
    sizes = [
        min(2 * int(WINDOW_MM / (2 * step)) + 1, count + 1 - count % 2)
        for step, count in zip(volume.grid.spacing, volume.grid.shape, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def _along(axis: int, size: int) -> tuple[int, int, int]:
    shape = [1, 1, 1]
    shape[axis] = size
    return shape[0], shape[1], shape[2]


def _median(values: Array32, window: tuple[int, int, int]) -> Array32:
    """Return the running median along x, of it along y, of it along z."""
    for axis in range(3):
        values = ndimage.median_filter(values, size=_along(axis, window[axis]))
    return values


def _opening(values: Array32, window: tuple[int, int, int]) -> Array32:
    highest = np.zeros_like(values)
    for normal in range(3):
        plane = values
        for axis in range(3):
            if axis != normal:
                plane = ndimage.median_filter(plane, size=_along(axis, window[axis]))
        for axis in range(3):
            if axis != normal:
                half = 2 * (window[axis] // 4) + 1
                plane = ndimage.maximum_filter1d(plane, size=half, axis=axis)
        np.maximum(highest, plane, out=highest)
    return np.minimum(highest, np.float32(HIGHEST_BACKGROUND))


def _smooth(
    values: Array32, sigma: Array32, valid: BoolArray, widths: NDArray[np.float64]
) -> tuple[Array32, Array32]:
    """Return the Gaussian mean over known voxels, and its standard deviation.

    Voxels are taken as independent and weighted by their inverse variances, so the variance is
    the sum over squared weights. Weights are normalised by those inside the grid.
    """
    if not widths.any():
        return values, sigma
    inverse = np.where(valid, 1 / np.square(sigma), np.float32(0.0))
    total, weight, squares = inverse * values, inverse, inverse
    for axis, width in enumerate(widths):
        reach = int(4 * width + 0.5)
        kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / width))
        kernel /= kernel.sum()
        total = ndimage.correlate1d(total, kernel, axis=axis, mode="constant")
        weight = ndimage.correlate1d(weight, kernel, axis=axis, mode="constant")
        squares = ndimage.correlate1d(squares, kernel**2, axis=axis, mode="constant")
    seen = weight > 1e-3 / np.square(sigma)
    safe = np.where(seen, weight, np.float32(1.0))
    mean = np.where(seen, total / safe, values)
    return mean, np.where(seen, np.sqrt(np.maximum(squares, 0)) / safe, sigma)
