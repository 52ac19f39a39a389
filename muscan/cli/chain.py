"""Commands of the chain: scan, simulate, import, track, reconstruct, identify, info."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from muscan.cli import show
from muscan.cli.app import ALERTED, OK, app
from muscan.cli.cluster import Dask, cluster
from muscan.cli.options import (
    Cargo,
    Container,
    Detector,
    FailOnAlert,
    Flux,
    Json,
    Materials,
    Method,
    Notify,
    Output,
    Quiet,
    Seed,
    Sky,
    Threat,
    ThreatName,
    Voxel,
    Watch,
    Workers,
    corners,
    momenta,
    names,
)


@app.command()
def scan(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCENE or HITS.h5]",
            help="A scene (file or name), or recorded hits; the shipped 'container' by default.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.", metavar="DIR")] = ...,  # type: ignore[assignment]
    minutes: Annotated[float, typer.Option(help="Exposure of a simulated scan [min].")] = 5.0,
    seed: Seed = 0,
    threat: Threat = False,
    threat_name: ThreatName = None,
    method: Method = "poca",
    voxel: Voxel = 50.0,
    detector: Detector = None,
    materials: Materials = None,
    watch: Watch = "",
    cargo: Cargo = "",
    container: Container = "",
    flux: Sky = "",
    workers: Workers = None,
    notify: Notify = None,
    fail_on_alert: FailOnAlert = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Do the whole job: from a scene or recorded hits to alerts.

    Simulates the scene, then tracks, reconstructs, identifies and reports. A template is drawn
    with the seed, as 'muscan scenes draw' does.

    Example: muscan scan container --out first-scan --minutes 5 --seed 1
    """
    from muscan import pipeline

    with show.progress_bar(quiet) as progress:
        report = pipeline.scan(
            source,
            output=out,
            minutes=minutes,
            seed=seed,
            threat=threat_name or threat,
            method=method,
            voxel=voxel,
            detector=detector,
            materials=materials or (),
            watch=names(watch),
            cargo=cargo,
            container=container,
            flux=flux,
            workers=workers,
            notify=notify or (),
            progress=progress,
        )
    if as_json:
        show.print_json(report.model_dump(mode="json"))
    elif not quiet:
        show.print_alerts(report)
        print(f"Written to {out}: {', '.join(sorted(p.name for p in out.iterdir()))}")
        if not (out / "report.html").exists():
            print("No report.html: it needs python -m pip install 'muscan[report]'")
    return ALERTED if fail_on_alert and report.alerts else OK


