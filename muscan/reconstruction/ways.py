"""Muons made ready for tests of regions: paths, what was seen, and momenta."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import observation
from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.kernels.observation import Observed
from muscan.kernels.region import Momenta
from muscan.kernels.ways import Ways
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import (
    CLASS_EDGES,
    EXIT_MOMENTUM_GEV,
    MomentumSpectrum,
    class_weights,
    sea_level_spectrum,
)
from muscan.model.track_errors import (
    OUTLIER_ANGLE,
    OUTLIER_FRACTION,
    PanelScattering,
    highland_factor,
    least_loss,
    scattering_density,
)
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.muons import (
    ERROR_NODES,
    ERROR_WEIGHTS,
    LOSSES,
    MAX_RELATIVE_ERROR,
)
from muscan.units import SCATTERING_DENSITY_X0_MRAD2

FloatArray = NDArray[np.float64]

#: Cosines of the zenith angle for which momenta are tabulated.
COSINES = np.linspace(0.1, 1.0, 19)


@dataclass(frozen=True)
class TracedMuons:
    """Muons that cross a grid, for tests of regions.

    Attributes
    ----------
    ways : Ways
    momenta : Momenta
    panel_loss : float
        What the panels on one side take from a muon at right angles [GeV].
    """

    ways: Ways
    momenta: Momenta
    panel_loss: float

    def __len__(self) -> int:
        return len(self.ways.row)


def thinned(muons: TracedMuons, most: int) -> TracedMuons:
    """Return every muon, or every second (third, …) if there are more than so many."""
    stride = 1 + len(muons) // most
    ways = Ways(*(np.ascontiguousarray(column[::stride]) for column in muons.ways))
    return replace(muons, ways=ways)


def trace_muons(
    scatters: Scatters,
    grid: VoxelGrid,
    *,
    spectrum: MomentumSpectrum | None = None,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    detector: Detector | None = None,
    workers: int | None = None,
) -> TracedMuons:
    """Return the muons that cross a grid.

    Parameters
    ----------
    scatters, grid, spectrum, momentum, detector, workers
        As for `muscan.reconstruction.em.em`.

    Raises
    ------
    InputError
        If no muon crosses the grid, or momenta are asked for and there are none.
    """
    if momentum not in ("spectrum", "measured"):
        raise InputError("--momentum", f"no such choice '{momentum}'", "give spectrum or measured")
    if momentum == "measured" and not np.isfinite(scatters.momentum).any():
        raise InputError("tracks", "no momentum was measured", "use --momentum spectrum")
    sound = np.isfinite(scatters.in_cov[:, 0, 0] + scatters.out_cov[:, 0, 0])
    used, point, along = _crossing(scatters.take(sound), grid)
    n = len(used)
    seen = Observed(
        np.empty((n, 4), np.float32), np.empty((n, 6), np.float32), np.empty((n, 3), np.float32)
    )
    ways = Ways(
        point, along, seen.data, seen.noise, np.empty((n, 2, 3), np.float32), np.empty(n, np.int32)
    )
    shares = lanes.bounds(n)
    panels = PanelScattering(detector) if detector is not None else None
    factor, loss = _panel_matter(detector)

    def fill(lane: int) -> None:
        rows = slice(*shares[lane])
        part = used.take(rows)
        here = Ways(*(column[rows] for column in ways))
        above = below = np.zeros((len(part), 3), np.float32)
        if panels is not None:
            above = panels.errors(part.in_position, part.in_direction, False)
            below = panels.errors(part.out_position, part.out_direction, True)
        half = here.along[:, 0].astype(np.float32)
        observation.observe(
            part.in_position, part.in_direction, part.in_cov,
            part.out_position, part.out_direction, part.out_cov,
            above, below, factor, here.along, half, 0.0,
            Observed(*(column[rows] for column in seen)),
        )  # fmt: skip
        way_kernel.panel_parts(*_lines(part), above, below, factor, here)

    lanes.run(fill, lanes.LANES, workers)
    momenta = _momenta(used, ways, spectrum or sea_level_spectrum(), momentum == "measured")
    return TracedMuons(ways, momenta, loss)


def _panel_matter(detector: Detector | None) -> tuple[float, float]:
    """Return Highland's factor for one panel, and the loss in half of all panels [GeV]."""
    if detector is None:
        return 0.0, 0.0
    panels = [panel.technology for panel in detector.panels]
    thickness = np.array([panel.thickness_mm for panel in panels])
    density = 1e6 * np.array([scattering_density(panel.material) for panel in panels])
    factor = highland_factor(density * thickness / SCATTERING_DENSITY_X0_MRAD2).mean()
    return float(factor), float((thickness * least_loss(density)).sum() / 2)


