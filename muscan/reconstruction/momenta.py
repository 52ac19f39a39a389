"""The unknown momenta of muons as classes of a mixture, given what they lose on the way."""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import paths as path_kernel
from muscan.kernels.em import Mixture
from muscan.model.spectrum import (
    CLASS_EDGES,
    EXIT_MOMENTUM_GEV,
    MomentumSpectrum,
    class_weights,
    scattering_power,
    sea_level_spectrum,
)
from muscan.model.track_errors import OUTLIER_ANGLE, OUTLIER_FRACTION
from muscan.reconstruction import lanes
from muscan.reconstruction.muons import (
    ERROR_NODES,
    ERROR_WEIGHTS,
    LOSSES,
    MAX_RELATIVE_ERROR,
    Muons,
)

FloatArray = NDArray[np.float64]

#: Molière's B of about a radiation length of matter between water and lead (Bethe, Phys. Rev.
#: 89:1256, 1953): 15 and 11.5. It sets how far the true shape is from a normal one.
MOLIERE_B = 13.5
#: Variance of the core of the angles over Highland's, which is that of 98 % of them: Hanson's
#: (B - 1.2)/2 (Phys. Rev. 84:634, 1951) over Lynch and Dahl's formula (NIM B 58:6, 1991), both
#: in units of χc².
CORE = 0.91
#: Beyond this multiple of the core's variance, single scatters: muons whose variance exceeds s
#: times the core's are a share 1 / (s (B - 1.2)), which is Rutherford's tail.
TAIL_START = 2.5
TAIL_SHARE = 1 / (TAIL_START * (MOLIERE_B - 1.2))
#: Cosines of the zenith angle for which the classes are tabulated.
COSINES = np.linspace(0.1, 1.0, 19)
#: Momenta in a class, and variances in the tail, that are averaged.
FINE, TAIL = 16, 5
#: Largest relative change of the scattering power along a path, as its slope over the mean.
MAX_TILT = 1.9


def shape_nodes(tail: int) -> tuple[FloatArray, FloatArray]:
    """Return variances of the angle over Highland's, and their shares: the core and the tail."""
    beyond = TAIL_START * tail / (np.arange(tail) + 0.5)
    variances = CORE * np.concatenate([[1.0], beyond])
    return variances, np.concatenate([[1 - TAIL_SHARE], np.full(tail, TAIL_SHARE / tail)])


def tilt(incoming: FloatArray, outgoing: FloatArray) -> FloatArray:
    """Return the slope of the scattering power along a path, over its mean.

    The power goes as 1/p²; with the momentum falling evenly from one end to the other and u the
    share of the loss so far, it is taken as its mean times 1 + tilt (u - 1/2), of the same first
    moment. A muon that nearly stops scatters at the end of its path.
    """
    middle = 0.5 * (incoming + outgoing)
    x = np.clip((incoming - outgoing) / middle, 1e-6, 1.999)
    # ∫ u du / (1 - x u)² from -1/2 to 1/2, over that of 1 / (1 - x u)².
    low, high = 1 + 0.5 * x, 1 - 0.5 * x
    moment = (np.log(high / low) + 1 / high - 1 / low) / np.square(x) * (1 - 0.25 * np.square(x))
    # The closed form cancels for small losses; there the moment is x / 6.
    moment = np.where(x < 0.02, x / 6, moment)
    return np.minimum(12 * moment, MAX_TILT)


