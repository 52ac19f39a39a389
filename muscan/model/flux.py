"""Sea-level muon flux: models of the intensity and its integrals.

*Intensity* I(p, θ) is the number of muons per area **perpendicular to their direction**, time,
solid angle and momentum. The *rate through a surface* weighs it by the cosine between direction
and normal: a horizontal plane sees I·cosθ, a vertical wall I·sinθ·|cosφ|. Altitude, geomagnetic
cut-off and solar cycle are left out: scale to a measured rate instead (``rate_scale``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import RegularGridInterpolator

from muscan import plugins
from muscan.errors import InputError
from muscan.units import MUON_MASS_GEV

FloatArray = NDArray[np.float64]
Intensity = Callable[[FloatArray, FloatArray], ArrayLike]

#: The models' own names; third parties add theirs by the entry-point group ``muscan.flux``.
MODELS: Final = {
    "guan2015": "muscan.model.flux:guan2015",
    "reyna2006": "muscan.model.flux:reyna2006",
    "ecomug": "muscan.model.flux:ecomug",
    "gaisser": "muscan.model.flux:gaisser",
}
#: µ⁺/µ⁻ above 10 GeV (hep-ph/0102042), used at every momentum.
CHARGE_RATIO: Final = 1.268
#: Momenta that the models are asked for [GeV].
MOMENTUM_LIMITS: Final = (0.05, 10_000.0)

_PER_CM2_TO_PER_M2 = 1e4


@dataclass(frozen=True)
class FluxModel:
    """An intensity of muons at sea level.

    Attributes
    ----------
    name : str
        What it is called in files and messages.
    function : callable
        ``(momentum_GeV, cos_zenith) -> intensity`` on arrays of one shape
        [m⁻² s⁻¹ sr⁻¹ GeV⁻¹].
    """

    name: str
    function: Intensity

    def intensity(self, momentum_GeV: ArrayLike, cos_zenith: ArrayLike) -> FloatArray:
        """Return the intensity [m⁻² s⁻¹ sr⁻¹ GeV⁻¹]; zero from below the horizon.

        Parameters
        ----------
        momentum_GeV : array_like
            Momentum [GeV].
        cos_zenith : array_like
            Cosine of the zenith angle, 1 for a muon that falls straight down.

        Raises
        ------
        InputError
            If the model gives something negative or not finite.
        """
        p, c = np.broadcast_arrays(
            np.asarray(momentum_GeV, dtype=float), np.asarray(cos_zenith, dtype=float)
        )
        above = c > 0
        values = np.asarray(self.function(p, np.where(above, c, 1.0)), dtype=float)
        if values.shape != p.shape or not (np.isfinite(values) & (values >= 0)).all():
            raise InputError(
                self.name,
                "the flux model's intensity is not a finite, non-negative number everywhere",
                "it must take arrays of momentum [GeV] and cos(zenith) and return one alike",
            )
        return np.where(above, values, 0.0)

    def plane_rate(self, p_min: float = 0.1, p_max: float = MOMENTUM_LIMITS[1]) -> float:
        """Return the rate through a horizontal plane [m⁻² s⁻¹]."""
        return self._integral(p_min, p_max, lambda c: 2 * np.pi * c)

    def wall_rate(self, p_min: float = 0.1, p_max: float = MOMENTUM_LIMITS[1]) -> float:
        """Return the rate through one side of a vertical wall [m⁻² s⁻¹]."""
        return self._integral(p_min, p_max, lambda c: 2 * np.sqrt(1 - c**2))

    def vertical_intensity(self, p_min: float = 0.1, p_max: float = MOMENTUM_LIMITS[1]) -> float:
        """Return the intensity from straight above, integrated over p [m⁻² s⁻¹ sr⁻¹]."""
        p, weight = _log_nodes(p_min, p_max)
        return float(weight @ self.intensity(p, np.ones_like(p)))

    def _integral(
        self, p_min: float, p_max: float, weight: Callable[[FloatArray], FloatArray]
    ) -> float:
        p, wp = _log_nodes(p_min, p_max)
        x, wx = _gauss_legendre(64)
        c, wc = (x + 1) / 2, wx / 2
        return float(wp @ self.intensity(p[:, None], c[None, :]) @ (wc * weight(c)))


def check_momentum_range(p_min: float, p_max: float) -> None:
    """Refuse a range of momenta that is reversed, empty or beyond the models.

    Raises
    ------
    InputError
        Naming the two momenta.
    """
    low, high = MOMENTUM_LIMITS
    if not low <= p_min < p_max <= high:
        raise InputError(
            "momentum range",
            f"{p_min:g} to {p_max:g} GeV is not a range",
            f"give two rising momenta between {low:g} and {high:g} GeV",
        )


def load_flux(flux: str | Path | FluxModel | Intensity) -> FluxModel:
    """Return the flux model that a name, a table's file or a function means.

    Parameters
    ----------
    flux : str, Path, FluxModel or callable
        A name of `MODELS` or of the entry-point group ``muscan.flux``; a ``.csv`` file as in
        `read_table`; or a function ``(momentum_GeV, cos_zenith) -> intensity``.

    Raises
    ------
    InputError
        If there is no such model or file.
    """
    if isinstance(flux, FluxModel):
        return flux
    if callable(flux):
        return FluxModel(getattr(flux, "__name__", "function"), flux)
    if Path(flux).suffix.lower() == ".csv":
        return read_table(Path(flux))
    return FluxModel(str(flux), plugins.load("muscan.flux", MODELS, str(flux)))


def names() -> list[str]:
    """Return the names of the flux models that are installed."""
    return plugins.names("muscan.flux", MODELS)


def from_table(
    momentum_GeV: ArrayLike, cos_zenith: ArrayLike, intensity: ArrayLike, name: str = "table"
) -> FluxModel:
    """Return a flux model that interpolates a table.

    Parameters
    ----------
    momentum_GeV : array_like, shape (n,)
        Rising momenta [GeV].
    cos_zenith : array_like, shape (m,)
        Rising cosines of the zenith angle, in (0, 1].
    intensity : array_like, shape (n, m)
        Intensity [m⁻² s⁻¹ sr⁻¹ GeV⁻¹], linear in log I over log p and cosθ; beyond the momenta
        of the table it is zero, beyond its cosines that of the nearest.

    Raises
    ------
    InputError
        If the shapes or the order are wrong, or a value is negative.
    """
    p, c = np.asarray(momentum_GeV, dtype=float), np.asarray(cos_zenith, dtype=float)
    table = np.asarray(intensity, dtype=float)
    if p.ndim != 1 or c.ndim != 1 or min(len(p), len(c)) < 2 or table.shape != (len(p), len(c)):
        raise InputError(
            name,
            f"a flux table of {p.size} momenta, {c.size} cosines and {table.shape} intensities",
            "give at least 2 momenta and 2 cosines, and one intensity for each pair",
        )
    finite = all(np.isfinite(values).all() for values in (p, c, table))
    rising = bool((np.diff(p) > 0).all() and (np.diff(c) > 0).all())
    if not (finite and rising and p[0] > 0 and c[0] >= 0 and c[-1] <= 1 and (table >= 0).all()):
        raise InputError(
            name,
            "momenta and cosines of a flux table must rise, and nothing in it be negative",
            "sort it by momentum [GeV] and cos(zenith)",
        )
    floor = 1e-300
    log_table = RegularGridInterpolator((np.log(p), c), np.log(np.maximum(table, floor)))

    def interpolated(momentum: FloatArray, cosine: FloatArray) -> FloatArray:
        inside = (momentum >= p[0] * (1 - 1e-12)) & (momentum <= p[-1] * (1 + 1e-12))
        points = np.stack(
            [np.log(np.clip(momentum, p[0], p[-1])), np.clip(cosine, c[0], c[-1])], axis=-1
        )
        points[..., 0] = np.clip(points[..., 0], np.log(p[0]), np.log(p[-1]))
        values = np.exp(log_table(points))
        return np.where(inside & (values > 2 * floor), values, 0.0)

    return FluxModel(name, interpolated)


def read_table(path: Path) -> FluxModel:
    """Return the flux model of a CSV file ``momentum_GeV,cos_zenith,intensity`` with a header.

    Raises
    ------
    InputError
        If the file cannot be read or is not a full table.
    """
    try:
        data = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(path, f"not a table of numbers: {error}") from error
    if data.ndim != 2 or data.shape[1] != 3:
        raise InputError(path, "a flux table has 3 columns", "momentum_GeV,cos_zenith,intensity")
    p, c = np.unique(data[:, 0]), np.unique(data[:, 1])
    if len(p) * len(c) != len(data):
        raise InputError(path, f"{len(data)} rows do not fill {len(p)} momenta × {len(c)} cosines")
    rows = data[np.lexsort((data[:, 1], data[:, 0]))]
    return from_table(p, c, rows[:, 2].reshape(len(p), len(c)), str(path))


def guan2015(p: FloatArray, c: FloatArray) -> FloatArray:
    """Gaisser's formula as modified by Guan et al. for low energy and large zenith angle.

    Source: M. Guan et al., arXiv:1509.06176; cosθ* accounts for the curved Earth
    (D. Chirkin, hep-ph/0407078).
    """
    star = _curved_cosine(c)
    energy = np.hypot(p, MUON_MASS_GEV)
    decay = 1 / (1 + 1.1 * energy * star / 115) + 0.054 / (1 + 1.1 * energy * star / 850)
    spectrum = 0.14 * (energy * (1 + 3.64 / (energy * star**1.29))) ** -2.7
    return _PER_CM2_TO_PER_M2 * spectrum * decay * p / energy


def reyna2006(p: FloatArray, c: FloatArray) -> FloatArray:
    """Bugaev's vertical spectrum scaled to every angle, after Reyna (hep-ph/0604145)."""
    zeta = p * c
    # The fit was made above 1 GeV; far below, it vanishes, and the logarithm needs a floor.
    y = np.log10(np.maximum(zeta, 1e-3))
    slope = 0.2455 + 1.288 * y - 0.2555 * y**2 + 0.0209 * y**3
    return _PER_CM2_TO_PER_M2 * c**3 * 0.00253 * 10 ** (-y * slope)


