"""Straight lines through the hits of many events at once, and what their residuals are made of.

About a line p + t d a muon's path is a e1 + b e2 away, with angles α and β. A coordinate measured
along an axis u of a panel with normal n differs from that of the line by w·(a e1 + b e2) with
w = u - n (u·d)/(n·d), as in `muscan.kernels.line_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muscan.calibration.clean import FloatArray, IntArray, Pattern
from muscan.model.detector import Detector
from muscan.model.material import load_materials
from muscan.units import MUON_MASS_GEV, REFERENCE_MOMENTUM_GEV

#: Panels seen at a smaller |n·d| than this are no measure of a line: the crossing is ill-defined.
MIN_COSINE = 0.05
#: Hits whose matrix, its columns of unit length, has a smaller eigenvalue do not fix a line.
LEAST_EIGENVALUE = 1e-7
_STEPS = 5
#: What stands between the panels.
_MEDIUM = "air"
#: Highland's constants in the form of Lynch and Dahl (PDG).
_HIGHLAND_GEV, _HIGHLAND_LOG = 0.0136, 0.038


@dataclass(frozen=True)
class Lines:
    """A line for each event of a pattern.

    Attributes
    ----------
    point, direction : (n, 3) float64
        A point [mm] and the unit vector, never upward.
    sound : (n,) bool
        Whether the hits determine the line and no panel is grazed.
    """

    point: FloatArray
    direction: FloatArray
    sound: NDArray[np.bool_]

    def take(self, rows: NDArray[np.bool_] | IntArray) -> Lines:
        """Return some of the lines."""
        return Lines(self.point[rows], self.direction[rows], self.sound[rows])


@dataclass(frozen=True)
class Crossings:
    """Where lines meet panels.

    Attributes
    ----------
    along : (n, k) float64
        Distance from the line's point along its direction [mm].
    place : (n, k, 2) float64
        u and v [mm].
    spot : (n, k, 3) float64
        From the panel's centre to the crossing [mm].
    slope : (n, k, 2, 3) float64
        The vectors w of u and of v.
    cosine : (n, k) float64
        n·d.
    """

    along: FloatArray
    place: FloatArray
    spot: FloatArray
    slope: FloatArray
    cosine: FloatArray


def cross(detector: Detector, panels: IntArray, lines: Lines) -> Crossings:
    """Return where each line meets each of some panels."""
    axes, centre = detector.axes[panels], detector.centres[panels]
    projected = np.einsum("kij,nj->nki", axes, lines.direction)
    cosine = projected[:, :, 2]
    safe = np.where(np.abs(cosine) < 1e-9, 1e-9, cosine)
    distance = np.einsum("kj,kj->k", axes[:, 2], centre) - lines.point @ axes[:, 2].T
    along = distance / safe
    spot = lines.point[:, None] + along[..., None] * lines.direction[:, None] - centre
    place = np.einsum("kij,nkj->nki", axes[:, :2], spot)
    tilt = projected[:, :, :2] / safe[..., None]
    slope = axes[None, :, :2] - tilt[..., None] * axes[None, :, None, 2]
    return Crossings(along, place, spot, slope, cosine)


def transverse(direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return two unit vectors (n, 3) across each direction."""
    least = np.eye(3)[np.argmin(np.abs(direction), axis=1)]
    first = np.cross(direction, least)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return first, np.cross(direction, first)


def derivatives(lines: Lines, crossings: Crossings) -> FloatArray:
    """Return d(u, v)/d(a, b, α, β), shape (n, k, 2, 4) [1, 1, mm, mm]."""
    across = np.stack(transverse(lines.direction), axis=-1)
    offsets = np.einsum("nkij,njl->nkil", crossings.slope, across)
    return np.concatenate([offsets, offsets * crossings.along[:, :, None, None]], axis=-1)


def fit(detector: Detector, pattern: Pattern) -> Lines:
    """Fit a straight line to each event by least squares, without scattering.

    The weights are those of the resolutions; all panels in air, so this is a line to linearise
    about, not the best one.
    """
    lines = _start(detector, pattern)
    measured = np.isfinite(pattern.sigma)
    weight = np.where(measured, 1 / np.where(measured, pattern.sigma, 1.0) ** 2, 0.0)
    sound = lines.sound
    for step in range(_STEPS):
        crossings = cross(detector, pattern.panels, lines)
        design = derivatives(lines, crossings)
        residual = np.where(measured, pattern.place - crossings.place, 0.0)
        change, normal = _solve(design, weight, residual)
        first, second = transverse(lines.direction)
        point = lines.point + change[:, :1] * first + change[:, 1:2] * second
        direction = lines.direction + change[:, 2:3] * first + change[:, 3:] * second
        lines = Lines(point, _falling(direction), sound)
        if step == _STEPS - 1:
            still = np.abs(change[:, 2:]).max(axis=1) < 1e-3
            sound = (
                sound
                & (np.linalg.eigvalsh(normal)[:, 0] > LEAST_EIGENVALUE)
                & still
                & np.isfinite(lines.point).all(axis=1)
            )
            sound &= (np.abs(crossings.cosine) > MIN_COSINE).all(axis=1)
    return Lines(lines.point, lines.direction, sound)