def _crossing(scatters: Scatters, grid: VoxelGrid) -> tuple[Scatters, FloatArray, FloatArray]:
    """Return the muons whose paths cross a grid, and their paths."""
    n = len(scatters)
    point, along = np.empty((n, 3, 3)), np.empty((n, 2))
    empty = np.empty((0, 4), np.float32)
    ways = Ways(point, along, empty, empty, empty, empty)
    way_kernel.bends(*_lines(scatters), ways)
    rows = np.empty(n, np.int64)
    found = rows[: way_kernel.near(ways, grid.lower, grid.upper, rows)]
    if len(found) == 0:
        raise InputError("tracks", "no muon crosses the grid", "check --bounds")
    return scatters.take(found), point[found], along[found]


def _lines(
    part: Scatters,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    return part.in_position, part.in_direction, part.out_position, part.out_direction


def _momenta(used: Scatters, ways: Ways, spectrum: MomentumSpectrum, measured: bool) -> Momenta:
    """Tabulate the momentum classes, and fill the row of each muon."""
    kinds = np.rint(
        np.clip((-used.in_direction[:, 2] - COSINES[0]) / np.ptp(COSINES), 0, 1)
        * (len(COSINES) - 1)
    ).astype(np.int64)
    reach = np.array([_quantiles(spectrum, c, loss) for c in COSINES for loss in LOSSES])
    weight = np.broadcast_to(class_weights(), reach.shape)
    if measured:
        with np.errstate(invalid="ignore"):
            error = used.sigma / used.momentum
        known = np.isfinite(used.momentum) & ~(error > MAX_RELATIVE_ERROR)
        pairs, place = _pairs(used.momentum[known], np.nan_to_num(error[known]))
        kinds[known] = len(COSINES) + place
        cosine = -float(used.in_direction[:, 2].mean())
        nodes, shares = _nodes(pairs, spectrum, cosine, reach.shape[1])
        reach = np.concatenate([reach, nodes])
        weight = np.concatenate([weight, shares])
    ways.row[:] = kinds * len(LOSSES)
    return Momenta(
        np.ascontiguousarray(reach),
        np.ascontiguousarray(weight),
        len(LOSSES),
        float(LOSSES[1]),
        float(LOSSES[2] / LOSSES[1]),
        float(kernel.reach_of(EXIT_MOMENTUM_GEV)),
        OUTLIER_FRACTION,
        OUTLIER_ANGLE,
    )


def _quantiles(spectrum: MomentumSpectrum, cosine: float, loss: float) -> FloatArray:
    """Incoming reaches of the classes of muons that cross some matter and still come out.

    Of a class the geometric mean halfway is taken, where the scattering power is its mean.
    """
    least = _momentum_of(loss + kernel.reach_of(EXIT_MOMENTUM_GEV))
    lost = min(spectrum.probability(cosine, least), 0.999)
    fine = (np.arange(16) + 0.5) / 16
    steps = CLASS_EDGES[:-1, None] + np.diff(CLASS_EDGES)[:, None] * fine
    incoming = spectrum.quantile(cosine, lost + (1 - lost) * steps)
    halfway = np.log(kernel.reach_of(incoming) - loss / 2)
    return np.asarray(loss / 2 + np.exp(halfway.mean(axis=1)))


def _momentum_of(reach: float) -> float:
    """Return the momentum of a reach: the inverse of `kernel.reach_of`."""
    return 0.5 * (reach + float(np.sqrt(reach * (reach + 4.0 * kernel.REACH))))


def _pairs(
    momentum: NDArray[np.float32], error: NDArray[np.float32]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Momenta and relative errors rounded to 1 % and 5 %, shape (m, 2), and each muon's."""
    rounded = np.stack(
        [np.rint(np.log(momentum.astype(float)) / 0.01), np.rint(error / 0.05)], axis=1
    )
    pairs, place = np.unique(rounded, axis=0, return_inverse=True)
    return np.stack([np.exp(0.01 * pairs[:, 0]), 0.05 * pairs[:, 1]], axis=1), place.reshape(-1)


def _nodes(
    pairs: FloatArray, spectrum: MomentumSpectrum, cosine: float, classes: int
) -> tuple[FloatArray, FloatArray]:
    """Reaches and weights of the nodes across the errors of measured momenta, by loss.

    A node is weighted by the spectrum, and not at all where such a muon would not have come out.
    """
    nodes = pairs[:, :1] * (1 + pairs[:, 1:] * ERROR_NODES)
    nodes = np.maximum(nodes, EXIT_MOMENTUM_GEV)
    prior = ERROR_WEIGHTS * np.maximum(spectrum.density(cosine, nodes), 1e-12)
    nodes, lowest = kernel.reach_of(nodes), kernel.reach_of(EXIT_MOMENTUM_GEV)
    out = nodes[:, None, :] > LOSSES[:, None] + lowest
    out[..., -1] |= ~out.any(axis=2)
    weight = prior[:, None, :] * out
    weight = (weight / weight.sum(axis=2, keepdims=True)).reshape(-1, len(ERROR_NODES))
    reach = np.repeat(nodes, len(LOSSES), axis=0)
    room = ((0, 0), (0, classes - len(ERROR_NODES)))
    return np.pad(reach, room, mode="edge"), np.pad(weight, room)
