"""Commands for running scans: watch, recover, notify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muscan.cli import show
from muscan.cli.app import ALERTED, FAILED, OK, app
from muscan.cli.options import (
    FailOnAlert,
    Json,
    Materials,
    Notify,
    Quiet,
    Sky,
    Voxel,
    Watch,
    Workers,
    names,
)

if TYPE_CHECKING:
    from muscan.pipeline.looks import Look

notify_app = typer.Typer(help="Alerts on their way to other machines: flush.", no_args_is_help=True)
app.add_typer(notify_app, name="notify")


@app.command()
def watch(
    hits: Annotated[Path, typer.Argument(help="Hit file that is being written.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.", metavar="DIR")],
    notify: Notify = None,
    every: Annotated[float, typer.Option(help="Least time between looks [s].")] = 5.0,
    until: Annotated[
        float | None, typer.Option(help="Live time at which to stop [s]; the file's end otherwise.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Stop when no hits came for this long [s].")
    ] = 60.0,
    method: Annotated[
        str, typer.Option(help="Statistical reconstruction, made when it pays; poca for none.")
    ] = "em",
    voxel: Voxel = 50.0,
    materials: Materials = None,
    watch: Watch = "",
    flux: Sky = "",
    false_alarm: Annotated[
        float, typer.Option(help="Alerts that chance may make in a scan, all looks together.")
    ] = 0.05,
    miss: Annotated[
        float, typer.Option(help="Probability of clearing a load with an object of --clear-size.")
    ] = 0.05,
    clear_size: Annotated[
        float,
        typer.Option(help="Side of the cube of lead or denser that a clear load cannot hold [mm]."),
    ] = 200.0,
    stop_at: Annotated[
        str, typer.Option(help="Least severity of a certain alert that ends the scan.")
    ] = "high",
    early: Annotated[
        bool, typer.Option(help="Stop when the load is clear or an alert is certain.")
    ] = True,
    workers: Workers = None,
    fail_on_alert: FailOnAlert = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Follow a scan that is still running.

    Until it ends, or enough is known. With --json each look is one line of JSON; the last one
    has a reason.

    Example: muscan watch hits.h5 --out running --notify https://alerts.example/muon
    """
    from muscan import pipeline

    def tell(look: Look) -> None:
        if as_json:
            print(json.dumps(look.summary()), flush=True)
        elif not quiet:
            print(_line(look), flush=True)

    last = pipeline.watch(
        hits,
        output=out,
        notify=notify or (),
        every=every,
        until=until,
        timeout=timeout,
        method=method,
        voxel=voxel,
        materials=materials or (),
        watch=names(watch),
        flux=flux,
        false_alarm=false_alarm,
        miss=miss,
        clear_size=clear_size,
        stop_at=stop_at,
        early=early,
        workers=workers,
        on_look=tell,
    )
    if not as_json and not quiet:
        show.print_alerts(last.report)
        print(f"Verdict: {last.verdict} ({last.reason})")
    return ALERTED if fail_on_alert and last.report.alerts else OK


def _line(look: Look) -> str:
    alerts = [f"{alert.severity} {alert.material.name}" for alert in look.report.alerts]
    tested = look.clearance
    room = "" if tested is None else f", {tested.open_cells} of {tested.cells} places open"
    return (
        f"{look.live_time_s:8.1f} s  {look.muons:9d} muons  "
        f"{', '.join(alerts) or 'no alerts'} ({len(look.certain)} certain{room})"
    )


@app.command()
def recover(
    hits: Annotated[Path, typer.Argument(help="Hit file that is damaged, or was not finished.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; NAME-recovered.h5 by default."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write what is whole of a hit file to another one.

    Example: muscan recover hits.h5 -o recovered.h5
    """
    from muscan import io

    found = io.recover(hits, output)
    if as_json:
        show.print_json(found.summary())
    elif not quiet:
        print(found.text())


@notify_app.command()
def flush(
    folder: Annotated[Path, typer.Argument(help="Folder of a scan.", metavar="DIR")],
    wait: Annotated[float, typer.Option(help="How long to go on trying [s].")] = 0.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Send the alerts that a scan could not send.

    Exits with 1 if some are still left.

    Example: muscan notify flush running --wait 60
    """
    from muscan import pipeline

    left = pipeline.flush(folder, wait=wait)
    if as_json:
        show.print_json({"unsent": left})
    elif not quiet:
        for target, count in left.items():
            print(f"{count} not sent to {target}")
        if not left:
            print("Nothing is left to send")
    return FAILED if left else OK
