"""The unknown momenta of muons as classes of a mixture, given what they lose on the way."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import paths as path_kernel
from muscan.kernels.em import Mixture
from muscan.model.material import load_materials
from muscan.model.spectrum import (
    CLASS_EDGES,
    EXIT_MOMENTUM_GEV,
    MomentumSpectrum,
    class_weights,
    scattering_power,
    sea_level_spectrum,
)
from muscan.model.survival import csda_range
from muscan.model.track_errors import OUTLIER_ANGLE, OUTLIER_FRACTION
from muscan.reconstruction import lanes
from muscan.reconstruction.angles import shares, variances
from muscan.reconstruction.muons import (
    ERROR_NODES,
    ERROR_WEIGHTS,
    LOSSES,
    MAX_RELATIVE_ERROR,
    Muons,
)
from muscan.units import SCATTERING_DENSITY_X0_MRAD2

FloatArray = NDArray[np.float64]
#: Powers, tilts and gains of one muon's classes.
Row = tuple[FloatArray, FloatArray, FloatArray]

#: Momentum lost in water by a 3 GeV muon [GeV cm²/g] (PDG 2024), as in `momentum_loss`: what a
#: volume takes is told in terms of it, and means water of that much range.
GEV_PER_WATER = 2.30e-3
#: Cosines of the zenith angle for which the classes are tabulated.
COSINES = np.linspace(0.1, 1.0, 19)
#: Thicknesses in radiation lengths for which they are.
THICKNESSES = np.geomspace(1e-3, 1e2, 30)
#: Steps to which a measured momentum's logarithm and its relative error are rounded.
MOMENTUM_STEP, ERROR_STEP = 0.02, 0.05
#: Momenta in a class that are averaged.
FINE = 8
#: Largest relative change of the scattering power along a path, as its slope over the mean.
MAX_TILT = 1.9
#: Stands for a momentum that was not measured.
_UNKNOWN = -10_000
#: Step in the water crossed by which the classes' change with it is taken: this part, and this
#: much [g/cm²].
_PART, _MORE = 0.05, 0.5
#: Fastest muon whose range is told apart [GeV]; beyond, what a muon loses is in proportion to
#: its momentum, as radiation makes it.
_FASTEST = 90.0
#: Places along a path, as shares of the loss, and their weights (Gauss-Legendre).
_PLACES, _WEIGHTS = (0.5 * x for x in np.polynomial.legendre.leggauss(8))
_PLACES = _PLACES + 0.5
_STEPS = (
    CLASS_EDGES[:-1, None] + np.diff(CLASS_EDGES)[:, None] * (np.arange(FINE) + 0.5) / FINE
).ravel()
_STEP_WEIGHTS = np.repeat(class_weights() / FINE, FINE)


@lru_cache(maxsize=1)
def _water() -> tuple[FloatArray, FloatArray]:
    """Return momenta [GeV] and their ranges in water [g/cm²]."""
    momenta = np.geomspace(0.01, _FASTEST, 1200)
    return momenta, csda_range(load_materials()["water"], momenta)


def cutoff(crossed: float) -> float:
    """Return the least momentum [GeV] that crosses some water [g/cm²] and is still tracked."""
    momenta, ranges = _water()
    end = max(crossed, 0.0) + np.interp(EXIT_MOMENTUM_GEV, momenta, ranges)
    return float(np.interp(end, ranges, momenta))


def slowed(incoming: FloatArray, crossed: FloatArray | float) -> FloatArray:
    """Return momenta [GeV] behind some water [g/cm²], not below what is still tracked."""
    momenta, ranges = _water()
    bounded = np.minimum(incoming, _FASTEST)
    left = np.interp(bounded, momenta, ranges) - crossed
    after = np.interp(left, ranges, momenta) * (incoming / bounded)
    return np.asarray(np.maximum(after, EXIT_MOMENTUM_GEV))


def along_path(
    incoming: FloatArray, before: float, crossed: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """Return the mean scattering power of muons along their paths, and its slope over the mean.

    With u the share of the loss so far, the power is taken as its mean times 1 + slope (u - 1/2),
    of the same first moment. A muon that nearly stops scatters at the end of its path.

    Parameters
    ----------
    incoming : ndarray, shape (n,)
        Momenta before everything [GeV].
    before : float
        Water on the way to the path [g/cm²].
    crossed : float or ndarray, shape (n,)
        Water on the path [g/cm²].
    """
    depth = before + np.multiply.outer(crossed, _PLACES)
    power = scattering_power(slowed(np.asarray(incoming)[:, None], depth))
    mean = (power * _WEIGHTS).sum(axis=1)
    first = (power * (_WEIGHTS * (_PLACES - 0.5))).sum(axis=1)
    return mean, np.minimum(12 * first / mean, MAX_TILT)


def _classes(
    logs: FloatArray, slopes: FloatArray, weight: FloatArray, spread: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return means of log power and slope of the classes of `CLASS_EDGES`, slowest first.

    Momenta and variances of the angles (`spread`, over Highland's) are both by chance; the
    classes are of their product.
    """
    products = (logs[:, None] + np.log(spread)).ravel()
    order = np.argsort(-products, kind="stable")
    above = np.multiply.outer(weight, shares()).ravel()[order]
    above = np.cumsum(above) - 0.5 * above
    means = (
        np.interp(_STEPS, above, values[order]).reshape(-1, FINE).mean(axis=1)
        for values in (products, np.repeat(slopes, len(spread)))
    )
    return next(means), next(means)


