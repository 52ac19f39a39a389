"""Masses, from scattering: λ integrated over volume, over the mass scattering power.

The integral of λ over a region does not change when the reconstruction blurs it, while its peak
does; so masses are taken from integrals. For an object in cargo the integral of the *excess*
lacks what the object displaced, and is scaled by λ / (λ − background). What is not known of the
material is part of the interval: the mass is a mixture over the posterior of the materials.
A wrong spectrum raises or lowers λ and the integral alike. So if an object is some material, its
measured λ tells how wrong the spectrum is, and the integral is put right by as much.

A whole load is weighed by its columns (`muscan.identification.load`), as no volume keeps its
total. Their likelihood has a bias that hardly depends on the load; it is measured on simulated
loads of known mass and divided out, and its spread from load to load is part of the interval.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.errors import InputError, nearest
from muscan.identification.load import LoadScattering
from muscan.identification.match import MODEL_SPREAD, UNKNOWN_RANGE, Candidates, posterior
from muscan.model.alerts import Interval
from muscan.model.material import Material, MaterialDatabase
from muscan.model.volume import Volume

FloatArray = NDArray[np.float64]

#: Limits of a central 68 % interval.
CENTRAL: Final = (0.15865525, 0.84134475)
#: Range of mass scattering power that any matter has [mrad²/cm per g/cm³]: 0.4 for hydrogen
#: (X0 = 63 g/cm²) to 4.2 for uranium (6.0 g/cm²), PDG; what is unknown is evenly spread in it.
POWER_RANGE: Final = (0.4, 4.2)
#: Matter with less scattering density than this counts as empty [mrad²/cm].
EMPTY: Final = 0.01
#: Bias of the columns' likelihood for each scanner, measured on simulated loads.
RESPONSES: Final = Path(__file__).with_name("load_responses.csv")
#: For a scanner without such a measurement.
UNMEASURED_SPREAD: Final = 0.08
#: Relative error of a declared material's scattering power: its composition and moisture.
COMPOSITION_SPREAD: Final = 0.005
#: Columns above this [mrad²] are only a lower limit: of the muons through 70 cm of solid steel
#: most are lost, and what is left are those that went past it.
THICKEST: Final = 300.0


def mixture_interval(values: FloatArray, sigmas: FloatArray, probability: FloatArray) -> Interval:
    """Return the median and central 68 % interval of a mixture of normal distributions.

    Parameters
    ----------
    values, sigmas, probability : ndarray, shape (k,)
        Mean, standard deviation and weight of each; weights sum to one. Negative values are cut
        off at zero.
    """
    sigmas = np.maximum(sigmas, 1e-9 * np.abs(values) + 1e-12)
    low = float((values - 8 * sigmas).min())
    high = float((values + 8 * sigmas).max())
    limits = []
    for target in (0.5, *CENTRAL):
        below, above = low, high
        for _ in range(60):
            middle = (below + above) / 2
            if float(probability @ ndtr((middle - values) / sigmas)) < target:
                below = middle
            else:
                above = middle
        limits.append(max((below + above) / 2, 0.0))
    return Interval(value=limits[0], low=limits[1], high=limits[2])


def object_mass(
    kinds: Candidates,
    probability: FloatArray,
    integral: float,
    sigma: float,
    scattering_density: float,
    background: float,
    *,
    relative: float = 0.0,
    common: float = 0.0,
) -> Interval:
    """Return the mass [kg] of an object.

    Parameters
    ----------
    kinds : Candidates
        The materials.
    probability : ndarray, shape (k,)
        Their posterior for this object.
    integral, sigma : float
        Integral of its excess scattering density and standard deviation, with what is common to
        it and λ [mrad²/cm · cm³].
    scattering_density, background : float
        λ of the object and of the cargo that it displaced [mrad²/cm].
    relative : float
        Standard deviation of ln λ of the object.
    common : float
        The part of it, and of the integral's relative error, that both have in common.
    """
    known = np.flatnonzero(probability[1:] > 1e-6) + 1
    total = float(np.hypot(relative, MODEL_SPREAD))
    true, variance = _expected_density(kinds, known, float(np.log(scattering_density)), total)
    # λ is the integral over a shape that the muons hardly tell: where both are the muons' own, an
    # error of the integral is one of λ as well, and what λ has beyond it is the shape's.
    if common > 0 and integral > 0:
        common = min(max(sigma / integral, common), total)
    # Of what parts measured from true λ, this share is the common error's, as Gaussian errors go.
    share = common**2 / total**2
    shift = share * (np.log(scattering_density) - true)
    shift_variance = common**2 * (1 - share) + share**2 * variance
    own = max((sigma / integral) ** 2 - common**2, 0.0) if integral > 0 else 0.0
    spread = np.sqrt(own + shift_variance + MODEL_SPREAD**2)
    density = np.exp(true)
    displaced = density / np.maximum(density - background, 0.1 * density)
    power, weight = _powers(kinds, probability, known)
    nodes = len(power) - len(known)
    correction = np.exp(-shift) * displaced
    kilograms = integral / power * np.concatenate([np.repeat(correction[0], nodes), correction[1:]])
    widths = kilograms * np.concatenate([np.repeat(spread[0], nodes), spread[1:]])
    return mixture_interval(kilograms / 1000.0, widths / 1000.0, weight)


def _expected_density(
    kinds: Candidates, known: NDArray[np.int64], measured: float, sigma: float
) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of ln λ if an object is ``unknown``, or is each known material.

    Parameters
    ----------
    kinds : Candidates
    known : ndarray
        Indices of the materials.
    measured, sigma : float
        Measured ln λ and its standard deviation.

    Returns
    -------
    mean, variance : ndarray, shape (1 + known,)
    """
    low, high = np.log(np.maximum(kinds.low[known], 1e-6)), np.log(kinds.high[known])
    nodes = low + np.linspace(0, 1, 41)[:, None] * (high - low)
    exponent = -0.5 * ((nodes - measured) / sigma) ** 2
    weight = np.exp(exponent - exponent.max(axis=0))
    weight /= weight.sum(axis=0)
    mean = (weight * nodes).sum(axis=0)
    variance = (weight * np.square(nodes - mean)).sum(axis=0)
    return np.append(measured, mean), np.append(sigma**2, variance)


