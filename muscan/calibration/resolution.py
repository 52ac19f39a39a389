"""Resolutions from the residuals of tracks, with the scattering in the panels told apart.

The residuals of a group's tracks, their lines eliminated (`muscan.calibration.mixture`), are
noise of the panels' resolutions plus scattering of muons whose momenta follow the flux. The
resolutions along u and along v, common to the panels of one technology in a group, are those of
largest restricted likelihood. Three planes cannot say which of them is the worse one: their
residuals are all one number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import chdtri

from muscan.calibration.clean import FloatArray, IntArray, Pattern, find_patterns
from muscan.calibration.lines import Lines, cross, derivatives, fit, scattering_covariance
from muscan.calibration.mixture import measured_columns
from muscan.model.detector import Detector
from muscan.model.events import Hits
from muscan.model.spectrum import class_weights, sea_level_spectrum

#: Tracks of a group that are enough.
MOST_TRACKS = 3000
LEAST_TRACKS = 200
#: Relative error of the scattering variance: 11 % of the angle (PDG) on either side.
SCATTERING_ERROR = 0.22
#: Momentum that a muon loses before a typical panel [GeV]; it matters for the slowest only.
LOSS_GEV = 0.01
#: Chance that a sound track is thrown out.
REJECTED = 1e-3


@dataclass(frozen=True)
class Resolution:
    """A panel's standard deviations along u and v; NaN where the data do not tell.

    Attributes
    ----------
    sigma_mm : (2,) float64
        Standard deviation of a measured coordinate [mm].
    statistical_mm, systematic_mm : (2,) float64
        Its errors: by the number of tracks, and by 11 % of the scattering angles.
    tracks : int
    """

    sigma_mm: FloatArray
    statistical_mm: FloatArray
    systematic_mm: FloatArray
    tracks: int


_NOT_A_NUMBER = np.full(2, np.nan)
UNKNOWN = Resolution(_NOT_A_NUMBER, _NOT_A_NUMBER, _NOT_A_NUMBER, 0)


@dataclass(frozen=True)
class _Sample:
    """Tracks of one pattern: residuals, derivatives, scattering, and whose each coordinate is."""

    residual: FloatArray
    local: FloatArray
    scatter: FloatArray
    sigma: FloatArray
    owner: IntArray


def measure_resolutions(hits: Hits, detector: Detector, flux: str) -> list[Resolution]:
    """Measure the resolutions of each panel.

    Parameters
    ----------
    hits : Hits
    detector : Detector
        The (aligned) layout.
    flux : str
        Flux model.

    Returns
    -------
    list of Resolution
        One a panel; the same for the panels of one technology in a group.
    """
    found = [UNKNOWN] * len(detector.panels)
    # Muons come from everywhere above; one spectrum at a typical angle serves them all.
    powers = sea_level_spectrum(flux).powers(0.85, LOSS_GEV)
    for group in range(len(detector.groups)):
        members = np.flatnonzero(detector.group_index == group)
        kinds = [detector.panels[i].technology for i in members]
        kind = np.array([kinds.index(technology) for technology in kinds])
        samples, n = _samples(hits, detector, members, kind)
        if n < LEAST_TRACKS:
            continue
        measured = np.unique(np.concatenate([sample.owner for sample in samples]))
        scale, errors = _fit_scales(samples, measured, powers)
        low, high = (
            _fit_scales(samples, measured, powers * factor, scale, errors=False)[0]
            for factor in (1 - SCATTERING_ERROR, 1 + SCATTERING_ERROR)
        )
        for panel, own in zip(members, kind, strict=True):
            factor, statistical, systematic = np.full((3, 2), np.nan)
            for place, name in enumerate(measured):
                if name // 2 == own:
                    factor[name % 2] = scale[place]
                    statistical[name % 2] = errors[place]
                    systematic[name % 2] = abs(high[place] - low[place]) / 2
            sigma = np.where(np.isfinite(factor), detector.sigmas[panel], np.nan)
            found[panel] = Resolution(sigma * factor, sigma * statistical, sigma * systematic, n)
    return found


def _samples(
    hits: Hits, detector: Detector, members: IntArray, kind: IntArray
) -> tuple[list[_Sample], int]:
    """Return the tracks of a group that over-determine a line, and how many."""
    patterns = [p for p in find_patterns(hits, members)[0] if len(measured_columns(p)) > 4]
    # Longer tracks say more; a group's full pattern is nearly all there is.
    total = sum(len(p) for p in patterns)
    stride = max(1, total // MOST_TRACKS)
    samples, n = [], 0
    for pattern in patterns:
        some = pattern.take(slice(None, None, stride))
        lines = fit(detector, some)
        some, lines = some.take(lines.sound), lines.take(lines.sound)
        if len(some):
            samples.append(
                _sample(detector, some, lines, kind[np.searchsorted(members, some.panels)])
            )
            n += len(some)
    return samples, n


def _sample(detector: Detector, pattern: Pattern, lines: Lines, kind: IntArray) -> _Sample:
    n = len(pattern)
    columns = measured_columns(pattern)
    crossings = cross(detector, pattern.panels, lines)
    residual = (pattern.place - crossings.place).reshape(n, -1)[:, columns]
    # A misplaced panel shifts the residuals of all tracks alike: that is no resolution.
    residual = residual - np.median(residual, axis=0)
    local = derivatives(lines, crossings).reshape(n, -1, 4)[:, columns]
    local[..., 2:] /= np.maximum(np.abs(crossings.along).max(axis=1), 1.0)[:, None, None]
    scatter = scattering_covariance(detector, pattern.panels, lines, crossings)
    owner = (2 * kind[:, None] + np.arange(2)).ravel()[columns]
    sigma = np.broadcast_to(detector.sigmas[pattern.panels].ravel()[columns], residual.shape)
    return _Sample(residual, local, scatter[:, columns][:, :, columns], sigma, owner)


def _fit_scales(
    samples: list[_Sample],
    measured: IntArray,
    powers: FloatArray,
    start: FloatArray | None = None,
    *,
    errors: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Return the factors on the layout's resolutions of largest likelihood, and their errors."""

    def cost(logs: FloatArray) -> float:
        return -sum(_log_likelihood(sample, np.exp(logs), measured, powers) for sample in samples)

    begin = np.zeros(len(measured)) if start is None else np.log(start)
    best = optimize.minimize(
        cost,
        begin,
        method="Nelder-Mead",
        bounds=[(-4.0, 4.0)] * len(begin),
        options={"xatol": 4e-3, "fatol": 0.1, "initial_simplex": _simplex(begin)},
    )
    scale = np.exp(best.x)
    if not errors:
        return scale, np.full_like(scale, np.nan)
    step = 0.05
    middle = cost(best.x)
    curvature = np.array(
        [
            (cost(best.x + axis) + cost(best.x - axis) - 2 * middle) / step**2
            for axis in step * np.eye(len(begin))
        ]
    )
    return scale, scale / np.sqrt(np.maximum(curvature, 1e-9))


