"""Commands on the detector itself: align, calibrate, quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muscan.cli import show
from muscan.cli.app import app
from muscan.cli.options import Detector, Flux, Json, Quiet

if TYPE_CHECKING:
    from muscan.calibration.alignment import Alignment
    from muscan.calibration.response import PanelResponse

HitFile = Annotated[Path, typer.Argument(help="Hit file.", metavar="HITS.h5")]
Layout = Annotated[
    Path | None, typer.Option("--output", "-o", help="Corrected layout to write (TOML).")
]


@app.command()
def align(
    hits: HitFile,
    output: Layout = None,
    detector: Detector = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Panel to hold where it is; may be repeated.")
    ] = None,
    max_tracks: Annotated[int, typer.Option(help="Tracks to use at most.", min=100)] = 50_000,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find where the panels are, from straight tracks.

    Those of an empty scan, or of one with little in it.

    Example: muscan align empty.h5 -o corrected.toml
    """
    from muscan import pipeline
    from muscan.calibration.facts import alignment_facts

    with show.progress_bar(quiet) as progress:
        found = pipeline.align(
            hits,
            detector=detector,
            reference=reference or (),
            max_tracks=max_tracks,
            output=output,
            progress=progress,
        )
    if as_json:
        show.print_json(alignment_facts(found))
    elif not quiet:
        _print_alignment(found)
        if not found.converged:
            print("Not converged: align again from the layout that was written (--detector).")
        _say_written(output)


@app.command()
def calibrate(
    hits: HitFile,
    output: Layout = None,
    detector: Detector = None,
    flux: Flux = "guan2015",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure the panels' efficiency, resolution and noise.

    Also their dead and hot channels. Each panel is tried by the others.

    Example: muscan calibrate hits.h5 -o corrected.toml
    """
    from muscan import pipeline
    from muscan.calibration.facts import response_facts

    with show.progress_bar(quiet) as progress:
        found = pipeline.calibrate(
            hits, detector=detector, flux=flux, output=output, progress=progress
        )
    if as_json:
        show.print_json(response_facts(found.panels))
    elif not quiet:
        _print_responses(found.panels)
        _say_written(output)


@app.command()
def quality(
    hits: HitFile,
    out: Annotated[
        Path | None, typer.Option(help="Folder for quality.json and quality.html.", metavar="DIR")
    ] = None,
    detector: Detector = None,
    flux: Flux = "guan2015",
    limits: Annotated[
        Path | None, typer.Option(help="Other limits than the usual ones (TOML).")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge whether a scan's data are sound.

    By rates, efficiency, residuals, noise, χ², gaps and the order of time.

    Example: muscan quality hits.h5 --out quality
    """
    from muscan import pipeline

    with show.progress_bar(quiet) as progress:
        found = pipeline.quality(
            hits, detector=detector, flux=flux, limits=limits, output=out, progress=progress
        )
    if as_json:
        show.print_json(found.to_dict())
        return
    print(f"Verdict: {found.verdict}")
    for reason in found.reasons:
        print(f"  {reason}")
    if not quiet:
        show.print_facts(found.facts)
    if out is not None and not quiet:
        print(f"Written to {out}: {', '.join(sorted(p.name for p in out.glob('quality.*')))}")


def _print_alignment(found: Alignment) -> None:
    from rich.table import Table

    from muscan.calibration.facts import alignment_facts

    facts = alignment_facts(found)
    panels = facts.pop("panels")
    table = Table(title="What was added to each panel, ± standard deviation", title_justify="left")
    for heading in ("panel", *next(iter(panels.values()))):
        table.add_column(heading, justify="left" if heading == "panel" else "right")
    for name, values in panels.items():
        table.add_row(name, *(_with_error(*pair) for pair in values.values()))
    show.print_table(table)
    show.print_facts(facts)


def _print_responses(measured: Sequence[PanelResponse]) -> None:
    from rich.table import Table

    from muscan.calibration.facts import response_facts

    headings = ("panel", "probes", "efficiency", "flat", "sigma u [mm]", "sigma v [mm]",
                "noise [Hz/m²]", "dead u; v", "hot u; v")  # fmt: skip
    table = Table(*headings)
    for name, facts in response_facts(measured).items():
        sigma = (
            f"{_with_error(value, statistical)} ± {_number(systematic)}"
            for value, statistical, systematic in zip(
                facts["sigma [mm]"],
                facts["sigma statistical error [mm]"],
                facts["sigma error by scattering [mm]"],
                strict=True,
            )
        )
        table.add_row(
            name,
            str(facts["probes"]),
            _with_error(*facts["efficiency"]),
            "yes" if facts["efficiency is flat"] else "no",
            *sigma,
            _with_error(*facts["noise [Hz/m²]"]),
            _channels(facts["dead channels"]),
            _channels(facts["hot channels"]),
        )
    show.print_table(table)
    print("Errors of sigma: statistical, and by 11 % of the scattering angles.")


def _channels(numbers: Any) -> str:
    return "; ".join(" ".join(map(str, axis)) or "-" for axis in numbers)


def _with_error(value: float | None, error: float | None) -> str:
    return "unknown" if value is None or error is None else f"{value:.4g} ± {error:.2g}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"


def _say_written(output: Path | None) -> None:
    if output is not None:
        print(f"Written: {output}")
