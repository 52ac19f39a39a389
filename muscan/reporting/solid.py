"""A volume seen from outside: light cast through it, dense voxels glowing in a thin mist."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muscan.model.volume import Volume
from muscan.plot import colours, to_scale

FloatArray = NDArray[np.float64]

#: Direction of view: obliquely down, from the front and the side.
_VIEW: Final = np.array([-0.55, 0.7, -0.45])
#: Opacity of a path through half of the box, at uranium's place on the scale.
_DEPTH: Final = 40.0
_BACKGROUND: Final = np.array([1.0, 1.0, 1.0])
#: Pairs of corners (numbered by bits x, y, z) that an edge of a box joins.
_EDGES: Final = tuple(
    (a, a | 1 << axis) for axis in range(3) for a in range(8) if not a & 1 << axis
)


def axes_of_view(view: ArrayLike = _VIEW) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the unit vectors to the right, up (as far as can be) and along a direction of view."""
    along = np.asarray(view, dtype=float) / np.linalg.norm(view)
    right = np.cross(along, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return right, np.cross(right, along), along


def picture(
    volume: Volume, bounds: ArrayLike, box: ArrayLike, *, pixels: int = 280, samples: int = 110
) -> NDArray[np.uint8]:
    """Return a picture of a part of a volume, from an angle, parallel light.

    Each ray adds up emission and absorption; the opacity grows with the cube of the place of
    the scattering density on the colour scale, so that goods stay mist and metal stands out.

    Parameters
    ----------
    volume : Volume
        Unknown voxels are empty.
    bounds, box : array_like, shape (2, 3)
        The part to show, and a box to outline in it [mm].
    pixels, samples : int
        Size of the picture, and points along a ray.

    Returns
    -------
    ndarray, shape (pixels, pixels, 3) uint8
        Red, green and blue; the first row is the top.
    """
    from scipy.ndimage import map_coordinates

    low, high = np.asarray(bounds, dtype=float)
    centre, half = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    right, up, along = axes_of_view()
    place = np.linspace(-half, half, pixels)
    plane = centre + place[None, :, None] * right - place[:, None, None] * up
    opacity_left = np.ones((pixels, pixels, 1))
    image = np.zeros((pixels, pixels, 3))
    grid, values = volume.grid, np.nan_to_num(volume.values, nan=0.0)
    for depth in np.linspace(-half, half, samples):
        points = plane + depth * along
        inside = ((points >= low) & (points <= high)).all(axis=-1)
        index = (points - grid.origin) / grid.spacing
        density = np.zeros((pixels, pixels))
        density[inside] = map_coordinates(values, index[inside].T, order=1, mode="nearest")
        scale = np.clip(to_scale(density), 0, 1)
        opacity = 1 - np.exp(-_DEPTH / samples * 2 * scale[..., None] ** 3)
        image += opacity_left * opacity * colours(density)
        opacity_left *= 1 - opacity
    image += opacity_left * _BACKGROUND
    for corners, colour in ((low, high), (0.75, 0.75, 0.75)), (np.asarray(box), (0.0, 0.55, 0.75)):
        _outline(image, np.asarray(corners, dtype=float), colour, centre, half, right, up)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _outline(
    image: FloatArray,
    corners: FloatArray,
    colour: tuple[float, float, float],
    centre: FloatArray,
    half: float,
    right: FloatArray,
    up: FloatArray,
) -> None:
    """Draw the edges of a box into an image, in place."""
    pixels = len(image)
    bits = np.array([[n >> axis & 1 for axis in range(3)] for n in range(8)])
    points = np.where(bits == 1, corners[1], corners[0]) - centre
    scale = (pixels - 1) / (2 * half)
    column = (points @ right + half) * scale
    row = (half - points @ up) * scale
    for a, b in _EDGES:
        steps = np.linspace(0, 1, 2 * pixels)
        rows = np.rint(row[a] + steps * (row[b] - row[a])).astype(int)
        columns = np.rint(column[a] + steps * (column[b] - column[a])).astype(int)
        seen = (rows >= 0) & (rows < pixels) & (columns >= 0) & (columns < pixels)
        image[rows[seen], columns[seen]] = colour
