"""What the muons themselves say about an object: its place, size and scattering density.

A volume is blurred and its voxels are few; the muons are not. Around a region the muons' angles
and offsets are compared with what a box of a scattering density, in the cargo of the volume,
would give. For one momentum, angle a and offset b at a height are normal with the covariance
M + q f S (Schultz et al., IEEE TIP 16:1985, 2007): M from the tracks' errors, q the scattering
power of the momentum, f Highland's factor and

    S = ∫ λ (1, T; T, T²) dl

along the path, T the distance above the reference height. Momenta are not known, so the density
is a mixture over the classes of the sea-level spectrum, less what the matter takes from them.

The slowest muons scatter out of the panels' acceptance, and are not there to be counted. Muons
with an angle above `LARGEST_ANGLE` are therefore left out, and the mixture is normalised to what
is below it: the estimate then does not depend on how many of them are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from muscan.kernels.poca import closest_approaches
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import class_weights, sea_level_spectrum
from muscan.model.track_errors import (
    AIR_DENSITY,
    FIXED_FACTOR,
    PanelScattering,
    highland_factor,
    momentum_loss,
)
from muscan.model.volume import VoxelGrid
from muscan.units import MM_PER_CM, SCATTERING_DENSITY_X0_MRAD2

FloatArray = NDArray[np.float64]

#: Fraction of muons that scatter once by any angle, decay or were paired wrongly, and the rms of
#: their angle per plane [mrad].
OUTLIERS: Final = 0.003
OUTLIER_ANGLE: Final = 100.0
#: Muons with a larger angle in a plane are not used [mrad].
LARGEST_ANGLE: Final = 250.0
#: Muons are taken from this far around a region [mm]: those beside the object tell of the cargo.
MARGIN_MM: Final = 200.0
#: Of more muons than this, every second (third, …) is used: there are enough.
MOST_MUONS: Final = 20_000
#: Length of the steps in which the cargo along a path is summed [mm].
STEP_MM: Final = 25.0
_LOSSES_GEV: Final = np.concatenate([[0.0], np.geomspace(0.01, 5.0, 40)])
_COSINES: Final = np.linspace(0.3, 1.0, 8)


@dataclass(frozen=True)
class LocalMuons:
    """Muons near a region, reduced to angles and offsets at the region's height.

    Attributes
    ----------
    path : ndarray, shape (n, 3, 3)
        Points of the path from top to bottom: start, bend, end [mm].
    down : ndarray, shape (n, 3)
        Unit vector of the incoming track.
    data : ndarray, shape (n, 4)
        Angle [mrad] and offset [mrad mm] in the first plane, then in the second.
    noise : ndarray, shape (n, 6)
        Elements aa, ab, bb of M in the first plane, then in the second.
    cargo : ndarray, shape (n, 3)
        Elements of S of the cargo, without the object [mrad², mm].
    panels : ndarray, shape (n, 3)
        Elements of S of the scattering in the panels, Highland's factor included.
    cargo_loss : ndarray, shape (n,)
        Momentum lost in the cargo [GeV].
    cosine_row : ndarray of int, shape (n,)
        Zenith class, row of the table of powers.
    reference : ndarray, shape (3,)
        Place that the offsets and the distances T refer to [mm].
    flux : str
        Name of the flux model.
    """

    path: FloatArray
    down: FloatArray
    data: FloatArray
    noise: FloatArray
    cargo: FloatArray
    panels: FloatArray
    cargo_loss: FloatArray
    cosine_row: NDArray[np.int64]
    reference: FloatArray
    flux: str

    def __len__(self) -> int:
        return len(self.data)

    def take(self, rows: NDArray[np.bool_]) -> LocalMuons:
        """Return some of the muons."""
        names = ("path", "down", "data", "noise", "cargo", "panels", "cargo_loss", "cosine_row")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def local_muons(
    scatters: Scatters,
    grid: VoxelGrid,
    cargo: NDArray[np.float32],
    lower: FloatArray,
    upper: FloatArray,
    detector: Detector | None = None,
    flux: str = "guan2015",
) -> LocalMuons:
    """Return the muons that pass a box or near it.

    Parameters
    ----------
    scatters : Scatters
        Muons with both tracks.
    grid : VoxelGrid
        Grid of the cargo.
    cargo : ndarray, shape (nx, ny, nz)
        Scattering density without the object [mrad²/cm].
    lower, upper : ndarray, shape (3,)
        Corners of the box [mm].
    detector : Detector, optional
        The layout; without it, the panels' scattering is taken to be the same at all momenta.
    flux : str
        Name of the flux model whose spectrum the muons have.
    """
    reference = (lower + upper) / 2
    near = np.flatnonzero(_passes(scatters, lower - MARGIN_MM, upper + MARGIN_MM))
    used = scatters.take(near[:: 1 + len(near) // MOST_MUONS])
    first, u = used.in_position.astype(float), used.in_direction.astype(float)
    last, w = used.out_position.astype(float), used.out_direction.astype(float)
    bend = np.empty_like(first)
    closest_approaches(first, u, last, w, bend, np.empty(len(first)))
    between = (((bend - first) * u).sum(1) > 0) & (((last - bend) * w).sum(1) > 0)
    bend[~between] = (first[~between] + last[~between]) / 2
    path = np.stack([first, bend, last], axis=1)
    data, noise, panels = _observe(used, reference, detector)
    elements, loss = _through_cargo(path, u, reference, grid, cargo)
    row = np.rint(np.interp(-u[:, 2], _COSINES, np.arange(len(_COSINES)))).astype(np.int64)
    muons = LocalMuons(path, u, data, noise, elements, panels, loss, row, reference, flux)
    return muons.take((np.abs(data[:, ::2]) < LARGEST_ANGLE).all(axis=1))


def _passes(scatters: Scatters, lower: FloatArray, upper: FloatArray) -> NDArray[np.bool_]:
    """Tell which muons' tracks go through a box at its middle height, or may."""
    height = (lower[2] + upper[2]) / 2
    room = (upper[2] - lower[2]) / 2
    near = np.isfinite(scatters.in_cov[:, 0, 0]) & np.isfinite(scatters.out_cov[:, 0, 0])
    for position, direction in (
        (scatters.in_position, scatters.in_direction),
        (scatters.out_position, scatters.out_direction),
    ):
        steep = np.minimum(direction[:, 2], -0.05)
        along = (height - position[:, 2]) / steep
        for axis in (0, 1):
            place = position[:, axis] + along * direction[:, axis]
            slack = room * np.abs(direction[:, axis] / steep)
            near &= (place > lower[axis] - slack) & (place < upper[axis] + slack)
    return near


