"""How well and how fast the reconstructions are: one command, fixed seeds, one table.

    python -m benchmarks.bench_reconstruction [--quick] [--blocks blocks_5min_wide.csv.gz]

``--blocks`` takes a recording of five cubes by another program (one row an event, columns
event, X0, Y0, Z0 … X5, Y5, Z5, empty where a plane was not crossed) in the layout ``blocks-lab``.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from benchmarks import toy
from muscan.kernels import poca as poca_kernel
from muscan.model.detector import load_detector
from muscan.model.events import Scatters, pair_tracks
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.track_errors import line_errors, scattering_density
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction import lanes, reconstruct
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.muons import MomentumModel, prepare
from muscan.reconstruction.problem import Problem
from muscan.reconstruction.region import RegionTester
from muscan.simulation import simulate_chunks
from muscan.tracking import find_tracks

#: Cubes of 200 mm in the blocks scan: name, centre [mm], scattering density [mrad²/cm] (25/X0).
CUBES = (
    ("water", (0, 0, 0), 0.69),
    ("Al", (-600, -600, 0), 2.81),
    ("Fe", (600, -600, 0), 14.2),
    ("Pb", (-600, 600, 0), 44.5),
    ("U", (600, 600, 0), 79.0),
)
Row = tuple[str, str]


def poca_speed(pairs: int = 2_000_000) -> list[Row]:
    rng = np.random.default_rng(1)
    muons = toy.straight(pairs, 2000, 1200, 0.2, rng)
    bent = muons.in_direction + rng.normal(0, 0.01, (pairs, 3)).astype("f4")
    bent /= np.linalg.norm(bent, axis=1)[:, None]
    grid = VoxelGrid.from_bounds([[-1000] * 3, [1000] * 3], 20)
    count = lanes.LANES
    shares = lanes.bounds(pairs, count)
    sums = [[np.zeros(10**6), np.zeros(10**6)] for _ in range(count)]

    def work(lane: int) -> None:
        rows = slice(*shares[lane])
        poca_kernel.vertices(
            kernel_grid(grid), muons.in_position[rows], muons.in_direction[rows],
            muons.out_position[rows], bent[rows], *sums[lane],
        )  # fmt: skip

    seconds = _best(lambda: lanes.run(work, count, None))
    bent_muons = replace(muons, out_direction=bent).take(slice(0, 1_000_000))
    whole = _best(lambda: reconstruct(bent_muons, grid, "poca"))
    return [
        ("poca kernel into 100³ [million pairs/s]", f"{pairs / seconds / 1e6:.0f}"),
        ("poca with paths, million tracks into 100³ [s]", f"{whole:.2f}"),
    ]


def region_limits(seeds: int = 100) -> list[Row]:
    grid = VoxelGrid(np.zeros(3), np.array([400.0, 400.0, 200.0]), (1, 1, 1))
    spectrum = sea_level_spectrum()
    air = _uniform(grid, 8e-4)
    rows: list[Row] = []
    for momentum, limit in (("spectrum", 2.18), ("measured", 1.09)):
        errors, widths = [], []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            muons = toy.straight(500, 300, 600, 0.05, rng, sigma=0.1)
            scan, truth = toy.scatter(muons, np.full(grid.shape, 5.0), grid, spectrum, rng)
            if momentum == "measured":
                scan = replace(scan, momentum=truth.astype("f4"), sigma=0.01 * truth.astype("f4"))
            tester = RegionTester(scan, air, spectrum=spectrum, momentum=momentum, workers=1)
            fit = tester.fit(np.ones(grid.shape, bool))
            errors.append(np.log(fit.density / 5.0))
            widths.append(np.log(fit.high / fit.low) / 2)
        ratio = np.std(errors) / (limit / np.sqrt(500))
        pull = np.std(np.array(errors) / widths)
        rows.append((f"region σ(ln λ) / (c/√N), momentum {momentum}", f"{ratio:.2f}"))
        rows.append((f"region pull width, momentum {momentum}", f"{pull:.2f}"))
    return rows


def container_speed(muons: int) -> list[Row]:
    """A 20-ft container of fruit in 50 mm voxels; only the time counts here."""
    spectrum = sea_level_spectrum()
    rng = np.random.default_rng(5)
    grid = VoxelGrid.from_bounds([[-3000, -1200, -1200], [3000, 1200, 1200]], 50)
    straight = toy.straight(muons // 6, np.array([5800, 2200]), 1400, 0.35, rng)
    ends = np.abs(np.concatenate([straight.in_position, straight.out_position], axis=1))
    straight = straight.take((ends[:, [0, 3]] < 3500).all(1) & (ends[:, [1, 4]] < 2500).all(1))
    some, _ = toy.scatter(
        straight.take(slice(0, muons // 10)), np.full(grid.shape, 0.41), grid, spectrum, rng
    )
    scan = Scatters.join([some] * 10)
    reconstruct(some.take(slice(0, 1000)), grid, "em", spectrum=spectrum, iterations=1)
    start = time.perf_counter(), time.process_time()
    image = reconstruct(scan, grid, "em", spectrum=spectrum)
    seconds, processor = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        (f"container, {len(scan)} muons, em [s]", f"{seconds:.0f}"),
        ("container, em, processor time [s]", f"{processor:.0f}"),
        ("container, em, steps", str(image.attributes["iterations"])),
        ("container, em, peak memory of the process [GiB]", f"{peak:.2f}"),
        ("em, voxel visits/s [million]", f"{_visits(scan, grid) / 1e6:.0f}"),
    ]


def hidden_cube(minutes: float) -> list[Row]:
    """The shipped container scene, simulated: 10 cm of uranium at (1800, 512, -142) mm."""
    tracks = []
    for hits, _ in simulate_chunks("container", minutes=minutes, seed=1):
        tracks.append(pair_tracks(find_tracks(hits)))
        detector = hits.detector
    scan = Scatters.join(tracks)
    grid = VoxelGrid.from_bounds(detector.bounds, 50)
    rows: list[Row] = []
    for method in ("poca", "asr", "em"):
        values = np.nan_to_num(reconstruct(scan, grid, method, detector=detector).values)
        order = np.argsort(-values.ravel())[:200]
        where = grid.position(np.stack(np.unravel_index(order, grid.shape), axis=1))
        near = (np.abs(where - (1800, 512, -142)) < 75).all(axis=1)
        away = (np.abs(where - (1800, 512, -142)) > 125).any(axis=1)
        label = f"container scene, {minutes:g} min, {method}"
        rows.append((f"{label}: brightest voxels within the cube", str(int(np.argmin(near)))))
        rows.append((f"{label}: brightest voxel", f"{values.ravel()[order[0]]:.0f}"))
        rows.append((f"{label}: brightest 125 mm away", f"{values.ravel()[order[away]].max():.0f}"))
    return rows


def _visits(scan: Scatters, grid: VoxelGrid) -> float:
    """Voxel visits of one likelihood and gradient, per second."""
    muons = prepare(scan, grid)
    problem = Problem(muons, MomentumModel(muons), grid)
    density = np.full(muons.voxels, 0.04)
    mixture = problem.momenta.mixture(density)
    return len(muons.paths.voxel) / _best(lambda: problem.likelihood(density, mixture))


def blocks(path: Path, smear: bool) -> list[Row]:
    """The cubes recorded by another program: mean density, centroid and AUC of each method."""
    detector = load_detector("blocks-lab")
    scan = _read_wide(path, 0.3, smear)
    grid = VoxelGrid.from_bounds([[-1200, -1200, -600], [1200, 1200, 600]], 50)
    where = np.stack(np.meshgrid(*(grid.centres(a) for a in range(3)), indexing="ij"))
    rows: list[Row] = []
    label = "0.3 mm" if smear else "exact hits"
    for method in ("poca", "asr", "em"):
        image = reconstruct(scan, grid, method, detector=detector)
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


def _read_wide(path: Path, sigma: float, smear: bool) -> Scatters:
    """Read crossings and fit tracks on both sides, scattering in the planes included."""
    raw = np.genfromtxt(path, delimiter=",", skip_header=1)[:, 1:].reshape(-1, 6, 3)
    hits = raw[np.isfinite(raw).all(axis=(1, 2))]
    if smear:
        hits[:, :, :2] += np.random.default_rng(0).normal(0, sigma, hits[:, :, :2].shape)
    above = _fit(hits[:, :3], sigma, 1)
    below = _fit(hits[:, :2:-1], sigma, -1)
    unknown = np.full(len(hits), np.nan, np.float32)
    return Scatters(np.arange(len(hits), dtype=np.uint64), *above, *below, unknown, unknown)


def _fit(hits: np.ndarray, sigma: float, sign: int) -> tuple[np.ndarray, ...]:
    """Fit lines through planes ordered towards the inspected space, one estimator for all."""
    n, depth = len(hits), np.abs(hits[0, :, 2] - hits[0, -1, 2])
    scatter = np.full(3, 10 * scattering_density("plastic-scintillator"))
    steepness = 1.1  # mean path per height
    line, resolution, scattering = line_errors(
        depth * steepness, np.full(3, sigma), scatter * steepness
    )
    cov2 = resolution + scattering
    place = np.einsum("j,njk->nk", line[0], hits[:, :, :2])
    slope = sign * steepness * np.einsum("j,njk->nk", line[1], hits[:, :, :2])
    direction = np.concatenate([slope, -np.ones((n, 1))], axis=1)
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    cov = np.zeros((4, 4))
    for i in range(2):
        cov[i, i], cov[i + 2, i + 2] = cov2[0, 0], cov2[1, 1]
        cov[i, i + 2] = cov[i + 2, i] = sign * cov2[0, 1]
    position = np.concatenate([place, np.full((n, 1), hits[0, -1, 2])], axis=1)
    covs = np.broadcast_to(cov, (n, 4, 4))
    return tuple(np.asarray(a, np.float32) for a in (position, direction, covs))


def _uniform(grid: VoxelGrid, value: float) -> Volume:
    empty = np.zeros(grid.shape)
    values = np.full(grid.shape, value, np.float32)
    return Volume(values, grid, "uniform", empty.astype("f4"), empty.astype("u4"))


def _best(work: Callable[[], object], times: int = 4) -> float:
    """Return the shortest of a few times [s]; the first call compiles."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", type=Path, help="recording of the cubes by another program")
    parser.add_argument("--quick", action="store_true", help="fewer muons and seeds")
    options = parser.parse_args()
    jobs: list[Callable[[], list[Row]]] = [
        poca_speed,
        lambda: region_limits(30 if options.quick else 100),
        lambda: container_speed(150_000 if options.quick else 1_500_000),
        lambda: hidden_cube(0.5 if options.quick else 1),
    ]
    if options.blocks:
        jobs += [lambda: blocks(options.blocks, True), lambda: blocks(options.blocks, False)]
    print("| figure | value |\n|---|---|")
    for job in jobs:
        for name, value in job():
            print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
