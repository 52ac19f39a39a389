"""Angle statistics reconstruction: a quantile of the scattering angles of every voxel.

Stapleton et al., JINST 9 P11019 (2014). Every muon counts in all voxels in which it may have
scattered, and a voxel's score is a quantile of their angles, which no tail can govern.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.errors import InputError
from muscan.kernels import asr as kernel
from muscan.kernels import paths as path_kernel
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum, class_weights, sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.muons import Muons, prepare
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: The quantile of the angles, and bins in the logarithm of the angle [mrad].
QUANTILE = 0.75
BIN_LOWEST, BIN_WIDTH, BINS = np.log(0.05), 0.2, 48


def asr(
    scatters: Scatters,
    grid: VoxelGrid,
    *,
    spectrum: MomentumSpectrum | None = None,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    callback: Callable[[int, float], object] | None = None,
    workers: int | None = None,
    detector: Detector | None = None,
) -> Volume:
    """Reconstruct scattering density from a quantile of the angles in every voxel.

    The quantile is turned into the scattering X of whole paths by the momentum spectrum, and into
    a density by the mean length of those paths in the grid. That is right for a homogeneous
    load; a small object comes out too thin, by its share of the path, but in its place.

    Parameters
    ----------
    scatters, grid, spectrum, workers
        As for the other methods.
    momentum : {"spectrum"}
        ASR knows only the spectrum.
    callback : callable, optional
        Called once, at the end.
    detector : Detector, optional
        The layout; not needed.

    Returns
    -------
    Volume
        Scattering density [mrad²/cm]; NaN where no muon can have scattered.

    Raises
    ------
    InputError
        If no muon crosses the grid, or ``momentum`` is not ``"spectrum"``.
    """
    if momentum != "spectrum":
        raise InputError("--momentum", f"asr cannot use '{momentum}' momenta", "use --method em")
    muons = prepare(scatters, grid, "spectrum", detector, workers)
    histogram = _histograms(muons, float(grid.spacing.max()), workers)
    number = histogram.sum(axis=1)
    angle, error = _quantiles(histogram, number)
    lengths, numbers = _path_lengths(muons)
    powers = (spectrum or sea_level_spectrum()).powers(float(muons.cosine.mean()), 0.0)
    noise = float(np.median(muons.observed.noise[:, [0, 3]] + muons.observed.fixed[:, :1]))
    thickness = scattering_of_quantile(angle, noise, powers)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(number > 0, thickness / lengths, np.nan)
        sigma = np.where(number > 0, 2 * error * (thickness + noise) / lengths, np.inf)
    if callback is not None:
        callback(1, 0.0)
    return Volume(
        values=(density * MM_PER_CM).reshape(grid.shape).astype(np.float32),
        grid=grid,
        method="asr",
        uncertainty=(sigma * MM_PER_CM).reshape(grid.shape).astype(np.float32),
        n_muons=numbers.reshape(grid.shape).astype(np.uint32),
        attributes={"quantile": QUANTILE, "n_scatters": len(muons)},
    )


def _histograms(muons: Muons, reach: float, workers: int | None) -> NDArray[np.uint32]:
    count = lanes.lane_count(4 * BINS * muons.voxels)
    shares = lanes.bounds(len(muons), count)
    parts = [np.zeros((muons.voxels, BINS), np.uint32) for _ in range(count)]
    lanes.run(
        lambda lane: kernel.angle_histograms(
            muons.paths, muons.observed, reach, BIN_LOWEST, BIN_WIDTH, *shares[lane], parts[lane]
        ),
        count,
        workers,
    )
    return np.asarray(sum(parts[1:], parts[0]))


def _quantiles(
    histogram: NDArray[np.uint32], number: NDArray[np.uint64]
) -> tuple[FloatArray, FloatArray]:
    """Return each voxel's quantile of the angle [mrad] and the error of its logarithm."""
    cumulative = np.cumsum(histogram, axis=1)
    wanted = QUANTILE * number
    place = np.minimum((cumulative < wanted[:, None]).sum(axis=1), BINS - 1)
    row = np.arange(len(number))
    inside = np.maximum(histogram[row, place], 1)
    before = cumulative[row, place] - histogram[row, place]
    angle = np.exp(BIN_LOWEST + BIN_WIDTH * (place + (wanted - before) / inside))
    # A quantile errs by √(Q (1 - Q) / n) over the density of the values there.
    slope = np.maximum(inside / np.maximum(number, 1) / BIN_WIDTH, 0.05)
    return angle, np.sqrt(QUANTILE * (1 - QUANTILE) / np.maximum(number, 1)) / slope


def _path_lengths(muons: Muons) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the mean length of the paths through each voxel [mm], and their number."""
    whole = 2.0 * muons.paths.top.astype(float)
    sums, numbers = np.zeros(muons.voxels), np.zeros(muons.voxels, np.int64)
    path_kernel.spread(muons.paths, whole, sums, numbers)
    return sums / np.maximum(numbers, 1), numbers


def scattering_of_quantile(angle: FloatArray, noise: float, powers: FloatArray) -> FloatArray:
    """Return the scattering X [mrad²] at the reference momentum behind a quantile of |angle|.

    Solves Σ_k w_k erf(angle / √(2 (q_k X + noise))) = `QUANTILE`.

    Parameters
    ----------
    angle : ndarray
        Quantile of the projected angle [mrad].
    noise : float
        Variance of the angle from the tracks' errors [mrad²].
    powers : ndarray
        Scattering powers of the momentum classes.
    """
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 1e7, 400)])
    spread = np.sqrt(grid[:, None] * powers + noise)
    low, high = np.full(len(grid), 1e-6), np.full(len(grid), 1e6)
    for _ in range(60):
        middle = np.sqrt(low * high)
        below = (class_weights() * (2 * ndtr(middle[:, None] / spread) - 1)).sum(axis=1)
        low = np.where(below < QUANTILE, middle, low)
        high = np.where(below < QUANTILE, high, middle)
    return np.interp(angle, np.sqrt(low * high), grid)
