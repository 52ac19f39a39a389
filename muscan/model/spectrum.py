"""Momentum spectra of the muons that a detector sees, at each zenith angle.

A scanner seldom measures momenta, so a reconstruction needs their distribution. It follows from
the flux: given a muon's zenith angle, every momentum above the loss on its way has the weight of
the flux there; the panels' acceptance for a given direction does not depend on the momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muscan.units import MUON_MASS_GEV, REFERENCE_MOMENTUM_GEV

FloatArray = NDArray[np.float64]
Intensity = Callable[[FloatArray, FloatArray], FloatArray]

#: Edges of the classes of the mixture in cumulative probability, counted from the lowest
#: momentum. Narrow at the low end, where few muons carry most of the scattering; each class then
#: spans less than a factor of three in scattering power.
CLASS_EDGES = np.array([0.0, 0.006, 0.02, 0.05, 0.1, 0.18, 0.29, 0.42, 0.57, 0.72, 0.86, 0.96, 1.0])
#: A muon that leaves slower than this [GeV] is not tracked: it stops or is thrown out of the
#: acceptance by its scattering.
EXIT_MOMENTUM_GEV = 0.05


@dataclass(frozen=True)
class MomentumSpectrum:
    """Distribution of momentum given the zenith angle.

    Attributes
    ----------
    momentum : ndarray, shape (m,)
        Edges of bins, ascending [GeV].
    cos_zenith : ndarray, shape (c,)
        Cosines of the zenith angle, ascending.
    cumulative : ndarray, shape (c, m)
        Probability of a momentum below each edge, from 0 to 1 along the last axis.
    """

    momentum: FloatArray
    cos_zenith: FloatArray
    cumulative: FloatArray

    @classmethod
    def from_intensity(
        cls, intensity: Intensity, p_min: float = 0.1, p_max: float = 2000.0, bins: int = 600
    ) -> MomentumSpectrum:
        """Return the spectrum of a flux.

        Parameters
        ----------
        intensity : callable
            Of momentum [GeV] and cosine of the zenith angle, as broadcastable arrays, returning
            dN/(dA dt dΩ dp) in any unit.
        p_min, p_max : float
            Limits of the momentum [GeV].
        bins : int
            Number of bins, equal in the logarithm of the momentum.
        """
        edges = np.geomspace(p_min, p_max, bins + 1)
        cosines = np.linspace(0.05, 1.0, 20)
        centres = np.sqrt(edges[1:] * edges[:-1])
        weight = intensity(centres[None, :], cosines[:, None]) * np.diff(edges)
        cumulative = np.concatenate(
            [np.zeros((len(cosines), 1)), np.cumsum(weight, axis=1)], axis=1
        )
        return cls(edges, cosines, cumulative / cumulative[:, -1:])

    @classmethod
    def single(cls, momentum: float) -> MomentumSpectrum:
        """Return the spectrum of a beam of one momentum [GeV]."""
        edges = momentum * np.array([1 - 1e-9, 1 + 1e-9])
        return cls(edges, np.array([0.05, 1.0]), np.array([[0.0, 1.0], [0.0, 1.0]]))

    def quantile(self, cos_zenith: float, probability: FloatArray) -> FloatArray:
        """Return the momenta [GeV] of given cumulative probabilities at a zenith angle."""
        return np.exp(np.interp(probability, self._below(cos_zenith), np.log(self.momentum)))

    def probability(self, cos_zenith: float, momentum: float) -> float:
        """Return the probability of a momentum below a given one [GeV] at a zenith angle."""
        logs = np.log(self.momentum)
        return float(np.interp(np.log(momentum), logs, self._below(cos_zenith)))

    def density(self, cos_zenith: float, momentum: FloatArray) -> FloatArray:
        """Return the probability a GeV at momenta [GeV] and a zenith angle, 0 outside the bins."""
        row = self._below(cos_zenith)
        values = np.concatenate([[0.0], np.diff(row) / np.diff(self.momentum), [0.0]])
        return np.asarray(values[np.searchsorted(self.momentum, momentum)])

    def _below(self, cos_zenith: float) -> FloatArray:
        """Return the probability of a momentum below each edge at a zenith angle, shape (m,)."""
        position = np.interp(cos_zenith, self.cos_zenith, np.arange(len(self.cos_zenith)))
        low = min(int(position), len(self.cos_zenith) - 2)
        part = position - low
        return np.asarray((1 - part) * self.cumulative[low] + part * self.cumulative[low + 1])

    def powers(self, cos_zenith: float, loss: float) -> FloatArray:
        """Return the scattering powers of the classes of `CLASS_EDGES` at a zenith angle.

        A power is q = (p0/(β p))², averaged along a path that takes ``loss`` evenly: for β near 1
        the mean of 1/p² between two momenta is one over their product. A class's value is the
        geometric mean over it, given that the muon comes out.

        Parameters
        ----------
        cos_zenith : float
            Cosine of the zenith angle.
        loss : float
            Momentum lost on the way [GeV].

        Returns
        -------
        ndarray, shape (len(CLASS_EDGES) - 1,)
            Descending; the weights of the classes are ``np.diff(CLASS_EDGES)``.
        """
        lost = self.probability(cos_zenith, loss + EXIT_MOMENTUM_GEV)
        fine = (np.arange(16) + 0.5) / 16
        steps = CLASS_EDGES[:-1, None] + np.diff(CLASS_EDGES)[:, None] * fine
        incoming = self.quantile(cos_zenith, min(lost, 0.999) + (1 - min(lost, 0.999)) * steps)
        outgoing = np.maximum(incoming - loss, EXIT_MOMENTUM_GEV)
        logs = np.log(scattering_power(incoming)) + np.log(scattering_power(outgoing))
        return np.asarray(np.exp(logs.mean(axis=1) / 2))


def class_weights() -> FloatArray:
    """Return the probabilities of the momentum classes of `MomentumSpectrum.powers`."""
    return np.diff(CLASS_EDGES)


def scattering_power(momentum: FloatArray) -> FloatArray:
    """Return (p0/(β p))², by which a momentum [GeV] scatters more than the reference does."""
    squared = np.square(momentum)
    return np.asarray(REFERENCE_MOMENTUM_GEV**2 * (squared + MUON_MASS_GEV**2) / np.square(squared))


def sea_level_spectrum(flux: str = "guan2015") -> MomentumSpectrum:
    """Return the spectrum of a flux model by its name.

    Raises
    ------
    InputError
        If no flux has that name.
    """
    from muscan.model.flux import load_flux

    return MomentumSpectrum.from_intensity(load_flux(flux).intensity)
