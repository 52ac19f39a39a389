"""A detection study: how often is a hidden threat found, and how often is there a false alarm?

Scans of random loads, without and with a threat. Their records stay in the folder: what is run
again with more scans goes on where it was. One scan takes some seconds of a processor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import muscan


def main(
    folder: str | Path = "detection",
    scenes: Sequence[str] = ("fruit", "clothing"),
    scans: int = 10,
    exposures: Sequence[float] = (60.0, 120.0),
    **options: Any,
) -> list[dict[str, Any]]:
    """Print and return detection and false alarms of the alerts as they are raised."""
    study = muscan.study(
        "roc", output=folder, scenes=scenes, scans=scans, exposures=exposures, **options
    )
    rows = [row for row in study.tables["roc_points"] if row["at"] == "as raised"]
    for row in rows:
        low, high = row["detected_low"], row["detected_high"]
        print(
            f"{row['scene']}, {row['exposure_s']:g} s, {row['severity']} or worse: "
            f"detected {row['detected']:.0%} ({low:.0%} to {high:.0%} at 95 % confidence), "
            f"{row['false_alarms_per_scan']:.2g} false alarms a scan"
        )
    print(f"{study.n_run} of {study.n_scans} scans made now; tables and figures in {folder}")
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:2])