def _observe(
    used: Scatters, reference: FloatArray, detector: Detector | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return angles and offsets at the reference height, their errors and the panels' part."""
    p, u = used.in_position.astype(float), used.in_direction.astype(float)
    q, w = used.out_position.astype(float), used.out_direction.astype(float)
    axes = _transverse(u)
    along = (reference[2] - p[:, 2]) / u[:, 2]
    place = p + along[:, None] * u
    straight = (u * w).sum(1)
    back = -((q - place) * u).sum(1) / straight
    gap = q + back[:, None] * w - place
    data, noise = np.empty((len(p), 4)), np.empty((len(p), 6))
    panels = np.zeros((3, len(p)))
    if detector is not None:
        scattering = PanelScattering(detector)
        panels += _shifted(*scattering.errors(p, u, outgoing=False).T, along)
        panels += _shifted(*scattering.errors(q, w, outgoing=True).T, back)
    for plane, axis in enumerate(axes):
        data[:, 2 * plane] = 1e3 * (axis * w).sum(1) / straight
        data[:, 2 * plane + 1] = 1e3 * (axis * gap).sum(1)
        total = np.zeros((3, len(p)))
        for cov, distance in ((used.in_cov, along), (used.out_cov, back)):
            angle, mixed, offset = (
                cov[:, i, j].astype(float)
                for i, j in ((plane + 2, plane + 2), (plane, plane + 2), (plane, plane))
            )
            total += _shifted(angle, mixed, offset, distance)
        noise[:, 3 * plane : 3 * plane + 3] = 1e6 * _remainder(total, panels).T
    return data, noise, 1e6 * FIXED_FACTOR * panels.T


def _shifted(
    angle: FloatArray, mixed: FloatArray, offset: FloatArray, distance: FloatArray
) -> FloatArray:
    """Errors aa, ab, bb of lines at a distance from where they are given."""
    there = mixed + distance * angle
    return np.stack([angle, there, offset + distance * (mixed + there)])


def _remainder(total: FloatArray, part: FloatArray) -> FloatArray:
    """Return a covariance less a part of it, but at least a tenth of itself."""
    rest = total - part
    det = rest[0] * rest[2] - rest[1] ** 2
    sound = (rest[0] > 0.1 * total[0]) & (det > 0.01 * (total[0] * total[2] - total[1] ** 2))
    return np.where(sound, rest, 0.1 * total)


def _transverse(u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Axes x and y carried by the smallest rotation that takes straight down to ``u``."""
    bend = 1 / (1 - u[:, 2])
    first = np.stack([1 - bend * u[:, 0] ** 2, -bend * u[:, 0] * u[:, 1], u[:, 0]], axis=1)
    second = np.stack([-bend * u[:, 0] * u[:, 1], 1 - bend * u[:, 1] ** 2, u[:, 1]], axis=1)
    return first, second


def _through_cargo(
    path: FloatArray,
    down: FloatArray,
    reference: FloatArray,
    grid: VoxelGrid,
    cargo: NDArray[np.float32],
) -> tuple[FloatArray, FloatArray]:
    """Sum the cargo along the paths, in even steps of height: (n, 3) and loss (n,) [GeV]."""
    density = np.maximum(cargo.astype(float) / MM_PER_CM, AIR_DENSITY)
    loss_density = momentum_loss(density)
    steps = max(int(np.ceil((grid.upper[2] - grid.lower[2]) / STEP_MM)), 1)
    rise = (grid.upper[2] - grid.lower[2]) / steps
    elements, loss = np.zeros((len(path), 3)), np.zeros(len(path))
    for step in range(steps):
        height = grid.upper[2] - (step + 0.5) * rise
        point, steep = _at_height(path, height)
        index = np.floor((point - grid.lower) / grid.spacing).astype(np.int64)
        inside = ((index >= 0) & (index < grid.shape)).all(axis=1)
        flat = tuple(np.where(inside[:, None], index, 0).T)
        length = np.where(inside, rise / steep, 0.0)
        distance = (reference[2] - height) / down[:, 2]
        weight = density[flat] * length
        elements[:, 0] += weight
        elements[:, 1] += weight * distance
        elements[:, 2] += weight * (distance**2 + length**2 / 12)
        loss += loss_density[flat] * length
    return elements, loss


def _at_height(path: FloatArray, height: float) -> tuple[FloatArray, FloatArray]:
    """Return the points (n, 3) of paths at a height, and the cosine of their zenith angle."""
    above = path[:, 1, 2] > height
    start = np.where(above[:, None], path[:, 1], path[:, 0])
    end = np.where(above[:, None], path[:, 2], path[:, 1])
    way = end - start
    drop = np.minimum(way[:, 2], -1e-3)
    point = start + ((height - start[:, 2]) / drop)[:, None] * way
    return point, np.clip(-drop / np.sqrt((way**2).sum(1)), 0.05, 1.0)


def box_moments(
    muons: LocalMuons, lower: FloatArray, upper: FloatArray
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return which muons cross a box, and ∫ (1, T, T²) dl of theirs inside it, shape (m, 3)."""
    parts = [_segment_moments(muons, half, lower, upper) for half in (0, 1)]
    total = parts[0] + parts[1]
    rows = np.flatnonzero(total[:, 0] > 0)
    return rows, total[rows]


def _segment_moments(
    muons: LocalMuons, half: int, lower: FloatArray, upper: FloatArray
) -> FloatArray:
    start, way = muons.path[:, half], muons.path[:, half + 1] - muons.path[:, half]
    safe = np.where(np.abs(way) < 1e-9, 1e-9, way)
    first, second = (lower - start) / safe, (upper - start) / safe
    enter = np.clip(np.minimum(first, second).max(axis=1), 0.0, 1.0)
    leave = np.clip(np.maximum(first, second).min(axis=1), 0.0, 1.0)
    length = np.maximum(leave - enter, 0.0) * np.sqrt((way**2).sum(axis=1))
    height = start[:, 2] + (enter + leave) / 2 * way[:, 2]
    distance = (muons.reference[2] - height) / muons.down[:, 2]
    # T is counted along the incoming track, from which the path has turned a little.
    span = (leave - enter) * way[:, 2] / muons.down[:, 2]
    return np.stack([length, length * distance, length * (distance**2 + span**2 / 12)], axis=1)


@lru_cache(maxsize=4)
def _powers(flux: str) -> FloatArray:
    """Scattering powers by zenith class, loss and momentum class."""
    spectrum = sea_level_spectrum(flux)
    return np.array([[spectrum.powers(c, loss) for loss in _LOSSES_GEV] for c in _COSINES])


def log_density(muons: LocalMuons, elements: FloatArray, loss: FloatArray) -> FloatArray:
    """Return the log density of each muon's angles and offsets, shape (n,).

    Parameters
    ----------
    muons : LocalMuons
    elements : ndarray, shape (n, 3)
        Elements of S of everything on the way [mrad², mm].
    loss : ndarray, shape (n,)
        Momentum lost on the way [GeV].
    """
    column = np.rint(np.interp(loss, _LOSSES_GEV, np.arange(len(_LOSSES_GEV)))).astype(np.int64)
    power = _powers(muons.flux)[muons.cosine_row, column]
    scale = highland_factor(elements[:, 0] / SCATTERING_DENSITY_X0_MRAD2)
    spread = (elements * scale[:, None] + muons.panels)[:, :, None]
    weight = class_weights()
    total = np.zeros(len(muons))
    far = OUTLIER_ANGLE**2
    kept = np.ones((len(muons), len(weight)))
    part = np.ones((len(muons), len(weight)))
    single = np.ones((len(muons), 1))
    for plane in (0, 1):
        a, b = (muons.data[:, 2 * plane + i, None] for i in (0, 1))
        naa, nab, nbb = (muons.noise[:, 3 * plane + i, None] for i in (0, 1, 2))
        saa = naa + power * spread[:, 0]
        part *= _gauss(a, b, saa, nab + power * spread[:, 1], nbb + power * spread[:, 2])
        kept *= erf(LARGEST_ANGLE / np.sqrt(2 * saa))
        reach = far * 1000.0**2 / 3
        single *= _gauss(a, b, naa + far, nab, nbb + reach)
    total = (1 - OUTLIERS) * (part @ weight) / (kept @ weight) + OUTLIERS * single[:, 0]
    return np.asarray(np.log(np.maximum(total, 1e-300)))


def _gauss(
    a: FloatArray, b: FloatArray, saa: FloatArray, sab: FloatArray, sbb: FloatArray
) -> FloatArray:
    det = saa * sbb - sab * sab
    exponent = 0.5 * (sbb * a * a - 2 * sab * a * b + saa * b * b) / det
    return np.asarray(np.exp(-np.minimum(exponent, 300.0)) / np.sqrt(det))


def with_cargo_scaled(muons: LocalMuons, beside: NDArray[np.bool_]) -> LocalMuons:
    """Return the muons with the cargo scaled to what those beside the object say.

    A volume's level can be off by tens of percent where a method is simple; a factor takes most
    of that out. It is found by the golden section in its logarithm, between 1/100 (where the volume
    holds noise, and the space air) and 3.
    """
    near = muons.take(beside)
    if len(near) < 50:
        return muons

    def loss(logarithm: float) -> float:
        factor = np.exp(logarithm)
        return -float(log_density(near, near.cargo * factor, near.cargo_loss * factor).sum())

    factor = np.exp(golden_section(loss, -np.log(100), np.log(3), 14))
    return replace(muons, cargo=muons.cargo * factor, cargo_loss=muons.cargo_loss * factor)


def golden_section(
    function: Callable[[float], float], low: float, high: float, steps: int
) -> float:
    """Return where a function of one variable is least, to (high − low) 0.618^steps."""
    ratio = (np.sqrt(5) - 1) / 2
    c, d = high - ratio * (high - low), low + ratio * (high - low)
    at_c, at_d = function(c), function(d)
    for _ in range(steps):
        if at_c < at_d:
            high, d, at_d = d, c, at_c
            c = high - ratio * (high - low)
            at_c = function(c)
        else:
            low, c, at_c = c, d, at_d
            d = low + ratio * (high - low)
            at_d = function(d)
    return float((low + high) / 2)
