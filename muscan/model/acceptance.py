"""What a detector's panels can see: acceptance and expected rates.

The *acceptance* of a set of lines is ∫ dA cosθ dΩ [m² sr]: a flux of intensity J in every
direction sends J times the acceptance along them. It is summed over quasi-random lines (scrambled
Sobol points): from a point of one panel to a point of another a line stands for
cosθ₁ cosθ₂ / r² dA₁ dA₂, and a line that crosses k₁ panels of one group and k₂ of the other is
met k₁ k₂ times, so that it counts for its part. A muon counts in a group if the panels that it
crosses there determine a line. Muons go straight, and none stops.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from muscan.model.detector import Detector, Panel
from muscan.model.flux import FluxModel, load_flux
from muscan.model.pose import FloatArray

BoolArray = NDArray[np.bool_]
#: Intensity over all momenta as a function of cosθ [m⁻² s⁻¹ sr⁻¹].
Directional = Callable[[FloatArray], FloatArray]

#: Lines are drawn in so many independent sets of so many each; the sets' spread is the error.
SETS, LINES = 16, 4096
#: Measured axes whose cosine is above this measure the same direction.
SAME_DIRECTION = 0.9
#: Momentum above which muons count [GeV].
LEAST_MOMENTUM = 0.1


@dataclass(frozen=True)
class Estimate:
    """A number and its standard deviation."""

    value: float
    error: float


@dataclass(frozen=True)
class PairAcceptance:
    """What two groups see together.

    Attributes
    ----------
    incoming, outgoing : str
        The groups, the one that more muons meet first as the incoming one.
    acceptance_m2_sr : Estimate
        Of the lines that have a track in both.
    rate_hz : Estimate
        Muons along them in a second, were all panels efficient.
    """

    incoming: str
    outgoing: str
    acceptance_m2_sr: Estimate
    rate_hz: Estimate


@dataclass(frozen=True)
class PanelRate:
    """What one panel is expected to see.

    Attributes
    ----------
    crossing_hz : Estimate
        Muons that cross it.
    recorded_hz : Estimate
        Its hits by muons in recorded events: it and the others at their efficiencies, and two
        hits in one group through which muons come in.
    """

    crossing_hz: Estimate
    recorded_hz: Estimate


def pair_acceptances(
    detector: Detector, flux: str | Path | FluxModel = "guan2015", *, seed: int = 0
) -> list[PairAcceptance]:
    """Return acceptance and rate of every pair of groups that see muons together.

    Parameters
    ----------
    detector : Detector
    flux : str, Path or FluxModel
        See `muscan.model.flux.load_flux`.
    seed : int
        Of the quasi-random lines.

    Returns
    -------
    list of PairAcceptance
        Largest rate first; pairs with none are left out.
    """
    intensity = _directional(load_flux(flux))
    found = []
    for first, second in itertools.combinations(range(len(detector.groups)), 2):
        sets = np.array(
            [
                _pair_sums(detector, first, second, intensity, child)
                for child in np.random.SeedSequence((seed, first, second)).spawn(SETS)
            ]
        )
        acceptance, rate, first_on_top = (_estimate(column) for column in sets.T)
        if acceptance.value > 0:
            names = [detector.groups[first], detector.groups[second]]
            if first_on_top.value < rate.value / 2:
                names.reverse()
            found.append(PairAcceptance(names[0], names[1], acceptance, rate))
    return sorted(found, key=lambda pair: -pair.rate_hz.value)


def panel_rates(
    detector: Detector,
    flux: str | Path | FluxModel = "guan2015",
    *,
    seed: int = 0,
) -> list[PanelRate]:
    """Return the expected rate of each panel; see `PanelRate`."""
    intensity = _directional(load_flux(flux))
    found = []
    for index, panel in enumerate(detector.panels):
        sets = []
        for child in np.random.SeedSequence((seed, index)).spawn(SETS):
            numbers = _evenly_spread(4, np.random.default_rng(child))
            point = _points(panel, numbers[:, :2])
            direction = _cosine_directions(panel, numbers[:, 2:])
            flow = intensity(np.abs(direction[:, 2])) * np.pi * panel.area_m2
            crossed = _crossed(detector, point, direction)
            crossed[:, index] = True
            hit = _efficiencies(detector, index) * _recorded(detector, crossed, index)
            sets.append([flow.mean(), (flow * hit).mean()])
        crossing, recorded = (_estimate(column) for column in np.array(sets).T)
        found.append(PanelRate(crossing, recorded))
    return found


def incoming_groups(detector: Detector) -> BoolArray:
    """Return which groups may see muons come in: those not wholly below the inspected space."""
    top = np.array([panel.corners()[:, 2].max() for panel in detector.panels])
    groups = range(len(detector.groups))
    found = np.array([top[detector.group_index == g].max() > detector.bounds[0, 2] for g in groups])
    # A detector below everything, as of a volcano, takes what it has.
    return found | ~found.any()


def _estimate(values: FloatArray) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def _directional(flux: FluxModel) -> Directional:
    """Return the intensity over all momenta as a function of cosθ [m⁻² s⁻¹ sr⁻¹]."""
    cosine = np.linspace(0.0, 1.0, 201)
    p = np.geomspace(LEAST_MOMENTUM, 1e4, 400)
    spectrum = flux.intensity(p[:, None], np.maximum(cosine, 1e-3)[None]) * p[:, None]
    total = trapezoid(spectrum, np.log(p), axis=0)
    return lambda c: np.asarray(np.interp(c, cosine, total))


def _points(panel: Panel, numbers: FloatArray) -> FloatArray:
    place = (numbers - 0.5) * np.array(panel.size)
    return np.asarray(panel.centre + place[:, :1] * panel.u + place[:, 1:] * panel.v)


def _cosine_directions(panel: Panel, numbers: FloatArray) -> FloatArray:
    """Return falling directions, as many as go with the cosine to the panel's normal."""
    sine, angle = np.sqrt(numbers[:, :1]), 2 * np.pi * numbers[:, 1:]
    across = sine * (np.cos(angle) * panel.u + np.sin(angle) * panel.v)
    direction = across + np.sqrt(1 - sine**2) * panel.normal
    return np.asarray(np.where(direction[:, 2:] > 0, -direction, direction))


