"""Points of closest approach, calibrated to scattering density.

Borozdin et al., Nature 422:277 (2003); Schultz, thesis, Portland State University (2003). Every
muon is taken to scatter once, where its two tracks come closest. The density of a voxel is
the scattering of the vertices in it over the length of all paths through it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import poca as kernel
from muscan.kernels.path_sums import MOST_PATHS, length_unit, unpack
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum, class_weights, sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.team import Team
from muscan.units import RAD2_PER_MM

FloatArray = NDArray[np.float64]
#: Sums over the vertices in each voxel, lengths of the paths and their number, in the units of the
#: kernels (`muscan.kernels.poca.accumulate`, `muscan.kernels.path_sums.unpack`).
Gathered = tuple[FloatArray, NDArray[np.int64], NDArray[np.uint32]]
#: Voxels whose densities are worked out together: what is between stays in the cache.
_PIECE = 4096


class Sums:
    """What the voxels have gathered.

    Everything is counted in whole units, so no sum depends on its order: the result has the same
    bits for any number of threads or workers, and however the muons are cut into portions.

    Attributes
    ----------
    rows : int
        Muons so far.
    """

    def __init__(self, grid: VoxelGrid) -> None:
        voxels = int(np.prod(grid.shape))
        self._threads = min(lanes.lane_count(voxels * 40), os.cpu_count() or 1)
        #: A thread's own sums over vertices and packed sums over paths, made when first needed.
        self._own: list[tuple[FloatArray, NDArray[np.int64]]] = []
        self._lengths = np.zeros(voxels, np.int64)
        self._muons = np.zeros(voxels, np.uint32)
        self._cosines = 0
        self.rows = 0

    def add(self, scatters: Scatters, grid: VoxelGrid, workers: int | None) -> None:
        """Add muons to the voxels of the grid that the sums were made for."""
        threads = self._threads if workers is None else min(self._threads, workers)
        while len(self._own) < threads:
            places = len(self._lengths) + 1
            self._own.append((np.zeros((places, 4)), np.zeros(places, np.int64)))
        shares = lanes.bounds(len(scatters), max(threads, 1))
        lock = Lock()

        def work(share: int) -> None:
            for first in range(*shares[share], MOST_PATHS):
                last = min(first + MOST_PATHS, shares[share][1])
                vertex, packed = self._own[share]
                _accumulate(scatters.take(slice(first, last)), grid, vertex, packed)
                with lock:
                    unpack(packed, self._lengths, self._muons)

        lanes.run(work, len(shares), workers)
        self._count(scatters)

    def add_elsewhere(self, portions: Sequence[Scatters], grid: VoxelGrid, team: Team) -> None:
        """Add muons as `add` does, each worker of a team a share of every portion."""
        number = team.size()
        shares = [lanes.bounds(len(portion), number) for portion in portions]
        dealt = [
            (
                [
                    portion.take(slice(*rows[share]))
                    for portion, rows in zip(portions, shares, strict=True)
                ],
            )
            for share in range(number)
        ]
        vertex, lengths, muons = team.total(_gathered, team.hold(list, dealt), grid)
        self._own.append((np.concatenate([vertex, np.zeros((1, 4))]), np.zeros(0, np.int64)))
        self._lengths += lengths
        self._muons += muons
        for portion in portions:
            self._count(portion)

    def _count(self, scatters: Scatters) -> None:
        self.rows += len(scatters)
        # In whole units, too: 2^-30 of a cosine.
        cosines = np.abs(scatters.in_direction[:, 2]).astype(np.float64)
        self._cosines += int(np.rint(cosines * 2.0**30).sum())

    def total(self) -> Gathered:
        """Return the sums of all threads."""
        vertex = self._own[0][0][:-1] if self._own else np.zeros((len(self._lengths), 4))
        for own, _ in self._own[1:]:
            vertex = vertex + own[:-1]
        return vertex, self._lengths, self._muons

    def vertices_inside(self) -> float:
        """Return how many vertices are in the grid."""
        return kernel.NUMBER_UNIT * sum(float(own[:-1, 0].sum()) for own, _ in self._own)

    def volume(self, grid: VoxelGrid, spectrum: MomentumSpectrum | None = None) -> Volume:
        """Return the volume of the muons so far; see `poca`.

        Raises
        ------
        InputError
            If there is no muon.
        """
        if self.rows == 0:
            raise InputError(
                "tracks",
                "no muon has both an incoming and an outgoing track",
                "scan longer, or check the layout",
            )
        vertex, lengths, muons = self.total()
        cosine = self._cosines * 2.0**-30 / self.rows
        powers = (spectrum or sea_level_spectrum()).powers(cosine, 0.0)
        density, sigma = _densities(vertex, lengths, length_unit(grid.spacing), powers)
        return Volume(
            values=density.reshape(grid.shape),
            grid=grid,
            method="poca",
            uncertainty=sigma.reshape(grid.shape),
            n_muons=muons.reshape(grid.shape).copy(),
            attributes={"n_scatters": self.rows, "n_vertices_inside": self.vertices_inside()},
        )


def _accumulate(
    part: Scatters, grid: VoxelGrid, vertex: FloatArray, packed: NDArray[np.int64]
) -> None:
    kernel.accumulate(
        kernel_grid(grid),
        part.in_position,
        part.in_direction,
        part.in_cov,
        part.out_position,
        part.out_direction,
        part.out_cov,
        kernel.scratch(len(part), len(vertex) - 1),
        vertex,
        packed,
    )


def _gathered(portions: list[Scatters], grid: VoxelGrid) -> Gathered:
    """Return what one worker's share of the portions gathers."""
    sums = Sums(grid)
    for portion in portions:
        sums.add(portion, grid, 1)
    return sums.total()


