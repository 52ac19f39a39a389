"""Commands for operators: view, export, alerts, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from muscan.cli import show
from muscan.cli.app import app
from muscan.cli.options import Json
from muscan.errors import InputError, nearest

alerts_app = typer.Typer(help="Alerts of a scan: list, resolve.", no_args_is_help=True)
audit_app = typer.Typer(help="The log of decisions: verify.", no_args_is_help=True)
app.add_typer(alerts_app, name="alerts")
app.add_typer(audit_app, name="audit")

Folder = Annotated[Path, typer.Argument(help="Folder of a scan.", metavar="DIR")]


@app.command()
def view(
    files: Annotated[
        list[Path], typer.Argument(help="A scan's folder, or files of muscan.", metavar="DIR|FILE…")
    ],
    picture: Annotated[
        Path | None,
        typer.Option(help="Save a picture of the window (PNG) and close it.", metavar="FILE"),
    ] = None,
) -> None:
    """Show a scan in napari, with alerts, probe and decisions.

    Example: muscan view first-scan
    """
    from muscan.viewer import app as viewer

    viewer.run(files, picture)


@app.command()
def export(
    volume: Annotated[Path, typer.Argument(help="Volume file.")],
    to: Annotated[str, typer.Option(help="vti, nii, mha, npz or zarr.", metavar="KIND")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; beside the volume by default."),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Which channel; the volume's quantity (or all) by default.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Write a volume for ParaView, 3D Slicer, ITK and others.

    Example: muscan export first-scan/volume.h5 --to vti
    """
    from muscan import io
    from muscan.io import export as exporter

    target = volume.with_suffix(f".{to}") if output is None else output
    io.spare(target, volume)
    exporter.export(io.read_volume(volume), target, to, channel=channel)
    if not quiet:
        print(f"Written: {target}")


@alerts_app.command("list")
def list_alerts(folder: Folder, as_json: Json = False) -> None:
    """List a scan's alerts and what was decided on them.

    Example: muscan alerts list first-scan
    """
    from muscan import io
    from muscan.io import audit

    report = io.read_alerts(folder / "alerts.json")
    decisions = audit.decisions(folder / audit.FILE_NAME)
    if as_json:
        found = [
            {**alert.model_dump(mode="json"), "decision": decisions.get(alert.id)}
            for alert in report.alerts
        ]
        show.print_json(found)
        return
    from rich.table import Table

    table = Table("id", "severity", "material", "x, y, z [mm]", "decision", "by", "reason")
    for alert in report.alerts:
        made = decisions.get(alert.id)
        table.add_row(
            alert.id,
            alert.severity,
            f"{alert.material.name} {alert.material.probability:.0%}",
            ", ".join(f"{x:.0f}" for x in alert.position_mm),
            *(("open", "", "") if made is None else (made["action"], made["who"], made["reason"])),
        )
    if report.alerts:
        show.print_table(table)
    else:
        print("No alerts")


@alerts_app.command("resolve")
def resolve_alert(
    folder: Folder,
    alert: Annotated[str, typer.Argument(help="The alert's id, or its number in the list.")],
    decision: Annotated[str, typer.Option(help="confirmed or dismissed.")],
    reason: Annotated[str, typer.Option(help="Why, in a few words.")],
    who: Annotated[str | None, typer.Option(help="Who decides; your user name by default.")] = None,
    as_json: Json = False,
) -> None:
    """Decide on an alert, and log the decision.

    The log is DIR/audit.jsonl; muscan audit verify checks it.

    Example: muscan alerts resolve first-scan 1 --decision dismissed --reason "opened: fruit"
    """
    from muscan import io
    from muscan.io import audit

    path = folder / "alerts.json"
    ids = [each.id for each in io.read_alerts(path).alerts]
    if alert.isdecimal() and 1 <= int(alert) <= len(ids):
        alert = ids[int(alert) - 1]
    if alert not in ids:
        raise InputError(path, f"has no alert '{alert}'", nearest(alert, ids))
    entry = audit.decide(
        folder / audit.FILE_NAME,
        alert,
        cast(audit.Decision, decision),  # checked there
        reason,
        who=who,
        evidence=path,
    )
    if as_json:
        show.print_json(entry)
    else:
        print(f"{alert}: {decision} by {entry['who']}; head of the log: {entry['sha256']}")


@audit_app.command("verify")
def verify_audit(
    path: Annotated[
        Path, typer.Argument(help="The log, or the folder of its scan.", metavar="DIR|FILE")
    ],
    head: Annotated[
        str | None, typer.Option(help="Hash of the last entry that you know of.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that no line of a log was changed, moved or removed.

    Example: muscan audit verify first-scan
    """
    from muscan.io import audit

    log = path / audit.FILE_NAME if path.is_dir() else path
    entries = audit.verify(log, head)
    last = entries[-1]["sha256"] if entries else ""
    if as_json:
        show.print_json({"file": str(log), "entries": len(entries), "head": last, "sound": True})
    else:
        print(f"{log}: {len(entries)} entries, the chain is sound; head {last}")
