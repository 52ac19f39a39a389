"""From a volume to alerts: regions, what they may be, how heavy they are, and what to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.identification.background import SCALES_MM, contrast, filter_widths
from muscan.identification.match import Candidates, candidates, object_posterior
from muscan.identification.refine import measured_on_muons
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
from muscan.model.region import RegionTester
from muscan.model.volume import MaterialMap, Volume

FloatArray = NDArray[np.float64]

#: Alternatives are listed down to this probability, and at most this many.
LEAST_ALTERNATIVE: Final = 0.02
MOST_ALTERNATIVES: Final = 8
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
    known = known_voxels(volume)
    kinds = candidates(materials, prior)
    watched = watched_materials(kinds, watch)
    above = contrast(volume, known)
    cells = independent_positions(volume, known)
    regions = regions_of(volume, above)
    if tester is not None:
        regions = measured_on_muons(regions, volume, above, tester)
    run = volume.run or Run()
    alerts = [
        alert
        for region in regions
        if chance_of(region, cells) <= false_alarms
        and (alert := _alert(region, kinds, watched, run, cells))
    ]
    alerts.sort(key=lambda alert: (-SEVERITIES.index(alert.severity), -(alert.significance or 0)))
    report = AlertReport(
        scan=_scan_info(volume, tester, kinds, run),
        alerts=alerts,
        total_mass_kg=total_mass(kinds, volume, known),
        warnings=_warnings(volume, known, tester, run),
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


def _alert(
    region: Region, kinds: Candidates, watched: Mapping[str, WatchRule], run: Run, cells: float
) -> Alert | None:
    density = region.scattering_density
    relative = float(np.sqrt(np.log1p((region.sigma / density) ** 2)))
    probability = object_posterior(kinds, density, relative)
    mass = object_mass(
        kinds, probability, region.excess, region.excess_sigma, density, region.background
    )
    heaviest = np.inf if mass.high is None else mass.high
    verdict = judge(Evidence(density, relative, kinds, probability, watched, heaviest))
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
        scattering_density=_log_interval(density, relative),
        material=guess,
        mass_kg=mass,
        significance=region.significance,
        false_alarm_rate=chance_of(region, cells),
        n_muons=region.n_muons,
        reason=_reason(why, region, guess),
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


def _reason(why: str, region: Region, guess: MaterialGuess) -> str:
    names = [f"{guess.name} ({guess.probability:.0%})"]
    names += [f"{other.name} ({other.probability:.0%})" for other in guess.alternatives[:3]]
    return (
        f"{why[0].upper()}{why[1:]}: scattering density {region.scattering_density:.3g} mrad²/cm "
        f"where the surroundings have {region.background:.2g}, {region.significance:.1f} standard "
        f"deviations above them; could be {', '.join(names)}."
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
    if not np.isfinite(run.live_time_s):
        found.append("the live time is unknown")
    typical = int(np.median(volume.n_muons[known]))
    if typical < FEW_MUONS:
        found.append(f"few muons: half of the voxels have {typical} or fewer; record for longer")
    unseen = 1 - float(known.mean())
    if unseen > 0.05:
        found.append(f"{unseen:.0%} of the volume was not seen by any muon")
    return found