def _solve(
    design: FloatArray, weight: FloatArray, residual: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the least-squares change of each line, and its matrix in units of its columns."""
    n = len(design)
    rows = (design * np.sqrt(weight)[..., None]).reshape(n, -1, 4)
    wanted = (residual * np.sqrt(weight)).reshape(n, -1)
    length = np.sqrt(np.einsum("nij,nij->nj", rows, rows))
    length = np.where(length > 0, length, 1.0)
    rows = rows / length[:, None]
    normal = np.einsum("nij,nik->njk", rows, rows)
    gradient = np.einsum("nij,ni->nj", rows, wanted)
    change = np.linalg.solve(normal + 1e-12 * np.eye(4), gradient[..., None])[..., 0]
    return np.asarray(change / length), normal


def _start(detector: Detector, pattern: Pattern) -> Lines:
    """Return lines through the outermost hits, an unmeasured coordinate taken as the centre's."""
    panels = pattern.panels
    axes = detector.axes[panels]
    spots = detector.centres[panels] + np.einsum("nki,kij->nkj", pattern.place, axes[:, :2])
    both = np.isfinite(pattern.sigma).all(axis=(0, 2))
    chosen = np.flatnonzero(both) if both.sum() >= 2 else np.arange(len(panels))
    centres = detector.centres[panels[chosen]]
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    first, last = (chosen[i] for i in np.unravel_index(np.argmax(apart), apart.shape))
    direction = spots[:, first] - spots[:, last]
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    good = length[:, 0] > 1.0
    direction = np.where(good[:, None], direction / np.maximum(length, 1e-9), axes[0, 2])
    return Lines((spots[:, first] + spots[:, last]) / 2, _falling(direction), good)


def _falling(direction: FloatArray) -> FloatArray:
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return np.asarray(np.where(unit[:, 2:] > 0, -unit, unit))


def layer_scattering(detector: Detector) -> FloatArray:
    """Return the projected θ² through each panel at the reference momentum [rad²], shape (p,).

    By Highland's formula for one layer at normal incidence, in the form of Lynch and Dahl (PDG).
    """
    return np.array(
        [_highland(p.technology.thickness_mm, p.technology.material) for p in detector.panels]
    )


def _highland(thickness: float, material: str) -> float:
    """Return the variance of the projected angle behind a thin layer [rad²]."""
    if thickness <= 0:
        return 0.0
    p = REFERENCE_MOMENTUM_GEV
    beta_squared = p * p / (p * p + MUON_MASS_GEV**2)
    lengths = thickness / load_materials()[material].radiation_length_mm
    # Far below a thousandth of a radiation length the logarithm leaves its range of validity.
    factor = 1 + _HIGHLAND_LOG * np.log(max(lengths / beta_squared, 1e-5))
    return float(_HIGHLAND_GEV**2 / (beta_squared * p * p) * lengths * factor**2)


def scattering_covariance(
    detector: Detector, panels: IntArray, lines: Lines, crossings: Crossings
) -> FloatArray:
    """Return the covariance of the measured coordinates by scattering at the reference momentum.

    Scatterers are the panels that were hit and the air between them.

    Returns
    -------
    ndarray, shape (n, 2 k, 2 k)
        [mm²], in the order u of the first panel, v of the first, u of the second, …
    """
    along = crossings.along
    layer = layer_scattering(detector)[panels] / np.maximum(np.abs(crossings.cosine), MIN_COSINE)
    lever = np.maximum(along[:, :, None] - along[:, None, :], 0.0)
    offset = np.einsum("nik,njk,nk->nij", lever, lever, layer)
    depth = along - along.min(axis=1, keepdims=True)
    near = np.minimum(depth[:, :, None], depth[:, None, :])
    far = np.maximum(depth[:, :, None], depth[:, None, :])
    # The whole way as one layer: Highland's logarithm does not add over pieces.
    way = float(np.median(depth.max(axis=1))) if len(depth) else 0.0
    offset += _highland(way, _MEDIUM) / max(way, 1e-9) * near**2 * (3 * far - near) / 6
    across = np.stack(transverse(lines.direction), axis=-1)
    spread = np.einsum("nkij,njl->nkil", crossings.slope, across)
    full = np.einsum("nil,njl->nij", *(spread.reshape(len(along), -1, 2),) * 2)
    return np.asarray(full * np.repeat(np.repeat(offset, 2, axis=1), 2, axis=2))