def poca(
    scatters: Scatters | Iterable[Scatters],
    grid: VoxelGrid,
    *,
    spectrum: MomentumSpectrum | None = None,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    callback: Callable[[int, float], object] | None = None,
    workers: int | None = None,
    detector: Detector | None = None,
    team: Team | None = None,
) -> Volume:
    """Reconstruct scattering density from points of closest approach.

    With θ the angle between the tracks, and N vertices in a voxel crossed over the length
    ΣL by all muons,

        λ = N X / ΣL,   where   E[θ | X] = √(π/2) Σ_k w_k √(q_k X + σ²)

    is solved for X, the scattering [rad²] at the reference momentum of those N muons: w_k and q_k
    are the momentum spectrum's classes, σ² the mean error of θ per plane. The mean of θ, unlike
    that of θ², is not governed by the few slowest muons, and the tracks' errors drop out.

    Parameters
    ----------
    scatters : Scatters or iterable of Scatters
        Muons with both tracks, all at once or in portions.
    grid : VoxelGrid
        Where to reconstruct.
    spectrum : MomentumSpectrum, optional
        By default the sea-level one, `muscan.model.spectrum.sea_level_spectrum`.
    momentum : {"spectrum", "measured"}
        PoCA knows only ``"spectrum"``.
    callback : callable, optional
        Called after each portion with its number and the fraction of vertices inside the grid.
    workers : int, optional
        Threads, by default one a processor; the result does not depend on it.
    detector : Detector, optional
        The layout; PoCA does not need it.
    team : Team, optional
        Workers elsewhere that do the work; all ``scatters`` are read at once.

    Returns
    -------
    Volume
        Scattering density [mrad²/cm]; NaN where no muon went.

    Raises
    ------
    InputError
        If there is no muon, or ``momentum`` is not ``"spectrum"``.
    """
    if momentum != "spectrum":
        raise InputError("--momentum", f"poca cannot use '{momentum}' momenta", "use --method em")
    sums = Sums(grid)
    portions = [scatters] if isinstance(scatters, Scatters) else scatters
    if team is not None:
        sums.add_elsewhere(list(portions), grid, team)
        portions = []
    for number, portion in enumerate(portions):
        sums.add(portion, grid, workers)
        if callback is not None:
            callback(number, sums.vertices_inside() / max(sums.rows, 1))
    return sums.volume(grid, spectrum)


