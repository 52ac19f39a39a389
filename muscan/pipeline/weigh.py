"""The verb that weighs a load, and the containers whose own matter is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from muscan import io
from muscan.errors import InputError, nearest
from muscan.identification.load import LoadScattering, Surroundings, load_scattering
from muscan.identification.weight import (
    THICKEST,
    Response,
    declared_materials,
    load_mass,
    mean_loss,
    mean_power,
    response_of,
)
from muscan.model.alerts import AlertReport, Interval, ScanInfo
from muscan.model.building_blocks import ContainerSpec
from muscan.model.events import Tracks, pair_tracks
from muscan.model.material import Material, MaterialDatabase, load_materials
from muscan.pipeline.common import PathLike, naming

#: Outer sizes [mm] (ISO 668, types 1CC and 1AAA) and usual own masses [kg] of containers
#: (Hapag-Lloyd, Container Specification, 2019).
CONTAINERS: Final = {
    "20ft": ((6058.0, 2438.0, 2591.0), 2200.0),
    "40ft": ((12192.0, 2438.0, 2896.0), 3900.0),
}
#: Materials whose scattering and stopping stand for cargo that is not declared.
UNDECLARED: Final = ("food", "beverage", "wood-paper", "plastic", "textile", "chemical")


@dataclass(frozen=True)
class LoadWeight:
    """The mass of a load.

    Attributes
    ----------
    mass_kg : Interval
        Of the load, without the container.
    tare_kg : float
        Of the container; 0 where none is declared, and what holds the load counts as load.
    columns : LoadScattering
        The map it follows from.
    kinds : tuple of Material
        What the load is taken for.
    response : Response
        Of the scanner.
    warnings : tuple of str
    """

    mass_kg: Interval
    tare_kg: float
    columns: LoadScattering
    kinds: tuple[Material, ...]
    response: Response
    warnings: tuple[str, ...]


def weigh(
    tracks: PathLike | Tracks,
    *,
    cargo: str | Sequence[Material] = "",
    container: str = "",
    materials: Sequence[PathLike] | MaterialDatabase = (),
    flux: str = "guan2015",
) -> LoadWeight:
    """Weigh the load of a scan by the scattering of its muons.

    Parameters
    ----------
    tracks : path or Tracks
        With the layout that they were measured with.
    cargo : str or sequence of Material
        Declared cargo: a material, or a category of materials. Without it, common goods.
    container : str
        ``"20ft"`` or ``"40ft"``: the container at the middle of the inspected space, whose own
        matter is then known.
    materials : sequence of path, or MaterialDatabase
        Material files to lay over the shipped ones, or a database.
    flux : str
        Flux model from which the spectrum of unknown momenta follows.

    Returns
    -------
    LoadWeight

    Raises
    ------
    InputError
        If an option is wrong, the tracks have no layout, or too few muons go through.
    """
    database = (
        materials if isinstance(materials, MaterialDatabase) else load_materials(tuple(materials))
    )
    warnings = []
    if isinstance(cargo, str):
        names = (cargo,) if cargo else UNDECLARED
        kinds = [kind for name in names for kind in declared_materials(database, name)]
        if not cargo:
            warnings.append("no cargo is declared: the load is taken for common organic goods")
    else:
        kinds = list(cargo)
    found = io.read_tracks(Path(tracks)) if isinstance(tracks, (str, Path)) else tracks
    if found.detector is None:
        raise InputError("tracks", "they have no layout", "track them with --detector")
    around, tare = _around(found.detector.bounds, container, database)
    with naming("tracks", tracks):
        columns = load_scattering(
            pair_tracks(found), found.detector, around, mean_loss(kinds), flux
        )
    response = response_of(found.detector.name, kinds)
    if (columns.column > THICKEST).any():
        warnings.append("parts of the load are too dense to weigh: the mass is a lower limit")
    if not response.measured:
        warnings.append(f"weights are not calibrated for {found.detector.name}")
    mass = load_mass(columns, mean_power(kinds), response)
    return LoadWeight(mass, tare, columns, tuple(kinds), response, tuple(warnings))


def _around(
    bounds: np.ndarray, container: str, database: MaterialDatabase
) -> tuple[Surroundings, float]:
    if not container:
        return Surroundings(bounds), 0.0
    if container not in CONTAINERS:
        hint = nearest(container, CONTAINERS)
        raise InputError("--container", f"no such container '{container}'", hint)
    size, tare = CONTAINERS[container]
    shell = ContainerSpec(name=container, size_mm=size)
    half = np.array(size) / 2 - shell.wall_mm
    middle = bounds.mean(axis=0)
    floor = database[shell.floor_material].scattering_density * shell.floor_mm / 10
    steel = database[shell.material].scattering_density
    around = Surroundings(np.array([middle - half, middle + half]), shell.wall_mm, steel, floor)
    return around, tare


def with_load(report: AlertReport, load: LoadWeight, cargo: str) -> AlertReport:
    """Return a report with the weighed mass of the load, and its container's, as the total."""
    mass = load.mass_kg
    total = Interval(
        value=(mass.value or 0.0) + load.tare_kg,
        low=(mass.low or 0.0) + load.tare_kg,
        high=None if mass.high is None else mass.high + load.tare_kg,
    )
    facts = {
        **report.scan.model_dump(),
        "cargo": cargo,
        "cargo_mass_kg": mass.model_dump(),
        "tare_kg": load.tare_kg,
    }
    return report.model_copy(
        update={
            "scan": ScanInfo.model_validate(facts),
            "total_mass_kg": total,
            "warnings": [*report.warnings, *load.warnings],
        }
    )
