"""The most likely density of a set of voxels, all of one density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from muscan.errors import InputError
from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.model.region import RegionFit
from muscan.model.track_errors import AIR_DENSITY, least_loss
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.crossed import crossed_bins
from muscan.reconstruction.ways import TracedMuons
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Scattering densities between which a region's is sought [mrad²/cm].
LOWEST: Final = 1e-2
HIGHEST: Final = 200.0
#: Fall of the log likelihood at the ends of a 68 % interval.
INTERVAL_FALL: Final = 0.5
#: Log likelihood of a density that leaves a muon no scattering at all, or by rounding less: one
#: far below what the background has there.
IMPOSSIBLE: Final = -1e15


def fit_voxels(
    muons: TracedMuons,
    grid: VoxelGrid,
    background: FloatArray,
    mask: NDArray[np.bool_],
    compared: float | None = None,
    workers: int | None = None,
) -> RegionFit:
    """Return the most likely density of a set of voxels, all of one density.

    Parameters
    ----------
    muons : TracedMuons
    grid : VoxelGrid
    background : ndarray, shape of the grid
        What is elsewhere [mrad²/mm].
    mask : ndarray of bool, shape of the grid
        Voxels of the region.
    compared : float, optional
        Density to compare with [mrad²/cm]; by default the mean of the background there.
    workers : int, optional
        Threads.

    Raises
    ------
    InputError
        If the mask does not fit the grid, or no muon crosses it.
    """
    if mask.shape != grid.shape:
        raise InputError(
            "region", f"mask of shape {mask.shape}, not {grid.shape}", "use the grid of the volume"
        )
    level = float(background[mask].mean()) if mask.any() else AIR_DENSITY
    bins = crossed_bins(muons, grid, np.where(mask, level, background), workers)
    moments = np.empty((len(muons), 4))
    shares, cells = lanes.bounds(len(muons)), kernel_grid(grid)
    flat = np.ascontiguousarray(mask.ravel())
    lanes.run(
        lambda lane: way_kernel.mask_crossings(cells, flat, muons.ways, *shares[lane], moments),
        lanes.LANES,
        workers,
    )
    rows = np.flatnonzero(moments[:, 0] > 0)
    if rows.size == 0:
        raise InputError("region", "no muon crosses it", "scan for longer")
    inside = moments[rows]

    def likelihood(log_density: float) -> float:
        values = np.array([np.exp(log_density) / MM_PER_CM, level])
        loss = least_loss(values)
        found = kernel.region_density(
            muons.ways, bins, muons.momenta, rows, inside,
            values[0] - values[1], loss[0] - loss[1],
        )  # fmt: skip
        return float(found) if np.isfinite(found) else IMPOSSIBLE

    best, low, high, top = _interval(likelihood)
    compared = max(compared, LOWEST) if compared is not None else level * MM_PER_CM
    corners = np.argwhere(mask)
    first, last = corners.min(axis=0), corners.max(axis=0)
    volume = float(np.count_nonzero(mask)) * grid.voxel_volume_mm3 / 1000.0
    return RegionFit(
        density=best,
        low=low,
        high=high,
        log_ratio=top - likelihood(float(np.log(compared))),
        n_muons=int(rows.size),
        centre=grid.position(corners.mean(axis=0)),
        size=(last - first + 1) * grid.spacing,
        centre_sigma=np.full(3, np.nan),
        background=compared,
        integral=(best - compared) * volume,
        integral_sigma=(high - low) / 2 * volume,
    )


def _interval(likelihood: Callable[[float], float]) -> tuple[float, float, float, float]:
    """Return the best density, its 68 % interval, and the likelihood of its log at the best."""
    points = np.linspace(np.log(LOWEST), np.log(HIGHEST), 25)
    values = [likelihood(float(point)) for point in points]
    top = int(np.argmax(values))
    ends = points[max(top - 1, 0)], points[min(top + 1, len(points) - 1)]
    found = minimize_scalar(
        lambda x: -likelihood(x), bounds=ends, method="bounded", options={"xatol": 1e-3}
    )
    best, level = float(found.x), -float(found.fun) - INTERVAL_FALL
    limits = []
    for end in (points[0], points[-1]):
        if likelihood(float(end)) >= level:
            limits.append(float(end))
        else:
            limits.append(brentq(lambda x: likelihood(x) - level, end, best, xtol=1e-3))
    low, high = np.exp(limits)
    return float(np.exp(best)), float(low), float(high), -float(found.fun)
