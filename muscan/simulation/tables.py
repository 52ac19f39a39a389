"""Turns materials into the arrays that the transport kernel reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError, nearest
from muscan.kernels import energy_loss
from muscan.kernels import scattering as wentzel
from muscan.kernels.energy_loss import LossTables
from muscan.kernels.scattering import ScatteringTables
from muscan.kernels.transport import TransportTables
from muscan.model import radiative
from muscan.units import (
    AVOGADRO_PER_MOL,
    CLASSICAL_ELECTRON_RADIUS_CM,
    ELECTRON_MASS_GEV,
    FINE_STRUCTURE,
    MM_PER_CM,
    MUON_MASS_GEV,
)

if TYPE_CHECKING:
    from muscan.model.material import Material

FloatArray = NDArray[np.float64]

#: Laws of scattering by name.
SCATTERING_LAWS: Final = ("moliere", "highland")
_HBARC_GEV_FM: Final = 0.1973269804


def _grid(first: int, per_octave: int, rows: int) -> FloatArray:
    """Return the abscissae of a table: see `muscan.kernels.lookup`."""
    octave, part = np.divmod(np.arange(rows), per_octave)
    return 2.0 ** (first + octave) * (1 + part / per_octave)


_XI: Final = _grid(wentzel.XI_FIRST, wentzel.XI_PER_OCTAVE, wentzel.XI_ROWS)
_Q2: Final = _grid(wentzel.Q2_FIRST, wentzel.Q2_PER_OCTAVE, wentzel.Q2_ROWS)
_MOMENTUM: Final = _grid(energy_loss.P_FIRST, energy_loss.P_PER_OCTAVE, energy_loss.P_ROWS)
_RADIATIVE_MOMENTUM: Final = _grid(energy_loss.RADIATIVE_P_FIRST, 1, energy_loss.RADIATIVE_P_ROWS)
#: ln v of the radiative spectra, from the cut to just below the whole kinetic energy.
_LOG_V: Final = np.linspace(
    math.log(energy_loss.RADIATIVE_CUT),
    np.log(0.999 - MUON_MASS_GEV / np.hypot(_RADIATIVE_MOMENTUM, MUON_MASS_GEV)),
    400,
    axis=1,
)
#: Momentum up to which there are tables [GeV].
LARGEST_MOMENTUM: Final = float(_MOMENTUM[-1])


def build_tables(
    materials: Sequence[Material], scattering: str = "moliere", charge: int = 0
) -> TransportTables:
    """Return the transport tables of materials, which the kernels know by their index.

    Parameters
    ----------
    materials : sequence of Material
    scattering : {"moliere", "highland"}
        ``moliere``: single collisions with Molière's screening and a nuclear form factor, tails
        and all. Geant4's Wentzel-VI model has no form factor for soft collisions; in 10 cm of lead
        its angles are 2 % wider, and its tails (99.7 %) in any matter up to 10 %. ``highland``: a
        Gaussian of the Highland-Lynch-Dahl width, taken once for each homogeneous piece, without
        tails.
    charge : {-1, 0, 1}
        Charge of the muons, which changes their large-angle scattering on heavy nuclei by a few
        per cent (second Born term, that of a point nucleus). 0 leaves it out: µ⁺ and µ⁻ in equal
        parts.

    Raises
    ------
    InputError
        If there is no such law of scattering.
    """
    if scattering not in SCATTERING_LAWS:
        hint = nearest(scattering, SCATTERING_LAWS)
        raise InputError("scattering", f"no such law '{scattering}'", hint)
    law = _moliere if scattering == "moliere" else _highland
    angles = [law(material, charge) for material in materials]
    losses = [_losses(material) for material in materials]
    for (_, _, _, correction, q2_electron), (_, rows, _) in zip(angles, losses, strict=True):
        rows[:, 2], rows[:, 3] = correction, q2_electron
    return TransportTables(
        ScatteringTables(*(np.stack(part) for part in list(zip(*angles, strict=True))[:3])),
        LossTables(*(np.stack(part) for part in zip(*losses, strict=True))),
    )


def _highland(material: Material, _charge: int) -> tuple[FloatArray, ...]:
    """A Gaussian: Lynch and Dahl, NIM B 58 (1991) 6, whose logarithm is that of x/(X0 β²)."""
    thickness = _XI / material.radiation_length_mm
    logarithm = np.maximum(1 + 0.038 * np.log(thickness), 0.1)
    soft = np.zeros((wentzel.XI_ROWS, 4))
    soft[:, 0] = 0.0136**2 / material.radiation_length_mm * logarithm**2
    nothing, unlimited = np.zeros(_MOMENTUM.size), np.full(_MOMENTUM.size, 1e30)
    return np.array([0, 0, 1.0, 0]), soft, np.zeros((_Q2.size, 2)), nothing, unlimited


def _moliere(material: Material, charge: int) -> tuple[FloatArray, ...]:
    """Single scattering on screened nuclei of finite size and on electrons."""
    z, a, fraction = material.elements()
    # K = 4π N_A (α ħc)² ρ w/A Z² with α ħc = r_e m_e c².
    constant = 4 * math.pi * AVOGADRO_PER_MOL * material.density_g_cm3 / MM_PER_CM
    constant *= (CLASSICAL_ELECTRON_RADIUS_CM * ELECTRON_MASS_GEV) ** 2
    electrons = constant * fraction * z / a
    nuclei = electrons * z
    screening = _screening(z, 1.0)

    total = float(nuclei.sum() + electrons.sum())
    smallest = float(screening.min())
    q2 = _Q2[:, None]
    # F = 1 / (1 + q² R² / 12)² of an exponential charge distribution (Butkevich et al. 2002), and
    # quasi-elastic scattering on single protons by closure, (1 - F²) / Z (T. de Forest and
    # J. D. Walecka, Adv. Phys. 15 (1966) 1), with the proton's dipole form factor.
    radius = np.where(z == 1, 0.85, 1.27 * a**0.27) / _HBARC_GEV_FM
    coherent = (1 + q2 * radius**2 / 12) ** -4.0
    single = np.where(z == 1, 0.0, 1 - coherent) / z * (1 + q2 / 0.71) ** -4.0
    bare = (q2 + smallest) ** 2 / total
    hard = np.stack(
        [
            np.sum(bare * nuclei * (coherent + single) / (q2 + screening) ** 2, axis=1),
            np.sum(bare * electrons / (q2 + screening) ** 2, axis=1),
        ],
        axis=1,
    )
    born = -charge * math.pi * FINE_STRUCTURE * float(nuclei @ z / nuclei.sum())
    soft = _soft_moments(hard / bare, total, smallest, born)

    beta2 = _MOMENTUM**2 / (_MOMENTUM**2 + MUON_MASS_GEV**2)
    slow = np.log(_screening(z, beta2[:, None]) / screening)
    correction = -0.5 * np.sum(nuclei * slow, axis=1)
    # Of arrays; where numba is switched off (NUMBA_DISABLE_JIT) the kernel is the plain function.
    transfer = getattr(energy_loss.largest_transfer, "py_func", energy_loss.largest_transfer)
    largest = transfer(_MOMENTUM, np.hypot(_MOMENTUM, MUON_MASS_GEV))
    # Transverse q² = 2 m T (1 - T/T_max) with weight 1 - β² T/T_max amounts to a cut here.
    q2_electron = 2 * ELECTRON_MASS_GEV * largest * np.exp(-beta2 / 2)
    return np.array([total, electrons.sum(), smallest, born]), soft, hard, correction, q2_electron


def _screening(z: FloatArray, beta2: FloatArray | float) -> FloatArray:
    """q_a² of the Thomas-Fermi atom [GeV²].

    Molière's 1.13 q_0² with the exact Coulomb correction exp(2 f(αZ/β)), f being that of Bethe and
    Maximon (E. A. Kuraev, O. O. Voskresenskaya and A. V. Tarasov, Phys. Rev. D 89 (2014) 116016;
    M. V. Bondarenco, arXiv:2107.11409), and what Geant4's Wentzel-VI model has for light atoms:
    the factor 1 + exp(-Z²/1000), 1.0 q_0² for hydrogen, and the same q_a² for collisions with
    electrons (V. N. Ivanchenko et al., J. Phys. Conf. Ser. 219 (2010) 032045). Molière's own q_a²
    with Fano's for electrons (Phys. Rev. 93 (1954) 117) would make widths in water 4 % larger.
    """
    thomas_fermi = (FINE_STRUCTURE * ELECTRON_MASS_GEV / 0.88534) ** 2 * np.cbrt(z) ** 2
    a2 = (FINE_STRUCTURE * z) ** 2 / beta2
    n = np.arange(1, 40).reshape(-1, *(1,) * np.ndim(a2))
    coulomb = a2 * np.sum(1 / (n * (n * n + a2)), axis=0)
    atom = 1.13 * np.exp(2 * coulomb) * (1 + np.exp(-0.001 * z * z))
    return thomas_fermi * np.where(z == 1, 1.0, atom)


def _soft_moments(
    cross_section: FloatArray, total: float, smallest: float, born: float
) -> FloatArray:
    """Variance and spread of the soft part at every ξ of the grid, and what changes the variance.

    On nuclei the cross section has the factor 1 + b s - (1 + b) s² with s = sin(θ/2) = q/2p and b
    the second Born term, which `muscan.kernels.scattering.scatter_hard` gives to hard collisions.
    """
    fine = np.linspace(math.log(_Q2[0]), math.log(_Q2[-1]), 8 * _Q2.size)
    q2 = np.exp(fine)
    bare = cross_section * (_Q2[:, None] + smallest) ** 2
    nuclear = np.interp(q2, _Q2, bare[:, 0]) / (q2 + smallest) ** 2
    density = np.interp(q2, _Q2, bare.sum(axis=1)) / (q2 + smallest) ** 2

    def cumulative(power: float, density: FloatArray) -> FloatArray:
        integrand = density * q2 ** (power + 1) * (fine[1] - fine[0])
        sums = np.cumsum(0.5 * (integrand[1:] + integrand[:-1]))
        return np.concatenate([[0.0], sums])

    plus = np.maximum(total * _XI / wentzel.HARD_COLLISIONS, smallest)
    cut = np.log(np.maximum(plus - smallest, _Q2[0]))
    second = np.interp(cut, fine, cumulative(1, density))
    fourth = np.interp(cut, fine, cumulative(2, density))
    by_s = np.interp(cut, fine, cumulative(1.5, nuclear)) / 2
    by_s2 = np.interp(cut, fine, cumulative(2, nuclear)) / 4
    # Projected: <q_x²> = <q²>/2 and <q_x⁴> = 3/8 <q⁴>; a Gaussian whose variance has the
    # relative spread c has the excess 3 c².
    excess = 0.375 * fourth / np.maximum((0.5 * second) ** 2 * _XI, 1e-300)
    change = 0.5 * born * by_s, 0.5 * (1 + born) * by_s2
    return np.stack([0.5 * second, np.sqrt(excess / 3), *change], axis=1)


def _losses(material: Material) -> tuple[np.float64, FloatArray, FloatArray]:
    """Landau's constant, the rows by momentum and the quantiles of radiative losses."""
    to_gev_per_mm = material.density_g_cm3 * 1e-3 / MM_PER_CM
    # ξ β² / x = 2π N_A r_e² m_e Z/A ρ.
    landau = 2 * math.pi * AVOGADRO_PER_MOL * CLASSICAL_ELECTRON_RADIUS_CM**2
    landau *= ELECTRON_MASS_GEV * material.z_over_a * material.density_g_cm3 / MM_PER_CM
    hard_loss, hard_rate, quantiles = _radiative(material)
    rows = np.zeros((energy_loss.P_ROWS, 4))
    rows[:, 0] = material.mass_stopping_power(_MOMENTUM) * to_gev_per_mm - hard_loss
    rows[:, 1] = hard_rate
    return np.float64(landau), rows, quantiles


