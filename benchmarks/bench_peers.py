"""muscan and muograph 0.1.22 side by side on the iron-barrel file in muograph's wheel.

    python -m benchmarks peers [--quick] [--muograph-python PYTHON]

Same muons, same hits, same voxels, same truth and AUC; no method uses momenta, except in a row of
its own. Both run on one thread, and the least time of some repeats counts. Without
``--muograph-python`` an environment for muograph is made (CPU torch, without muograph's pins) and
kept in the user's cache folder.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

import muscan
from benchmarks import iron_barrel
from benchmarks.machine import Spent, Table, best
from benchmarks.scaling import vertices
from muscan.model.events import pair_tracks
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import reconstruct

MUOGRAPH = "0.1.22"
#: What muograph imports; its own pins ask for GPU libraries and tools of notebooks.
NEEDS = ("numpy", "pandas", "scipy", "seaborn", "fastcore", "fastprogress", "h5py", "awkward",
         "uproot", "matplotlib", "psutil")  # fmt: skip
#: muograph's own tests blur the exact hits of the file by so much [mm].
RESOLUTION_MM = 1.0


@dataclass(frozen=True)
class Case:
    """Voxels [mm], and the methods of both that are run on them."""

    voxel: tuple[float, float, float]
    theirs: tuple[str, ...]
    ours: tuple[tuple[str, dict[str, Any]], ...]


DEFAULTS: tuple[tuple[str, dict[str, Any]], ...] = tuple(
    (name, {}) for name in ("poca", "asr", "mlem", "em")
)
#: What the energies of the file would tell.
INFORMED: tuple[tuple[str, dict[str, Any]], ...] = (("em", {"momentum": "measured"}),)
CASES = (
    Case((50, 50, 50), ("poca", "bca", "asr"), DEFAULTS + INFORMED),
    Case((20, 20, 20), ("poca", "bca"), DEFAULTS + INFORMED),
    Case((20, 10, 20), ("poca",), DEFAULTS[:2]),
)


def make_environment() -> Path:
    """Return the python of an environment with muograph, making it where there is none."""
    folder = user_cache_path("muscan-benchmarks") / f"muograph-{MUOGRAPH}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "ready").exists():
        return python
    print(f"making an environment for muograph in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    torch = ["torch"]
    # On Linux the plain index serves CUDA builds to x86; the others are for processors anyhow.
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        torch += ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
    for packages in (["--no-deps", f"muograph=={MUOGRAPH}"], torch, list(NEEDS)):
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    (folder / "ready").touch()
    return python


def barrel_file(python: Path) -> Path:
    """Return the file in the wheel that an environment has installed."""
    code = "import importlib.util; print(importlib.util.find_spec('muograph').origin)"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    path = Path(done.stdout.strip()).parent / iron_barrel.FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not in this muograph: install {MUOGRAPH}")
    return path


def blurred(path: Path, output: Path, sigma: float) -> Path:
    """Write the file again with normal errors on x and y [mm] of every hit."""
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip()
    names = header.split(",")
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    place = [i for i, name in enumerate(names) if name[:1] in ("X", "Y")]
    table[:, place] += np.random.default_rng(1).normal(0, sigma, (len(table), len(place)))
    formats = ["%d" if i == 0 else "%.6g" for i in range(len(names))]
    np.savetxt(output, table, fmt=formats, delimiter=",", header=header, comments="")
    return output


def run_muograph(
    python: Path, hits: Path, folder: Path, case: Case, repeats: int
) -> tuple[dict[str, np.ndarray], dict[str, Spent], float]:
    """Return muograph's volumes, its times and its peak memory [MB]."""
    output = folder / "volumes.npz"
    script = Path(__file__).with_name("peer_muograph.py")
    line = [python, script, hits, output, "--voxel", *case.voxel, "--methods", *case.theirs]
    line += ["--repeats", repeats]
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    done = subprocess.run(
        [str(part) for part in line], capture_output=True, text=True, env={**os.environ, **one}
    )
    if done.returncode:
        raise RuntimeError(f"muograph failed: {done.stderr.strip().splitlines()[-1]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    times = {name: Spent(t["wall_s"], t["cpu_s"]) for name, t in told["times"].items()}
    with np.load(output) as volumes:
        return {name: volumes[name] for name in volumes}, times, told["peak_mb"]


def quality(table: Table, name: str, values: np.ndarray, grid: VoxelGrid, *cells: Any) -> None:
    found: list[Any] = []
    for material in ("uranium", None):
        low, high = iron_barrel.auc_range(values, grid, material)
        value = iron_barrel.auc(values, iron_barrel.truth(grid, material))
        found += [f"{value:.4f}", f"{low:.3f} … {high:.3f}"]
    table.add(name, *cells, *found)


def ratio(what: str, times: dict[str, Spent], spent: Spent) -> str:
    theirs = times["poca"]
    return (
        f"PoCA, {what}: muograph takes {theirs.wall / spent.wall:.0f} × muscan's wall time and "
        f"{theirs.cpu / spent.cpu:.0f} × its processor time."
    )


def compare(
    python: Path, cases: Sequence[Case], repeats: int, resolution: float = RESOLUTION_MM
) -> list[Table]:
    tables = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = barrel_file(python)
        if resolution > 0:
            path = blurred(path, folder / "hits.csv", resolution)
        sigma = max(resolution, 0.1)  # the file's digits and what air scatters
        hits, read = best(lambda: iron_barrel.read(path, sigma, momentum=True), 2)
        tracks, tracked = best(lambda: muscan.track(hits, workers=1), 2)
        scatters = pair_tracks(tracks)
        for case in cases:
            size = " × ".join(f"{v:g}" for v in case.voxel)
            table = Table(
                f"{len(scatters)} muons, hits blurred by {resolution:g} mm, voxels of {size} mm",
                ("method", "wall [s]", "processor [s]", "file to volume, processor [s]",
                 "AUC uranium", "boxes ± 10 mm", "AUC all six", "boxes ± 10 mm"),
            )  # fmt: skip
            grid = VoxelGrid.from_bounds(iron_barrel.BOUNDS_MM, case.voxel)
            volumes, times, peak = run_muograph(python, path, folder, case, repeats)
            before = times["read"].cpu + times["track"].cpu
            for key, values in volumes.items():
                spent = times[key.split(",")[0]]
                cells = spent.wall, spent.cpu, before + spent.cpu
                quality(table, f"muograph {key}", values, grid, *cells)
            (counts, sums), spent = best(lambda grid=grid: vertices(scatters, grid), 20)
            mean = (sums / np.maximum(counts, 1)).reshape(grid.shape)
            cells = spent.wall, spent.cpu, read.cpu + tracked.cpu + spent.cpu
            quality(table, "muscan mean angle of vertices", mean, grid, *cells)
            table.notes.append(ratio("vertices alone, which is muograph's work", times, spent))
            for method, options in case.ours:
                volume, spent = best(
                    lambda method=method, options=options, grid=grid: reconstruct(
                        scatters, grid, method, detector=tracks.detector, workers=1, **options
                    ),
                    12 if method == "poca" else 2,
                )
                label = ", ".join([method, *(f"{k} {v}" for k, v in options.items())])
                whole = read.cpu + tracked.cpu + spent.cpu
                quality(table, f"muscan {label}", volume.values, grid, spent.wall, spent.cpu, whole)
                if method == "poca":
                    table.notes.append(ratio("with paths, density and errors", times, spent))
            table.notes.append(f"Peak memory of muograph: {peak:.0f} MB.")
            tables.append(table)
            print(table.markdown(), file=sys.stderr, flush=True)
    return tables


def run(
    quick: bool, muograph_python: Path | None = None, resolution: float = RESOLUTION_MM
) -> list[Table]:
    """Compare; ``quick`` stays with voxels of 50 mm and leaves muograph's ASR out."""
    python = muograph_python or make_environment()
    cases = CASES
    if quick:
        cases = (Case(CASES[0].voxel, ("poca", "bca"), CASES[0].ours),)
    return compare(python, cases, 2 if quick else 1, resolution)
