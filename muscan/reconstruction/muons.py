"""Scatters made ready for a likelihood: paths through the grid, what was seen, momenta."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import observation
from muscan.kernels import paths as path_kernel
from muscan.kernels.em import Mixture
from muscan.kernels.observation import Observed
from muscan.kernels.paths import Paths
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import (
    EXIT_MOMENTUM_GEV,
    MomentumSpectrum,
    class_weights,
    scattering_power,
    sea_level_spectrum,
)
from muscan.model.track_errors import (
    AIR_DENSITY,
    FIXED_FACTOR,
    PanelScattering,
    highland_factor,
    momentum_loss,
)
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.common import kernel_grid
from muscan.units import SCATTERING_DENSITY_X0_MRAD2

FloatArray = NDArray[np.float64]

#: Fraction of muons that scatter once by any angle, decay, or were paired wrongly.
OUTLIER_FRACTION = 0.003
#: Rms per plane of the angle of such a muon [mrad].
OUTLIER_ANGLE = 100.0
#: Losses [GeV] for which the powers of the momentum classes are tabulated.
LOSSES = np.concatenate([[0.0], np.geomspace(0.005, 8.0, 60)])
#: Nodes and weights of a measured momentum's error (Gauss-Hermite, in units of its sigma).
ERROR_NODES = np.array([-np.sqrt(3.0), 0.0, np.sqrt(3.0)])
ERROR_WEIGHTS = np.array([1.0, 4.0, 1.0]) / 6.0
#: Relative error of a measured momentum beyond which the spectrum tells as much.
MAX_RELATIVE_ERROR = 0.5


@dataclass(frozen=True)
class Muons:
    """Muons that cross a grid, as the likelihood sees them.

    Attributes
    ----------
    paths, observed : kernel tuples
        See `muscan.kernels.paths` and `muscan.kernels.observation`.
    momentum, sigma : ndarray, shape (n,)
        Measured momentum [GeV], NaN where the spectrum stands for it.
    cosine : ndarray, shape (n,)
        Cosine of the zenith angle.
    voxels : int
        Number of voxels of the grid.
    """

    paths: Paths
    observed: Observed
    momentum: NDArray[np.float32]
    sigma: NDArray[np.float32]
    cosine: NDArray[np.float32]
    voxels: int

    def __len__(self) -> int:
        return len(self.cosine)


def prepare(
    scatters: Scatters,
    grid: VoxelGrid,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    detector: Detector | None = None,
    workers: int | None = None,
) -> Muons:
    """Trace muons through a grid and reduce them to angles and offsets.

    Parameters
    ----------
    scatters : Scatters
    grid : VoxelGrid
    momentum : {"spectrum", "measured"}
        Whether to use measured momenta where there are any.
    detector : Detector, optional
        The layout, from which the scattering in the panels is known; without it that is taken to
        be the same for all momenta.
    workers : int, optional
        Threads.

    Raises
    ------
    InputError
        If no muon crosses the grid, or momenta are asked for and there are none.
    """
    if momentum not in ("spectrum", "measured"):
        raise InputError("--momentum", f"no such choice '{momentum}'", "give spectrum or measured")
    if momentum == "measured" and not np.isfinite(scatters.momentum).any():
        raise InputError("tracks", "no momentum was measured", "use --momentum spectrum")
    geometry = kernel_grid(grid)
    counts = np.empty(len(scatters), np.int64)
    shares = lanes.bounds(len(scatters))

    def count(lane: int) -> None:
        part = scatters.take(slice(*shares[lane]))
        path_kernel.count_visits(geometry, *_lines(part), counts[slice(*shares[lane])])

    lanes.run(count, lanes.LANES, workers)
    usable = (counts > 0) & np.isfinite(scatters.in_cov[:, 0, 0] + scatters.out_cov[:, 0, 0])
    used = scatters.take(usable)
    n = len(used)
    if n == 0:
        raise InputError("tracks", "no muon crosses the grid", "check --bounds")
    paths = _empty_paths(counts[usable])
    observed = Observed(
        np.empty((n, 4), np.float32), np.empty((n, 6), np.float32), np.empty((n, 3), np.float32)
    )
    shares = lanes.bounds(n)
    panels = PanelScattering(detector) if detector is not None else None

    def fill(lane: int) -> None:
        rows = slice(*shares[lane])
        part = used.take(rows)
        here = Paths(
            paths.first[rows.start : rows.stop + 1], paths.voxel, paths.length, paths.top[rows]
        )
        seen = Observed(observed.data[rows], observed.noise[rows], observed.fixed[rows])
        reference = np.empty((len(part), 2))
        path_kernel.trace(geometry, *_lines(part), here, reference)
        observation.observe(
            part.in_position, part.in_direction, part.in_cov,
            part.out_position, part.out_direction, part.out_cov,
            _panel_errors(panels, part.in_position, part.in_direction, False),
            _panel_errors(panels, part.out_position, part.out_direction, True),
            FIXED_FACTOR, reference, here.top, AIR_DENSITY, seen,
        )  # fmt: skip

    lanes.run(fill, lanes.LANES, workers)
    unknown = np.full(n, np.nan, np.float32)
    return Muons(
        paths=paths,
        observed=observed,
        momentum=used.momentum if momentum == "measured" else unknown,
        sigma=used.sigma if momentum == "measured" else unknown,
        cosine=-used.in_direction[:, 2],
        voxels=int(np.prod(grid.shape)),
    )


def merge_voxels(
    muons: Muons, parent: NDArray[np.int32], rows: slice, workers: int | None = None
) -> Muons:
    """Return some muons with their paths through a coarser grid.

    Parameters
    ----------
    muons : Muons
    parent : ndarray, shape (voxels,)
        Voxel of the coarser grid that holds each voxel.
    rows : slice
        The muons, from a start by a step to the last.
    workers : int, optional
        Threads.
    """
    start, stop, step = rows.indices(len(muons))
    shares = lanes.bounds(len(range(start, stop, step)))
    counts = np.empty(shares[-1][1], np.int64)

    def count(lane: int) -> None:
        low, high = shares[lane]
        path_kernel.count_merged(muons.paths, parent, start + low * step, step, counts[low:high])

    lanes.run(count, lanes.LANES, workers)
    paths = _empty_paths(counts)
    lanes.run(
        lambda lane: path_kernel.merge(muons.paths, parent, start, step, paths, *shares[lane]),
        lanes.LANES,
        workers,
    )
    return Muons(
        paths=paths,
        observed=Observed(*(np.ascontiguousarray(values[rows]) for values in muons.observed)),
        momentum=muons.momentum[rows],
        sigma=muons.sigma[rows],
        cosine=muons.cosine[rows],
        voxels=int(parent.max()) + 1,
    )


def _empty_paths(counts: NDArray[np.int64]) -> Paths:
    """Return paths to be filled, given the number of voxels on each."""
    first = np.concatenate([[0], np.cumsum(counts)])
    return Paths(
        first,
        np.empty(first[-1], np.int32),
        np.empty(first[-1], np.float32),
        np.empty(len(counts), np.float32),
    )


def _lines(part: Scatters) -> tuple[NDArray[np.float32], ...]:
    return part.in_position, part.in_direction, part.out_position, part.out_direction


def _panel_errors(
    panels: PanelScattering | None,
    position: NDArray[np.float32],
    direction: NDArray[np.float32],
    outgoing: bool,
) -> NDArray[np.float32]:
    if panels is None:
        return np.zeros((len(position), 3), np.float32)
    return panels.errors(position, direction, outgoing)


class MomentumModel:
    """Momentum classes of muons, given what they lose and how much they cross.

    Parameters
    ----------
    muons : Muons
    spectrum : MomentumSpectrum, optional
        By default the sea-level one.
    """

    def __init__(self, muons: Muons, spectrum: MomentumSpectrum | None = None) -> None:
        self._spectrum = spectrum or sea_level_spectrum()
        self._muons = muons
        cosines = np.linspace(0.1, 1.0, 19)
        nearest = np.rint((muons.cosine - 0.1) / 0.9 * (len(cosines) - 1))
        self._cosine_row = np.clip(nearest, 0, len(cosines) - 1).astype(np.int64)
        self._power = np.array([self._spectrum.powers(c, loss) for c in cosines for loss in LOSSES])
        with np.errstate(invalid="ignore"):
            error = muons.sigma / muons.momentum
        self._measured = np.isfinite(muons.momentum) & ~(error > MAX_RELATIVE_ERROR)
        self._error = np.where(np.isfinite(error), error, 0.0)

    def of(self, muons: Muons, rows: slice) -> MomentumModel:
        """Return the model of some of the muons, given by ``rows``, on other paths."""
        other = copy(self)
        other._muons = muons
        for name in ("_cosine_row", "_measured", "_error"):
            setattr(other, name, getattr(self, name)[rows])
        return other

    def mixture(self, density: FloatArray, workers: int | None = None) -> Mixture:
        """Return the classes for the losses and thicknesses of a volume.

        Parameters
        ----------
        density : ndarray, shape (voxels,)
            Scattering density [mrad²/mm].
        workers : int, optional
            Threads.
        """
        loss = self._integrals(momentum_loss(density), workers)
        thickness = self._integrals(density, workers) / SCATTERING_DENSITY_X0_MRAD2
        steps = np.sqrt(LOSSES[2:] * LOSSES[1:-1])
        row = self._cosine_row * len(LOSSES) + np.searchsorted(
            np.concatenate([[LOSSES[1] / 2], steps]), loss
        )
        scale = highland_factor(thickness)
        power = self._power
        weight = np.broadcast_to(class_weights(), power.shape)
        known = self._measured
        if known.any():
            rows, power_known, weight_known = self._known_rows(known)
            row[known] = rows + len(power)
            power = np.concatenate([power, power_known])
            weight = np.concatenate([weight, weight_known])
            start = self._muons.momentum[known].astype(float)
            end = np.maximum(start - loss[known], EXIT_MOMENTUM_GEV)
            scale[known] *= np.sqrt(scattering_power(end) / scattering_power(start))
        return Mixture(
            np.ascontiguousarray(power),
            np.ascontiguousarray(weight),
            row.astype(np.int32),
            scale.astype(np.float32),
            OUTLIER_FRACTION,
            OUTLIER_ANGLE,
        )

    def _integrals(self, field: FloatArray, workers: int | None) -> FloatArray:
        sums = np.empty(len(self._muons))
        shares = lanes.bounds(len(sums))
        paths = self._muons.paths
        lanes.run(
            lambda lane: path_kernel.line_integrals(paths, field, *shares[lane], sums),
            lanes.LANES,
            workers,
        )
        return sums

    def _known_rows(self, known: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
        """Rows of classes for measured momenta, rounded to 1 % in p and 5 % in its error.

        The error's nodes are weighted by the spectrum: a momentum measured within 30 % is more
        probably a larger or smaller one where the spectrum rises or falls.
        """
        nearest = np.rint(np.log(self._muons.momentum[known].astype(float)) / 0.01)
        error = np.rint(self._error[known] / 0.05)
        pairs, rows = np.unique(np.stack([nearest, error], axis=1), axis=0, return_inverse=True)
        centre, relative = np.exp(0.01 * pairs[:, 0]), 0.05 * pairs[:, 1]
        nodes = centre[:, None] * (1 + relative[:, None] * ERROR_NODES)
        nodes = np.maximum(nodes, EXIT_MOMENTUM_GEV)
        cosine = float(self._muons.cosine.mean())
        weight = ERROR_WEIGHTS * self._spectrum.density(cosine, nodes)
        weight /= weight.sum(axis=1, keepdims=True)
        spare = np.zeros((len(pairs), self._power.shape[1] - len(ERROR_NODES)))
        return (
            rows.reshape(-1),
            np.concatenate([scattering_power(nodes), spare], axis=1),
            np.concatenate([weight, spare], axis=1),
        )
