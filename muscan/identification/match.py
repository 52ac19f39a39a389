"""Which materials a scattering density allows, and how probably.

An entry of the database is a range of bulk density times its mass scattering power: a range of
scattering density λ, inside which every λ is taken as equally probable. The likelihood of a
measured λ ± σ is the mean of the Gaussian over that range (`range_likelihood`), so the density of
a packed good is marginalised over, not fitted. ``unknown`` is an entry like the others, spread
evenly in ln λ over all that solids and liquids can have: it wins when nothing else fits.

Prior probabilities belong to categories: the weight of a category is shared by its entries, so
that a category does not gain by being listed in more detail.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from muscan.errors import InputError, nearest
from muscan.model.material import MaterialDatabase

FloatArray = NDArray[np.float64]

UNKNOWN: Final = "unknown"
AIR: Final = "air"

#: Prior weights of categories; any other category has weight 1. What a customs officer meets in
#: cargo is mostly goods, structure and packing; threats are rare but must be able to win when λ
#: speaks for them, so their weights are not as small as their true frequency. They are choices,
#: not measurements: give your own where you know better.
CATEGORY_PRIOR: Final[Mapping[str, float]] = {
    "structural": 2.0,
    "metal": 2.0,
    "special-nuclear": 1.0,
    "radioactive-shielding": 0.5,
    "weapon-metal": 0.5,
    "explosive": 0.3,
    "narcotic": 0.3,
    "precious-metal": 0.1,
    "element": 0.1,
    "detector": 0.02,
}
#: Entries met this many times as often as others of their category: where they are solid, the
#: database's other entries of like λ are mostly grades, alloys and compounds of these.
COMMON: Final[Mapping[str, float]] = {
    "aluminium": 4.0,
    "concrete": 4.0,
    "copper": 4.0,
    "iron": 4.0,
    "lead": 4.0,
    "steel": 4.0,
    "tungsten": 4.0,
    "uranium": 4.0,
    "water": 4.0,
    "wood": 4.0,
}
UNKNOWN_PRIOR: Final = 0.05

#: Range of λ of ``unknown`` [mrad²/cm]: from loose fibre (0.01) past iridium and osmium (89).
UNKNOWN_RANGE: Final = (0.01, 120.0)
#: Air and what cannot be told from it: up to 0.02 mrad²/cm, about 0.03 g/cm³ of goods.
AIR_RANGE: Final = (0.0, 0.02)
#: Mass scattering power of air [mrad²/cm per g/cm³]: X0 = 36.6 g/cm² (PDG).
AIR_POWER: Final = 25.0 / 36.62
#: Relative spread of an entry's λ beyond its density range: scattering theory, composition and
#: the calibration of the reconstruction (independent transport codes differ by 1–4 %).
MODEL_SPREAD: Final = 0.03


@dataclass(frozen=True)
class Candidates:
    """The materials to match against, ``unknown`` first and ``air`` second.

    Attributes
    ----------
    names, categories : tuple of str
    low, high : ndarray, shape (k,)
        Range of scattering density [mrad²/cm].
    power : ndarray, shape (k,)
        Mass scattering power [mrad²/cm per g/cm³]; NaN for ``unknown``.
    prior : ndarray, shape (k,)
        Prior probabilities; they sum to one.
    version : str
        Version of the database.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    low: FloatArray
    high: FloatArray
    power: FloatArray
    prior: FloatArray
    version: str

    def __len__(self) -> int:
        return len(self.names)


def candidates(materials: MaterialDatabase, prior: Mapping[str, float] | None = None) -> Candidates:
    """Return the candidates of a database; its gases are all ``air``.

    Parameters
    ----------
    materials : MaterialDatabase
        What the scan may contain.
    prior : mapping of str to float, optional
        Weights by category or material name, in place of the default ones (a material's weight
        replaces its share of its category; 1 is the weight of an ordinary category).

    Raises
    ------
    InputError
        If a prior names neither a category nor a material, or is negative.
    """
    entries = [entry for entry in materials if entry.state != "gas"]
    names = [entry.name for entry in entries]
    categories = [entry.category for entry in entries]
    weights = _weights(names, categories, prior or {})
    power = np.array([entry.mass_scattering_power for entry in entries])
    density = np.array([entry.density_range_g_cm3 for entry in entries]).reshape(-1, 2)
    low, high = (density * power[:, None]).T

    total = weights.sum()
    all_weights = np.concatenate([[UNKNOWN_PRIOR * total, total], weights])
    return Candidates(
        names=(UNKNOWN, AIR, *names),
        categories=(UNKNOWN, AIR, *categories),
        low=np.concatenate([[UNKNOWN_RANGE[0], AIR_RANGE[0]], low]),
        high=np.concatenate([[UNKNOWN_RANGE[1], AIR_RANGE[1]], high]),
        power=np.concatenate([[np.nan, AIR_POWER], power]),
        prior=all_weights / all_weights.sum(),
        version=materials.version,
    )


