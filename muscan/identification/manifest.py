"""Declared goods against what a scan found: masses, densities, objects that do not belong.

Each comparison has a significance: how many standard deviations of what was found lie between it
and what was declared, the error of the declaration's packing included. From `LIMIT` on it is a
mismatch. There are several comparisons in a check, so that chance alone makes a mismatch of three
standard deviations in about one check in a hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.errors import InputError
from muscan.identification.weight import mean_power
from muscan.model.alerts import Alert, AlertReport, Interval
from muscan.model.manifest import Check, Comparison, GoodsItem, Manifest, ManifestReport
from muscan.model.material import Material, MaterialDatabase
from muscan.model.volume import Volume

FloatArray = NDArray[np.float64]

#: Standard deviations from which on a difference is a mismatch.
LIMIT: Final = 3.0
#: Packing and pallets where no gross mass is declared: share of the net mass, and its standard
#: deviation. A Euro pallet of 25 kg and cartons of 3 % are common; a choice, not a measurement.
PACKING: Final = (0.05, 0.03)
#: Relative error of the mean scattering density of the occupied part of a zone: how a blurred
#: volume parts full from empty.
DENSITY_SPREAD: Final = 0.15
#: An object whose declared materials are less probable than this does not belong.
FOREIGN: Final = 0.05

#: Returns the mass of a rectangle of the load (all of it for None), given the scattering power
#: and its relative error (`muscan.identification.weight.mean_power`).
Weigher = Callable[[tuple[float, float], FloatArray | None], Interval]


def goods_materials(item: GoodsItem, materials: MaterialDatabase) -> list[Material]:
    """Return what a goods line can be: its own materials, or those of its HS chapter.

    Raises
    ------
    InputError
        If it names a material that the database lacks.
    """
    if not item.materials:
        return [m for m in materials if m.hs_chapter == item.chapter and m.state != "gas"]
    found: list[Material] = []
    for name in item.materials:
        of_category = [m for m in materials if m.category == name]
        try:
            found += of_category or [materials[name]]
        except InputError as error:
            line = f"goods line {item.sequence}"
            problem = f"{line}: {error.problem} '{name}'"
            raise InputError("manifest", problem, error.remedy) from error
    return found


def check_goods(
    manifest: Manifest,
    report: AlertReport,
    volume: Volume,
    materials: MaterialDatabase,
    weigh: Weigher,
    limit: float = LIMIT,
) -> ManifestReport:
    """Compare a manifest with a scan.

    Parameters
    ----------
    manifest : Manifest
    report : AlertReport
        Of the scan.
    volume : Volume
        Of the scan, which shows where in a zone the goods stand.
    materials : MaterialDatabase
    weigh : callable
        Weighs the load, or a rectangle of it (corners, shape (2, 2) [mm]), without the container.
    limit : float
        Standard deviations from which on a difference is a mismatch.

    Returns
    -------
    ManifestReport

    Raises
    ------
    InputError
        If a goods line names a material that the database lacks.
    """
    kinds = {item.sequence: goods_materials(item, materials) for item in manifest.goods}
    warnings = [
        f"goods line {item.sequence}: the database has no material of HS chapter {item.chapter}; "
        "its density is not checked"
        for item in manifest.goods
        if not kinds[item.sequence]
    ]
    powers = {number: mean_power(found or list(materials)) for number, found in kinds.items()}
    comparisons = [
        _mass_of(list(manifest.goods), None, weigh(_of_all(manifest, powers), None), limit)
    ]
    for item in manifest.goods:
        own = kinds[item.sequence]
        if item.zone is not None:
            comparisons += _zone(item, own, powers[item.sequence], volume, weigh, limit)
        elif len(manifest.goods) > 1:
            warnings.append(f"goods line {item.sequence}: no zone, only the total is checked")
    comparisons += [_object(alert, manifest, kinds, limit) for alert in report.alerts]
    comparisons.sort(key=lambda c: (c.agrees, -(c.significance or 0.0)))
    return ManifestReport(
        reference=manifest.reference,
        run_id=report.scan.run_id,
        materials_version=materials.version,
        passed=all(item.agrees for item in comparisons),
        comparisons=comparisons,
        warnings=warnings,
    )


def _of_all(manifest: Manifest, powers: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Return the scattering power of all goods, each line by its declared mass, and its error."""
    masses = np.array([item.net_mass.kg for item in manifest.goods])
    power = np.array([powers[item.sequence] for item in manifest.goods])
    parts = masses * power[:, 0]
    error = float(np.sqrt(np.square(parts * power[:, 1]).sum()))
    return float(parts.sum() / masses.sum()), error / float(parts.sum())


def _mass_of(
    items: list[GoodsItem], sequence: int | None, found: Interval, limit: float
) -> Comparison:
    """Compare the mass of goods with that of the load, or of a zone."""
    net = sum(item.net_mass.kg for item in items)
    declared, squares = 0.0, 0.0
    for item in items:
        if item.gross_mass is not None:
            declared += item.gross_mass.kg
        else:
            declared += item.net_mass.kg * (1 + PACKING[0])
            squares += (item.net_mass.kg * PACKING[1]) ** 2
    what = "the load" if sequence is None else f"goods line {sequence}"
    words = f"{net:.6g} kg net, {declared:.6g} kg with packing"
    check: Check = "total-mass" if sequence is None else "zone-mass"
    value, low, high = found.value or 0.0, found.low or 0.0, found.high
    excess = value - declared
    # The half of the interval that lies towards the declared mass; open, where the scan gives
    # only a lower limit.
    if excess < 0 and high is None:
        text = f"{what}: at least {value:.0f} kg found, {words} declared"
        return _said(check, sequence, words, found, "kg", 0.0, limit, text)
    half = value - low if excess > 0 or high is None else high - value
    significance = abs(excess) / max(float(np.hypot(half, np.sqrt(squares))), 1e-9)
    text = (
        f"{what}: {value:.0f} kg found, {words} declared, "
        f"{abs(excess):.0f} kg {'more' if excess > 0 else 'less'} ({significance:.1f} σ)"
    )
    return _said(check, sequence, words, found, "kg", significance, limit, text)