def class_tables(spectrum: MomentumSpectrum) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return powers, tilts and gains as of `Mixture`, shape (cosines × losses, classes).

    The classes of `CLASS_EDGES`, of the momenta that come out together with the shape of the
    angles (`shape_nodes`), so that a sum of normal distributions has Molière's tails.
    """
    steps = (
        CLASS_EDGES[:-1, None] + np.diff(CLASS_EDGES)[:, None] * (np.arange(FINE) + 0.5) / FINE
    ).ravel()
    share = np.repeat(class_weights() / FINE, FINE)
    variances, shares = shape_nodes(TAIL)
    weight = np.outer(share, shares).ravel()
    powers, tilts = [], []
    for cosine in COSINES:
        for loss in LOSSES:
            lost = min(spectrum.probability(float(cosine), loss + EXIT_MOMENTUM_GEV), 0.999)
            incoming = spectrum.quantile(float(cosine), lost + (1 - lost) * steps)
            outgoing = np.maximum(incoming - loss, EXIT_MOMENTUM_GEV)
            power = np.sqrt(scattering_power(incoming) * scattering_power(outgoing))
            logs = np.log(np.outer(power, variances)).ravel()
            order = np.argsort(-logs)
            above = np.cumsum(weight[order])
            above -= 0.5 * weight[order]
            slopes = np.repeat(tilt(incoming, outgoing), len(variances))
            powers.append(np.exp(_class_means(np.interp(steps, above, logs[order]))))
            tilts.append(_class_means(np.interp(steps, above, slopes[order])))
    logs = np.log(powers).reshape(len(COSINES), len(LOSSES), -1)
    gains = np.asarray(np.gradient(logs, LOSSES, axis=1)).reshape(len(powers), -1)
    return np.array(powers), np.array(tilts), gains


def _class_means(values: FloatArray) -> FloatArray:
    return np.asarray(values.reshape(-1, FINE).mean(axis=1))


class MomentumModel:
    """Momentum classes of muons, given what they lose and how much they cross.

    Parameters
    ----------
    muons : Muons
    spectrum : MomentumSpectrum, optional
        By default the sea-level one.
    cosine : float, optional
        Typical cosine of the zenith angle; the mean of the muons unless given.
    """

    def __init__(
        self,
        muons: Muons,
        spectrum: MomentumSpectrum | None = None,
        cosine: float | None = None,
    ) -> None:
        self._typical_cosine = float(muons.cosine.mean()) if cosine is None else cosine
        self._spectrum = spectrum or sea_level_spectrum()
        self._muons = muons
        nearest = np.rint((muons.cosine - 0.1) / 0.9 * (len(COSINES) - 1))
        self._cosine_row = np.clip(nearest, 0, len(COSINES) - 1).astype(np.int64)
        self._power, self._tilt, self._gain = class_tables(self._spectrum)
        with np.errstate(invalid="ignore"):
            error = muons.sigma / muons.momentum
        self._measured = np.isfinite(muons.momentum) & ~(error > MAX_RELATIVE_ERROR)
        self._error = np.where(np.isfinite(error), error, 0.0)

    def of(self, muons: Muons, rows: slice | NDArray[np.int64]) -> MomentumModel:
        """Return the model of some of the muons, given by ``rows``, on other paths."""
        other = copy(self)
        other._muons = muons
        for name in ("_cosine_row", "_measured", "_error"):
            setattr(other, name, getattr(self, name)[rows])
        return other

    def mixture(self, rate: FloatArray, workers: int | None = None) -> Mixture:
        """Return the classes for what muons lose in a volume.

        Parameters
        ----------
        rate : ndarray, shape (voxels,)
            Momentum lost [GeV/mm].
        workers : int, optional
            Threads.
        """
        paths = self._muons.paths
        loss = np.empty(len(self._muons))
        done = np.empty(len(paths.voxel), np.uint8)
        shares = lanes.bounds(len(loss))

        def work(lane: int) -> None:
            path_kernel.line_integrals(paths, rate, *shares[lane], loss)
            path_kernel.loss_shares(paths, rate, loss, *shares[lane], done)

        lanes.run(work, lanes.LANES, workers)
        nearest = np.concatenate([[LOSSES[1] / 2], np.sqrt(LOSSES[2:] * LOSSES[1:-1])])
        column = np.searchsorted(nearest, loss)
        row = self._cosine_row * len(LOSSES) + column
        scale = np.ones(len(loss))
        power, slope, gain = self._power, self._tilt, self._gain
        weight = np.broadcast_to(class_weights(), power.shape)
        known = self._measured
        if known.any():
            rows, power_known, weight_known = self._known_rows(known)
            row[known] = rows + len(power)
            power = np.concatenate([power, power_known])
            weight = np.concatenate([weight, weight_known])
            slope, gain = (np.concatenate([x, np.zeros_like(power_known)]) for x in (slope, gain))
            start = self._muons.momentum[known].astype(float)
            end = np.maximum(start - loss[known], EXIT_MOMENTUM_GEV)
            scale[known] *= np.sqrt(scattering_power(end) / scattering_power(start))
        return Mixture(
            np.ascontiguousarray(power),
            np.ascontiguousarray(weight),
            np.ascontiguousarray(slope),
            np.ascontiguousarray(gain),
            row.astype(np.int32),
            LOSSES[column].astype(np.float32),
            scale.astype(np.float32),
            done,
            OUTLIER_FRACTION,
            OUTLIER_ANGLE,
        )

    def _known_rows(
        self, known: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
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
        weight = ERROR_WEIGHTS * self._spectrum.density(self._typical_cosine, nodes)
        weight /= weight.sum(axis=1, keepdims=True)
        # As many classes as a muon of unknown momentum has.
        variances, shares = shape_nodes(self._power.shape[1] // len(ERROR_NODES) - 1)
        power = scattering_power(nodes)[:, :, None] * variances
        return (
            rows.reshape(-1).astype(np.int64),
            power.reshape(len(pairs), -1),
            (weight[:, :, None] * shares).reshape(len(pairs), -1),
        )
