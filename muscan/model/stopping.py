"""Mean energy loss of muons by ionisation: the Bethe formula with the density effect.

Formulae: PDG, *Passage of particles through matter*, and Groom, Mokhov and Striganov, At. Data
Nucl. Data Tables 78 (2001) 183. Shell and Barkas corrections are left out: below 1 % above
100 MeV/c. The loss by radiation is in `muscan.model.radiative`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muscan.model.composition import DensityEffect
from muscan.units import (
    AVOGADRO_PER_MOL,
    CLASSICAL_ELECTRON_RADIUS_CM,
    ELECTRON_MASS_GEV,
    FINE_STRUCTURE,
    MUON_MASS_GEV,
)

FloatArray = NDArray[np.float64]

_ELECTRON_MASS_MEV: Final = ELECTRON_MASS_GEV * 1e3
_MUON_MASS_MEV: Final = MUON_MASS_GEV * 1e3
#: K = 4π N_A r_e² m_e c² [MeV cm²/mol].
BETHE_CONSTANT: Final = (
    4 * math.pi * AVOGADRO_PER_MOL * CLASSICAL_ELECTRON_RADIUS_CM**2 * _ELECTRON_MASS_MEV
)
#: The Bethe logarithm loses its meaning below about this βγ; slower muons get its value there.
MIN_BETA_GAMMA: Final = 0.05


class BetheParameters(NamedTuple):
    """What the Bethe formula needs of a material.

    Attributes
    ----------
    z_over_a : float
        ⟨Z/A⟩ [mol/g].
    mean_excitation_eV, plasma_energy_eV : float
        I and ħω_p [eV].
    cbar, x0, x1, a, k, delta0 : float
        Density effect, with x = log10(βγ).
    """

    z_over_a: float
    mean_excitation_eV: float
    plasma_energy_eV: float
    cbar: float
    x0: float
    x1: float
    a: float
    k: float
    delta0: float


def plasma_energy(density_g_cm3: float, z_over_a: float) -> float:
    """Return the plasma energy 28.816 √(ρ⟨Z/A⟩) [eV] (PDG table 34.1)."""
    return 28.816 * math.sqrt(density_g_cm3 * z_over_a)


def density_effect(
    mean_excitation_eV: float,
    plasma_energy_eV: float,
    gas: bool,
    tabulated: DensityEffect | None = None,
) -> DensityEffect:
    """Return the density-effect parameters of a material.

    Tabulated ones are carried over to this I and density: a change of C̄ = 2 ln(I/ħω_p) + 1
    moves x0 and x1 by ΔC̄ / (2 ln 10), which leaves the shape of δ(x) as it is (Sternheimer,
    Berger and Seltzer 1984). Without them the prescription of Sternheimer and Peierls, Phys. Rev.
    B 3 (1971) 3681, is taken.
    """
    cbar = 2 * math.log(mean_excitation_eV / plasma_energy_eV) + 1
    if tabulated is not None:
        shift = (cbar - tabulated.cbar) / (2 * math.log(10))
        return tabulated._replace(cbar=cbar, x0=tabulated.x0 + shift, x1=tabulated.x1 + shift)
    if gas:
        x0, x1 = _gas_limits(cbar)
    elif mean_excitation_eV < 100:
        x0, x1 = (0.2, 2.0) if cbar < 3.681 else (0.326 * cbar - 1.0, 2.0)
    else:
        x0, x1 = (0.2, 3.0) if cbar < 5.215 else (0.326 * cbar - 1.5, 3.0)
    a = (cbar - 2 * math.log(10) * x0) / (x1 - x0) ** 3
    return DensityEffect(cbar, x0, x1, a, 3.0)


def _gas_limits(cbar: float) -> tuple[float, float]:
    for limit, x0, x1 in (
        (10.0, 1.6, 4.0),
        (10.5, 1.7, 4.0),
        (11.0, 1.8, 4.0),
        (11.5, 1.9, 4.0),
        (12.25, 2.0, 4.0),
        (13.804, 2.0, 5.0),
    ):
        if cbar < limit:
            return x0, x1
    return 0.326 * cbar - 2.5, 5.0


def density_correction(parameters: BetheParameters, beta_gamma: ArrayLike) -> FloatArray:
    """Return δ(βγ), the density effect's reduction of the loss (PDG eq. 34.7), same shape."""
    p = parameters
    x = np.log10(np.asarray(beta_gamma, dtype=float))
    asymptote = 2 * math.log(10) * x - p.cbar
    between = asymptote + p.a * np.clip(p.x1 - x, 0, None) ** p.k
    below = p.delta0 * 10 ** (2 * np.minimum(x - p.x0, 0))
    return np.asarray(np.where(x >= p.x0, between, below))


def ionisation_loss(parameters: BetheParameters, momentum_GeV: ArrayLike) -> FloatArray:
    """Return the mean loss of a muon by ionisation [MeV cm²/g], same shape as the momentum.

    The Bethe formula for a particle of spin ½ with the density effect, and the bremsstrahlung of
    the struck electrons (Groom et al. 2001, eqs. 4 and 7).
    """
    p = parameters
    beta_gamma = np.maximum(np.asarray(momentum_GeV, dtype=float) / MUON_MASS_GEV, MIN_BETA_GAMMA)
    gamma = np.sqrt(1 + beta_gamma**2)
    beta2 = (beta_gamma / gamma) ** 2
    ratio = _ELECTRON_MASS_MEV / _MUON_MASS_MEV
    largest = 2 * _ELECTRON_MASS_MEV * beta_gamma**2 / (1 + 2 * gamma * ratio + ratio**2)
    excitation = p.mean_excitation_eV * 1e-6
    logarithm = 0.5 * np.log(2 * _ELECTRON_MASS_MEV * beta_gamma**2 * largest / excitation**2)
    energy = gamma * _MUON_MASS_MEV
    spin = 0.125 * (largest / energy) ** 2
    bracket = logarithm - beta2 - 0.5 * density_correction(p, beta_gamma) + spin
    # The radiation of struck electrons is a high-energy expression: nothing where it would vanish.
    log_largest = np.maximum(np.log(2 * largest / _ELECTRON_MASS_MEV), 0)
    radiated = (np.log(2 * gamma) - log_largest / 3) * log_largest**2
    struck = FINE_STRUCTURE / (4 * math.pi) * radiated
    return np.asarray(BETHE_CONSTANT * p.z_over_a * (bracket / beta2 + struck))