def _crossed(detector: Detector, point: FloatArray, direction: FloatArray) -> BoolArray:
    """Return which panels each line crosses, shape (n, p)."""
    axes, centre = detector.axes, detector.centres
    cosine = direction @ axes[:, 2].T
    safe = np.where(np.abs(cosine) < 1e-12, 1e-12, cosine)
    along = (np.einsum("pj,pj->p", axes[:, 2], centre) - point @ axes[:, 2].T) / safe
    inside = np.ones(along.shape, bool)
    for axis in range(2):
        start = point @ axes[:, axis].T - np.einsum("pj,pj->p", axes[:, axis], centre)
        place = start + along * (direction @ axes[:, axis].T)
        inside &= np.abs(place) <= detector.half_sizes[:, axis]
    return inside


def _pair_sums(
    detector: Detector,
    first: int,
    second: int,
    intensity: Directional,
    seed: np.random.SeedSequence,
) -> tuple[float, float, float]:
    """Return acceptance, rate, and the rate of muons that meet the first group first."""
    rng = np.random.default_rng(seed)
    numbers = _evenly_spread(6, rng)
    chosen, area = [], []
    points = np.empty((2, LINES, 3))
    for side, group in enumerate((first, second)):
        members = np.flatnonzero(detector.group_index == group)
        areas = np.array([detector.panels[i].area_m2 for i in members])
        pick = np.searchsorted(np.cumsum(areas) / areas.sum(), numbers[:, 4 + side], side="right")
        panel = members[np.minimum(pick, len(members) - 1)]
        for index in members:
            rows = panel == index
            own = numbers[rows, 2 * side : 2 * side + 2]
            points[side, rows] = _points(detector.panels[index], own)
        chosen.append(panel)
        area.append(float(areas.sum()))
    way = points[1] - points[0]
    length = np.maximum(np.linalg.norm(way, axis=1), 1e-9)
    direction = way / length[:, None]
    cosines = [np.abs(np.einsum("nj,nj->n", detector.axes[c, 2], direction)) for c in chosen]
    crossed = _crossed(detector, points[0], direction)
    crossed[np.arange(LINES), chosen[0]] = True
    crossed[np.arange(LINES), chosen[1]] = True
    weight = area[0] * area[1] * cosines[0] * cosines[1] / (length * 1e-3) ** 2
    for group in (first, second):
        own = detector.group_index == group
        weight = weight / crossed[:, own].sum(axis=1) * _has_track(detector, crossed, group)
    flow = weight * intensity(np.abs(direction[:, 2]))
    # A muon falls: it meets first the group from which the line goes down.
    return float(weight.mean()), float(flow.mean()), float((flow * (direction[:, 2] < 0)).mean())


def _has_track(detector: Detector, crossed: BoolArray, group: int) -> BoolArray:
    """Return whether the crossed panels of a group measure two directions at two depths each."""
    counts: list[NDArray[np.int64]] = []
    directions: list[FloatArray] = []
    for index in np.flatnonzero(detector.group_index == group):
        for axis in np.flatnonzero(np.isfinite(detector.sigmas[index])):
            own = detector.axes[index, axis]
            for place, known in enumerate(directions):
                if abs(known @ own) > SAME_DIRECTION:
                    counts[place] = counts[place] + crossed[:, index]
                    break
            else:
                directions.append(own)
                counts.append(crossed[:, index].astype(np.int64))
    enough = sum((count >= 2).astype(int) for count in counts)
    return np.asarray(enough >= 2)


def _efficiencies(detector: Detector, panel: int) -> float:
    """Return a panel's mean efficiency, with its map and its dead channels."""
    own = detector.panels[panel]
    technology = own.technology
    mean = technology.efficiency * float(np.mean(technology.efficiency_map or ((1.0,),)))
    if technology.pitch_mm is not None:
        for size, pitch, dead in zip(own.size, technology.pitch_mm, own.dead_channels, strict=True):
            mean *= 1 - len(dead) * pitch / size
    return mean


def _recorded(detector: Detector, crossed: BoolArray, panel: int) -> FloatArray:
    """Return the chance that a muon that hit a panel is recorded, by the panels it crosses."""
    efficiency = np.array([_efficiencies(detector, i) for i in range(len(detector.panels))])
    missed = np.ones(len(crossed))
    for group in np.flatnonzero(incoming_groups(detector)):
        members = np.flatnonzero(detector.group_index == group)
        chance = crossed[:, members] * efficiency[members]
        if panel in members:
            chance[:, members == panel] = 0.0
        none = np.prod(1 - chance, axis=1)
        if panel in members:
            missed *= none
        else:
            safe = np.maximum(1 - chance, 1e-12)
            missed *= none + none * (chance / safe).sum(axis=1)
    return 1 - missed


def _evenly_spread(dimensions: int, rng: np.random.Generator) -> FloatArray:
    """Return `LINES` points of a scrambled Sobol sequence, shape (LINES, dimensions)."""
    # Half a second of every command, of which few ask for an acceptance.
    from scipy.stats import qmc

    return np.asarray(qmc.Sobol(dimensions, seed=rng).random(LINES))
