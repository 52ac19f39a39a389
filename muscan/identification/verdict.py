"""From a volume to alerts: regions, what they may be, how heavy they are, and what to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.identification.background import SCALES_MM, contrast, filter_widths
from muscan.identification.match import (
    Candidates,
    Stopping,
    candidates,
    inseparable,
    object_posterior,
    stopping_powers,
)
from muscan.identification.refine import LIKELIHOOD_ERROR, measured_on_muons
from muscan.identification.rules import Evidence, judge
from muscan.identification.segment import Region, known_voxels, regions_of
from muscan.identification.voxels import classify_voxels
from muscan.identification.watchlist import WatchRule, watched_materials
from muscan.identification.weight import object_mass, total_mass
from muscan.model.alerts import (
    SEVERITIES,
    Alert,
    AlertReport,
    Alternative,
    Interval,
    MaterialGuess,
    ScanInfo,
    alert_id,
)
from muscan.model.events import Run
from muscan.model.material import MaterialDatabase
from muscan.model.region import KnownBox, RegionTester
from muscan.model.volume import MaterialMap, Volume

FloatArray = NDArray[np.float64]

#: Alternatives are listed down to this probability, and at most this many.
LEAST_ALTERNATIVE: Final = 0.02
MOST_ALTERNATIVES: Final = 8
#: Of what λ cannot tell apart, at most this many are named.
MOST_NAMED: Final = 6
#: Smaller objects have no stopping density of their own [mm³]: its image has twice the voxels of
#: the scattering's, and what is smeared into those around is missing.
LEAST_STOPPING_MM3: Final = 1e6
#: Nor has one whose relative error is larger: the image's prior, which follows λ, has a width of 1.
LARGEST_STOPPING_ERROR: Final = 0.5
#: Voxels of the scattering in one of the stopping density.
STOPPING_VOXELS: Final = 8
#: Relative error of λ and of its integral for objects in cargo, beyond `LIKELIHOOD_ERROR`: a wrong
#: spectrum counts there more than once, in the level of the cargo and in what it takes from the
#: muons. What the errors of ln λ need under three published spectra for 84 objects in cargo of
#: 0.3 g/cm³, seeds 300 to 311 of `benchmarks.bench_identity`.
CARGO_ERROR: Final = 0.15
#: An object is in cargo where its surroundings have more than this [mrad²/cm], 0.15 g/cm³.
CARGO_ABOVE: Final = 0.1
#: With fewer muons a voxel, warn.
FEW_MUONS: Final = 20
#: Operating point: no alert of which chance makes more than this many a scan (one in 20 scans).
FALSE_ALARMS: Final = 0.05


def identify(
    volume: Volume,
    tester: RegionTester | None,
    materials: MaterialDatabase,
    *,
    watch: Sequence[str] = (),
    prior: Mapping[str, float] | None = None,
    false_alarms: float = FALSE_ALARMS,
    known: Sequence[KnownBox] = (),
) -> tuple[AlertReport, MaterialMap]:
    """Find what is in a volume: materials of voxels, regions, weights and alerts.

    Parameters
    ----------
    volume : Volume
        Scattering density with its uncertainty.
    tester : RegionTester or None
        The muons from which the volume was made, if at hand.
    materials : MaterialDatabase
        What the scan may contain.
    watch : sequence of str
        Names or categories of materials whose alerts are raised in severity.
    prior : mapping of str to float, optional
        See `muscan.identification.match.candidates`.
    false_alarms : float
        Regions of which chance makes more than this many a scan are left out.
    known : sequence of KnownBox
        What is known to stand there, and is no object: a container's frame.

    Returns
    -------
    report : AlertReport
        The alerts, the most severe first.
    materials : MaterialMap
        The classified volume.

    Raises
    ------
    InputError
        If no voxel of the volume is known, or an option names no material.
    """
    seen = known_voxels(volume)
    kinds = candidates(materials, prior)
    watched = watched_materials(kinds, watch)
    above = contrast(volume, seen)
    cells = independent_positions(volume, seen)
    regions = regions_of(volume, above)
    if tester is not None:
        regions = measured_on_muons(regions, volume, tester, known)
    run = volume.run or Run()
    surest = [region for region in regions if chance_of(region, cells) <= false_alarms]
    stopped = object_stopping(surest, volume, kinds, materials)
    alerts = [
        alert
        for region, stopping in zip(surest, stopped, strict=True)
        if (alert := _alert(region, stopping, kinds, watched, run, cells))
    ]
    alerts.sort(key=lambda alert: (-SEVERITIES.index(alert.severity), -(alert.significance or 0)))
    report = AlertReport(
        scan=_scan_info(volume, tester, kinds, run),
        alerts=alerts,
        total_mass_kg=total_mass(kinds, volume, seen),
        warnings=_warnings(volume, seen, tester, run),
    )
    return report, classify_voxels(volume, materials, prior=prior)


def independent_positions(volume: Volume, known: NDArray[np.bool_]) -> float:
    """Return the number of places in a volume that fluctuate independently, at all scales.

    A Gaussian filter of width s correlates voxels over a cell of (2 √π s) along each axis: the
    inverse of its squared kernel's sum; without filter the cell is a voxel.
    """
    total = 0.0
    for scale in SCALES_MM:
        cell = np.maximum(2 * np.sqrt(np.pi) * filter_widths(volume, scale), 1.0)
        total += np.count_nonzero(known) / float(cell.prod())
    return total


def chance_regions(significance: float, cells: float) -> float:
    """Return the expected number of regions a scan that chance makes at least as significant.

    The tail of a normal distribution, times the places where a fluctuation could have been (the
    look-elsewhere effect).
    """
    return float(cells * ndtr(-significance))


def chance_of(region: Region, cells: float) -> float:
    """Return the expected number of regions a scan that chance makes as sure as this one.

    Parameters
    ----------
    region : Region
    cells : float
        Independent places of the volume, for a region that only the volume shows.
    """
    if region.chance is not None:
        return region.chance
    return chance_regions(region.significance, cells)


def object_stopping(
    regions: Sequence[Region], volume: Volume, kinds: Candidates, materials: MaterialDatabase
) -> list[Stopping | None]:
    """Return the stopping density of each region, None where the volume does not tell it.

    It is the mean of the voxels whose centres lie in the region's box. Their errors count as
    independent from one larger voxel of the stopping image to the next.
    """
    names = ("stopping", "stopping_uncertainty")
    large = [region.volume_mm3 >= LEAST_STOPPING_MM3 for region in regions]
    if not any(large) or any(name not in volume.channels for name in names):
        return [None] * len(regions)
    power = stopping_powers(kinds, materials)
    values, errors = (np.asarray(volume.channels[name], dtype=float).ravel() for name in names)
    found: list[Stopping | None] = []
    for region, enough in zip(regions, large, strict=True):
        centres = volume.grid.position(
            np.stack(np.unravel_index(region.voxels, volume.values.shape), axis=1)
        )
        inside = ((centres >= region.lower) & (centres <= region.upper)).all(axis=1)
        voxels = region.voxels[inside]
        value = float(values[voxels].mean()) if len(voxels) else np.nan
        blocks = max(len(voxels) / STOPPING_VOXELS, 1.0)
        sigma = float(np.sqrt(np.square(errors[voxels]).mean() / blocks)) if len(voxels) else np.nan
        told = enough and np.isfinite(sigma) and sigma <= LARGEST_STOPPING_ERROR * value
        found.append(Stopping(value, sigma, power) if told else None)
    return found


class ObjectErrors(NamedTuple):
    """The errors with which an object is matched and weighed.

    Attributes
    ----------
    relative : float
        Standard deviation of ln λ.
    excess_sigma : float
        That of the integral of the excess [mrad²/cm · cm³].
    common : float
        The relative error that both have in common: of the spectrum and of the cargo.
    """

    relative: float
    excess_sigma: float
    common: float


def object_errors(region: Region) -> ObjectErrors:
    """Return the errors of an object; of one that only the volume shows, none are in common."""
    relative = _relative(region)
    if region.chance is None:
        return ObjectErrors(relative, region.excess_sigma, 0.0)
    cargo = CARGO_ERROR if region.background > CARGO_ABOVE else 0.0
    return ObjectErrors(
        float(np.hypot(relative, cargo)),
        float(np.hypot(region.excess_sigma, cargo * region.excess)),
        float(np.hypot(LIKELIHOOD_ERROR, cargo)),
    )


def _relative(region: Region) -> float:
    """Return the standard deviation of ln λ that the region comes with."""
    return float(np.sqrt(np.log1p((region.sigma / region.scattering_density) ** 2)))


def _alert(
    region: Region,
    stopping: Stopping | None,
    kinds: Candidates,
    watched: Mapping[str, WatchRule],
    run: Run,
    cells: float,
) -> Alert | None:
    density = region.scattering_density
    errors = object_errors(region)
    probability = object_posterior(kinds, density, errors.relative, stopping)
    mass = object_mass(
        kinds, probability, region.excess, errors.excess_sigma, density, region.background,
        relative=errors.relative, common=errors.common,
    )  # fmt: skip
    heaviest = np.inf if mass.high is None else mass.high
    # Without the error for cargo: the rules' limits are on what the muons of the object say, and
    # operating points count alerts as these rules make them.
    verdict = judge(Evidence(density, _relative(region), kinds, probability, watched, heaviest))
    if verdict is None:
        return None
    severity, why = verdict
    position = (float(region.centre[0]), float(region.centre[1]), float(region.centre[2]))
    guess = _guess(kinds, probability)
    return Alert(
        id=alert_id(run.run_id, position),
        severity=severity,
        position_mm=position,
        extent_mm=(tuple(region.lower.tolist()), tuple(region.upper.tolist())),
        volume_l=region.volume_mm3 / 1e6,
        scattering_density=_log_interval(density, errors.relative),
        material=guess,
        mass_kg=mass,
        significance=region.significance,
        false_alarm_rate=chance_of(region, cells),
        n_muons=region.n_muons,
        reason=_reason(why, region, stopping)
        + f" {likely(kinds, probability, density, errors.relative)}",
    )


def _log_interval(value: float, relative: float) -> Interval:
    """Return the 68 % interval of a log-normal estimate: positive, and long upwards."""
    factor = float(np.exp(relative))
    return Interval(value=value, low=value / factor, high=value * factor)


def _guess(kinds: Candidates, probability: FloatArray) -> MaterialGuess:
    order = np.argsort(-probability, kind="stable")
    best = int(order[0])
    others = [
        Alternative(name=kinds.names[index], probability=float(probability[index]))
        for index in order[1 : 1 + MOST_ALTERNATIVES]
        if probability[index] >= LEAST_ALTERNATIVE
    ]
    return MaterialGuess(
        name=kinds.names[best],
        category=kinds.categories[best],
        probability=float(probability[best]),
        alternatives=others,
    )


def _reason(why: str, region: Region, stopping: Stopping | None) -> str:
    stopped = f", stopping density {stopping.value:.2g} g/cm³ of water" if stopping else ""
    return (
        f"{why[0].upper()}{why[1:]}: scattering density {region.scattering_density:.3g} mrad²/cm "
        f"where the surroundings have {region.background:.2g}, {region.significance:.1f} standard "
        f"deviations above them{stopped}."
    )


def likely(kinds: Candidates, probability: FloatArray, density: float, relative: float) -> str:
    """Return what an object is most probably, with what λ cannot tell from it, as a sentence.

    Parameters
    ----------
    kinds : Candidates
    probability : ndarray, shape (k,)
        Their posterior for the object.
    density, relative : float
        Scattering density [mrad²/cm] and the standard deviation of its logarithm.
    """
    group = inseparable(kinds, probability, density, relative)
    best, others = group[0], group[1:]
    text = f"Most probably {kinds.names[best]} ({probability[best]:.0%})"
    if len(others) == 0:
        return f"{text}."
    named = ", ".join(f"{kinds.names[i]} ({probability[i]:.0%})" for i in others[:MOST_NAMED])
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return (
        f"{text}, which a λ known to {relative:.0%} does not tell from {named}{more}: "
        f"one of these with {probability[group].sum():.0%}."
    )


def _scan_info(
    volume: Volume, tester: RegionTester | None, kinds: Candidates, run: Run
) -> ScanInfo:
    return ScanInfo(
        run_id=run.run_id,
        live_time_s=run.live_time_s,
        n_muons=tester.n_muons if tester is not None else int(volume.n_muons.max()),
        method=volume.method,
        materials_version=kinds.version,
        source=run.source,
        start_time=run.start_time,
        voxel_mm=volume.grid.spacing.tolist(),
    )


def _warnings(
    volume: Volume, known: NDArray[np.bool_], tester: RegionTester | None, run: Run
) -> list[str]:
    found = []
    if tester is None:
        found.append("no tracks were given: scattering densities are those of blurred voxels")
    elif tester.hit_error_scale != 1.0:
        found.append(
            f"hits err by {tester.hit_error_scale:.2g} times what is stated, as the muons show, "
            "and count as such; muscan calibrate measures their resolution"
        )
    if not np.isfinite(run.live_time_s):
        found.append("the live time is unknown")
    typical = int(np.median(volume.n_muons[known]))
    if typical < FEW_MUONS:
        found.append(f"few muons: half of the voxels have {typical} or fewer; record for longer")
    unseen = 1 - float(known.mean())
    if unseen > 0.05:
        found.append(f"{unseen:.0%} of the volume was not seen by any muon")
    return found
