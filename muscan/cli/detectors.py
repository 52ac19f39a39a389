"""Commands on detector layouts: detectors list, show, check."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muscan.cli import show
from muscan.cli.app import app
from muscan.cli.options import Flux, Json, Seed
from muscan.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from muscan.model.detector import Detector

detectors_app = typer.Typer(
    help="Detector layouts: list, show, check.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(detectors_app, name="detectors")


@detectors_app.command("list")
def list_detectors(as_json: Json = False) -> None:
    """List the shipped layouts and your own.

    Example: muscan detectors list
    """
    from muscan import resources
    from muscan.model.detector import load_detector

    kind = "detectors/scanners"
    found = {name: load_detector(path).description for name, path in resources.names(kind).items()}
    if as_json:
        show.print_json(found)
        return
    show.print_facts(found)
    print(f"Put your own into {resources.user_folder(kind)}, or give a path.")


@detectors_app.command("show")
def show_detector(
    name: str,
    png: Annotated[Path | None, typer.Option(help="Picture of the layout to write.")] = None,
    view: Annotated[bool, typer.Option("--view", help="Show it in napari.")] = False,
    as_json: Json = False,
) -> None:
    """Show a layout's panels, in words, drawn, or in napari.

    Example: muscan detectors show container-portal --png portal.png
    """
    from muscan.model.detector import load_detector

    detector = load_detector(name)
    if png is not None:
        from muscan import plot
        from muscan.io.atomic import whole_file

        with whole_file(png) as part:
            plot.layout(detector).savefig(part, format="png", dpi=100)
    if as_json:
        show.print_json(_detector_facts(detector))
    else:
        _print_panels(detector)
        if png is not None:
            print(f"Written: {png}")
    if view:
        _view_detector(detector)


def _view_detector(detector: Detector) -> None:
    """Show the panels and the inspected space in napari until the window is closed."""
    try:
        import napari
        from napari.layers import Layer
    except ImportError as error:
        raise MissingExtraError("viewer", error.name) from error
    from muscan.viewer import layers
    from muscan.viewer.app import orient

    viewer = napari.Viewer(title=f"muscan: {detector.name}", ndisplay=3)
    viewer.add_layer(Layer.create(*layers.panels(detector)))
    orient(viewer)
    napari.run()


def _print_panels(detector: Detector) -> None:
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
def check_detector(
    names: list[str], flux: Flux = "guan2015", seed: Seed = 0, as_json: Json = False
) -> None:
    """Check layouts, by file or name, and tell acceptances.

    Panels in each other are a fault; the first one is named. Directions that no panel measures
    are told. The rate is that of muons with a
    track in both groups, were all panels efficient and nothing between them.

    Example: muscan detectors check my-layout.toml
    """
    from muscan.model.detector import load_detector

    checked = {name: _checked(load_detector(name), name, flux, seed) for name in names}
    if as_json:
        show.print_json(checked)
        return
    for name, facts in checked.items():
        groups = ", ".join(facts["groups"])
        print(f"{name}: {facts['panels']} panels in groups {groups}, no fault found")
        if facts["fixed"]:
            print(f"  stands there always: {', '.join(facts['fixed'])}")
        for group, missing in facts["not measured"].items():
            print(f"  note: group '{group}' does not measure {'; '.join(missing)}")
        for panel in facts["in the inspected space"]:
            print(f"  note: panel '{panel}' reaches into the inspected space")
        for pair in facts["pairs"]:
            acceptance, rate = pair["acceptance [m² sr]"], pair["rate [Hz]"]
            print(
                f"  {pair['in']} → {pair['out']}: {_with_error(*acceptance)} m² sr, "
                f"{_with_error(*rate)} muons/s ({flux})"
            )


def _checked(detector: Detector, source: str, flux: str, seed: int) -> dict[str, Any]:
    """Return what a check of a layout finds; panels in each other are refused."""
    from muscan.model import acceptance, layout_checks
    from muscan.model.scene import Scene, check_in_detector, with_fixed

    for first, second in layout_checks.overlaps(detector):
        problem = f"panels '{first}' and '{second}' overlap"
        raise InputError(source, problem, "move one, or make it smaller")
    check_in_detector(with_fixed(Scene(source), detector), detector)
    return {
        "panels": len(detector.panels),
        "groups": list(detector.groups),
        "fixed": [body.name for body in detector.fixed],
        "not measured": layout_checks.unmeasured(detector),
        "in the inspected space": layout_checks.intruders(detector),
        "flux": flux,
        "pairs": [
            {
                "in": pair.incoming,
                "out": pair.outgoing,
                "acceptance [m² sr]": [pair.acceptance_m2_sr.value, pair.acceptance_m2_sr.error],
                "rate [Hz]": [pair.rate_hz.value, pair.rate_hz.error],
            }
            for pair in acceptance.pair_acceptances(detector, flux, seed=seed)
        ],
    }


def _with_error(value: float, error: float) -> str:
    """Return a value to the first digit of its error, such as ``6260 ± 20``."""
    digits = -math.floor(math.log10(error)) if error > 0 else 3
    shown = max(digits, 0)
    return f"{round(value, digits):.{shown}f} ± {round(error, digits):.{shown}f}"


def _corner(point: Any) -> str:
    return ", ".join(f"{x:g}" for x in point)


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
