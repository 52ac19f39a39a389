"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muscan.errors import InputError

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.", min=0)]
Workers = Annotated[
    int | None, typer.Option(help="Threads; all cores by default.", min=1, show_default=False)
]
Voxel = Annotated[float, typer.Option(help="Size of the voxels [mm].")]
Method = Annotated[str, typer.Option(help="Reconstruction method: poca, asr, em, mlem.")]
Detector = Annotated[
    str | None,
    typer.Option(help="Layout: a file or a name (see 'muscan detectors list').", metavar="LAYOUT"),
]
Materials = Annotated[
    list[Path] | None,
    typer.Option(help="Material file to lay over the shipped ones; may be repeated."),
]
Watch = Annotated[
    str,
    typer.Option(
        help="Materials or categories to raise, separated by commas; uranium:0.5kg from a mass on.",
        metavar="NAMES",
    ),
]
Cargo = Annotated[
    str,
    typer.Option(help="Declared cargo, a material or a category: weighs the load.", metavar="NAME"),
]
Container = Annotated[
    str, typer.Option(help="20ft or 40ft: the container whose own matter is known.", metavar="KIND")
]
Flux = Annotated[str, typer.Option(help="Flux model of the sky.")]
Sky = Annotated[
    str,
    typer.Option(
        help="Flux model of the sky; guan2015 for simulated and ecomug for recorded muons unless "
        "given.",
        metavar="NAME",
    ),
]
Notify = Annotated[
    list[str] | None,
    typer.Option(
        help="Where certain alerts go: stdout, file:PATH or http(s)://…; may be repeated.",
        metavar="TARGET",
    ),
]
FailOnAlert = Annotated[
    bool, typer.Option("--fail-on-alert", help="Exit with status 3 if there are alerts.")
]
Threat = Annotated[bool, typer.Option("--threat", help="Hide one of the template's threats.")]
ThreatName = Annotated[
    str | None,
    typer.Option(help="Which threat to hide.", metavar="NAME", show_default=False),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]


def names(text: str) -> tuple[str, ...]:
    """Return the words of a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def momenta(text: str) -> tuple[float, float]:
    """Return the two numbers of ``--momentum-range`` [GeV].

    Raises
    ------
    InputError
        If they are not two numbers.
    """
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        raise InputError(
            "--momentum-range", f"'{text}' is not two numbers", "give LOW,HIGH in GeV"
        ) from None
    return low, high


def corners(text: str | None) -> list[float] | None:
    """Return the numbers of ``--bounds`` [mm], None where it is not given.

    Raises
    ------
    InputError
        If one is not a number.
    """
    if text is None:
        return None
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise InputError(
            "--bounds", f"'{text}' is not six numbers", "give xmin,xmax,ymin,ymax,zmin,zmax in mm"
        ) from None
