"""How far muons come: ranges, and the share of a spectrum that gets through matter.

What matter takes from a muon's range is told in g/cm² of water: the range in a material over that
in water hardly depends on the momentum, so one number, the *stopping density* [g/cm³ of water],
says what a voxel does to muons of every momentum. Water has 1, iron 5.7, lead 6.2, uranium 10.0.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muscan.model.material import Material, load_materials
from muscan.model.spectrum import MomentumSpectrum
from muscan.units import MUON_MASS_GEV

FloatArray = NDArray[np.float64]

#: Momentum at which a range is compared with that in water [GeV]: what stops in cargo is mostly
#: between 0.1 and 1 GeV.
STOPPING_REFERENCE_GEV: Final = 0.4
#: Thicknesses of water [g/cm²] and cosines of the zenith angle of `Survival`.
THICKNESSES: Final = np.concatenate([[0.0], np.geomspace(1.0, 4000.0, 240)])
COSINES: Final = np.linspace(0.1, 1.0, 37)
#: Momentum down to which `continued` carries a spectrum on [GeV].
LOWEST_GEV: Final = 0.02
_MOMENTA: Final = np.geomspace(0.01, 100.0, 1200)


def csda_range(material: Material, momentum_GeV: ArrayLike) -> FloatArray:
    """Return the range of a muon in the continuous-slowing-down approximation [g/cm²].

    R(p) = ∫ β dp / S(p) with S the mass stopping power; straggling (3 %) is left out.

    Parameters
    ----------
    material : Material
    momentum_GeV : array_like
        Between 0.01 and 100 GeV, any shape.
    """
    momentum = np.asarray(momentum_GeV, dtype=float)
    return np.asarray(np.interp(momentum, _MOMENTA, _ranges(material)))


def _ranges(material: Material) -> FloatArray:
    beta = _MOMENTA / np.hypot(_MOMENTA, MUON_MASS_GEV)
    step = 1e3 * beta / material.mass_stopping_power(_MOMENTA)
    return np.concatenate([[0.0], np.cumsum(0.5 * (step[1:] + step[:-1]) * np.diff(_MOMENTA))])


def stopping_density(material: Material) -> float:
    """Return the density of water that takes as much of a muon's range a length [g/cm³].

    At 0.4 GeV; up to iron within 4 % of it, up to uranium within 9 %, from 0.1 to 2 GeV.
    """
    p = STOPPING_REFERENCE_GEV
    ratio = csda_range(load_materials()["water"], p) / csda_range(material, p)
    return float(material.density_g_cm3 * ratio)


@cache
def _water() -> FloatArray:
    return _ranges(load_materials()["water"])


class Survival:
    """Probability that a muon gets through matter, given that it got as far as that.

    Parameters
    ----------
    spectrum : MomentumSpectrum
        Of the muons before the detector.
    before, after : float
        Matter on a vertical way before the first and after the last of what is asked for, such
        as panels [g/cm² of water].
    """

    def __init__(self, spectrum: MomentumSpectrum, before: float = 0.0, after: float = 0.0) -> None:
        self._spectrum, self._before, self._after = spectrum, before, after
        rows = [self._row(cosine) for cosine in COSINES]
        #: Survival, shape (cosines, thicknesses), at `THICKNESSES`.
        self.table = np.maximum(np.array(rows), 1e-9)

    def _row(self, cosine: float) -> FloatArray:
        start = self._before / cosine
        crossed = np.concatenate([[start], start + self._after / cosine + THICKNESSES])
        spectrum = self._spectrum
        column = [np.interp(cosine, spectrum.cos_zenith, c) for c in spectrum.cumulative.T]
        below = np.interp(np.log(cutoff_momentum(crossed)), np.log(spectrum.momentum), column)
        return np.asarray((1 - below[1:]) / (1 - below[0]))


def continued(spectrum: MomentumSpectrum) -> MomentumSpectrum:
    """Return a spectrum carried on below its lowest momentum, down to 0.02 GeV.

    Flux models end at about 0.1 GeV, the sky does not: muons of less energy than their mass have
    lost nearly all of what they began with, so that their number an energy hardly depends on it.
    It is taken as constant. A spectrum of less than a decade (a beam) stays as it is.
    """
    momentum, cumulative = spectrum.momentum, spectrum.cumulative
    first, second = np.hypot(momentum[:2], MUON_MASS_GEV)
    if momentum[-1] < 10 * momentum[0] or momentum[0] <= LOWEST_GEV:
        return spectrum
    below = np.geomspace(LOWEST_GEV, momentum[0], 41)[:-1]
    energy = np.hypot(below, MUON_MASS_GEV)
    number = (cumulative[:, 1:2] - cumulative[:, :1]) / (second - first)
    more = number * np.concatenate([energy, [first]])
    more -= more[:, :1]
    joined = np.concatenate([more[:, :-1], more[:, -1:] + cumulative], axis=1)
    return MomentumSpectrum(
        np.concatenate([below, momentum]), spectrum.cos_zenith, joined / joined[:, -1:]
    )


def cutoff_momentum(thickness: ArrayLike) -> FloatArray:
    """Return the momentum [GeV] whose range is a thickness of water [g/cm²]."""
    return np.asarray(np.interp(np.asarray(thickness, dtype=float), _water(), _MOMENTA))