class ClassTable:
    """Classes of muons by zenith angle, momentum lost and thickness, made when first asked for.

    Parameters
    ----------
    spectrum : MomentumSpectrum
    before, after : float
        Water at right angles in the panels above, and in those below that a muon has to
        reach [g/cm²].
    """

    def __init__(self, spectrum: MomentumSpectrum, before: float = 0.0, after: float = 0.0) -> None:
        self.spectrum, self.before, self.after = spectrum, before, after
        self._rows: dict[tuple[int, ...], Row] = {}

    def row(self, cosine: int, loss: int, thickness: int) -> Row:
        """Return the classes of muons of the spectrum, by numbers of the table's steps."""
        key = (cosine, loss, thickness)
        if key not in self._rows:
            self._rows[key] = self._row(
                COSINES[cosine], LOSSES[loss], THICKNESSES[thickness], self._arriving
            )
        return self._rows[key]

    def measured(self, momentum: int, error: int, cosine: int, loss: int, thickness: int) -> Row:
        """Return the classes of muons of a measured momentum, given in steps."""
        key = (momentum, error, cosine, loss, thickness)
        if key not in self._rows:
            centre = np.exp(MOMENTUM_STEP * momentum)
            nodes = np.maximum(centre * (1 + ERROR_STEP * error * ERROR_NODES), EXIT_MOMENTUM_GEV)
            # A momentum measured within 30 % is more probably a larger or smaller one where
            # the spectrum rises or falls.
            weight = ERROR_WEIGHTS * self.spectrum.density(COSINES[cosine], nodes)
            weight = weight if weight.sum() > 0 else ERROR_WEIGHTS

            def arriving(cosine: float, needed: float) -> tuple[FloatArray, FloatArray]:
                out = weight * (nodes > cutoff(needed))
                out = out if out.sum() > 0 else np.array([0.0, 0.0, 1.0])
                return nodes, out / out.sum()

            self._rows[key] = self._row(
                COSINES[cosine], LOSSES[loss], THICKNESSES[thickness], arriving
            )
        return self._rows[key]

    def _arriving(self, cosine: float, needed: float) -> tuple[FloatArray, FloatArray]:
        """Return momenta above everything of those that get through some water, and weights."""
        lost = min(self.spectrum.probability(cosine, cutoff(needed)), 0.999)
        return self.spectrum.quantile(cosine, lost + (1 - lost) * _STEPS), _STEP_WEIGHTS

    def _row(
        self,
        cosine: float,
        loss: float,
        thickness: float,
        arriving: Callable[[float, float], tuple[FloatArray, FloatArray]],
    ) -> Row:
        before, after = self.before / cosine, self.after / cosine
        crossed = loss / GEV_PER_WATER
        spread = variances(thickness, max(crossed + before + after, 1e-9) / thickness)
        results = []
        for water in (crossed, crossed * (1 + _PART) + _MORE):
            incoming, weight = arriving(cosine, before + water + after)
            power, slope = along_path(incoming, before, np.full(len(incoming), water))
            results.append(_classes(np.log(power), slope, weight, spread))
        (logs, slopes), (more, _) = results
        step = GEV_PER_WATER * (crossed * _PART + _MORE)
        return np.exp(logs), slopes, (more - logs) / step


