"""The verb that weighs a load, and the containers whose own matter is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from muscan import io
from muscan.errors import InputError
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
from muscan.model.angle_law import AngleLaw
from muscan.model.containers import container_spec
from muscan.model.detector import Detector, Panel
from muscan.model.events import Tracks
from muscan.model.material import Material, MaterialDatabase, load_materials
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.track_errors import PanelScattering, scattering_density
from muscan.pipeline.common import PathLike, assumed_flux, naming

#: Materials whose scattering and stopping stand for cargo that is not declared.
UNDECLARED: Final = ("food", "beverage", "wood-paper", "plastic", "textile", "chemical")
#: Panels of a group that a track asks for, the last of them up to its middle.
ASKED: Final = 1.5

#: Materials and vertical thicknesses [mm].
Layers = list[tuple[Material, float]]


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
    flux: str = "",
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
        Flux model from which the spectrum of unknown momenta follows; unless given, ``guan2015``
        for simulated muons and ``ecomug`` for recorded ones.

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
    flux = assumed_flux(flux, found.run)
    bounds = found.detector.bounds
    around, tare = surroundings(bounds, container, database)
    with naming("tracks", tracks):
        law = goods_law(kinds, found.detector, container, database, flux)
        columns = load_scattering(found, around, law)
    response = response_of(found.detector.name, kinds)
    if (columns.column > THICKEST).any():
        warnings.append("parts of the load are too dense to weigh: the mass is a lower limit")
    if not response.measured:
        warnings.append(f"weights are not calibrated for {found.detector.name}")
    mass = load_mass(columns, mean_power(kinds), response)
    return LoadWeight(mass, tare, columns, tuple(kinds), response, tuple(warnings))


def surroundings(
    bounds: np.ndarray, container: str, database: MaterialDatabase
) -> tuple[Surroundings, float]:
    """Return what is known around a load, and its own mass [kg].

    A container stands at the middle of the inspected space, with its walls, floor and frame.

    Raises
    ------
    InputError
        If there is no such container.
    """
    if not container:
        return Surroundings.nothing(bounds), 0.0
    shell, tare = container_spec(container)
    middle = bounds.mean(axis=0)
    half = np.array(shell.size_mm) / 2 - shell.wall_mm
    rows = []
    for part in shell.parts(Path()):
        body, room = part.body, part.inside == f"{shell.name}/inside"
        density = 0.0 if body.name == f"{shell.name}/inside" else _density(database, body.material)
        rows.append((middle + body.centre - body.half, middle + body.centre + body.half, density))
        if not room and density:
            rows.append((middle - half, middle + half, -density))
    low, high, densities = zip(*rows, strict=True)
    inside = np.array([middle - half, middle + half])
    return Surroundings(inside, np.array(low), np.array(high), np.array(densities)), tare


def _density(database: MaterialDatabase, name: str) -> float:
    return float(database[name].scattering_density)


def goods_law(
    kinds: Sequence[Material],
    detector: Detector,
    container: str,
    database: MaterialDatabase,
    flux: str,
) -> AngleLaw:
    """Return the law of angles of goods in a container between a detector's panels.

    Of several kinds, that one stands for all whose loss of momentum for its scattering is nearest
    to their mean.
    """
    typical = mean_loss(list(kinds))
    goods = min(kinds, key=lambda kind: abs(mean_loss([kind]) - typical))
    panels = [p for p in detector.panels if abs(p.normal[2]) > 0.9]
    upper = [p for p in panels if p.centre[2] > detector.bounds[1, 2]]
    lower = [p for p in panels if p.centre[2] < detector.bounds[0, 2]]
    entry, turning, before = _panel_layers(detector, upper, database)
    after, below_panels, _ = _panel_layers(detector, lower, database)
    roof: Layers = []
    floor: Layers = []
    if container:
        shell, _ = container_spec(container)
        steel = (database[shell.material], shell.wall_mm)
        roof = [steel]
        floor = [(database[shell.floor_material], shell.floor_mm), steel]
    parts = (
        entry, before, [*turning, *roof], [*floor, *below_panels],
        _less(after, below_panels),
    )  # fmt: skip
    return _law(goods, flux, tuple(tuple(part) for part in parts))


def _panel_layers(
    detector: Detector, panels: list[Panel], database: MaterialDatabase
) -> tuple[Layers, Layers, Layers]:
    """Return the matter of a group of panels: what a track asks for, what turns it, and the rest.

    The scattering that turns a fitted track is as much as that of some of the panels' matter.
    """
    if not panels:
        return [], [], []
    technology = panels[0].technology
    matter = database[technology.material]
    whole = sum(panel.technology.thickness_mm for panel in panels)
    asked = min(ASKED * technology.thickness_mm, whole)
    inner = min(panels, key=lambda panel: abs(panel.centre[2]))
    down = np.array([[0.0, 0.0, -1.0]])
    turned = PanelScattering(detector).errors(inner.centre[None], down, outgoing=False)[0, 0]
    turning = min(float(turned) / scattering_density(technology.material), whole)
    rest = max(whole - asked - turning, 0.0)
    return [(matter, asked)], [(matter, turning)], [(matter, rest)]


def _less(layers: Layers, taken: Layers) -> Layers:
    """Return what is left of layers of one material when some of them is counted elsewhere."""
    gone = sum(thickness for _, thickness in taken)
    return [(material, max(thickness - gone, 0.0)) for material, thickness in layers]


@lru_cache(maxsize=16)
def _law(
    goods: Material, flux: str, parts: tuple[tuple[tuple[Material, float], ...], ...]
) -> AngleLaw:
    from muscan.simulation.angle_law import angle_law

    entry, before, above, below, after = parts
    return angle_law(
        goods, sea_level_spectrum(flux),
        entry=entry, before=before, above=above, below=below, after=after,
    )  # fmt: skip


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
