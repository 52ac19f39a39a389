"""What a muon meets besides the cargo's voxels, as the likelihoods of tracks need it.

Three things that reconstruction and identification share: the scattering in the panels (part of
the errors of tracks), the momentum lost in matter of a scattering density, and Highland's
logarithm.

A track's covariance holds the resolution of the hits and the scattering in the panels at one
reference momentum. The second part grows with the scattering power of the unknown momentum as the
scattering in the cargo does: a slow muon bends in the panels as well. So it belongs with the
known fixed matter, and `PanelScattering` finds it from the layout.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muscan.model.detector import Detector
from muscan.model.material import load_materials
from muscan.units import (
    MM_PER_CM,
    MUON_MASS_GEV,
    REFERENCE_MOMENTUM_GEV,
    SCATTERING_CONSTANT_MEV,
    SCATTERING_DENSITY_X0_MRAD2,
)

FloatArray = NDArray[np.float64]

#: Radiation length of air at 20 °C and 1 atm [cm] (PDG 2024).
AIR_X0_CM: Final = 3.039e4
#: Scattering density of air [mrad²/mm], known and therefore not reconstructed.
AIR_DENSITY: Final = SCATTERING_DENSITY_X0_MRAD2 / AIR_X0_CM / MM_PER_CM
#: Scattering variance of thin light layers over Rossi's: half the width χc² (B - 1.2) that Hanson
#: (Phys. Rev. 84:634, 1951) gives for Molière's theory, for 10 mm of plastic scintillator
#: (χc² = 0.545 MeV²/p², B = 11.2) over (15 MeV/p)² 10 mm/424 mm. Used for panels and air.
FIXED_FACTOR: Final = 0.52
#: Fraction of muons that scatter once by any angle, decay, or were paired wrongly.
OUTLIER_FRACTION: Final = 0.003
#: Rms per plane of the angle of such a muon [mrad].
OUTLIER_ANGLE: Final = 100.0
#: Cosines of the angle to a panel's normal for which the errors are tabulated.
_COSINES: Final = np.linspace(0.05, 1.0, 39)
#: Scattering density [mrad²/cm], momentum loss of a 3 GeV muon and loss at the minimum of
#: ionisation [MeV/cm] of common matter (PDG 2024: water, concrete, aluminium, iron, copper, lead,
#: tungsten, uranium). Between them the loss goes by interpolation of the logarithms, below water
#: in proportion to the density.
_LOSS_DENSITY: Final = np.array([0.69, 2.16, 2.81, 14.2, 17.4, 44.5, 71.4, 79.0])
_LOSS_MEV_CM: Final = np.array([2.30, 4.64, 5.19, 13.9, 15.4, 16.5, 28.1, 26.6])
_LEAST_LOSS_MEV_CM: Final = np.array([1.992, 3.94, 4.36, 11.42, 12.57, 12.73, 22.1, 20.5])


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
    return _interpolated(density, _LOSS_MEV_CM)


def loss_lines(per_octave: int) -> tuple[float, FloatArray]:
    """Return `momentum_loss` as straight lines between some densities.

    Parameters
    ----------
    per_octave : int
        Lines in each octave of density from water's to beyond uranium's.

    Returns
    -------
    unit : float
        Density of water [mrad²/mm], up to which the first line goes.
    lines : ndarray, shape (7 per_octave + 2, 2)
        Loss at no density [GeV/mm], and its slope.
    """
    unit = _LOSS_DENSITY[0] / MM_PER_CM
    octave, part = np.divmod(np.arange(7 * per_octave + 1), per_octave)
    density = unit * 2.0**octave * (1 + part / per_octave)
    loss = momentum_loss(density)
    slope = np.concatenate([loss[:1] / unit, np.diff(loss) / np.diff(density), [0.0]])
    at = np.append(density, density[-1])
    return unit, np.stack([momentum_loss(at) - slope * at, slope], axis=1)


def least_loss(density: FloatArray) -> FloatArray:
    """Return the loss at the minimum of ionisation in matter of a scattering density.

    Parameters
    ----------
    density : ndarray
        Scattering density [mrad²/mm].

    Returns
    -------
    ndarray
        Loss [GeV/mm] in common matter of that scattering density.
    """
    return _interpolated(density, _LEAST_LOSS_MEV_CM)


def _interpolated(density: FloatArray, losses_MeV_cm: FloatArray) -> FloatArray:
    quoted = np.asarray(density * MM_PER_CM)
    loss = np.asarray(quoted * (losses_MeV_cm[0] / _LOSS_DENSITY[0]))
    denser = quoted > _LOSS_DENSITY[0]
    logs = np.interp(np.log(quoted[denser]), np.log(_LOSS_DENSITY), np.log(losses_MeV_cm))
    loss[denser] = np.exp(logs)
    return loss * (1e-3 / MM_PER_CM)


def highland_factor(thickness: FloatArray) -> FloatArray:
    """Return Highland's over Rossi's scattering variance for a path in radiation lengths.

    θ0 = 13.6 MeV/(βp) √x (1 + 0.038 ln x) against 15 MeV/(βp) √x (PDG 2024, "Passage of particles
    through matter"), the former within 11 % for x between 10⁻³ and 100.
    """
    bounded = np.clip(thickness, 1e-3, 1e2)
    return np.square(13.6 / 15.0 * (1 + 0.038 * np.log(bounded)))


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
        self,
        position: NDArray[np.floating[Any]],
        direction: NDArray[np.floating[Any]],
        outgoing: bool,
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
        place = np.interp(cosine, _COSINES, np.arange(len(_COSINES)))
        column = np.minimum(place.astype(int), len(_COSINES) - 2)
        part = (place - column)[:, None]
        here, there = self._tables[group, column], self._tables[group, column + 1]
        found: NDArray[np.float32] = ((1 - part) * here + part * there).astype(np.float32)
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
    seen = np.isfinite(sigma)
    if seen.sum() < 2 or np.ptp(depth[seen]) == 0:
        return np.zeros((len(_COSINES), 3))
    rows = []
    for cosine in _COSINES:
        _, _, found = line_errors(depth / cosine, sigma, scatter / cosine)
        rows.append([found[1, 1], found[0, 1], found[0, 0]])
    return np.array(rows)


def scattering_density(material: str) -> float:
    """Return Rossi's variance of the projected angle at the reference momentum [rad²/mm]."""
    p = REFERENCE_MOMENTUM_GEV
    theta = SCATTERING_CONSTANT_MEV * 1e-3 * np.hypot(p, MUON_MASS_GEV) / p**2
    return float(theta**2 / load_materials()[material].radiation_length_mm)
