"""Commands on what is shipped and what the user adds: materials, detectors, scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muscan.cli import show
from muscan.cli.app import app
from muscan.cli.chain import Json, Materials

if TYPE_CHECKING:
    from muscan.model.detector import Detector
    from muscan.model.material import Material
    from muscan.model.scene import Scene


def _group(name: str, text: str) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


materials_app = _group("materials", "The material database: list, show, check, add.")
detectors_app = _group("detectors", "Detector layouts: list, show, check.")
scenes_app = _group("scenes", "Scenes to simulate: list, show, check.")


@materials_app.command("list")
def list_materials(
    category: Annotated[str, typer.Option(help="Only this category.")] = "",
    materials: Materials = None,
    as_json: Json = False,
) -> None:
    """List the materials with density, radiation length and scattering density.

    Example: muscan materials list --category explosive
    """
    from muscan.model.material import load_materials

    database = load_materials(tuple(materials or ()))
    chosen = [m for m in database if not category or m.category == category]
    if as_json:
        show.print_json([_material_facts(material) for material in chosen])
        return
    from rich.table import Table

    table = Table(title=f"{len(chosen)} materials, version {database.version}")
    for heading in ("name", "category"):
        table.add_column(heading)
    for heading in ("density [g/cm³]", "range", "X0 [cm]", "λ [mrad²/cm]"):
        table.add_column(heading, justify="right")
    for material in sorted(chosen, key=lambda m: (m.category, m.name)):
        low, high = material.density_range_g_cm3
        table.add_row(
            material.name,
            material.category,
            f"{material.density_g_cm3:.4g}",
            f"{low:.3g}–{high:.3g}",
            f"{material.radiation_length_mm / 10:.4g}",
            f"{material.scattering_density:.3g}",
        )
    show.print_table(table)


@materials_app.command("show")
def show_material(name: str, materials: Materials = None, as_json: Json = False) -> None:
    """Show all that is known of a material.

    Example: muscan materials show uranium
    """
    from muscan.model.material import load_materials

    facts = _material_facts(load_materials(tuple(materials or ()))[name])
    show.print_json(facts) if as_json else show.print_facts(facts)


@materials_app.command("check")
def check_materials(files: list[Path]) -> None:
    """Check material files; the first fault is named with its line.

    Example: muscan materials check my-materials.toml
    """
    from muscan.model import material

    for path in files:
        found = material.check_materials(path)
        print(f"{path}: {len(found)} materials, no fault found")


@materials_app.command("add")
def add_materials(files: list[Path]) -> None:
    """Check material files and add them to your own, which layer over the shipped ones.

    Example: muscan materials add my-materials.toml
    """
    from muscan.model import material

    for path in files:
        print(f"{path}: added as {material.add_materials(path)}")


@detectors_app.command("list")
def list_detectors(as_json: Json = False) -> None:
    """List the shipped layouts and your own."""
    from muscan.model.detector import load_detector

    _list("detectors/scanners", lambda path: load_detector(path).description, as_json)


@detectors_app.command("show")
def show_detector(name: str, as_json: Json = False) -> None:
    """Show a layout's panels: place, size, technology.

    Example: muscan detectors show container-portal
    """
    from muscan.model.detector import load_detector

    detector = load_detector(name)
    if as_json:
        show.print_json(_detector_facts(detector))
        return
    from rich.table import Table

    print(f"{detector.name}: {detector.description}")
    print(f"Inspected space [mm]: {_corner(detector.bounds[0])} to {_corner(detector.bounds[1])}")
    headings = ("panel", "group", "technology", "centre [mm]", "size [mm]", "sigma u, v [mm]")
    table = Table(*headings)
    for panel in detector.panels:
        table.add_row(
            panel.name,
            panel.group,
            panel.technology.description or "-",
            _corner(panel.centre),
            "{:g} x {:g}".format(*panel.size),
            "{:g}, {:g}".format(*panel.sigma),
        )
    show.print_table(table)


@detectors_app.command("check")
def check_detector(names: list[str]) -> None:
    """Check layouts (files or names); the first fault is named with its line.

    Example: muscan detectors check my-layout.toml
    """
    from muscan.model.detector import load_detector

    for name in names:
        detector = load_detector(name)
        groups = ", ".join(detector.groups)
        print(f"{name}: {len(detector.panels)} panels in groups {groups}, no fault found")


@scenes_app.command("list")
def list_scenes(as_json: Json = False) -> None:
    """List the shipped scenes and your own."""
    from muscan.model.scene import load_scene

    _list("scenes", lambda path: load_scene(path).description, as_json)


@scenes_app.command("show")
def show_scene(name: str, as_json: Json = False) -> None:
    """Show a scene's bodies: material, shape, place, mass.

    Example: muscan scenes show container
    """
    from muscan.model.scene import load_scene

    scene = load_scene(name)
    if as_json:
        show.print_json(_scene_facts(scene))
    else:
        print(scene.text.rstrip())


@scenes_app.command("check")
def check_scene(
    names: list[str],
    detector: Annotated[str | None, typer.Option(help="Layout to check it with.")] = None,
    materials: Materials = None,
) -> None:
    """Check scenes (files or names) with their detector; the first fault is named.

    Example: muscan scenes check my-scene.toml
    """
    from muscan.model.material import load_materials
    from muscan.model.scene import load_scene
    from muscan.simulation import Simulation

    for name in names:
        simulation = Simulation(
            load_scene(name),
            detector,
            minutes=1.0,
            materials=load_materials(tuple(materials or ())),
        )
        print(
            f"{name}: {len(simulation.scene.bodies)} bodies in {simulation.detector.name}, "
            "no fault found"
        )


def _list(kind: str, describe: Any, as_json: bool) -> None:
    from muscan import resources

    found = {name: describe(path) for name, path in resources.names(kind).items()}
    if as_json:
        show.print_json(found)
        return
    show.print_facts(found)
    print(f"Put your own into {resources.user_folder(kind)}, or give a path.")


def _corner(point: Any) -> str:
    return ", ".join(f"{x:g}" for x in point)


def _material_facts(material: Material) -> dict[str, Any]:
    return {
        "name": material.name,
        "description": material.description or None,
        "category": material.category,
        "HS chapter": material.hs_chapter or None,
        "density [g/cm³]": material.density_g_cm3,
        "density range [g/cm³]": list(material.density_range_g_cm3),
        "radiation length [cm]": float(f"{material.radiation_length_mm / 10:.5g}"),
        "radiation length [g/cm²]": float(f"{material.radiation_length_g_cm2:.5g}"),
        "scattering density [mrad²/cm]": float(f"{material.scattering_density:.5g}"),
        "stopping power at 3 GeV/c [MeV cm²/g]": float(
            f"{float(material.mass_stopping_power(3.0)):.5g}"
        ),
        "composition (mass fractions)": {
            symbol: float(f"{fraction:.5g}") for symbol, fraction in material.composition.items()
        },
        "source": material.source,
    }


def _detector_facts(detector: Detector) -> dict[str, Any]:
    return {
        "name": detector.name,
        "description": detector.description,
        "bounds_mm": detector.bounds.tolist(),
        "panels": [
            {
                "name": panel.name,
                "group": panel.group,
                "centre_mm": panel.centre.tolist(),
                "u_axis": panel.u.tolist(),
                "v_axis": panel.v.tolist(),
                "size_mm": list(panel.size),
            }
            for panel in detector.panels
        ],
    }


def _scene_facts(scene: Scene) -> dict[str, Any]:
    return {
        "name": scene.name,
        "description": scene.description,
        "detector": scene.detector,
        "bodies": [str(body.name) for body in scene.bodies],
    }