def _zone(
    item: GoodsItem,
    kinds: list[Material],
    power: tuple[float, float],
    volume: Volume,
    weigh: Weigher,
    limit: float,
) -> list[Comparison]:
    """Compare mass and density of the goods in a zone."""
    assert item.zone is not None
    low, high = (np.array(corner) for corner in item.zone.bounds_mm)
    share, occupied = _in_zone(volume, low, high)
    columns = weigh(power, np.array([low[:2], high[:2]]))
    mass = _scaled(columns, share)
    found = [_mass_of([item], item.sequence, mass, limit)]
    if occupied == 0 or not kinds:
        return found
    # The volume says where the goods are, the columns how much they scatter.
    density = (mass.value or 0.0) * power[0] / (occupied / 1e6)
    relative = float(np.hypot(DENSITY_SPREAD, _relative(mass)))
    ranges = [
        (kind.density_range_g_cm3[0] * kind.mass_scattering_power,
         kind.density_range_g_cm3[1] * kind.mass_scattering_power)
        for kind in kinds
    ]  # fmt: skip
    least, most = min(r[0] for r in ranges), max(r[1] for r in ranges)
    outside = max(np.log(least / density), np.log(density / most), 0.0) if density > 0 else 0.0
    words = f"λ of {least:.2g} to {most:.2g} mrad²/cm"
    interval = Interval(
        value=density, low=density * np.exp(-relative), high=density * np.exp(relative)
    )
    text = (
        f"goods line {item.sequence}: λ of {density:.2g} mrad²/cm where they stand, "
        f"{least:.2g} to {most:.2g} for what is declared ({outside / relative:.1f} σ)"
    )
    found.append(
        _said(
            "density", item.sequence, words, interval, "mrad2/cm", outside / relative, limit, text
        )
    )
    return found


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(
        value=(interval.value or 0.0) * factor,
        low=(interval.low or 0.0) * factor,
        high=None if interval.high is None else interval.high * factor,
    )


def _relative(interval: Interval) -> float:
    value = interval.value or 0.0
    return (value - (interval.low or 0.0)) / value if value > 0 else 1.0


def _in_zone(volume: Volume, low: FloatArray, high: FloatArray) -> tuple[float, float]:
    """Return what share of its columns' scattering a zone has, and the space filled [mm³].

    Voxels above half of the zone's 90 % quantile count as filled.
    """
    grid = volume.grid
    values = np.where(np.isfinite(volume.values), volume.values, 0.0)
    rows = [
        (grid.centres(axis) > low[axis]) & (grid.centres(axis) < high[axis]) for axis in range(3)
    ]
    columns = values[rows[0]][:, rows[1]]
    inside = columns[:, :, rows[2]]
    if not inside.size or columns.sum() <= 0:
        return 0.0, 0.0
    filled = inside > 0.5 * np.quantile(inside, 0.9)
    space = float(filled.sum()) * grid.voxel_volume_mm3
    return float(inside.sum() / columns.sum()), space


def _object(
    alert: Alert, manifest: Manifest, kinds: dict[int, list[Material]], limit: float
) -> Comparison:
    """Say whether an object that was found is among what is declared for its place."""
    item = _at(alert, manifest)
    allowed = kinds[item.sequence] if item else [k for found in kinds.values() for k in found]
    names = {kind.name for kind in allowed}
    guesses = [(alert.material.name, alert.material.probability)]
    guesses += [(other.name, other.probability) for other in alert.material.alternatives]
    share = sum(probability for name, probability in guesses if name in names)
    significance = (alert.significance or 0.0) if share < FOREIGN else 0.0
    place = ", ".join(f"{x:.0f}" for x in alert.position_mm)
    text = (
        f"object at {place} mm: {alert.material.name} ({alert.material.probability:.0%}), "
        + ("not among the goods" if share < FOREIGN else "may be of the goods")
        + f" declared ({share:.0%} probable)"
    )
    words = ", ".join(sorted(names)[:6]) + (", …" if len(names) > 6 else "")
    sequence = item.sequence if item else None
    return _said(
        "object", sequence, words, alert.mass_kg, "kg", significance, limit, text,
        chance=None if alert.false_alarm_rate is None else min(alert.false_alarm_rate, 1.0),
    )  # fmt: skip


def _at(alert: Alert, manifest: Manifest) -> GoodsItem | None:
    """Return the goods line in whose zone an object is."""
    for item in manifest.goods:
        if item.zone is not None:
            low, high = item.zone.bounds_mm
            if all(a <= x <= b for a, x, b in zip(low, alert.position_mm, high, strict=True)):
                return item
    return None


def _said(
    check: Check,
    sequence: int | None,
    declared: str,
    found: Interval,
    unit: str,
    significance: float,
    limit: float,
    text: str,
    chance: float | None = None,
) -> Comparison:
    return Comparison(
        check=check,
        sequence=sequence,
        declared=declared,
        found=found,
        unit=unit,
        significance=significance,
        chance=float(2 * ndtr(-significance)) if chance is None else chance,
        agrees=significance < limit,
        text=text,
    )
