"""Angle statistics reconstruction: a quantile of the scattering angles of every voxel.

Stapleton et al., JINST 9 P11019 (2014). Every muon counts in all voxels in which it may have
scattered, and a voxel's score is a quantile of their angles, which no tail can govern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.errors import InputError
from muscan.kernels import asr as kernel
from muscan.kernels import paths as path_kernel
from muscan.kernels.paths import Paths
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum, class_weights, sea_level_spectrum
from muscan.model.track_errors import FIXED_FACTOR
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.muons import Muons, prepare, visits
from muscan.reconstruction.team import Team, grouped, tree_sum
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
    team: Team | None = None,
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
    team : Team, optional
        Workers elsewhere that do the work.

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
    if team is not None:
        seen = _seen_elsewhere(scatters, grid, detector, workers, team)
    else:
        muons = prepare(scatters, grid, "spectrum", detector, workers)
        seen = _see(muons, grid, workers)
    (histogram, sums, numbers), cosine, noises = seen
    number = histogram.sum(axis=1)
    angle, error = _quantiles(histogram, number)
    lengths = sums / np.maximum(numbers, 1)
    powers = (spectrum or sea_level_spectrum()).powers(float(cosine.mean()), 0.0)
    noise = float(np.median(noises))
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
        attributes={"quantile": QUANTILE, "n_scatters": len(cosine)},
    )


#: Histograms of the angles, summed lengths of the paths [mm] and their number, by voxel.
_Sums = tuple[NDArray[np.uint32], FloatArray, NDArray[np.int64]]
#: Those, and of each muon the cosine of the zenith angle and the noise of its angles [mrad²].
_Seen = tuple[_Sums, NDArray[np.float32], NDArray[np.float32]]


def _see(muons: Muons, grid: VoxelGrid, workers: int | None) -> _Seen:
    """Return what all muons tell, summed lane by lane."""
    rows = _lanes(len(muons), grid)
    parts = lanes.run(lambda lane: _lane_sums(muons, grid, rows[lane]), len(rows), workers)
    return tree_sum(parts), muons.cosine, _noise(muons)


def _seen_elsewhere(
    scatters: Scatters | Iterable[Scatters],
    grid: VoxelGrid,
    detector: Detector | None,
    workers: int | None,
    team: Team,
) -> _Seen:
    """Return the same from a team's workers."""
    every = scatters if isinstance(scatters, Scatters) else Scatters.join(list(scatters))
    used = every.take(visits(every, grid, workers) > 0)
    if len(used) == 0:
        raise InputError("tracks", "no muon crosses the grid", "check --bounds")
    portions = [
        (used.take(slice(group[0][0], group[-1][1])), group, grid, detector)
        for group in grouped(_lanes(len(used), grid), team)
    ]
    held = team.hold(_keep, portions)
    singles = team.results(_singles, held)
    cosine, noise = (np.concatenate(values) for values in zip(*singles, strict=True))
    return team.total(_group_sums, held, grid), cosine, noise


_Kept = tuple[Muons, tuple[tuple[int, int], ...]]


def _keep(
    scatters: Scatters,
    rows: tuple[tuple[int, int], ...],
    grid: VoxelGrid,
    detector: Detector | None,
) -> _Kept:
    first = rows[0][0]
    muons = prepare(scatters, grid, "spectrum", detector, 1)
    return muons, tuple((a - first, b - first) for a, b in rows)


def _group_sums(kept: _Kept, grid: VoxelGrid) -> _Sums:
    muons, rows = kept
    return tree_sum([_lane_sums(muons, grid, lane) for lane in rows])


def _singles(kept: _Kept) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return kept[0].cosine, _noise(kept[0])


def _noise(muons: Muons) -> NDArray[np.float32]:
    noise: NDArray[np.float32] = (
        muons.observed.noise[:, [0, 3]] + np.float32(FIXED_FACTOR) * muons.observed.fixed[:, :1]
    )
    return noise


def _lanes(rows: int, grid: VoxelGrid) -> tuple[tuple[int, int], ...]:
    bytes_each = (4 * BINS + 16) * int(np.prod(grid.shape))
    return tuple(lanes.bounds(rows, lanes.lane_count(bytes_each)))


def _lane_sums(muons: Muons, grid: VoxelGrid, rows: tuple[int, int]) -> _Sums:
    histogram = np.zeros((muons.voxels, BINS), np.uint32)
    sums, numbers = np.zeros(muons.voxels), np.zeros(muons.voxels, np.int64)
    reach = float(grid.spacing.max())
    kernel.angle_histograms(
        muons.paths, muons.observed, reach, BIN_LOWEST, BIN_WIDTH, *rows, histogram
    )
    # The length of a whole path counts in every voxel that it crosses.
    paths = muons.paths
    first = paths.first[rows[0] : rows[1] + 1]
    part = Paths(first, paths.voxel, paths.length, paths.top[slice(*rows)])
    path_kernel.spread(part, 2.0 * part.top.astype(float), sums, numbers)
    return histogram, sums, numbers


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
    return np.asarray(np.interp(angle, np.sqrt(low * high), grid))
