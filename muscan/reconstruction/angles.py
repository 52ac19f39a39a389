"""How the angles of one momentum are spread: a variance that is itself by chance.

Collisions of a momentum transfer q in a layer are K F²(q)/(q² + q_a²)² dq² in number, with
Molière's screening q_a (Z. Naturforsch. 3a:78, 1948) and the nucleus's form factor F² =
exp(-q²/q0²), q0² = 3/R². Each is a mixture of normal deviates in two planes, of the variances v in
the number ξ/v² (1 - v/v_max) dv, with ξ = K/2 and v_max = q0²/2, so their sum is normal with the
sum of the variances. That has Vavilov's law of energy losses for β = 1 and κ = ξ/v_max
(Sov. Phys. JETP 5:749, 1957) about the mean ξ (ln(q0²/q_a²) - γ - 1): nothing is left to choose.
In thin light matter it has Rutherford's tail; behind many radiation lengths it is nearly one value.
Collisions with electrons, one in Z + 1, are many and small: their sum is taken to be its mean.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import sici

from muscan.model.track_errors import highland_factor

FloatArray = NDArray[np.float64]

#: Shares of the muons, from the smallest variance on, and between them the nodes of the law.
SHARE_EDGES = np.array(
    [0.0, 0.03, 0.1, 0.22, 0.38, 0.56, 0.72, 0.84, 0.91, 0.95, 0.975, 0.99, 0.996, 0.999, 1.0]
)
#: κ for which the law is tabulated; smaller ones have a longer tail of a share below 1e-3.
KAPPAS = np.geomspace(5e-4, 20.0, 48)
#: Matter by its water [g/cm²] in a radiation length, in terms of the momentum that a muon of 3 GeV
#: loses (PDG 2024: uranium, lead, copper, iron, aluminium, water).
_WATER_PER_X0 = np.array([3.67, 4.02, 9.58, 10.6, 20.1, 36.1])
#: Per kind of matter: Z, mass number and mass fraction of the elements, radiation length [g/cm²].
_MATTER = (
    ((92,), (238.0,), (1.0,), 6.00),
    ((82,), (207.2,), (1.0,), 6.37),
    ((29,), (63.55,), (1.0,), 12.86),
    ((26,), (55.85,), (1.0,), 13.84),
    ((13,), (26.98,), (1.0,), 24.01),
    ((1, 8), (1.008, 16.0), (0.1119, 0.8881), 36.08),
)
#: Mean of 1/α, electron mass [MeV], ħc [MeV fm], Rossi's constant [MeV].
_INVERSE_ALPHA, _ELECTRON, _HBARC, _ROSSI = 137.036, 0.510999, 197.327, 15.0
#: βγ of a muon of 2 GeV, for which collisions with electrons are taken.
_FACTOR = 2.0 / 0.10566


def shares() -> FloatArray:
    """Return the shares of the muons that the nodes of `variances` stand for."""
    return np.diff(SHARE_EDGES)


def variances(thickness: float, water_per_x0: float) -> FloatArray:
    """Return the nodes of the law: variances of the angle in a plane over Highland's.

    Parameters
    ----------
    thickness : float
        Of all that is crossed, in radiation lengths; from 0.001 to 100.
    water_per_x0 : float
        Water that takes as much momentum as a radiation length of it [g/cm²]: 36 for water,
        10.6 for iron, 4 for lead. It tells what the matter is.

    Returns
    -------
    ndarray, shape (nodes,)
        Ascending; their shares are `shares`.
    """
    thickness = float(np.clip(thickness, 1e-3, 1e2))
    per_x0, screening, form, electrons = (
        np.interp(np.log(water_per_x0), np.log(_WATER_PER_X0), column) for column in _constants()
    )
    xi = 0.5 * per_x0 * thickness
    kappa = float(np.clip(2 * xi * form, KAPPAS[0], KAPPAS[-1]))
    # v_max is that of κ, which is bounded: a longer tail would only add single scatters.
    mean = xi * (np.log(2 * xi / kappa) - screening - np.euler_gamma - 1) + electrons * thickness
    place = np.interp(np.log(kappa), np.log(KAPPAS), np.arange(len(KAPPAS)))
    low = min(int(place), len(KAPPAS) - 2)
    table = _vavilov()
    spread = (1 - (place - low)) * table[low] + (place - low) * table[low + 1]
    highland = _ROSSI**2 * thickness * highland_factor(np.array(thickness))
    return np.asarray(np.maximum(mean + xi * spread, 0.1 * mean) / highland)


@lru_cache(maxsize=1)
def _constants() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return K a radiation length [MeV²], ln q_a², 1/q0² and the electrons' variance [MeV²].

    K = 0.157 MeV² Z²/A a g/cm² of nuclei, and 1/Z of it of electrons (Bethe, Phys. Rev. 89:1256,
    1953); radii of the charge 1.27 A^0.27 fm (Butkevich et al., NIM A 488:282, 2002), 0.85 fm for
    the proton. An electron takes no more than 2 m βγ, with a recoil of T across the muon's way by
    √(2 m T (1 - T/T_max)), whence the electrons' logarithm.
    """
    rows = []
    for numbers, masses, fractions, radiation_length in _MATTER:
        z, a, part = np.array(numbers, float), np.array(masses), np.array(fractions)
        number = 0.157 * z**2 / a * part * radiation_length
        momentum = _ELECTRON / _INVERSE_ALPHA * np.cbrt(z) / 0.885
        screening = 2 * np.log(momentum) + np.log(1.13 + 3.76 * (z / _INVERSE_ALPHA) ** 2)
        radius = np.where(z == 1, 0.85, 1.27 * a**0.27)
        form = np.square(radius / _HBARC) / 3
        mean = number / number.sum()
        collisions = 2 * np.log(2 * _ELECTRON * _FACTOR) - screening - 2
        electrons = 0.5 * (number / z * collisions).sum()
        rows.append((number.sum(), (mean * screening).sum(), (mean * form).sum(), electrons))
    per_x0, screenings, forms, electrons_per_x0 = np.array(rows).T
    return per_x0, screenings, forms, electrons_per_x0