def _powers(
    kinds: Candidates, probability: FloatArray, known: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Return scattering powers and their weights, ``unknown`` first, spread over `POWER_RANGE`."""
    spread = np.geomspace(*POWER_RANGE, 9)
    share = np.full(len(spread), probability[0] / len(spread))
    power = np.concatenate([spread, kinds.power[known]])
    weight = np.concatenate([share, probability[known]])
    return power, weight / weight.sum()


def total_mass(kinds: Candidates, volume: Volume, known: NDArray[np.bool_]) -> Interval:
    """Return the mass [kg] of all matter in a volume.

    Each voxel adds its λ times the mean inverse scattering power of what such a λ can be. The
    statistical errors of voxels add in squares. What the materials are is common to all voxels
    of a kind, so that part of the uncertainty adds linearly.
    """
    values = volume.values[known].astype(float)
    sigma = volume.uncertainty[known].astype(float)
    litre = volume.grid.voxel_volume_mm3 / 1e6
    nodes = np.geomspace(EMPTY, UNKNOWN_RANGE[1], 200)
    mean, spread = _inverse_power(kinds, nodes)
    clipped = np.clip(values, *nodes[[0, -1]])
    inverse = np.interp(np.log(clipped), np.log(nodes), mean)
    kilograms = litre * float(values @ inverse)
    statistical = litre * float(np.sqrt(np.square(sigma * inverse).sum()))
    material = litre * float(
        np.maximum(values, 0.0) @ np.interp(np.log(clipped), np.log(nodes), spread)
    )
    width = float(np.sqrt(statistical**2 + material**2 + (MODEL_SPREAD * kilograms) ** 2))
    return Interval(
        value=max(kilograms, 0.0), low=max(kilograms - width, 0.0), high=max(kilograms + width, 0.0)
    )


def _inverse_power(kinds: Candidates, nodes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of 1 / scattering power given λ, shapes (n,).

    λ is taken as known to 20 %: neighbouring materials count, as they do in blurred voxels.
    """
    weight = posterior(kinds, nodes, 0.2 * nodes)
    inverse = 1 / kinds.power
    inverse[0] = np.mean(1 / np.geomspace(*POWER_RANGE, 9))
    mean = weight @ inverse
    variance = weight @ np.square(inverse) - mean**2
    return mean, np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True)