@app.command()
def simulate(
    scene: Annotated[str, typer.Argument(help="A scene's file or name.")],
    output: Output,
    minutes: Annotated[
        float | None, typer.Option(help="Exposure [min]; 5 by default.", show_default=False)
    ] = None,
    muons: Annotated[
        int | None, typer.Option(help="Muons to generate, instead of --minutes.", min=1)
    ] = None,
    detector: Detector = None,
    flux: Flux = "guan2015",
    scattering: Annotated[str, typer.Option(help="moliere or highland.")] = "moliere",
    rate_scale: Annotated[
        float, typer.Option(help="Factor on the flux, to match a rate measured at your place.")
    ] = 1.0,
    momentum_range: Annotated[
        str, typer.Option(help="Momenta of the muons [GeV], within 0.05,10000.", metavar="LOW,HIGH")
    ] = "0.1,10000",
    momentum_resolution: Annotated[
        float | None, typer.Option(help="Measure momenta, to this relative error (0.1 is 10 %).")
    ] = None,
    trigger: Annotated[
        str, typer.Option(help="incoming or any: which pair of hits makes an event.")
    ] = "incoming",
    raw: Annotated[
        Path | None,
        typer.Option(help="Write raw channels of strips here, too (see the driver strips)."),
    ] = None,
    materials: Materials = None,
    seed: Seed = 0,
    workers: Workers = None,
    dask: Dask = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Send cosmic muons through a scene and a detector's panels.

    Example: muscan simulate container -o hits.h5 --minutes 5 --seed 1
    """
    from muscan import pipeline

    with cluster(dask, quiet) as client, show.progress_bar(quiet) as progress:
        pipeline.simulate(
            scene,
            detector=detector,
            minutes=minutes,
            muons=muons,
            seed=seed,
            flux=flux,
            scattering=scattering,
            rate_scale=rate_scale,
            momentum_range=momenta(momentum_range),
            momentum_resolution=momentum_resolution,
            trigger=trigger,
            materials=materials or (),
            workers=workers,
            client=client,
            output=output,
            raw=raw,
            progress=progress,
        )
    _summary(output, quiet, as_json)


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Recorded data, in order.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; without one the data are only told about."
        ),
    ] = None,
    driver: Annotated[str, typer.Option(help="Panel driver that reads them.")] = "csv",
    detector: Detector = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="What is where in the data (TOML), for drivers that take it."),
    ] = None,
    live_time: Annotated[
        float | None, typer.Option(help="Live time [s]; from the time stamps by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an interrupted import has, and go on.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn recorded data of a panel driver into hits.

    Example: muscan import run1.csv.gz --driver csv --detector blocks-lab -o hits.h5
    """
    from muscan import pipeline

    options: dict[str, Any] = {"driver": driver, "detector": detector, "mapping": mapping}
    found: dict[str, Any] = {}
    with show.progress_bar(quiet) as progress:
        if output is None:
            found.update(pipeline.survey(files, **options, progress=progress))
        else:
            pipeline.import_hits(
                files,
                **options,
                live_time=live_time,
                output=output,
                resume=resume,
                summarise=found.update,
                progress=progress,
            )
    if output is not None:
        _summary(output, quiet, as_json, found)
    elif as_json:
        show.print_json(found)
    else:
        show.print_facts(found)


@app.command()
def track(
    hits: Annotated[Path, typer.Argument(help="Hit file.")],
    output: Output,
    detector: Detector = None,
    workers: Workers = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn hits into one incoming and one outgoing track an event.

    Example: muscan track hits.h5 -o tracks.h5
    """
    from muscan import pipeline

    with show.progress_bar(quiet) as progress:
        pipeline.track(hits, detector=detector, workers=workers, output=output, progress=progress)
    _summary(output, quiet, as_json)


@app.command()
def reconstruct(
    tracks: Annotated[Path, typer.Argument(help="Track file.")],
    output: Output,
    method: Method = "poca",
    voxel: Voxel = 50.0,
    bounds: Annotated[
        str | None,
        typer.Option(
            help="Space to reconstruct [mm]; the layout's by default.",
            metavar="XMIN,XMAX,YMIN,YMAX,ZMIN,ZMAX",
        ),
    ] = None,
    momentum: Annotated[
        str | None, typer.Option(help="measured or spectrum, for methods that use it.")
    ] = None,
    channels: Annotated[
        str, typer.Option(help="scattering, stopping, or both with a comma.", metavar="NAMES")
    ] = "scattering",
    fixed: Annotated[
        str | None,
        typer.Option(
            help="Scene of what is known to stand there beside the layout's own, for em.",
            metavar="SCENE",
        ),
    ] = None,
    materials: Materials = None,
    flux: Sky = "",
    workers: Workers = None,
    dask: Dask = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn tracks into a volume of scattering density.

    Or of stopping density, or both: see --channels.

    Example: muscan reconstruct tracks.h5 -o volume.h5 --method em --channels scattering,stopping
    """
    from muscan import pipeline

    options: dict[str, Any] = {} if momentum is None else {"momentum": momentum}
    with cluster(dask, quiet) as client, show.progress_bar(quiet) as progress:
        pipeline.reconstruct(
            tracks,
            method=method,
            voxel=voxel,
            bounds=corners(bounds),
            channels=names(channels),
            fixed=fixed,
            materials=materials or (),
            flux=flux,
            workers=workers,
            client=client,
            output=output,
            progress=progress,
            **options,
        )
    _summary(output, quiet, as_json)


@app.command()
def identify(
    volume: Annotated[Path, typer.Argument(help="Volume file.")],
    output: Output,
    tracks: Annotated[Path | None, typer.Option(help="The tracks it was made from.")] = None,
    materials: Materials = None,
    watch: Watch = "",
    cargo: Cargo = "",
    container: Container = "",
    flux: Sky = "",
    fail_on_alert: FailOnAlert = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Find materials, regions, weights and alerts in a volume.

    Example: muscan identify volume.h5 --tracks tracks.h5 -o alerts.json
    """
    from muscan import pipeline

    with show.progress_bar(quiet) as progress:
        report, _ = pipeline.identify(
            volume,
            tracks=tracks,
            materials=materials or (),
            watch=names(watch),
            cargo=cargo,
            container=container,
            flux=flux,
            output=output,
            progress=progress,
        )
    if as_json:
        show.print_json(report.model_dump(mode="json"))
    elif not quiet:
        show.print_alerts(report)
    return ALERTED if fail_on_alert and report.alerts else OK


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a scan.", metavar="DIR")],
    language: Annotated[str, typer.Option(help="en, fr, or a catalogue's file.")] = "en",
) -> None:
    """Write a page with pictures for a scan.

    It is DIR/report.html, whole in itself.

    Example: muscan report first-scan
    """
    from muscan import pipeline

    print(f"Written: {pipeline.report(folder, language=language)}")


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(help="Files of muscan.")],
    as_json: Json = False,
) -> None:
    """Tell what a file holds, in words.

    Example: muscan info hits.h5
    """
    from muscan import io

    found = {str(path): io.describe(path) for path in files}
    if as_json:
        show.print_json(found)
        return
    for path, facts in found.items():
        print(path)
        show.print_facts(facts, "  ")


def _summary(
    path: Path, quiet: bool, as_json: bool, found: Mapping[str, Any] | None = None
) -> None:
    """Print what was written, and what was ``found`` in the data."""
    if quiet and not as_json:
        return
    from muscan import io

    facts: dict[str, Any] = {"file": str(path), **io.describe(path)}
    facts |= {"data": found} if found else {}
    if as_json:
        show.print_json(facts)
    else:
        show.print_facts(facts)
