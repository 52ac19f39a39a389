"""What commands print: progress on stderr, tables and facts on stdout."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from muscan.model.alerts import Alert, AlertReport
    from muscan.pipeline import Progress

_PATIENCE_S = 1.0
_WIDTH_WITHOUT_TERMINAL = 140


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress | None]:
    """Yield a `Progress` that draws on a terminal's stderr after a second, or None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description:12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, Any] = {}
    began = time.monotonic()

    def tell(step: str, fraction: float | None) -> None:
        if step not in tasks:
            tasks[step] = bar.add_task(step, total=None if fraction is None else 1.0)
        bar.update(tasks[step], completed=fraction)
        if time.monotonic() - began > _PATIENCE_S:
            bar.start()

    try:
        yield tell
    finally:
        bar.stop()


def print_json(data: Any) -> None:
    """Print as JSON."""
    print(json.dumps(data, indent=2, default=str, allow_nan=False))


def print_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    """Print names and values, one a line; nested ones indented."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}:")
            print_facts(value, indent + "  ")
        elif isinstance(value, (list, tuple)):
            print(f"{indent}{name:{width}}  {', '.join(map(str, value))}")
        else:
            print(f"{indent}{name:{width}}  {'unknown' if value is None else value}")


def print_table(table: Table) -> None:
    """Print a table, wide enough also where stdout is no terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    Console(width=width, highlight=False, markup=False).print(table)


def print_alerts(report: AlertReport) -> None:
    """Print the alerts as a table, the total mass and the warnings."""
    from rich.table import Table

    exposure = report.scan.live_time_s
    lasting = f"{exposure:.0f} s, " if exposure is not None and math.isfinite(exposure) else ""
    title = f"{len(report.alerts) or 'No'} alert{'s' * (len(report.alerts) != 1)}"
    if report.alerts:
        table = Table(title=f"{title} ({lasting}{report.scan.n_muons} muons)", title_justify="left")
        for heading, justify in _COLUMNS:
            table.add_column(heading, justify=justify)  # type: ignore[arg-type]
        for alert in report.alerts:
            table.add_row(*_alert_cells(alert))
        print_table(table)
    else:
        print(f"{title} ({lasting}{report.scan.n_muons} muons)")
    print(f"Total mass: {_interval(report.total_mass_kg)} kg")
    for warning in report.warnings:
        print(f"Warning: {warning}")


_COLUMNS = (
    ("severity", "left"),
    ("material", "left"),
    ("x, y, z [mm]", "right"),
    ("λ [mrad²/cm]", "right"),
    ("mass [kg]", "right"),
    ("litres", "right"),
    ("signif.", "right"),
    ("false alarms a scan", "right"),
)


def _alert_cells(alert: Alert) -> tuple[str, ...]:
    material = f"{alert.material.name} {alert.material.probability:.0%}"
    return (
        str(alert.severity),
        material,
        ", ".join(f"{x:.0f}" for x in alert.position_mm),
        _interval(alert.scattering_density),
        _interval(alert.mass_kg),
        f"{alert.volume_l:.3g}",
        f"{alert.significance:.1f}",
        _rate(alert.false_alarm_rate),
    )


def _rate(rate: float | None) -> str:
    from muscan.model.alerts import LEAST_RATE

    if rate is None:
        return "unknown"
    return f"{rate:.2g}" if rate >= LEAST_RATE else f"< {LEAST_RATE:.0e}"


def _interval(interval: Any) -> str:
    if interval is None or interval.value is None:
        return "unknown"
    return f"{interval.value:.3g} ({interval.low:.3g}–{interval.high:.3g})"