class Response:
    """What the columns' likelihood gives over what is true.

    Attributes
    ----------
    ratio : float
        Mean over simulated loads.
    spread : float
        Its relative standard deviation from load to load.
    measured : bool
        Whether there are such loads for the scanner.
    """

    ratio: float = 1.0
    spread: float = UNMEASURED_SPREAD
    measured: bool = False


@lru_cache(maxsize=1)
def _responses() -> dict[tuple[str, str], Response]:
    with RESPONSES.open(encoding="utf-8", newline="") as file:
        return {
            (row["scanner"], row["cargo"]): Response(
                float(row["ratio"]), float(row["spread"]), measured=True
            )
            for row in csv.DictReader(file)
        }


def response_of(scanner: str, kinds: list[Material]) -> Response:
    """Return the response of a scanner to a material, or else to its category, or to any cargo.

    Of a scanner that was not measured it is without bias, and has a wide spread.
    """
    known = _responses()
    categories = {material.category for material in kinds}
    cargoes = [kinds[0].name] if len(kinds) == 1 else []
    cargoes += [*categories, "any"] if len(categories) == 1 else ["any"]
    found = (known[scanner, cargo] for cargo in cargoes if (scanner, cargo) in known)
    return next(found, Response())


def declared_materials(materials: MaterialDatabase, cargo: str) -> list[Material]:
    """Return the materials that a declared kind of cargo means: one, or those of a category.

    Raises
    ------
    InputError
        If it is neither a material nor a category.
    """
    if cargo in materials:
        return [materials[cargo]]
    found = [material for material in materials if material.category == cargo]
    if not found:
        known = {*materials.names, *(material.category for material in materials)}
        raise InputError("--cargo", f"no material or category '{cargo}'", nearest(cargo, known))
    return found


def mean_power(kinds: list[Material]) -> tuple[float, float]:
    """Return the mean scattering power of materials and its relative standard deviation.

    The mean is that of the inverse, as masses go; the power in mrad²/cm per g/cm³.
    """
    inverse = np.array([1 / material.mass_scattering_power for material in kinds])
    mean = float(inverse.mean())
    return 1 / mean, float(np.hypot(inverse.std() / mean, COMPOSITION_SPREAD))


def mean_loss(kinds: list[Material]) -> float:
    """Return the momentum that a 3 GeV muon loses for 1 mrad² of scattering [GeV]."""
    losses = [1e-3 * float(m.mass_stopping_power(3.0)) / m.mass_scattering_power for m in kinds]
    return float(np.mean(losses))


def load_mass(
    scattering: LoadScattering,
    power: tuple[float, float],
    response: Response,
    low: FloatArray | None = None,
    high: FloatArray | None = None,
) -> Interval:
    """Return the mass [kg] of a load of known scattering power, or of a rectangle of it.

    Parameters
    ----------
    scattering : LoadScattering
    power : tuple of float
        Its mass scattering power [mrad²/cm per g/cm³] and the relative standard deviation of that
        (`mean_power`).
    response : Response
        Of the scanner.
    low, high : ndarray, shape (2,), optional
        Corners of the rectangle [mm].
    """
    total, sigma = scattering.total(low, high)
    mean, spread = power
    mass = total / response.ratio / mean
    width = mass * float(np.sqrt((sigma / total) ** 2 + response.spread**2 + spread**2))
    bounded = not (scattering.column > THICKEST).any()
    return Interval(value=mass, low=max(mass - width, 0.0), high=mass + width if bounded else None)