def _densities(
    vertex: FloatArray, lengths: NDArray[np.int64], unit: float, powers: FloatArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scattering density and its standard deviation [mrad²/cm].

    ``vertex`` and ``lengths`` are those of `Gathered`, the lengths in units [mm].
    """
    thickness, spread = np.zeros((2, len(lengths)))
    pieces = [slice(first, first + _PIECE) for first in range(0, len(lengths), _PIECE)]
    table = _MeanAngles(powers)
    for piece in pieces:
        sixths, angle, angle2, noise = vertex[piece].T / np.maximum(vertex[piece, 0], 1)
        mean = kernel.ANGLE_UNIT * angle
        thickness[piece] = sixths * table.scattering(mean, kernel.NOISE_UNIT * noise)
        ratio = kernel.ANGLE2_UNIT * angle2 / np.maximum(mean, 1e-12) ** 2
        spread[piece] = sixths * np.maximum(ratio - 1, 0)
    sixths = vertex[:, 0]
    typical = float(sixths @ thickness / max(sixths.sum(), 1))
    density, sigma = np.empty((2, len(lengths)), np.float32)
    for piece in pieces:
        number, thick = kernel.NUMBER_UNIT * sixths[piece], thickness[piece]
        length = unit * lengths[piece]
        with np.errstate(divide="ignore", invalid="ignore"):
            density[piece] = np.where(length > 0, number * thick / length, np.nan)
            # X goes as the square of the mean angle; one vertex of the usual size is the least.
            variance = number * thick**2 * (1 + 4 * spread[piece]) + typical**2
            sigma[piece] = np.where(length > 0, np.sqrt(variance) / length, np.inf)
    density /= np.float32(RAD2_PER_MM)
    sigma /= np.float32(RAD2_PER_MM)
    return density, sigma


class _MeanAngles:
    """What scattering is behind a mean angle.

    With y = E[θ]² / (the same without scattering) − 1, the scattering over the noise is y times a
    factor that hardly changes over all magnitudes of y, and is tabulated against ln y.

    Parameters
    ----------
    powers : ndarray
        Scattering powers of the momentum classes.
    """

    def __init__(self, powers: FloatArray) -> None:
        ratio = np.geomspace(1e-6, 1e9, 1500)
        weights = class_weights()
        response = (weights * np.sqrt(ratio[:, None] * powers + 1)).sum(axis=1)
        self._still = np.pi / 2 * weights.sum() ** 2
        y = (response / weights.sum()) ** 2 - 1
        self._first, last = np.log(y[0]), np.log(y[-1])
        at = np.linspace(self._first, last, len(ratio))
        self._per_step = (len(ratio) - 1) / (last - self._first)
        self._factor = np.interp(at, np.log(y), ratio / y)
        self._slope = np.append(np.diff(self._factor), 0.0)

    def scattering(self, mean: FloatArray, noise: FloatArray) -> FloatArray:
        """Return X [rad²] at the reference momentum.

        Parameters
        ----------
        mean : ndarray
            Mean angle between the tracks [rad].
        noise : ndarray
            Variance of the angle per plane from the tracks' errors [rad²].
        """
        floor = np.maximum(noise, 1e-16)
        y = np.maximum(mean * mean / (self._still * floor) - 1, 0.0)
        place = (np.log(np.maximum(y, 1e-9)) - self._first) * self._per_step
        place = np.clip(place, 0, len(self._factor) - 1)
        step = place.astype(np.intp)
        factor = self._factor[step] + (place - step) * self._slope[step]
        return np.asarray(floor * y * factor)