def _nearest_thickness(thickness: FloatArray | float) -> NDArray[np.int64]:
    logs = np.log(np.maximum(thickness, THICKNESSES[0]))
    place = np.interp(logs, np.log(THICKNESSES), np.arange(len(THICKNESSES)))
    return np.asarray(np.rint(place).astype(np.int64))


class MomentumModel:
    """Momentum classes of muons, given what they lose and how much they cross.

    Parameters
    ----------
    muons : Muons
    spectrum : MomentumSpectrum, optional
        By default the sea-level one.
    """

    def __init__(self, muons: Muons, spectrum: MomentumSpectrum | None = None) -> None:
        self._muons = muons
        self._table = ClassTable(spectrum or sea_level_spectrum(), *muons.panels)
        nearest = np.rint((muons.cosine - 0.1) / 0.9 * (len(COSINES) - 1))
        self._cosine = np.clip(nearest, 0, len(COSINES) - 1).astype(np.int64)
        with np.errstate(invalid="ignore"):
            error = muons.sigma / muons.momentum
        known = np.isfinite(muons.momentum) & ~(error > MAX_RELATIVE_ERROR)
        logs = np.log(np.where(known, muons.momentum, 1.0)) / MOMENTUM_STEP
        self._momentum = np.where(known, np.rint(logs), _UNKNOWN).astype(np.int64)
        error = np.where(np.isfinite(error) & known, error, 0.0)
        self._error = np.rint(error / ERROR_STEP).astype(np.int64)
        # Of measured momenta the angle tells no more than how thick the panels are.
        self._cosine = np.where(known, self._cosine // 4 * 4 + 1, self._cosine)

    def of(self, muons: Muons, rows: slice | NDArray[np.int64]) -> MomentumModel:
        """Return the model of some of the muons, given by ``rows``, on other paths."""
        other = copy(self)
        other._muons = muons
        for name in ("_cosine", "_momentum", "_error"):
            setattr(other, name, getattr(self, name)[rows])
        return other

    def mixture(self, density: FloatArray, rate: FloatArray, workers: int | None = None) -> Mixture:
        """Return the classes for what muons cross and lose in a volume.

        Parameters
        ----------
        density : ndarray, shape (voxels,)
            Scattering density [mrad²/mm].
        rate : ndarray, shape (voxels,)
            Momentum lost [GeV/mm].
        workers : int, optional
            Threads.
        """
        paths = self._muons.paths
        loss, crossed = np.empty((2, len(self._muons)))
        done = np.empty(len(paths.voxel), np.uint8)
        shares = lanes.bounds(len(loss))

        def work(lane: int) -> None:
            path_kernel.line_integrals(paths, density, *shares[lane], crossed)
            path_kernel.line_integrals(paths, rate, *shares[lane], loss)
            path_kernel.loss_shares(paths, rate, loss, *shares[lane], done)

        lanes.run(work, lanes.LANES, workers)
        halves = np.concatenate([[LOSSES[1] / 2], np.sqrt(LOSSES[2:] * LOSSES[1:-1])])
        column = np.searchsorted(halves, loss)
        crossed += self._muons.observed.fixed[:, 0]
        thickness = _nearest_thickness(crossed / SCATTERING_DENSITY_X0_MRAD2)
        kinds = (self._momentum, self._error, self._cosine, column, thickness)
        code = np.ravel_multi_index(
            tuple(k - k.min() for k in kinds), [int(np.ptp(k)) + 1 for k in kinds]
        )
        _, first, row = np.unique(code, return_index=True, return_inverse=True)
        rows = [self._row(*(int(k[n]) for k in kinds)) for n in first]
        power, slope, gain = (np.array(column) for column in zip(*rows, strict=True))
        return Mixture(
            power,
            np.ascontiguousarray(np.broadcast_to(class_weights(), power.shape)),
            slope,
            gain,
            row.reshape(-1).astype(np.int32),
            LOSSES[column].astype(np.float32),
            done,
            OUTLIER_FRACTION,
            OUTLIER_ANGLE,
        )

    def _row(self, momentum: int, error: int, cosine: int, loss: int, thickness: int) -> Row:
        if momentum == _UNKNOWN:
            return self._table.row(cosine, loss, thickness)
        return self._table.measured(momentum, error, cosine, loss, thickness)
