"""Command on foreign geometry: scenes import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muscan.cli import show
from muscan.cli.library import scenes_app
from muscan.cli.options import Json, Materials, Output


@scenes_app.command("import")
def import_scene(
    file: Annotated[Path, typer.Argument(help="GDML file.", metavar="FILE.gdml")],
    output: Output,
    detector: Annotated[str, typer.Option(help="Layout that the scene is made for.")] = "",
    materials: Materials = None,
    as_json: Json = False,
) -> None:
    """Write the world of a GDML file as a scene.

    It tells the bodies, their mass and what was left out. Boxes and whole tubes, spheres and orbs,
    placed one by one, are understood; all else is refused by name. Needs the extra gdml.

    Example: muscan scenes import cargo.gdml -o scene.toml
    """
    from muscan import io
    from muscan.model.detector import load_detector
    from muscan.model.material import load_materials

    io.spare(output, file)
    if detector:
        load_detector(detector)
    database = load_materials(tuple(materials or ()))
    scene = io.read_gdml(file, detector, database)
    facts = {
        "file": str(output),
        "medium": scene.medium,
        "bodies": len(scene.bodies),
        "mass_kg": float(f"{scene.mass_kg(database):.6g}"),
        "materials written out": [material.name for material in scene.inline],
        "note": scene.description,
    }
    io.write_text(output, scene.text)
    show.print_json(facts) if as_json else show.print_facts(facts)
