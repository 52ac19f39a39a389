"""A scan's folder made of known numbers, and a screen to show it on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muscan import io
from muscan.model.alerts import Alert, AlertReport, Interval, MaterialGuess, ScanInfo
from muscan.model.events import Run, Tracks
from muscan.model.volume import MaterialMap, Volume, VoxelGrid

#: The block of lead in the volume: indices low (inclusive) to high (exclusive).
BLOCK = np.array([[4, 8, 3], [8, 12, 7]])


@pytest.fixture
def volume() -> Volume:
    """16 × 20 × 12 voxels of 50 × 40 × 30 mm: water with a block of lead, a corner unseen."""
    grid = VoxelGrid(np.array([-375.0, -380.0, -165.0]), np.array([50.0, 40.0, 30.0]), (16, 20, 12))
    values = np.full(grid.shape, 0.7, "f4")
    values[tuple(slice(low, high) for low, high in BLOCK.T)] = 44.6
    values[0, 0, 0] = np.nan
    sigma = np.full(grid.shape, 0.2, "f4")
    sigma[0, 0, 0] = np.inf
    muons = np.full(grid.shape, 120, "u4")
    muons[0, 0, 0] = 0
    return Volume(
        values, grid, "poca", sigma, muons, run=Run(60.0, run_id="bench-1", source="simulated")
    )


@pytest.fixture
def materials(volume: Volume) -> MaterialMap:
    labels = np.where(volume.values > 10, 3, 2).astype("u2")
    share = np.full(labels.shape, 0.9, "f4")
    return MaterialMap(labels, share, ("unknown", "air", "water", "lead"), volume.grid, "test")


@pytest.fixture
def report(volume: Volume) -> AlertReport:
    low = volume.grid.position(BLOCK[0]) - volume.grid.spacing / 2
    high = volume.grid.position(BLOCK[1] - 1) + volume.grid.spacing / 2

    def alert(name: str, shift: float) -> Alert:
        return Alert(
            id=name,
            severity="high",
            position_mm=tuple((low + high) / 2 + shift),
            extent_mm=(tuple(low + shift), tuple(high + shift)),
            volume_l=3.84,
            scattering_density=Interval(value=44.6, low=40.0, high=49.0),
            material=MaterialGuess(name="lead", category="radioactive-shielding", probability=0.8),
            mass_kg=Interval(value=43.6, low=39.0, high=48.0),
            significance=12.0,
            false_alarm_rate=1e-6,
            n_muons=500,
            reason="Heavier than structural metal.",
        )

    return AlertReport(
        scan=ScanInfo(
            run_id="bench-1", live_time_s=60.0, n_muons=300, method="poca", materials_version="t"
        ),
        alerts=[alert("bench-1-a", 0.0), alert("bench-1-b", 100.0)],
        total_mass_kg=Interval(value=60.0, low=50.0, high=70.0),
    )


@pytest.fixture
def folder(
    tmp_path: Path, volume: Volume, materials: MaterialMap, report: AlertReport, tracks: Tracks
) -> Path:
    """A scan's folder as `muscan scan` leaves it, without hits."""
    path = tmp_path / "scan"
    path.mkdir()
    io.write_volume(path / "volume.h5", volume)
    io.write_materials(path / "materials.h5", materials)
    io.write_alerts(path / "alerts.json", report)
    io.write_tracks(path / "tracks.h5", replace(tracks, run=Run(60.0, source="simulated")))
    return path


def missing(what: str) -> None:
    """Skip for want of something, but never where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; under CI=true that is a failure")
    pytest.skip(what)


@pytest.fixture
def needs_napari() -> None:
    if importlib.util.find_spec("napari") is None:
        missing("napari is not installed")


@pytest.fixture(scope="session")
def screen() -> Iterator[str]:
    """A display with OpenGL: the one that is there, or a virtual one (Xvfb and Mesa)."""
    if os.environ.get("DISPLAY"):
        yield os.environ["DISPLAY"]
        return
    if shutil.which("Xvfb") is None:
        missing("no display, and no Xvfb to make one")
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(write),
            "-screen",
            "0",
            "1600x1000x24",
            "-nolisten",
            "tcp",
            "-noreset",
        ],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    # To the end of the line: a pipe closed earlier would end the server.
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    before = dict(os.environ)
    os.environ.update(DISPLAY=f":{number}", LIBGL_ALWAYS_SOFTWARE="1", QT_QPA_PLATFORM="xcb")
    try:
        if not number:
            missing("Xvfb does not start")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(timeout=20)
        os.environ.clear()
        os.environ.update(before)