def _weights(names: list[str], categories: list[str], prior: Mapping[str, float]) -> FloatArray:
    known = {*names, *categories}
    for name, weight in prior.items():
        if name not in known:
            raise InputError("prior", f"no material or category '{name}'", nearest(name, known))
        if not weight >= 0:
            raise InputError("prior", f"weight {weight} of '{name}' is not a weight", "give >= 0")
    common = np.array([COMMON.get(name, 1.0) for name in names])
    weights = np.empty(len(names))
    for category in set(categories):
        members = np.array([item == category for item in categories])
        whole = prior.get(category, CATEGORY_PRIOR.get(category, 1.0))
        weights[members] = whole * common[members] / common[members].sum()
    for index, name in enumerate(names):
        weights[index] = prior.get(name, weights[index])
    return weights


def range_likelihood(
    measured: FloatArray, sigma: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Return the mean over ``[low, high]`` of a Gaussian likelihood.

    Parameters
    ----------
    measured, sigma : ndarray, broadcastable
        Measurement and its standard deviation.
    low, high : ndarray, broadcastable
        Range in which the true value lies, every value equally probable.
    """
    width = np.maximum(high - low, 1e-6 * sigma)
    scale = np.sqrt(2.0) * sigma
    return np.asarray(
        (erf((low + width - measured) / scale) - erf((low - measured) / scale)) / (2 * width)
    )


def likelihoods(kinds: Candidates, measured: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return the likelihood of measured scattering densities under each candidate.

    Parameters
    ----------
    kinds : Candidates
        What to compare with.
    measured, sigma : ndarray, shape (n,)
        Scattering density and standard deviation [mrad²/cm].

    Returns
    -------
    ndarray, shape (n, k), [cm/mrad²]
    """
    x = np.asarray(measured, dtype=float)[:, None]
    s = np.asarray(sigma, dtype=float)[:, None]
    middle = (kinds.low + kinds.high) / 2
    spread = np.hypot(s, MODEL_SPREAD * middle)
    result = range_likelihood(x, spread, kinds.low, kinds.high)
    result[:, 0] = _unknown_likelihood(x[:, 0], s[:, 0])
    return result


def _unknown_likelihood(measured: FloatArray, sigma: FloatArray) -> FloatArray:
    """Mean of the Gaussian over λ spread evenly in ln λ: a sum over narrow ranges of λ."""
    edges = np.geomspace(*UNKNOWN_RANGE, 161)
    total = np.zeros(len(measured))
    for low, high in itertools.pairwise(edges):
        total += range_likelihood(measured, sigma, low, high)
    return total / (len(edges) - 1)


def posterior(kinds: Candidates, measured: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return the probability of each candidate given measured scattering densities.

    Parameters
    ----------
    kinds : Candidates
        What to compare with.
    measured, sigma : ndarray, shape (n,)
        Scattering density and standard deviation [mrad²/cm].

    Returns
    -------
    ndarray, shape (n, k)
        Rows sum to one. A measurement that no candidate can give at all is ``unknown``.
    """
    weight = likelihoods(kinds, measured, sigma) * kinds.prior
    total = weight.sum(axis=1, keepdims=True)
    impossible = total[:, 0] < 1e-200
    weight[impossible] = 0.0
    weight[impossible, 0] = 1.0
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def object_posterior(kinds: Candidates, density: float, relative: float) -> FloatArray:
    """Return the probability of each candidate for an object, shape (k,).

    The estimate of an object's λ is taken as log-normal: its error is a fraction, and it can be
    large. An object stands above its surroundings, so it is not air.

    Parameters
    ----------
    kinds : Candidates
        What to compare with.
    density : float
        Scattering density of the object [mrad²/cm].
    relative : float
        Standard deviation of its logarithm.
    """
    spread = np.array(np.hypot(relative, MODEL_SPREAD))
    low, high = np.log(np.maximum(kinds.low, 1e-6)), np.log(np.maximum(kinds.high, 1e-6))
    weight = range_likelihood(np.log(density), spread, low, high) * kinds.prior
    weight[1] = 0.0
    total = float(weight.sum())
    if total < 1e-200:
        weight[0] = total = 1.0
    return np.asarray(weight / total)


#: Weight of the declared cargo's category, and of a declared material, in place of the usual one.
DECLARED_PRIOR: Final = 3.0


def cargo_prior(materials: MaterialDatabase, cargo: str) -> dict[str, float]:
    """Return the prior weights that a declared kind of cargo changes.

    What stands out of a load is often more of the same, packed closer, so the declared kind is
    expected more than another; its weight is a choice, not a measurement.

    Raises
    ------
    InputError
        If it is neither a material nor a category.
    """
    categories = {material.category for material in materials}
    name = cargo if cargo in categories else materials[cargo].name
    return {name: DECLARED_PRIOR}
