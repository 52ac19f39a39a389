"""A detection study: how often is a hidden threat found, and how often is there a false alarm?

Scans of random loads, without and with a threat: a cube of uranium in even cargo, which is found,
and cocaine in fruit, which a minute of muons does not show. Their records stay in the folder: what
is run again with more scans goes on where it was. A scan takes some 15 s of one processor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import muscan


def main(
    folder: str | Path = "detection",
    scenes: Sequence[str] = ("uniform-0.6", "fruit"),
    scans: int = 5,
    exposures: Sequence[float] = (60.0,),
    method: str = "poca",
    **options: Any,
) -> list[dict[str, Any]]:
    """Print and return detection and false alarms of the alerts as they are raised."""
    study = muscan.study(
        "roc",
        output=folder,
        scenes=scenes,
        scans=scans,
        exposures=exposures,
        method=method,
        **options,
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
