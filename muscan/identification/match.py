"""Which materials a scattering density allows, and how probably.

An entry of the database is a range of bulk density times its mass scattering power: a range of
scattering density λ, inside which every λ is taken as equally probable. The likelihood of a
measured λ ± σ is the mean of the Gaussian over that range (`range_likelihood`), so the density of
a packed good is marginalised over, not fitted. ``unknown`` is an entry like the others, spread
evenly in ln λ over all that solids and liquids can have: it wins when nothing else fits.

Where the stopping density is known too, both are matched at once: an entry's bulk density raises
the one and the other alike, so only their ratio tells entries of equal λ apart.

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
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.survival import STOPPING_REFERENCE_GEV, csda_range

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
#: Relative error of a stopping density beyond its own: of the reference momentum that stands for
#: all (up to 9 %, see `muscan.model.survival`) and of the sky's slow muons, of which published
#: spectra differ by 10 to 15 %.
STOPPING_SPREAD: Final = 0.15
#: Range of stopping density of ``unknown`` [g/cm³ of water]: from loose fibre to osmium.
UNKNOWN_STOPPING: Final = (0.02, 14.0)
#: Parts into which an entry's range of bulk density is cut where both channels are matched.
DENSITY_PARTS: Final = 24


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


@dataclass(frozen=True)
class Stopping:
    """The stopping density of an object, and what the candidates would have.

    Attributes
    ----------
    value, sigma : float
        Stopping density and its standard deviation, without `STOPPING_SPREAD` [g/cm³ of water].
    power : ndarray, shape (k,)
        That of each candidate for 1 g/cm³ of it (`stopping_powers`).
    """

    value: float
    sigma: float
    power: FloatArray


def stopping_powers(kinds: Candidates, materials: MaterialDatabase) -> FloatArray:
    """Return the stopping density of each candidate over its bulk density, shape (k,).

    That of hydrogen is 2.6, of water 1, of iron 0.73, of uranium 0.53; NaN for ``unknown`` and
    ``air``.
    """
    p = STOPPING_REFERENCE_GEV
    water = float(csda_range(load_materials()["water"], p))
    ratios = [water / float(csda_range(materials[name], p)) for name in kinds.names[2:]]
    return np.array([np.nan, np.nan, *ratios])


def object_posterior(
    kinds: Candidates, density: float, relative: float, stopping: Stopping | None = None
) -> FloatArray:
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
    stopping : Stopping, optional
        Its stopping density.
    """
    low, high = _log_ranges(kinds)
    spread = np.array(np.hypot(relative, MODEL_SPREAD))
    if stopping is None:
        weight = range_likelihood(np.log(density), spread, low, high) * kinds.prior
    else:
        weight = _joint_likelihood(kinds, float(np.log(density)), spread, stopping) * kinds.prior
    weight[1] = 0.0
    total = float(weight.sum())
    if total < 1e-200:
        weight[0] = total = 1.0
    return np.asarray(weight / total)


def _log_ranges(kinds: Candidates) -> tuple[FloatArray, FloatArray]:
    """Return the limits of ln λ of each candidate."""
    return np.log(np.maximum(kinds.low, 1e-6)), np.log(np.maximum(kinds.high, 1e-6))


def _joint_likelihood(
    kinds: Candidates, log_density: float, spread: FloatArray, stopping: Stopping
) -> FloatArray:
    """Return the likelihood of λ and stopping density, the mean over each bulk density."""
    low, high = _log_ranges(kinds)
    edges = low + np.linspace(0, 1, DENSITY_PARTS + 1)[:, None] * (high - low)
    by_lambda = range_likelihood(np.array(log_density), spread, edges[:-1], edges[1:])
    middles = np.exp((edges[:-1] + edges[1:]) / 2)
    by_stopping = _stopping_likelihood(middles * stopping.power / kinds.power, stopping)
    unknown = _stopping_likelihood(np.geomspace(*UNKNOWN_STOPPING, 200), stopping).mean()
    by_stopping[:, :2] = unknown
    return np.asarray((by_lambda * by_stopping).mean(axis=0))


def _stopping_likelihood(expected: FloatArray, stopping: Stopping) -> FloatArray:
    sigma = np.hypot(stopping.sigma, STOPPING_SPREAD * expected)
    return np.asarray(np.exp(-0.5 * ((stopping.value - expected) / sigma) ** 2) / sigma)


def inseparable(
    kinds: Candidates, probability: FloatArray, density: float, relative: float
) -> NDArray[np.int64]:
    """Return the candidates that λ does not tell from the most probable one, that one first.

    An entry belongs to them if no more than one standard deviation of ln λ lies between the two
    ranges of λ, and it is allowed at all: within two standard deviations of what was measured.
    ``unknown`` is alone.

    Parameters
    ----------
    kinds : Candidates
    probability : ndarray, shape (k,)
        Their posterior for the object.
    density, relative : float
        Scattering density [mrad²/cm] and the standard deviation of its logarithm.

    Returns
    -------
    ndarray
        Indices, the most probable first.
    """
    order = np.argsort(-probability, kind="stable")
    best = int(order[0])
    low, high = _log_ranges(kinds)
    spread = float(np.hypot(relative, MODEL_SPREAD))
    apart = np.maximum(low - high[best], low[best] - high)
    away = np.maximum(low - np.log(density), np.log(density) - high)
    member = (apart <= spread) & (away <= 2 * spread)
    member[:2] = False
    member[best] = True
    return np.asarray(order[member[order]])


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
