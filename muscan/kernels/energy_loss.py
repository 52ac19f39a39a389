"""Energy loss of a muon: a continuous part with its fluctuation, and hard losses one by one.

Losses below a cut are one draw with the exact mean, variance and skewness; knocked-on electrons
above it are drawn from the cross section of spin-1/2 particles, radiated photons and pairs above
`RADIATIVE_CUT` from tables. The cut of the electrons follows Landau's ξ of the piece, so that a
thin piece shows Landau's tail and a thick one Vavilov's and Gauss's distributions.

Sources: PDG, *Passage of particles through matter*; Geant4 Physics Reference Manual, chapter
"Muon ionization" (cross section of knock-on electrons).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.options import KERNEL, PART

MUON_MASS: Final = 0.1056583755  # GeV
ELECTRON_MASS: Final = 0.51099895e-3  # GeV
#: Slower muons count as stopped [GeV]: their range is below 0.2 mm of water.
STOP_MOMENTUM: Final = 0.014
#: Radiative losses of more than this part of the energy are drawn one by one.
RADIATIVE_CUT: Final = 5e-4
#: Knock-on electrons below this part of the momentum are never drawn one by one.
SMALLEST_CUT: Final = 5e-6
#: Grid of octaves(p / GeV).
P_FIRST: Final = -7
P_PER_OCTAVE: Final = 16
P_ROWS: Final = 16 * 22 + 1
#: Grid of the radiative quantiles: log2(p / GeV), and -log2 of the part of losses above.
RADIATIVE_P_FIRST: Final = -3
RADIATIVE_P_ROWS: Final = 19
QUANTILE_ROWS: Final = 33
QUANTILES_PER_OCTAVE: Final = 2


class LossTables(NamedTuple):
    """Energy loss of materials (first index); `muscan.simulation.tables` fills it.

    Attributes
    ----------
    landau : (n,) float64
        Landau's ξ β² per length [GeV / mm].
    rows : (n, P_ROWS, 4) float64
        By p: mean loss without hard radiative ones [GeV / mm]; hard radiative losses per length
        [1 / mm]; what scattering adds to the soft variance for β < 1 [GeV² / mm]; the largest
        q² on electrons [GeV²].
    radiative : (n, RADIATIVE_P_ROWS, QUANTILE_ROWS) float64
        log2 of the lost part of the energy by momentum and by quantile.
    """

    landau: np.ndarray
    rows: np.ndarray
    radiative: np.ndarray


@njit(**KERNEL)
def largest_transfer(p: float, energy: float) -> float:
    """Return the largest kinetic energy [GeV] that a muon gives to an electron at rest."""
    ratio = ELECTRON_MASS / MUON_MASS
    return (
        2.0
        * ELECTRON_MASS
        * (p / MUON_MASS) ** 2
        / (1.0 + 2.0 * ratio * energy / MUON_MASS + ratio * ratio)
    )


@njit(**KERNEL)
def draw_electron(
    rng: np.random.Generator, cut: float, largest: float, beta2: float, energy: float
) -> float:
    """Return the energy [GeV] of a knock-on electron above the cut, 0 for a rejected draw."""
    u = rng.random()
    t = cut * largest / (largest - u * (largest - cut))
    weight = 1.0 - beta2 * t / largest + 0.5 * (t / energy) ** 2
    return t if rng.random() < weight else 0.0


@njit(**KERNEL)
def draw_radiative(
    rng: np.random.Generator, tables: LossTables, m: int, p: float, energy: float
) -> float:
    """Return the energy [GeV] of one hard radiative loss."""
    # The nearer row is taken the more often: interpolation between spectra by chance.
    row = int(
        min(max(math.log2(p) - RADIATIVE_P_FIRST + rng.random(), 0.0), RADIATIVE_P_ROWS - 1.0)
    )
    x = -math.log2(1.0 - rng.random()) * QUANTILES_PER_OCTAVE
    x = min(x, QUANTILE_ROWS - 1.000001)
    i = int(x)
    low, high = tables.radiative[m, row, i], tables.radiative[m, row, i + 1]
    return energy * 2.0 ** (low + (x - i) * (high - low))


@njit(**PART)
def draw_soft(rng: np.random.Generator, mean: float, variance: float, third: float) -> float:
    """Return a loss of a given mean, variance and, unless it is very skew, third central moment."""
    if mean * mean < 9.0 * variance:
        # Matter thinner than a few collisions: all or nothing, with that mean and variance.
        chance = mean * mean / (mean * mean + variance)
        return mean / chance if rng.random() < chance else 0.0
    sigma = math.sqrt(variance)
    skew = min(third / (6.0 * variance), sigma / 6.0)
    z = rng.standard_normal()
    return max(mean + sigma * z + skew * (z * z - 1.0), 0.0)


@njit(**PART)
def lose_energy(
    rng: np.random.Generator,
    tables: LossTables,
    m: int,
    p: float,
    energy: float,
    length: float,
    mean: float,
    n_radiative: float,
    cut: float,
) -> float:
    """Draw the energy [GeV] lost over a step that is short compared with the range.

    Parameters
    ----------
    rng : numpy Generator
    tables : LossTables
    m : int
        Index of the material.
    p, energy : float
        Momentum and total energy in the middle of the step [GeV].
    length : float
        Path length [mm].
    mean : float
        Mean loss over the step, without hard radiative ones [GeV].
    n_radiative : float
        Mean number of those.
    cut : float
        Energy [GeV] above which knock-on electrons are drawn singly.
    """
    beta2 = (p / energy) ** 2
    landau = tables.landau[m] * length / beta2
    largest = largest_transfer(p, energy)
    top, n_electron = largest, 0.0
    ratio = cut / largest
    if ratio < 1.0:
        top = cut
        hard = -math.log(ratio) - beta2 * (1.0 - ratio)
        hard += (largest * largest - cut * cut) / (4.0 * energy * energy)
        mean -= landau * hard
        n_electron = landau * (1.0 - ratio) / cut
    else:
        ratio = 1.0
    variance = landau * top * (1.0 - 0.5 * beta2 * ratio)
    third = landau * top * top * (0.5 - beta2 * ratio / 3.0)
    lost = draw_soft(rng, mean, variance, third)

    expected = n_electron + n_radiative
    depth = rng.standard_exponential()
    while depth < expected:
        if rng.random() * expected < n_electron:
            lost += draw_electron(rng, cut, largest, beta2, energy)
        else:
            lost += draw_radiative(rng, tables, m, p, energy)
        depth += rng.standard_exponential()
    return lost
