"""How well and how fast the reconstructions are: one command, fixed seeds, one table.

    python -m benchmarks.bench_reconstruction [--quick] [--blocks blocks_5min_wide.csv.gz]

``--blocks`` takes a recording of five cubes by another program (one row an event, columns
event, X0, Y0, Z0 … X5, Y5, Z5, empty where a plane was not crossed) in the layout ``blocks-lab``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import rankdata

import muscan
from benchmarks import toy
from benchmarks.bench_detection import statistics
from muscan import io
from muscan.kernels import poca as poca_kernel
from muscan.model.events import Scatters, Tracks, pair_tracks
from muscan.model.material import load_materials
from muscan.model.scene import Scene, load_scene, parse_scene
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes, reconstruct
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import prepare
from muscan.reconstruction.problem import Problem
from muscan.simulation import Simulation
from muscan.tracking import find_tracks

#: Cubes of 200 mm in the blocks scan: name, centre [mm], scattering density [mrad²/cm] (25/X0).
CUBES = (
    ("water", (0, 0, 0), 0.69),
    ("Al", (-600, -600, 0), 2.81),
    ("Fe", (600, -600, 0), 14.2),
    ("Pb", (-600, 600, 0), 44.5),
    ("U", (600, 600, 0), 79.0),
)
#: 2.2 m of fruit, as long and wide as a container, and a cube to hide in it.
FRUIT = """
name = "fruit"
detector = "container-portal"
[[body]]
name = "fruit"
shape = "box"
material = "fruit"
size_mm = [5600.0, 2200.0, 2200.0]
"""
CUBE = """
[[body]]
name = "cube"
inside = "fruit"
shape = "box"
material = "uranium"
size_mm = [100.0, 100.0, 100.0]
centre_mm = [300.0, 200.0, -100.0]
"""
#: Errors of the hits in the blocks scan, and what they are said to be [mm].
RESOLUTIONS = ((0.3, 0.3), (0.05, 0.05), (0.0, 0.3))
Row = tuple[str, str]


def poca_speed(pairs: int = 2_000_000) -> list[Row]:
    rng = np.random.default_rng(1)
    muons = toy.straight(pairs, 2000, 1200, 0.2, rng)
    bent = muons.in_direction + rng.normal(0, 0.01, (pairs, 3)).astype("f4")
    bent /= np.linalg.norm(bent, axis=1)[:, None]
    muons = replace(muons, out_direction=bent)
    grid = VoxelGrid.from_bounds([[-1000] * 3, [1000] * 3], 20)
    threads = os.cpu_count() or 1
    shares = lanes.bounds(pairs, threads)
    sums = [np.zeros((2, 10**6 + 1)) for _ in range(threads)]

    def work(thread: int) -> None:
        part = muons.take(slice(*shares[thread]))
        poca_kernel.vertices(
            kernel_grid(grid), part.in_position, part.in_direction,
            part.out_position, part.out_direction, poca_kernel.scratch(1, 1), *sums[thread],
        )  # fmt: skip

    wall, processor = _best(lambda: lanes.run(work, threads, None))
    million = muons.take(slice(0, 1_000_000))
    whole = _best(lambda: reconstruct(million, grid, "poca"))
    label = f"poca kernel into 100³, {threads} threads"
    return [
        (f"{label} [million pairs/s]", f"{pairs / wall / 1e6:.0f}"),
        (f"{label} [million pairs a second of a processor]", f"{pairs / processor / 1e6:.0f}"),
        ("poca with paths, million tracks into 100³ [s]", f"{whole[0]:.2f}"),
        ("the same, processor time [s]", f"{whole[1]:.2f}"),
    ]


def record(
    path: Path, scene: str | Scene, minutes: float, seed: int, flux: str = "guan2015"
) -> int:
    """Simulate a scan into a track file; return the number of events with both tracks."""
    simulation = Simulation(load_scene(scene), minutes=minutes, seed=seed, flux=flux)
    pairs = 0
    with io.TracksWriter(path, simulation.detector) as writer:
        for hits, _ in simulation.chunks():
            tracks = find_tracks(hits)
            pairs += int((tracks.side == 1).sum())
            writer.append(tracks)
        writer.run = simulation.run
    return pairs


def command(tracks: Path, *options: str) -> tuple[float, float, float]:
    """Run ``muscan reconstruct``: wall-clock and processor time [s], and peak memory [GiB]."""
    line = ["reconstruct", str(tracks), "-o", str(tracks.with_name("v.h5")), "-q", *options]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", "from muscan.cli import main; main()", *line])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"muscan {' '.join(line)} failed")
    wall = time.perf_counter() - start
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def container(minutes: float) -> list[Row]:
    """The shipped container scene, every muon simulated and tracked on its own."""
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tracks.h5"
        pairs = record(path, "container", minutes, 7)
        command(path, "--method", "em", "--voxel", "400")  # compiles
        wall, processor, memory = command(path, "--method", "em")
        image = io.read_volume(path.with_name("v.h5"))
        scan = pair_tracks(next(io.iter_tracks(path)))
        label = f"container, {minutes:g} min, {pairs} muons, em from the file"
        rows += [
            (f"{label} [s]", f"{wall:.0f}"),
            (f"{label}: processor time [s]", f"{processor:.0f}"),
            (f"{label}: peak memory [GiB]", f"{memory:.2f}"),
            (f"{label}: muons in the grid", str(image.attributes["n_scatters"])),
            (f"{label}: steps, weight of the prior",
             f"{image.attributes['iterations']}, {image.attributes['smoothing']:g}"),
            (f"{label}: outliers", str(image.attributes["n_outliers"])),
        ]  # fmt: skip
        wall_rate, rate = _visits(scan, image.grid)
        rows.append(("em, voxel visits/s [million]", f"{wall_rate / 1e6:.0f}"))
        rows.append(("em, voxel visits per second of a processor [million]", f"{rate / 1e6:.0f}"))
        million = Path(folder) / "million.h5"
        io.write_tracks(million, next(io.iter_tracks(path, 1_000_000)))
        command(million)
        best = min(command(million) for _ in range(3))
        rows.append(("muscan reconstruct --method poca, a million tracks [s]", f"{best[0]:.1f}"))
        rows.append(("the same, processor time [s]", f"{best[1]:.1f}"))
    return rows


def uniform(minutes: float) -> list[Row]:
    """A load of fruit, under the sky of ecomug; λ in layers 200 mm high, 400 mm from its faces."""
    scene = parse_scene(FRUIT, "fruit")
    true = scene.materials(load_materials())["fruit"].scattering_density
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tracks.h5"
        record(path, scene, minutes, 9, "ecomug")
        tracks = io.read_tracks(path)
        scan, detector = pair_tracks(tracks), tracks.detector
    assert detector is not None
    grid = VoxelGrid.from_bounds(detector.bounds, 50)
    x, y, z = (grid.centres(axis) for axis in range(3))
    inner = np.abs(x) < 2400, np.abs(y) < 700, np.abs(z) < 700
    for flux in ("ecomug", "guan2015"):
        image = reconstruct(scan, grid, "em", detector=detector, spectrum=sea_level_spectrum(flux))
        part = image.values[np.ix_(*inner)].astype(float)
        layers = part.mean(axis=(0, 1)).reshape(-1, 4).mean(axis=1) / true
        label = f"uniform load, ecomug's sky, {minutes:g} min, em with {flux}"
        rows.append((f"{label}: λ/true", f"{part.mean() / true:.2f}"))
        rows.append((f"{label}: its layers, bottom first", ", ".join(f"{v:.2f}" for v in layers)))
    return rows


def cube_in_fruit(minutes: float) -> list[Row]:
    """10 cm of uranium in the middle of 2.2 m of fruit: what em makes of both."""
    scene = parse_scene(FRUIT + CUBE, "fruit")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tracks.h5"
        record(path, scene, minutes, 5)
        tracks = io.read_tracks(path)
    assert tracks.detector is not None
    grid = VoxelGrid.from_bounds(tracks.detector.bounds, 50)
    image = reconstruct(pair_tracks(tracks), grid, "em", detector=tracks.detector)
    where = np.stack(np.meshgrid(*(grid.centres(a) for a in range(3)), indexing="ij"))
    offset = np.abs(where - np.reshape((300, 200, -100), (3, 1, 1, 1))).max(axis=0)
    values = np.nan_to_num(image.values)
    away = values[offset > 100]
    fruit = values[(np.abs(where) < np.reshape((2400, 700, 700), (3, 1, 1, 1))).all(axis=0)]
    label = f"10 cm U in 2.2 m of 0.6 g/cm³ fruit, {minutes:g} min"
    inside = values[offset < 50]
    return [
        (f"{label}: λ in the cube [mrad²/cm]", f"{inside.mean():.0f} of 79"),
        (f"{label}: voxels of it brighter than all others",
         f"{(inside > away.max()).sum()} of {inside.size}"),
        (f"{label}: brightest voxel 100 mm away", f"{away.max():.1f}"),
        (f"{label}: mean of the fruit", f"{fruit.mean():.2f} of 0.41"),
        (f"{label}: weight of the prior", f"{image.attributes['smoothing']:g}"),
    ]  # fmt: skip


def _visits(scan: Scatters, grid: VoxelGrid) -> tuple[float, float]:
    """Voxel visits of one likelihood and gradient, per second and per processor second."""
    muons = prepare(scan, grid)
    problem = Problem(muons, MomentumModel(muons), grid).by_place()
    density = np.full(muons.voxels, 0.04)
    mixture = problem.mixture(density)
    wall, processor = _best(lambda: problem.likelihood(density, mixture))
    return len(muons.paths.voxel) / wall, len(muons.paths.voxel) / processor


def blocks(path: Path, noise: float, stated: float) -> list[Row]:
    """The cubes recorded by another program: mean density, centroid and AUC of each method.

    The crossings are blurred by `noise` [mm], and said to be known to `stated`.
    """
    tracks = _recorded(path, noise, stated)
    grid = VoxelGrid.from_bounds([[-1200, -1200, -600], [1200, 1200, 600]], 50)
    where = np.stack(np.meshgrid(*(grid.centres(a) for a in range(3)), indexing="ij"))
    rows: list[Row] = []
    label = f"{noise:g} mm" if noise == stated else f"{noise:g} mm said to be {stated:g}"
    for method in ("poca", "asr", "mlem", "em") if noise == stated else ("em",):
        image = muscan.reconstruct(tracks, method=method, bounds=[-1200, 1200] * 2 + [-600, 600])
        values = np.nan_to_num(image.values.astype(float))
        dense = np.zeros(grid.shape, bool)
        for name, centre, true in CUBES:
            offset = where - np.reshape(centre, (3, 1, 1, 1))
            inside = (np.abs(offset) < 100).all(axis=0)
            near = (np.abs(offset) < np.reshape((200, 200, 300), (3, 1, 1, 1))).all(axis=0)
            if name in ("Fe", "Pb", "U"):
                dense |= inside
            middle = (offset * np.where(near, values, 0)).sum(axis=(1, 2, 3)) / values[near].sum()
            ratio = values[inside].mean() / true
            shift = ", ".join(f"{x:.0f}" for x in middle)
            rows.append((f"blocks {label}, {method}, {name}: λ/true", f"{ratio:.2f} ({shift} mm)"))
        ranks = rankdata(values.ravel())[dense.ravel()]
        pairs = len(ranks) * (values.size - len(ranks))
        auc = (ranks.sum() - len(ranks) * (len(ranks) + 1) / 2) / pairs
        rows.append((f"blocks {label}, {method}: AUC of Fe, Pb, U", f"{auc:.5f}"))
    return rows


def _recorded(path: Path, noise: float, stated: float) -> Tracks:
    """Import crossings and find tracks, as for any recorded data."""
    planes = (f'[[panel]]\npanel = "{n}"\nx = "X{n}"\ny = "Y{n}"\nz = "Z{n}"\n' for n in range(6))
    with TemporaryDirectory() as folder:
        mapping = Path(folder) / "wide.toml"
        mapping.write_text('event_id = "event"\n' + "".join(planes), encoding="utf-8")
        hits = muscan.import_hits(path, detector="blocks-lab", mapping=mapping, live_time=300)
    rng = np.random.default_rng(0)
    u, v = (x + rng.normal(0, noise, len(hits)).astype(np.float32) for x in (hits.u, hits.v))
    sigma = np.full(len(hits), stated, np.float32)
    return muscan.track(replace(hits, u=u, v=v, sigma_u=sigma, sigma_v=sigma))


def _best(work: Callable[[], object], times: int = 4) -> tuple[float, float]:
    """Return the shortest wall-clock and processor time of a few [s]; the first call compiles."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter(), time.process_time()
        work()
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, processor = zip(*seconds, strict=True)
    return min(wall), min(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", type=Path, help="recording of the cubes by another program")
    parser.add_argument("--quick", action="store_true", help="fewer muons and seeds")
    options = parser.parse_args()
    jobs: list[Callable[[], list[Row]]] = [
        poca_speed,
        lambda: statistics(30 if options.quick else 400),
        lambda: container(1 if options.quick else 15),
        lambda: uniform(1 if options.quick else 5),
        lambda: cube_in_fruit(5),
    ]
    if options.blocks:
        jobs += [lambda known=known: blocks(options.blocks, *known) for known in RESOLUTIONS]
    print("| figure | value |\n|---|---|")
    for job in jobs:
        for name, value in job():
            print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
