"""What scattering in the panels themselves adds to the errors of tracks.

A track's covariance holds the resolution of the hits and the scattering in the panels at one
reference momentum. The second part grows with the scattering power of the unknown momentum as the
scattering in the cargo does: a slow muon bends in the panels as well. So it belongs with the
known fixed matter, and this module finds it from the layout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from muscan.model.detector import Detector
from muscan.model.material import load_materials
from muscan.units import (
    MUON_MASS_GEV,
    REFERENCE_MOMENTUM_GEV,
    SCATTERING_CONSTANT_MEV,
)

FloatArray = NDArray[np.float64]

#: Cosines of the angle to a panel's normal for which the errors are tabulated.
COSINES = np.linspace(0.05, 1.0, 39)
#: What is between the panels.
MEDIUM = "air"


def line_errors(
    distance: FloatArray, sigma: FloatArray, scatter: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return how a line through hits errs, apart for resolution and scattering.

    With y = x - s α the place of a hit at distance s before the innermost plane, the best linear
    estimate of (x, α) is K y with K = (AᵀV⁻¹A)⁻¹AᵀV⁻¹ and V the sum of both causes.

    Parameters
    ----------
    distance : ndarray, shape (m,)
        From the innermost plane against the direction of motion, 0 for that plane [mm].
    sigma : ndarray, shape (m,)
        Resolution of each plane, inf where it gives no hit [mm].
    scatter : ndarray, shape (m,)
        Variance of the angle by scattering in each plane [rad²].

    Returns
    -------
    estimator : ndarray, shape (2, m)
    resolution, scattering : ndarray, shape (2, 2)
        Covariance of (x, α) from either cause [mm, rad].
    """
    seen = np.isfinite(sigma)
    design = np.stack([np.ones(seen.sum()), -distance[seen]], axis=1)
    lever = np.maximum(distance[seen, None] - distance, 0.0)
    by_scattering = (lever * scatter) @ lever.T
    by_resolution = np.diag(sigma[seen] ** 2)
    weight = np.linalg.inv(by_resolution + by_scattering)
    estimator = np.linalg.solve(design.T @ weight @ design, design.T @ weight)
    full = np.zeros((2, len(distance)))
    full[:, seen] = estimator
    # A line is wanted after the innermost plane: what it scatters there turns the angle too, and
    # y is written with the angle behind it, so that its lever is already in `by_scattering`.
    return (
        full,
        estimator @ by_resolution @ estimator.T,
        estimator @ by_scattering @ estimator.T,
    )


class PanelScattering:
    """Errors of tracks by scattering in the panels, at the reference momentum.

    Parameters
    ----------
    detector : Detector
        The layout that the tracks were measured with.
    """

    def __init__(self, detector: Detector) -> None:
        middle = detector.bounds.mean(axis=0)
        places, normals, tables = [], [], []
        for group in range(len(detector.groups)):
            members = np.flatnonzero(detector.group_index == group)
            normal = detector.axes[members[0], 2]
            depth = np.abs((detector.centres[members] - middle) @ normal)
            members, depth = members[np.argsort(depth)], np.sort(depth)
            places.append(detector.centres[members[0]])
            normals.append(normal)
            tables.append(_table(detector, members, depth - depth[0]))
        self._places, self._normals = np.array(places), np.array(normals)
        self._tables = np.array(tables)

    def errors(
        self, position: FloatArray, direction: FloatArray, outgoing: bool
    ) -> NDArray[np.float32]:
        """Return the variances of tracks that panels' scattering causes.

        Parameters
        ----------
        position, direction : ndarray, shape (n, 3)
            A point of each track in the innermost plane of its group [mm], and its direction.
        outgoing : bool
            Whether the tracks leave the inspected space.

        Returns
        -------
        ndarray, shape (n, 3)
            Variance of the angle, covariance with the offset, and variance of the offset, in
            any plane through the track [rad, mm].
        """
        gap = np.einsum("gk,ngk->ng", self._normals, position[:, None, :] - self._places)
        group = np.abs(gap).argmin(axis=1)
        cosine = np.abs(np.einsum("nk,nk->n", direction, self._normals[group]))
        column = np.rint(np.interp(cosine, COSINES, np.arange(len(COSINES)))).astype(int)
        found = self._tables[group, column].astype(np.float32)
        if outgoing:
            found[:, 1] *= -1
        return found


def _table(detector: Detector, members: NDArray[np.int64], depth: FloatArray) -> FloatArray:
    """Errors of one group's tracks, shape (cosines, 3)."""
    sigmas = detector.sigmas[members]
    finite = np.isfinite(sigmas)
    measured = np.where(finite, sigmas, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    sigma = np.where(finite.any(axis=1), measured, np.inf)
    panels = [detector.panels[member].technology for member in members]
    scatter = np.array([p.thickness_mm * scattering_density(p.material) for p in panels])
    if np.isfinite(sigma).sum() < 2 or np.ptp(depth) == 0:
        return np.zeros((len(COSINES), 3))
    rows = []
    for cosine in COSINES:
        _, _, found = line_errors(depth / cosine, sigma, scatter / cosine)
        rows.append([found[1, 1], found[0, 1], found[0, 0]])
    return np.array(rows)


def scattering_density(material: str) -> float:
    """Return Rossi's variance of the projected angle at the reference momentum [rad²/mm]."""
    p = REFERENCE_MOMENTUM_GEV
    theta = SCATTERING_CONSTANT_MEV * 1e-3 * np.hypot(p, MUON_MASS_GEV) / p**2
    return float(theta**2 / load_materials()[material].radiation_length_mm)
