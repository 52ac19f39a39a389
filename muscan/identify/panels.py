"""Scattering in the panels, which turns tracks more the slower the muon is.

The covariance of a track holds the resolution of its hits and the scattering in the panels at the
reference momentum. Only the first is noise; the second grows with the scattering power of the
unknown momentum, as what happens in the cargo does. It is found here from the layout.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from muscan.model.detector import Detector
from muscan.model.material import load_materials
from muscan.units import (
    MUON_MASS_GEV,
    RAD2_PER_MM,
    REFERENCE_MOMENTUM_GEV,
)

FloatArray = NDArray[np.float64]

#: Cosines of the angle to a panel's normal for which the errors are tabulated.
_COSINES: Final = np.linspace(0.2, 1.0, 17)


def panel_errors(
    detector: Detector, position: FloatArray, direction: FloatArray, *, outgoing: bool
) -> FloatArray:
    """Return the variances of tracks from the panels' scattering at the reference momentum.

    Parameters
    ----------
    detector : Detector
        The layout that the tracks were measured with.
    position, direction : ndarray, shape (n, 3)
        A point of each track in the innermost panel of its group [mm], and its direction.
    outgoing : bool
        Whether the tracks leave the inspected space.

    Returns
    -------
    ndarray, shape (n, 3)
        Variance of the angle, covariance of angle and offset, variance of the offset, the same
        in any plane through the track [rad, mm].
    """
    result = np.zeros((len(position), 3))
    nearest = np.full(len(position), np.inf)
    middle = detector.bounds.mean(axis=0)
    for group in range(len(detector.groups)):
        members = np.flatnonzero(detector.group_index == group)
        normal = detector.axes[members[0], 2]
        depth = np.abs((detector.centres[members] - middle) @ normal)
        members, depth = members[np.argsort(depth)], np.sort(depth)
        table = _table(detector, members, depth - depth[0])
        gap = np.abs((position - detector.centres[members[0]]) @ normal)
        cosine = np.abs(direction @ normal)
        found = np.stack([np.interp(cosine, _COSINES, table[:, i]) for i in range(3)], axis=1)
        closer = gap < nearest
        result[closer], nearest[closer] = found[closer], gap[closer]
    if outgoing:
        result[:, 1] *= -1
    return result


def _table(detector: Detector, members: NDArray[np.int64], depth: FloatArray) -> FloatArray:
    """Errors of the tracks of one group, (cosines, 3), by the fit that the tracks come from.

    With the offset y at the innermost panel and the slope α behind it, the hit of a panel at
    distance s before it is y − s α plus the kinks of the panels in between times their levers.
    The weighted least-squares estimate of (y, α) is linear in the hits, so the part of its
    covariance that the kinks cause is that estimate's matrix applied to theirs.
    """
    usual = np.where(np.isfinite(detector.sigmas[members]), detector.sigmas[members], np.nan)
    measured = np.isfinite(usual).any(axis=1)
    if measured.sum() < 2 or np.ptp(depth[measured]) == 0:
        return np.zeros((len(_COSINES), 3))
    sigma = np.nanmean(usual[measured], axis=1)
    panels = [detector.panels[member].technology for member in members]
    kink = np.array([panel.thickness_mm * _scattering(panel.material) for panel in panels])
    rows = []
    for cosine in _COSINES:
        way = depth / cosine
        lever = np.maximum(way[measured, None] - way, 0.0)
        by_kinks = (lever * (kink / cosine)) @ lever.T
        design = np.stack([np.ones(len(sigma)), -way[measured]], axis=1)
        weight = np.linalg.inv(np.diag(sigma**2) + by_kinks)
        estimate = np.linalg.solve(design.T @ weight @ design, design.T @ weight)
        found = estimate @ by_kinks @ estimate.T
        rows.append([found[1, 1], found[0, 1], found[0, 0]])
    return np.array(rows)


def _scattering(material: str) -> float:
    """Variance of the projected angle a length [rad²/mm], with the muon's β at the reference."""
    density = load_materials()[material].scattering_density
    return float(density * RAD2_PER_MM * (1 + (MUON_MASS_GEV / REFERENCE_MOMENTUM_GEV) ** 2))
