"""Scatters made ready for a likelihood: paths through the grid, what was seen, momenta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import em as kernel
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import (
    EXIT_MOMENTUM_GEV,
    MomentumSpectrum,
    class_weights,
    scattering_power,
    sea_level_spectrum,
)
from muscan.model.volume import VoxelGrid
from muscan.reconstruct import lanes
from muscan.reconstruct.common import kernel_grid
from muscan.reconstruct.panels import PanelScattering
from muscan.units import MM_PER_CM, SCATTERING_DENSITY_X0_MRAD2

FloatArray = NDArray[np.float64]

#: Radiation length of air at 20 °C and 1 atm [cm] (PDG 2024).
AIR_X0_CM = 3.039e4
#: Scattering density of air [mrad²/mm], known and therefore not reconstructed.
AIR_DENSITY = SCATTERING_DENSITY_X0_MRAD2 / AIR_X0_CM / MM_PER_CM
#: Fraction of muons that scatter once by any angle, decay, or were paired wrongly.
OUTLIER_FRACTION = 0.003
#: Rms per plane of the angle of such a muon [mrad].
OUTLIER_ANGLE = 100.0
#: Scattering variance of thin light layers over Rossi's: half the width χc² (B - 1.2) that Hanson
#: (Phys. Rev. 84:634, 1951) gives for Molière's theory, for 10 mm of plastic scintillator
#: (χc² = 0.545 MeV²/p², B = 11.2) over (15 MeV/p)² 10 mm/424 mm. Used for panels and air.
FIXED_FACTOR = 0.52
#: Losses [GeV] for which the powers of the momentum classes are tabulated.
LOSSES = np.concatenate([[0.0], np.geomspace(0.005, 8.0, 60)])
#: Nodes and weights of a measured momentum's error (Gauss-Hermite, in units of its sigma).
ERROR_NODES = np.array([-np.sqrt(3.0), 0.0, np.sqrt(3.0)])
ERROR_WEIGHTS = np.array([1.0, 4.0, 1.0]) / 6.0
#: Relative error of a measured momentum beyond which the spectrum tells as much.
MAX_RELATIVE_ERROR = 0.5
#: Scattering density [mrad²/cm] and momentum loss of a 3 GeV muon [MeV/cm] of common matter
#: (PDG 2024: water, concrete, aluminium, iron, copper, lead, tungsten, uranium). Between them the
#: loss goes by interpolation of the logarithms, below water in proportion to the density.
_LOSS_DENSITY = np.array([0.69, 2.16, 2.81, 14.2, 17.4, 44.5, 71.4, 79.0])
_LOSS_MEV_CM = np.array([2.30, 4.64, 5.19, 13.9, 15.4, 16.5, 26.6, 28.1])


@dataclass(frozen=True)
class Muons:
    """Muons that cross a grid, as the likelihood sees them.

    Attributes
    ----------
    paths, observed : kernel tuples
        See `muscan.kernels.em`.
    momentum, sigma : ndarray, shape (n,)
        Measured momentum [GeV], NaN where the spectrum stands for it.
    cosine : ndarray, shape (n,)
        Cosine of the zenith angle.
    voxels : int
        Number of voxels of the grid.
    """

    paths: kernel.Paths
    observed: kernel.Observed
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
        kernel.count_visits(geometry, *_lines(part), counts[slice(*shares[lane])])

    lanes.run(count, lanes.LANES, workers)
    usable = (counts > 0) & np.isfinite(scatters.in_cov[:, 0, 0] + scatters.out_cov[:, 0, 0])
    used = scatters.take(usable)
    n = len(used)
    if n == 0:
        raise InputError("tracks", "no muon crosses the grid", "check --bounds")
    first = np.concatenate([[0], np.cumsum(counts[usable])])
    paths = kernel.Paths(
        first,
        np.empty(first[-1], np.int32),
        np.empty(first[-1], np.float32),
        np.empty(n, np.float32),
    )
    observed = kernel.Observed(
        np.empty((n, 4), np.float32), np.empty((n, 6), np.float32), np.empty((n, 3), np.float32)
    )
    shares = lanes.bounds(n)
    panels = PanelScattering(detector) if detector is not None else None

    def fill(lane: int) -> None:
        rows = slice(*shares[lane])
        part = used.take(rows)
        here = kernel.Paths(
            paths.first[rows.start : rows.stop + 1], paths.voxel, paths.length, paths.top[rows]
        )
        seen = kernel.Observed(observed.data[rows], observed.noise[rows], observed.fixed[rows])
        reference = np.empty((len(part), 2))
        kernel.trace(geometry, *_lines(part), here, reference)
        kernel.observe(
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


def _lines(part: Scatters) -> tuple[NDArray[np.float32], ...]:
    return part.in_position, part.in_direction, part.out_position, part.out_direction


def momentum_loss(density: FloatArray) -> FloatArray:
    """Return the momentum that a 3 GeV muon loses in matter of a scattering density.

    Parameters
    ----------
    density : ndarray
        Scattering density [mrad²/mm].

    Returns
    -------
    ndarray
        Loss [GeV/mm] in common matter of that scattering density, which is a guess of the
        material: light for little scattering, metals for much.
    """
    quoted = np.maximum(density * MM_PER_CM, 1e-9)
    loss = np.exp(np.interp(np.log(quoted), np.log(_LOSS_DENSITY), np.log(_LOSS_MEV_CM)))
    loss *= np.minimum(quoted / _LOSS_DENSITY[0], 1.0)
    return np.asarray(loss * 1e-3 / MM_PER_CM)


def highland_factor(thickness: FloatArray) -> FloatArray:
    """Return Highland's over Rossi's scattering variance for a path in radiation lengths.

    θ0 = 13.6 MeV/(βp) √x (1 + 0.038 ln x) against 15 MeV/(βp) √x (PDG 2024, "Passage of particles
    through matter"), the former within 11 % for x between 10⁻³ and 100.
    """
    bounded = np.clip(thickness, 1e-3, 1e2)
    return np.square(13.6 / 15.0 * (1 + 0.038 * np.log(bounded)))


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

    def mixture(self, density: FloatArray, workers: int | None = None) -> kernel.Mixture:
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
        return kernel.Mixture(
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
            lambda lane: kernel.line_integrals(paths, field, *shares[lane], sums),
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