def _radiative(material: Material) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean loss [GeV/mm] by and rate [1/mm] of hard radiative losses, and their quantiles."""
    spectra = sum(
        fraction * _element_spectra(int(z), float(a))
        for z, a, fraction in zip(*material.elements(), strict=True)
    )
    # Rates above each v, by the trapezoidal rule.
    parts = 0.5 * (spectra[:, 1:] + spectra[:, :-1]) * np.diff(_LOG_V, axis=1)
    above = np.cumsum(parts[:, ::-1], axis=1)[:, ::-1] * (material.density_g_cm3 / MM_PER_CM)
    logs = -np.log2(above / above[:, :1])
    steps = np.arange(energy_loss.QUANTILE_ROWS) / energy_loss.QUANTILES_PER_OCTAVE
    log2_v = _LOG_V[:, :-1] / math.log(2)
    quantiles = np.array([np.interp(steps, x, y) for x, y in zip(logs, log2_v, strict=True)])

    # The mean of what the kernel draws, which takes the nearer row of momenta the more often.
    levels = -np.log2((np.arange(20_000) + 0.5) / 20_000)
    mean_v = np.array([np.mean(2 ** np.interp(levels, steps, row)) for row in quantiles])
    x, octaves = np.log2(_MOMENTUM), np.log2(_RADIATIVE_MOMENTUM)
    rate = np.interp(x, octaves, above[:, 0])
    loss = rate * np.hypot(_MOMENTUM, MUON_MASS_GEV) * np.interp(x, octaves, mean_v)
    return loss, rate, quantiles


@lru_cache(maxsize=128)
def _element_spectra(z: int, a: float) -> FloatArray:
    """v dσ/dv [cm²/g] of all radiative losses together, at the v of `_LOG_V`."""
    rows = []
    for momentum, log_v in zip(_RADIATIVE_MOMENTUM, _LOG_V, strict=True):
        energy, v = math.hypot(momentum, MUON_MASS_GEV), np.exp(log_v)
        top = 1 - 0.75 * math.sqrt(math.e) * MUON_MASS_GEV / energy * z ** (1 / 3)
        pairs = (v > 4 * ELECTRON_MASS_GEV / energy) & (v < top)
        nuclear = (v > 0.2 / energy) & (v < 1 - 0.47 / energy)
        spectrum = radiative.bremsstrahlung_spectrum(z, a, energy, v)
        spectrum[pairs] += radiative.pair_spectrum(z, a, energy, v[pairs])
        spectrum[nuclear] += radiative.photonuclear_spectrum(a, energy, v[nuclear])
        rows.append(v * spectrum)
    return np.array(rows)
