"""The volume to turn in the page: a small copy of it, and the viewer niivue, both inlined."""

from __future__ import annotations

import base64
import gzip
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muscan import plot
from muscan.model.volume import Volume

#: More voxels than this are averaged in blocks first, so that the page stays small.
MAX_VOXELS: Final = 2_000_000
_LEVELS: Final = 255


def viewer_code() -> str:
    """Return the viewer's code as base64 of gzip, as it is shipped."""
    packed = files("muscan.reporting").joinpath("vendor/niivue.umd.js.gz").read_bytes()
    return base64.b64encode(packed).decode("ascii")


def viewer_data(volume: Volume) -> dict[str, Any]:
    """Return what the page's viewer needs, ready for JSON.

    Returns
    -------
    dict
        ``image``: NRRD as base64, each voxel one byte, the place on the colour scale times 255;
        ``colours``: the colour table for those bytes; ``top``, ``linear``: to turn a byte back
        into a scattering density, ``linear * sinh(byte / 255 * asinh(top / linear))``.
    """
    values, origin, spacing = _reduced(volume)
    levels = np.rint(np.clip(plot.to_scale(values), 0, 1) * _LEVELS).astype(np.uint8)
    byte = np.arange(_LEVELS + 1)
    red, green, blue = (plot.colours(plot.from_scale(byte / _LEVELS)) * 255).round().T
    opacity = 255 * (byte / _LEVELS) ** 1.5
    return {
        "image": base64.b64encode(_nrrd(levels, origin, spacing)).decode("ascii"),
        "colours": {
            "R": red.astype(int).tolist(),
            "G": green.astype(int).tolist(),
            "B": blue.astype(int).tolist(),
            "A": opacity.astype(int).tolist(),
            "I": byte.tolist(),
        },
        "top": plot.LIMITS[1],
        "linear": plot.LINEAR_BELOW,
    }


def _reduced(volume: Volume) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Return values, first centre [mm] and spacing [mm], in blocks if there are too many voxels.

    A block has the mean of its known voxels; the last blocks of a row may reach beyond the grid.
    """
    values = np.asarray(volume.values, dtype=np.float64)
    block = 1
    while np.prod(np.ceil(np.array(values.shape) / block)) > MAX_VOXELS:
        block += 1
    grid = volume.grid
    if block == 1:
        return np.nan_to_num(values), grid.origin, grid.spacing
    padded = np.pad(values, [(0, -size % block) for size in values.shape], constant_values=np.nan)
    nx, ny, nz = (size // block for size in padded.shape)
    blocks = padded.reshape(nx, block, ny, block, nz, block)
    known = np.isfinite(blocks)
    counts = known.sum(axis=(1, 3, 5))
    total = np.where(known, blocks, 0).sum(axis=(1, 3, 5))
    mean = np.divide(total, counts, out=np.zeros_like(total), where=counts > 0)
    return mean, grid.origin + (block - 1) / 2 * grid.spacing, grid.spacing * block


def _nrrd(
    values: NDArray[np.uint8], origin: NDArray[np.float64], spacing: NDArray[np.float64]
) -> bytes:
    """Return an NRRD file (http://teem.sourceforge.net/nrrd/format.html), x the fastest axis."""
    x, y, z = spacing
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\n"
        f"sizes: {' '.join(map(str, values.shape))}\n"
        f"space directions: ({x},0,0) (0,{y},0) (0,0,{z})\n"
        "kinds: domain domain domain\nencoding: gzip\n"
        f"space origin: ({','.join(map(str, origin))})\n\n"
    )
    return header.encode("ascii") + gzip.compress(values.tobytes(order="F"), 9, mtime=0)
