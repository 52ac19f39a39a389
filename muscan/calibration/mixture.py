"""Residuals of straight tracks of unknown momentum: independent numbers of mixed variances.

For hits with errors R and scattering s·M (M at the reference momentum, s ∝ 1/p²) the line's four
parameters L are eliminated by projecting on what is across them, and the rest is turned so that
noise is 1 and scattering diagonal: y = UᵀQᵀ R^(-1/2) r with variances 1 + s λ. This is the
Schur complement of Millepede (Blobel, hep-ex/0208021), done for each track with its covariance. A
track's s is not known, so the distribution of y is a mixture over classes of s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muscan.calibration.clean import FloatArray, Pattern
from muscan.calibration.lines import (
    Lines,
    cross,
    derivatives,
    scattering_covariance,
)
from muscan.model.detector import Detector
from muscan.model.spectrum import scattering_power

#: Momenta of the classes of the mixture [GeV].
CLASS_MOMENTA = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0])
POWERS = scattering_power(CLASS_MOMENTA)


@dataclass(frozen=True)
class Whitened:
    """What is left of tracks when their lines are eliminated.

    Attributes
    ----------
    y : (n, q) float64
        Residuals, of variance ``1 + s power``.
    power : (n, q) float64
        Their variance by scattering at the reference momentum.
    turn : (n, q, m) float64
        y = turn @ (residuals of the m measured coordinates [mm]).
    slope : (n, k, 2, 3) float64
        As in `Crossings`.
    spot : (n, k, 3) float64
        As in `Crossings`.
    columns : (m,) int64
        Which of the coordinates (panel position x 2 + axis) are measured.
    """

    y: FloatArray
    power: FloatArray
    turn: FloatArray
    slope: FloatArray
    spot: FloatArray
    columns: NDArray[np.int64]


def measured_columns(pattern: Pattern) -> NDArray[np.int64]:
    """Return which coordinates the panels of a pattern measure (panel position x 2 + axis)."""
    return np.flatnonzero(np.isfinite(pattern.sigma).all(axis=0).ravel())


def whiten(detector: Detector, pattern: Pattern, lines: Lines, extra: float = 0.0) -> Whitened:
    """Eliminate the lines of tracks.

    Parameters
    ----------
    extra : float
        Standard deviation to add to every hit's [mm].
    """
    columns = measured_columns(pattern)
    crossings = cross(detector, pattern.panels, lines)
    n = len(pattern)
    sigma = np.hypot(pattern.sigma.reshape(n, -1)[:, columns], extra)
    residual = (pattern.place - crossings.place).reshape(n, -1)[:, columns] / sigma
    local = derivatives(lines, crossings).reshape(n, -1, 4)[:, columns] / sigma[..., None]
    # Angles in units of the track's length: the columns of the decomposition are then alike.
    local[..., 2:] /= np.maximum(np.abs(crossings.along).max(axis=1), 1.0)[:, None, None]
    scatter = scattering_covariance(detector, pattern.panels, lines, crossings)
    scatter = scatter[:, columns][:, :, columns] / (sigma[:, :, None] * sigma[:, None])
    across = np.linalg.qr(local, mode="complete")[0][:, :, 4:]
    power, axes = np.linalg.eigh(np.swapaxes(across, 1, 2) @ scatter @ across)
    turn = np.swapaxes(across @ axes, 1, 2)
    y = np.einsum("nqm,nm->nq", turn, residual)
    return Whitened(
        y, np.maximum(power, 0.0), turn / sigma[:, None], crossings.slope, crossings.spot, columns
    )


def log_likelihoods(y: FloatArray, power: FloatArray, powers: FloatArray = POWERS) -> FloatArray:
    """Return ln p(y | class) up to a constant, shape (n, classes)."""
    variance = 1 + power[:, None] * powers[:, None]
    return np.asarray(-0.5 * (np.log(variance) + y[:, None] ** 2 / variance).sum(axis=-1))


def posterior(
    y: FloatArray, power: FloatArray, prior: FloatArray, powers: FloatArray = POWERS
) -> FloatArray:
    """Return the probability of each class for each track, shape (n, classes)."""
    logs = log_likelihoods(y, power, powers) + np.log(prior)
    logs -= logs.max(axis=1, keepdims=True)
    weight = np.exp(logs)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
