"""What a file holds, as facts to print."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from muscan.errors import InputError
from muscan.io import hdf5, schema, tables
from muscan.io.alerts import read_alerts
from muscan.io.health import health
from muscan.io.hit_reader import extent_of
from muscan.io.volumes import read_materials, read_volume
from muscan.model.events import Run


def describe(path: str | Path) -> dict[str, Any]:
    """Return what a file holds: its format and version, its run, its sizes.

    Parameters
    ----------
    path : path
        A hit, track, volume, material or alert file.

    Returns
    -------
    dict of str to str, number, or dict
        Facts in the order to show them; None where unknown.

    Raises
    ------
    InputError
        If the file is none of ours, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        ours = sorted(file.name for file in path.iterdir() if file.suffix in (".h5", ".json"))
        raise InputError(path, "is a folder", f"name one of its files: {', '.join(ours) or 'none'}")
    if path.suffix == ".json":
        return _describe_alerts(path)
    if path.suffix == ".toml" and path.is_file():
        raise InputError(path, "is text", "see 'muscan scenes' or 'muscan detectors'")
    with hdf5.open_checked(path) as file:
        kind = str(file.attrs["format"])
        facts: dict[str, Any] = {
            "format": kind,
            "format_version": int(file.attrs["format_version"]),
            "written by": f"muscan {file.attrs.get('muscan_version', '?')}",
            "created": str(file.attrs.get("created", "?")),
        }
        if kind == schema.HITS:
            facts |= _describe_hits(file, path)
        if kind == schema.TRACKS:
            facts |= _describe_tracks(file, path)
    if kind == schema.VOLUME:
        facts |= _describe_volume(path)
    if kind == schema.MATERIALS:
        facts |= _describe_materials(path)
    return facts


def _describe_run(run: Run) -> dict[str, Any]:
    return {
        "source": run.source or None,
        "run": run.run_id or None,
        "start": run.start_time or None,
        "live time [s]": round(run.live_time_s, 3) if math.isfinite(run.live_time_s) else None,
        "counts": dict(run.counts) or None,
    }


def _describe_hits(file: h5py.File, path: Path) -> dict[str, Any]:
    run, blocks = hdf5.read_run(file, path), extent_of(file, path).blocks
    if blocks is not None and len(blocks) and not math.isfinite(run.live_time_s):
        run = replace(run, live_time_s=float(blocks.live_time[-1]))
    truth = "yes (simulated)" if schema.TRUTH_TABLE.path in file else "no"
    return {**_describe_layout(file, path), **_describe_run(run), **health(file, path)} | {
        "truth": truth
    }


def _describe_tracks(file: h5py.File, path: Path) -> dict[str, Any]:
    table = schema.TRACK_TABLE
    rows = tables.check_table(file, table, path)
    ids = file[table.path]["event_id"]
    events = sum(
        1 + int(np.count_nonzero(np.diff(ids[start:stop])))
        for start, stop in tables.event_slices(file, table, rows, 4_000_000)
    )
    run = _describe_run(hdf5.read_run(file, path))
    return {**_describe_layout(file, path), **run, "events": events, "tracks": rows}


def _describe_layout(file: h5py.File, path: Path) -> dict[str, Any]:
    detector = hdf5.read_detector(file, path)
    text = None if detector is None else f"{detector.name}, {len(detector.panels)} panels"
    return {"detector": text}


def _describe_volume(path: Path) -> dict[str, Any]:
    volume = read_volume(path)
    grid, known = volume.grid, np.isfinite(volume.values)
    seen = volume.values[known]
    return {
        "quantity": f"{volume.quantity} [{volume.units}]",
        "method": volume.method,
        "voxels": "{} x {} x {} of {:g} x {:g} x {:g} mm".format(*grid.shape, *grid.spacing),
        "from [mm]": [round(float(x), 3) for x in grid.lower],
        "to [mm]": [round(float(x), 3) for x in grid.upper],
        "voxels seen": f"{np.count_nonzero(known)} of {known.size}",
        "median and highest": [round(float(q(seen)), 3) for q in (np.median, np.max)]
        if len(seen)
        else None,
        "further channels": ", ".join(volume.channels) or None,
        **_describe_run(volume.run or Run()),
    }


def _describe_materials(path: Path) -> dict[str, Any]:
    found = read_materials(path)
    labels, counts = np.unique(found.labels, return_counts=True)
    order = np.argsort(-counts)[:10]
    return {
        "voxels": "{} x {} x {}".format(*found.grid.shape),
        "materials version": found.materials_version,
        "most frequent": {found.names[labels[i]]: int(counts[i]) for i in order},
    }


def _describe_alerts(path: Path) -> dict[str, Any]:
    report = read_alerts(path)
    return {
        "format": report.format,
        "format_version": report.format_version,
        "scan": report.scan.model_dump(mode="json"),
        "alerts": len(report.alerts),
        "total mass [kg]": report.total_mass_kg.model_dump(mode="json"),
        "warnings": report.warnings or None,
    }