def ecomug(p: FloatArray, c: FloatArray) -> FloatArray:
    """The ADAMO fit that EcoMug draws from (Pagano et al., NIM A 1014:165732, 2021)."""
    n = np.maximum(0.1, 2.856 - 0.655 * np.log(p))
    return 1600 * (p + 2.68) ** -3.175 * p**0.279 * c**n


def gaisser(p: FloatArray, c: FloatArray) -> FloatArray:
    """The textbook formula: flat Earth, no decay; valid above about 100/cosθ GeV only.

    Source: T. Gaisser, Cosmic Rays and Particle Physics (1990); PDG, "Cosmic rays". Below that it
    gives far too many muons (it rises without limit towards low momentum).
    """
    energy = np.hypot(p, MUON_MASS_GEV)
    decay = 1 / (1 + 1.1 * energy * c / 115) + 0.054 / (1 + 1.1 * energy * c / 850)
    return _PER_CM2_TO_PER_M2 * 0.14 * energy**-2.7 * decay * p / energy


def _curved_cosine(c: FloatArray) -> FloatArray:
    """Cosine of the zenith angle at production, for the curved Earth (hep-ph/0407078)."""
    p1, p2, p3, p4, p5 = 0.102573, -0.068287, 0.958633, 0.0407253, 0.817285
    numerator = c**2 + p1**2 + p2 * c**p3 + p4 * c**p5
    return np.asarray(np.sqrt(numerator / (1 + p1**2 + p2 + p4)))


@lru_cache
def _gauss_legendre(n: int) -> tuple[FloatArray, FloatArray]:
    x, w = np.polynomial.legendre.leggauss(n)
    return x, w


def _log_nodes(p_min: float, p_max: float) -> tuple[FloatArray, FloatArray]:
    """Gauss–Legendre nodes and weights ∫ f dp over a range, spread evenly in log p."""
    check_momentum_range(p_min, p_max)
    x, w = _gauss_legendre(128)
    half = np.log(p_max / p_min) / 2
    p = p_min * np.exp(half * (x + 1))
    return p, half * w * p
