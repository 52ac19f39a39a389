"""The command on many scans: study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muscan.cli import show
from muscan.cli.app import app
from muscan.cli.cluster import Dask, cluster
from muscan.cli.options import Detector, Json, Method, Quiet, Seed, Voxel
from muscan.errors import InputError

if TYPE_CHECKING:
    from muscan.studies import Study

#: Tables that are printed, of each study; the others are in the folder.
_PRINTED = {
    "roc": ("roc_points",),
    "time": ("time",),
    "weight": ("weight",),
    "confusion": ("confusion_categories", "probabilities"),
    "calibrate": ("calibrate",),
}


@app.command()
def study(
    kind: Annotated[
        str, typer.Argument(help="roc, time, weight, confusion or calibrate.", metavar="KIND")
    ],
    out: Annotated[Path, typer.Option(help="Folder for records and results.", metavar="DIR")],
    scenes: Annotated[
        str,
        typer.Option(
            help="Templates or scenes, uniform-DENSITY, materials; container loads by default.",
            metavar="NAME,…",
        ),
    ] = "",
    scans: Annotated[
        int, typer.Option(help="Scans of each scene, without and with a threat.", min=1)
    ] = 20,
    exposures: Annotated[
        str,
        typer.Option(
            help="Exposures [s]; 30,60,90,120 by default, for confusion 300.", metavar="S,…"
        ),
    ] = "",
    seed: Seed = 0,
    method: Method = "em",
    voxel: Voxel = 50.0,
    detector: Detector = None,
    threat: Annotated[
        str | None, typer.Option(help="Threat to hide; any of the template's by default.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; one a core by default.", min=1, show_default=False),
    ] = None,
    dask: Dask = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure how often muscan is right, over random scenes.

    A study that was stopped goes on where it was.

    Example: muscan study roc --out roc --scenes fruit,clothing --scans 40 --exposures 60,120
    """
    from muscan import studies

    with cluster(dask, quiet) as client, show.progress_bar(quiet) as progress:
        made = studies.study(
            kind,
            output=out,
            scenes=_words(scenes) or None,
            scans=scans,
            exposures=_seconds(exposures) or None,
            seed=seed,
            method=method,
            voxel=voxel,
            detector=detector,
            threat=threat,
            workers=workers,
            client=client,
            progress=progress,
        )
    if as_json:
        show.print_json(_plain({"kind": kind, "n_scans": made.n_scans, "tables": made.tables}))
    elif not quiet:
        _print(made)


def _print(made: Study) -> None:
    for name in _PRINTED[made.kind]:
        _print_table(name, made.tables[name])
    done = f"{made.n_scans} scans ({made.n_run} made now, {made.n_failed} failed)"
    print(f"{done}, {made.seconds_per_scan:.1f} s of processor time a scan")
    for error in made.errors:
        print(f"Failed: {error}")
    print(f"Written to {made.folder}: {', '.join(path.name for path in made.files)}")


def _print_table(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print a table; a value and its two limits share a column."""
    from rich.table import Table

    table = Table(title=name.replace("_", " "), title_justify="left")
    names = [n for n in (rows[0] if rows else {}) if not n.endswith(("_low", "_high"))]
    for heading in names:
        table.add_column(heading.replace("_", " "))
    for row in rows:
        table.add_row(*(_cell(row, heading) for heading in names))
    show.print_table(table)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = "–"
    if f"{name}_low" in row:
        text += f" ({row[f'{name}_low']:.2g}–{row[f'{name}_high']:.2g})"
    return text


def _plain(value: Any) -> Any:
    """Return data without what JSON does not have."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _seconds(text: str) -> list[float]:
    try:
        return [float(word) for word in _words(text)]
    except ValueError:
        raise InputError(
            "--exposures", f"'{text}' is not a list of times", "give seconds, such as 30,60"
        ) from None
