"""Commands on what is shipped and what the user adds: materials, scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muscan.cli import show
from muscan.cli.app import app
from muscan.cli.options import Json, Materials, Output, Seed, Threat, ThreatName
from muscan.errors import InputError, nearest

if TYPE_CHECKING:
    from muscan.model.material import Material
    from muscan.model.scene import Scene

materials_app = typer.Typer(
    help="The material database: list, show, check, add.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
scenes_app = typer.Typer(
    help="Scenes to simulate: list, show, check, draw, import.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(materials_app, name="materials")
app.add_typer(scenes_app, name="scenes")


@materials_app.command("list")
def list_materials(
    category: Annotated[str, typer.Option(help="Only this category.")] = "",
    materials: Materials = None,
    as_json: Json = False,
) -> None:
    """List the materials, or those of a category.

    With density, radiation length and scattering density.

    Example: muscan materials list --category explosive
    """
    from muscan.model.material import load_materials

    database = load_materials(tuple(materials or ()))
    known = {material.category for material in database}
    if category and category not in known:
        raise InputError("--category", f"no category '{category}'", nearest(category, known))
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
    """Check material files.

    The first fault is named with its line.

    Example: muscan materials check my-materials.toml
    """
    from muscan.model import material

    for path in files:
        found = material.check_materials(path)
        print(f"{path}: {len(found)} materials, no fault found")


@materials_app.command("add")
def add_materials(files: list[Path]) -> None:
    """Add material files to your own.

    They are checked first. Your own layer over the shipped ones.

    Example: muscan materials add my-materials.toml
    """
    from muscan.model import material

    for path in files:
        print(f"{path}: added as {material.add_materials(path)}")


@scenes_app.command("list")
def list_scenes(as_json: Json = False) -> None:
    """List scenes and templates, shipped and your own.

    Example: muscan scenes list
    """
    from muscan import resources
    from muscan.model.draw import template_names
    from muscan.model.scene import load_scene

    found = {
        name: load_scene(path).description
        for name, path in {**template_names(), **resources.names("scenes")}.items()
    }
    if as_json:
        show.print_json(found)
        return
    show.print_facts(found)
    print(f"Put your own into {resources.user_folder('scenes')}, or give a path.")


@scenes_app.command("show")
def show_scene(name: str, as_json: Json = False) -> None:
    """Show a scene's file, or what it holds (--json).

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
    seed: Seed = 0,
) -> None:
    """Check scenes, by file or name, with their detector.

    The first fault is named. A template is drawn with the seed, without and with each of its
    threats.

    Example: muscan scenes check my-scene.toml
    """
    from muscan.model.draw import draw_scene, threat_names
    from muscan.model.material import load_materials
    from muscan.simulation import Simulation

    database = load_materials(tuple(materials or ()))
    for name in names:
        threats = threat_names(name)
        choices: list[bool | str] = [False, *threats]
        for threat in choices:
            scene = draw_scene(name, seed, threat)
            simulation = Simulation(scene, detector, minutes=1.0, materials=database)
        what = f"{len(threats)} threats" if threats else f"{len(scene.bodies)} bodies"
        print(f"{name}: {what} in {simulation.detector.name}, no fault found")


@scenes_app.command("draw")
def draw_scene(
    name: Annotated[str, typer.Argument(help="A template's file or name.")],
    output: Output,
    seed: Seed = 0,
    threat: Threat = False,
    threat_name: ThreatName = None,
    materials: Materials = None,
    as_json: Json = False,
) -> None:
    """Draw a scene at random from a template.

    Its masses and what is hidden in it are told.

    Example: muscan scenes draw fruit --seed 3 --threat -o scene.toml
    """
    from muscan import io
    from muscan.model import draw
    from muscan.model.material import load_materials
    from muscan.model.truth import scene_truth

    io.spare(output, name)
    scene = draw.draw_scene(name, seed, threat_name or threat)
    truth = scene_truth(scene, load_materials(tuple(materials or ())))
    io.write_text(output, scene.text)
    facts = {
        "file": str(output),
        "detector": scene.detector,
        "load_kg": float(f"{truth.load_kg:.6g}"),
        "tare_kg": float(f"{truth.tare_kg:.6g}"),
        "threats": [
            {
                "name": hidden.name,
                "materials": list(hidden.materials),
                "centre_mm": hidden.centre_mm.round(1).tolist(),
                "size_mm": hidden.size_mm.round(1).tolist(),
                "mass_kg": float(f"{hidden.mass_kg:.4g}"),
            }
            for hidden in truth.threats
        ],
    }
    show.print_json(facts) if as_json else show.print_facts(facts)


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


def _scene_facts(scene: Scene) -> dict[str, Any]:
    return {
        "name": scene.name,
        "description": scene.description,
        "detector": scene.detector,
        "bodies": [str(body.name) for body in scene.bodies],
    }