@lru_cache(maxsize=1)
def _vavilov() -> FloatArray:
    """Return (V - mean)/ξ at the nodes, for each of `KAPPAS`, shape (kappas, nodes).

    Their distribution has the characteristic function exp(κ I(w/κ)) with I(w) the integral of
    (exp(iwy) - 1 - iwy)(1 - y)/y² from 0 to 1, inverted by a Fourier transform.
    """
    nodes = 0.5 * (SHARE_EDGES[1:] + SHARE_EDGES[:-1])
    points = 1 << 15
    rows = []
    for kappa in KAPPAS:
        low, high = -12.0, min(40 + 3 / kappa, 1200.0)
        step = (high - low) / points
        omega = 2 * np.pi * np.fft.fftfreq(points, step)
        w = np.abs(omega) / kappa
        # Below this the closed form cancels, and I is minus a quarter of the square.
        tiny = w < 1e-3
        sine, cosine = sici(np.maximum(w, 1e-3))
        chord = cosine - np.euler_gamma - np.log(np.maximum(w, 1e-3)) + 1j * sine
        exponent = 1 - np.exp(1j * w) + 2j * w + (1j * w - 1) * chord
        wave = np.exp(kappa * np.where(tiny, -0.25 * np.square(w), exponent))
        wave = np.where(omega < 0, wave.conj(), wave) * np.exp(-1j * omega * low)
        density = np.maximum(np.fft.fft(wave).real, 0.0)
        below = np.cumsum(density) - 0.5 * density
        rows.append(np.interp(nodes, below / below[-1], low + step * np.arange(points)))
    return np.array(rows)