def _simplex(begin: FloatArray) -> FloatArray:
    return np.vstack([begin, begin + 0.3 * np.eye(len(begin))])


def _log_likelihood(
    sample: _Sample, scale: FloatArray, measured: IntArray, powers: FloatArray
) -> float:
    """Return the restricted log likelihood of tracks, that of their residuals without lines."""
    sigma = sample.sigma * scale[np.searchsorted(measured, sample.owner)]
    rows = sample.local / sigma[..., None]
    scatter = sample.scatter / (sigma[:, :, None] * sigma[:, None])
    across = np.linalg.qr(rows, mode="complete")[0][:, :, 4:]
    power, axes = np.linalg.eigh(np.swapaxes(across, 1, 2) @ scatter @ across)
    y = np.einsum("nqm,nm->nq", np.swapaxes(across @ axes, 1, 2), sample.residual / sigma)
    variance = 1 + np.maximum(power, 0.0)[:, None] * powers[:, None]
    squares = y[:, None] ** 2 / variance
    logs = -0.5 * (np.log(variance) + squares).sum(axis=-1)
    chance = np.log(class_weights() @ np.exp(np.minimum(logs, 0.0)).T + 1e-300)
    determinant = np.linalg.slogdet(np.swapaxes(rows, 1, 2) @ rows)[1]
    # A hit of noise is no residual: beyond this even a slow muon's is as good as any other.
    worst = chdtri(y.shape[1], REJECTED)
    floor = np.log(REJECTED) - 0.5 * worst
    return float((np.maximum(chance, floor) - np.log(sigma).sum(axis=1) - 0.5 * determinant).sum())
