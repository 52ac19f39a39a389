"""Commands on declared cargo: manifest check, weigh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muscan.cli import show
from muscan.cli.app import ALERTED, OK, app
from muscan.cli.options import Cargo, Container, FailOnAlert, Json, Materials, Sky

manifest_app = typer.Typer(
    help="Declared goods: check them against a scan.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(manifest_app, name="manifest")


@manifest_app.callback()
def manifest() -> None:
    """Declared goods: check them against a scan."""


@manifest_app.command("check")
def check_manifest(
    manifest: Annotated[Path, typer.Argument(help="Goods lines (JSON).", metavar="MANIFEST.json")],
    scan: Annotated[Path, typer.Option(help="Folder of the scan.", metavar="DIR")],
    container: Container = "",
    materials: Materials = None,
    flux: Sky = "",
    limit: Annotated[
        float, typer.Option(help="Standard deviations from which on it is a mismatch.")
    ] = 3.0,
    fail_on_alert: FailOnAlert = False,
    as_json: Json = False,
) -> int:
    """Check declared goods against a scan.

    By masses, densities, and objects that do not belong.

    Example: muscan manifest check manifest.json --scan first-scan --container 20ft
    """
    from muscan import pipeline

    report = pipeline.check_manifest(
        manifest, scan, container=container, materials=materials or (), flux=flux, limit=limit
    )
    if as_json:
        show.print_json(report.model_dump(mode="json"))
    else:
        for item in report.comparisons:
            print(f"{'agrees  ' if item.agrees else 'MISMATCH'}  {item.text}")
        for warning in report.warnings:
            print(f"note: {warning}")
        count = len(report.mismatches)
        print("passed" if report.passed else f"{count} mismatch{'es' * (count > 1)}")
    return ALERTED if fail_on_alert and not report.passed else OK


@app.command()
def weigh(
    tracks: Annotated[Path, typer.Argument(help="Track file.")],
    cargo: Cargo = "",
    container: Container = "",
    materials: Materials = None,
    flux: Sky = "",
    as_json: Json = False,
) -> None:
    """Weigh a load by the scattering of its muons.

    Example: muscan weigh tracks.h5 --cargo cement --container 20ft
    """
    from muscan import pipeline

    load = pipeline.weigh(
        tracks, cargo=cargo, container=container, materials=materials or (), flux=flux
    )
    facts = {
        "mass_kg": load.mass_kg.model_dump(),
        "tare_kg": load.tare_kg,
        "taken_for": cargo or "common goods",
        "warnings": list(load.warnings),
    }
    if as_json:
        show.print_json(facts)
        return
    mass = load.mass_kg
    high = "more" if mass.high is None else f"{mass.high:.0f}"
    limits = f"68 %: {mass.low:.0f} to {high}"
    print(f"load {mass.value:.0f} kg ({limits}), container {load.tare_kg:.0f} kg")
    for warning in load.warnings:
        print(f"note: {warning}")
