"""Points of closest approach, calibrated to scattering density.

Borozdin et al., Nature 422:277 (2003); Schultz, thesis, Portland State University (2003). Every
muon is taken to scatter once, where its two tracks come closest. The density of a voxel is
the scattering of the vertices in it over the length of all paths through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import poca as kernel
from muscan.kernels.traversal import Grid
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum, class_weights, sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.team import Team, grouped_lanes, tree_sum
from muscan.units import RAD2_PER_MM

FloatArray = NDArray[np.float64]
#: Sums over the vertices in each voxel (`muscan.kernels.poca.accumulate`), lengths, muons.
Gathered = tuple[FloatArray, FloatArray, NDArray[np.uint32]]


class Sums:
    """What the voxels have gathered: one accumulator a lane.

    Attributes
    ----------
    rows : int
        Muons so far.
    """

    def __init__(self, grid: VoxelGrid) -> None:
        voxels = int(np.prod(grid.shape))
        self.lanes = lanes.lane_count(voxels * 44)
        self.vertex = [np.zeros((voxels, 4)) for _ in range(self.lanes)]
        self.length = [np.zeros(voxels) for _ in range(self.lanes)]
        self.muons = [np.zeros(voxels, np.uint32) for _ in range(self.lanes)]
        self.cosine = 0.0
        self.rows = 0

    def add(self, scatters: Scatters, grid: VoxelGrid, workers: int | None) -> None:
        """Add muons to the voxels of the grid that the sums were made for."""
        shares = lanes.bounds(len(scatters), self.lanes)
        geometry = kernel_grid(grid)

        def work(lane: int) -> None:
            part = scatters.take(slice(*shares[lane]))
            own = self.vertex[lane], self.length[lane], self.muons[lane]
            _accumulate(part, geometry, own)

        lanes.run(work, self.lanes, workers)
        self.cosine += float(np.abs(scatters.in_direction[:, 2]).sum(dtype=np.float64))
        self.rows += len(scatters)

    def add_elsewhere(self, portions: Sequence[Scatters], grid: VoxelGrid, team: Team) -> None:
        """Add muons as `add` does to empty sums, each lane's on one of a team's workers."""
        shares = [lanes.bounds(len(portion), self.lanes) for portion in portions]
        of_lanes = [
            [
                portion.take(slice(*rows[lane]))
                for portion, rows in zip(portions, shares, strict=True)
            ]
            for lane in range(self.lanes)
        ]
        groups = [(of_lanes[first:last],) for first, last in grouped_lanes(self.lanes, team)]
        vertex, length, muons = team.total(_gathered, team.hold(list, groups), grid)
        self.vertex, self.length, self.muons = [vertex], [length], [muons]
        for portion in portions:
            self.cosine += float(np.abs(portion.in_direction[:, 2]).sum(dtype=np.float64))
            self.rows += len(portion)

    def total(self) -> Gathered:
        """Return the sums over all lanes."""
        return tree_sum(self.vertex), tree_sum(self.length), tree_sum(self.muons)

    def volume(self, grid: VoxelGrid, spectrum: MomentumSpectrum | None = None) -> Volume:
        """Return the volume of the muons so far; see `poca`.

        Raises
        ------
        InputError
            If there is no muon.
        """
        if self.rows == 0:
            raise InputError("tracks", "no muon has both an incoming and an outgoing track")
        vertex, length, muons = self.total()
        powers = (spectrum or sea_level_spectrum()).powers(self.cosine / self.rows, 0.0)
        density, sigma = _densities(vertex, length, powers)
        return Volume(
            values=density.reshape(grid.shape).astype(np.float32),
            grid=grid,
            method="poca",
            uncertainty=sigma.reshape(grid.shape).astype(np.float32),
            n_muons=muons.reshape(grid.shape),
            attributes={"n_scatters": self.rows, "n_vertices_inside": float(vertex[:, 0].sum())},
        )


def _accumulate(part: Scatters, geometry: Grid, own: Gathered) -> None:
    kernel.accumulate(
        geometry,
        part.in_position,
        part.in_direction,
        part.in_cov,
        part.out_position,
        part.out_direction,
        part.out_cov,
        *own,
    )


def _gathered(of_lanes: list[list[Scatters]], grid: VoxelGrid) -> Gathered:
    """Return what some lanes gather together, each from its parts of the portions."""
    voxels = int(np.prod(grid.shape))
    found = []
    for parts in of_lanes:
        own = np.zeros((voxels, 4)), np.zeros(voxels), np.zeros(voxels, np.uint32)
        for part in parts:
            _accumulate(part, kernel_grid(grid), own)
        found.append(own)
    return tree_sum(found)


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
            inside = sum(float(lane[:, 0].sum()) for lane in sums.vertex)
            callback(number, inside / max(sums.rows, 1))
    return sums.volume(grid, spectrum)


def _densities(
    vertex: FloatArray, length: FloatArray, powers: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return scattering density and its standard deviation [mrad²/cm]."""
    number = vertex[:, 0]
    full = number > 0
    mean = np.zeros_like(length)
    mean[full] = vertex[full, 1] / number[full]
    thickness = np.zeros_like(length)
    thickness[full] = scattering_of_mean_angle(mean[full], vertex[full, 3] / number[full], powers)
    spread = np.zeros_like(length)
    ratio = vertex[full, 2] / number[full] / np.maximum(mean[full], 1e-12) ** 2
    spread[full] = np.maximum(ratio - 1, 0)
    typical = float((number @ thickness) / max(number.sum(), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(length > 0, number * thickness / length, np.nan)
        # X goes as the square of the mean angle; one vertex of the usual size is the least unit.
        variance = number * thickness**2 * (1 + 4 * spread) + typical**2
        sigma = np.where(length > 0, np.sqrt(variance) / length, np.inf)
    return density / RAD2_PER_MM, sigma / RAD2_PER_MM


def scattering_of_mean_angle(mean: FloatArray, noise: FloatArray, powers: FloatArray) -> FloatArray:
    """Return the scattering X [rad²] at the reference momentum behind a mean angle.

    Parameters
    ----------
    mean : ndarray
        Mean angle between the tracks [rad].
    noise : ndarray
        Variance of the angle per plane from the tracks' errors [rad²].
    powers : ndarray
        Scattering powers of the momentum classes.
    """
    # In units of the noise the relation has one variable, so one table serves every voxel.
    ratio = np.geomspace(1e-6, 1e9, 1500)
    weights = class_weights()
    response = np.sqrt(np.pi / 2) * (weights * np.sqrt(ratio[:, None] * powers + 1)).sum(axis=1)
    floor = np.maximum(noise, 1e-16)
    measured = mean / np.sqrt(floor)
    solved = np.exp(np.interp(measured, response, np.log(ratio)))
    return np.asarray(np.where(measured > response[0], solved, 0.0) * floor)
