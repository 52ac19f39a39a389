"""Multiple Coulomb scattering as a mixed simulation: soft collisions together, hard ones singly.

Per path length and momentum transfer q the cross section of an element is that of Wentzel, with
Molière's screening, times a nuclear form factor:
``dN/dq² = K / β² · F²(q) / (q² + q_a²)²``. Collisions below a cut q_c add up to a Gaussian
deflection whose variance is exact; those above it are drawn one by one. The cut is set so
that a piece of matter holds about `HARD_COLLISIONS` of them. Nothing depends on how a path is
cut into pieces, and the tails are those of single scattering.

Sources: G. Molière, Z. Naturforsch. 3a (1948) 78; H. A. Bethe, Phys. Rev. 89 (1953) 1256;
J. M. Fernández-Varea et al., NIM B 73 (1993) 447 (mixed simulation);
A. V. Butkevich et al., NIM A 488 (2002) 282 (form factor).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.lookup import locate
from muscan.kernels.options import PART

#: Number of hard collisions that the cut aims at in one piece of matter.
HARD_COLLISIONS: Final = 1.0
#: Grid of octaves(ξ / mm), ξ = length / β².
XI_FIRST: Final = -14
XI_PER_OCTAVE: Final = 4
XI_ROWS: Final = 4 * 40 + 1
#: Grid of octaves(q² / GeV²).
Q2_FIRST: Final = -40
Q2_PER_OCTAVE: Final = 4
Q2_ROWS: Final = 4 * 46 + 1


class ScatteringTables(NamedTuple):
    """Scattering of materials (first index); `muscan.simulation.tables` fills it.

    Attributes
    ----------
    rutherford : (n, 4) float64
        K [GeV² / mm], K of the electrons alone, the smallest q_a² [GeV²], and the factor
        -charge * π α Z of the second Born term.
    soft : (n, XI_ROWS, 4) float64
        By ξ: projected variance of q below the cut per ξ [GeV² / mm], the spread of that variance
        which gives the soft part its fourth moment, and what the second Born term adds to the
        variance times p [GeV³ / mm] and takes from it, with that of spin, times p² [GeV⁴ / mm].
    hard : (n, Q2_ROWS, 2) float64
        By q²: cross section on nuclei and on electrons over that of a bare ``K / (q² + q_a²)²``.
    """

    rutherford: np.ndarray
    soft: np.ndarray
    hard: np.ndarray


class Cut(NamedTuple):
    """Where soft ends and hard begins in a piece of matter.

    Attributes
    ----------
    variance : float
        Projected variance of q in the soft part per ξ [GeV² / mm].
    spread : float
        Relative spread of that variance, for the piece as a whole.
    born, spin : float
        What is added to the variance times p, and taken from it times p² [GeV³, GeV⁴ / mm].
    q2_plus : float
        q_c² + q_a² [GeV²].
    rate : float
        Hard collisions per ξ [1 / mm], at most.
    """

    variance: float
    spread: float
    born: float
    spin: float
    q2_plus: float
    rate: float


@njit(**PART)
def choose_cut(tables: ScatteringTables, m: int, xi: float) -> Cut:
    """Return the cut for a piece of matter with ξ = length / β² [mm]."""
    i, f = locate(xi, XI_FIRST, XI_PER_OCTAVE, XI_ROWS)
    soft = tables.soft
    variance = soft[m, i, 0] + f * (soft[m, i + 1, 0] - soft[m, i, 0])
    spread = soft[m, i, 1] + f * (soft[m, i + 1, 1] - soft[m, i, 1])
    born = soft[m, i, 2] + f * (soft[m, i + 1, 2] - soft[m, i, 2])
    spin = soft[m, i, 3] + f * (soft[m, i + 1, 3] - soft[m, i, 3])
    constant = tables.rutherford[m, 0]
    q2_plus = max(constant * xi * (1.0 / HARD_COLLISIONS), tables.rutherford[m, 2])
    rate = constant / q2_plus * _headroom(tables.rutherford[m, 3])
    return Cut(variance, spread, born, spin, q2_plus, rate)


@njit(**PART)
def _headroom(born: float) -> float:
    """Return the most that the weight in `scatter_hard` can be, since s (1 - s) <= 1/4."""
    return 1.0 + max(0.25 * born, 0.0)


@njit(**PART)
def acceptance(tables: ScatteringTables, m: int, q2: float, q2_electron: float) -> float:
    """Return the cross section at q² over that of the bare law from which q² was drawn."""
    i, f = locate(q2, Q2_FIRST, Q2_PER_OCTAVE, Q2_ROWS)
    hard = tables.hard
    value = hard[m, i, 0] + f * (hard[m, i + 1, 0] - hard[m, i, 0])
    if q2 < q2_electron:
        value += hard[m, i, 1] + f * (hard[m, i + 1, 1] - hard[m, i, 1])
    return value


@njit(**PART)
def scatter_hard(
    rng: np.random.Generator,
    tables: ScatteringTables,
    m: int,
    q2_plus: float,
    p: float,
    q2_electron: float,
) -> tuple[float, float]:
    """Return the projected angles [rad] of one hard collision; zero if it is a rejected one."""
    # Of a pair of normal deviates the direction is uniform and, apart from that, exp(-r²/2) is:
    # the one gives the azimuth, the other q² by inversion.
    x, y = rng.standard_normal(), rng.standard_normal()
    r2 = x * x + y * y + 1e-30
    q2 = q2_plus * math.exp(0.5 * r2) - tables.rutherford[m, 2]
    half_sine2 = 0.25 * q2 / (p * p)
    if half_sine2 >= 1.0:
        return 0.0, 0.0
    # Spin 1/2 and the second Born term, 1 - β² s² + π α Z β s (1 - s) for µ⁻ and s = sin(θ/2), with
    # β = 1, as they matter at large angles only: W. A. McKinley and H. Feshbach, Phys. Rev. 74
    # (1948) 1759.
    born, half_sine = tables.rutherford[m, 3], math.sqrt(half_sine2)
    weight = 1.0 - half_sine2 + born * half_sine * (1.0 - half_sine)
    weight *= acceptance(tables, m, q2, q2_electron)
    if rng.random() * _headroom(born) >= weight:
        return 0.0, 0.0
    angle = 2.0 * half_sine * (1.0 + half_sine2 / 6.0)
    if half_sine2 > 0.01:
        angle = 2.0 * math.asin(half_sine)
    per_r = angle / math.sqrt(r2)
    return x * per_r, y * per_r
