"""Time and memory of each step against its size, beside NumPy and the machine's own limit.

    python -m benchmarks scaling [--quick] [--steps STEP,…]

Every step runs on one thread in a process of its own, sizes ascending, so that what the process
has held at most so far, data and libraries included, tells the memory. The muons are straight with
a kink of 5 mrad in the middle of the layout ``blocks-lab`` (`benchmarks.bench_import.events`).
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_import import RESOLUTION_MM, columns, events
from benchmarks.machine import Limits, Table, best, measure_limits, slope
from muscan import pipeline
from muscan.kernels import poca as poca_kernel
from muscan.model.detector import load_detector
from muscan.model.events import Hits, Scatters, Tracks, pair_tracks
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import reconstruct
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import prepare
from muscan.reconstruction.problem import Problem
from muscan.simulation import Simulation
from muscan.tracking import find_tracks

FloatArray = np.ndarray

LAYOUT = "blocks-lab"
HALF_MM = 1000.0
#: Voxels where muons vary (50 mm), and muons where voxels do.
VOXELS, MUONS = 64_000, 100_000
#: Muons that are tracked at once; more are these again.
DISTINCT = 300_000
#: Most muons of each step, quick and full. Past them a step does what it did, for longer.
MOST = {
    "simulate": (1e6, 1e7), "import csv": (1e5, 1e6), "track": (1e6, 3e6),
    "poca": (1e6, 1e7), "asr": (1e6, 3e6), "em": (1e5, 1e6),
}  # fmt: skip
#: Most voxels of each method, quick and full; asr would take 8 GB for ten million.
MOST_VOXELS = {"poca": (1e6, 1e7), "asr": (1e6, 3e6), "em": (1e5, 1e6)}


@dataclass(frozen=True)
class Point:
    """One measurement: size, processor and wall time [s], most memory so far [MB].

    Attributes
    ----------
    least_bytes : float
        What must be read and written once at the least; 0 where that is not counted.
    twin_s : float
        Processor time of the NumPy twin; NaN where there is none.
    """

    size: int
    cpu: float
    wall: float
    peak_mb: float
    least_bytes: float
    twin_s: float


#: Given a size and a folder: the work, the least bytes, and the NumPy twin.
Maker = Callable[[int, Path], tuple[Callable[[], Any], float, Callable[[], Any] | None]]


def cube(voxels: float) -> VoxelGrid:
    """Return a grid of about so many voxels over the same volume."""
    side = round(float(voxels) ** (1 / 3))
    return VoxelGrid.from_bounds(np.array([[-HALF_MM] * 3, [HALF_MM] * 3]), 2 * HALF_MM / side)


def tracked(n: int) -> Tracks:
    return find_tracks(events(load_detector(LAYOUT), 0, n))


def muons(n: int) -> Scatters:
    """Return tracked muons; beyond `DISTINCT` the same ones again."""
    found = pair_tracks(tracked(min(n, DISTINCT)))
    return found.take(np.arange(n) % len(found)) if n > DISTINCT else found


def held(data: Hits | Tracks | Scatters) -> float:
    return float(sum(column.nbytes for column in data.columns().values()))


def simulate_step(n: int, _: Path) -> tuple[Callable[[], Any], float, None]:
    def work() -> None:
        for _ in Simulation("blocks", muons=n, seed=1, workers=1).chunks():
            pass

    return work, 0.0, None


def import_step(n: int, folder: Path) -> tuple[Callable[[], Any], float, Callable[[], Any] | None]:
    path, detector = folder / f"{n}.csv", load_detector(LAYOUT)
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, n, DISTINCT):
            data = columns(events(detector, first, min(DISTINCT, n - first)))
            names = "" if first else ",".join(data)
            np.savetxt(
                file, np.column_stack(list(data.values())), header=names, comments="",
                fmt=["%d", "%d", "%.3f", "%.3f", "%.1f", "%.1f"], delimiter=",",
            )  # fmt: skip

    def work() -> None:
        pipeline.import_hits(path, detector=detector, output=folder / "o.h5")

    def twin() -> FloatArray:
        return np.loadtxt(path, delimiter=",", skiprows=1)

    return work, float(path.stat().st_size) + 36.0 * 6 * n, twin


def numpy_lines(hits: Hits) -> FloatArray:
    """Slopes and places of lines through three planes above and three below, by least squares."""
    u, v = (c.reshape(-1, 6).astype(float) for c in (hits.u, hits.v))
    z = hits.detector.centres[:, 2]
    found = []
    for side in (slice(0, 3), slice(3, 6)):
        design = np.stack([np.ones(3), z[side] - z[side].mean()], axis=1)
        weights = np.linalg.pinv(design)
        for place in (u, v):
            fitted = place[:, side] @ weights.T
            found.append(((place[:, side] - fitted @ design.T) ** 2).sum(axis=1))
            found += [fitted[:, 0], fitted[:, 1]]
    return np.array(found) / RESOLUTION_MM


def track_step(n: int, _: Path) -> tuple[Callable[[], Any], float, Callable[[], Any] | None]:
    hits = events(load_detector(LAYOUT), 0, n)
    least = held(hits) + 2 * n * held(tracked(1000)) / 2000
    return lambda: find_tracks(hits, workers=1), least, lambda: numpy_lines(hits)


def numpy_vertices(scatters: Scatters) -> tuple[FloatArray, FloatArray]:
    """Points of closest approach [mm] and angles [rad] of all muons, in whole arrays."""
    p, u, q, w = (
        np.asarray(c, float)
        for c in (scatters.in_position, scatters.in_direction,
                  scatters.out_position, scatters.out_direction)
    )  # fmt: skip
    h, r = w - u, q - p
    chord2 = (h * h).sum(axis=1)
    b, sine2 = 1 - chord2 / 2, chord2 * (1 - chord2 / 4)
    ru, rh = (r * u).sum(axis=1), (r * h).sum(axis=1)
    safe = np.where(sine2 < 1e-24, 1.0, sine2)
    s = np.where(sine2 < 1e-24, ru / 2, (chord2 * ru / 2 - b * rh) / safe)
    t = np.where(sine2 < 1e-24, -(r * w).sum(axis=1) / 2, (-chord2 * ru / 2 - rh) / safe)
    middle = (p + s[:, None] * u + q + t[:, None] * w) / 2
    return middle, 2 * np.arcsin(np.minimum(np.sqrt(chord2) / 2, 1))


def numpy_poca(scatters: Scatters, grid: VoxelGrid) -> tuple[FloatArray, FloatArray]:
    """Number and summed angle of the points of closest approach in each voxel, whole arrays."""
    middle, angle = numpy_vertices(scatters)
    index = np.floor((middle - grid.lower) / grid.spacing).astype(np.int64)
    inside = ((index >= 0) & (index < grid.shape)).all(axis=1)
    flat = np.ravel_multi_index(tuple(index[inside].T), grid.shape)
    voxels = int(np.prod(grid.shape))
    return np.bincount(flat, minlength=voxels), np.bincount(flat, angle[inside], voxels)


def vertices(scatters: Scatters, grid: VoxelGrid) -> tuple[FloatArray, FloatArray]:
    """The same by the kernel."""
    counts, sums = np.zeros((2, int(np.prod(grid.shape)) + 1))
    poca_kernel.vertices(
        kernel_grid(grid), scatters.in_position, scatters.in_direction,
        scatters.out_position, scatters.out_direction, poca_kernel.scratch(1, 1), counts, sums,
    )  # fmt: skip
    return counts[:-1], sums[:-1]


def method_step(
    method: str, n: int, grid: VoxelGrid
) -> tuple[Callable[[], Any], float, Callable[[], Any] | None]:
    scatters, detector = muons(n), load_detector(LAYOUT)

    def work() -> None:
        reconstruct(scatters, grid, method, detector=detector, workers=1)

    # A muon of these crosses about 1.5 voxels a layer; each is read and written once, by poca in
    # one word, by asr in a count and a sum.
    bytes_each = {"poca": 16, "asr": 24}.get(method)
    least = held(scatters) + bytes_each * 1.5 * n * grid.shape[2] if bytes_each else 0.0
    twin = (lambda: numpy_poca(scatters, grid)) if method == "poca" else None
    return work, least, twin


def _points(name: str, axis: str, sizes: Sequence[int], count: int, channel: Any) -> None:
    """Measure one step at all sizes; runs in a process of its own."""
    warnings.simplefilter("ignore")
    makers: dict[str, Maker] = {
        "simulate": simulate_step, "import csv": import_step, "track": track_step,
    }  # fmt: skip
    for method in MOST_VOXELS:
        makers[method] = (
            (lambda n, _, m=method: method_step(m, n, cube(VOXELS))) if axis == "muons"
            else (lambda n, _, m=method: method_step(m, count, cube(n)))
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        small, _, _ = makers[name](1000, Path(folder))
        small()  # compiles
        for size in sizes:
            work, least, twin = makers[name](size, Path(folder))
            _, spent = best(work, 3, budget=8.0)
            peak = _peak_mb()
            slower = best(twin, 3, budget=8.0)[1].cpu if twin is not None else float("nan")
            channel.put(Point(size, spent.cpu, spent.wall, peak, least, slower))


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts in ru_maxrss also what the parent held when it started us
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return float(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def measure(name: str, axis: str, sizes: Sequence[int], count: int = MUONS) -> list[Point]:
    """Return the points of one step; ``count`` muons where voxels vary."""
    context = multiprocessing.get_context("spawn")
    channel = context.SimpleQueue()
    child = context.Process(target=_points, args=(name, axis, sizes, count, channel))
    start = time.perf_counter()
    child.start()
    found: list[Point] = []
    while len(found) < len(sizes):
        if not channel.empty():
            found.append(channel.get())
            point = found[-1]
            print(f"{name}, {point.size} {axis}: {point.cpu:.3g} s of processor time, "
                  f"at most {point.peak_mb:.0f} MB", file=sys.stderr, flush=True)  # fmt: skip
        elif not child.is_alive() and channel.empty():
            raise RuntimeError(f"scaling of {name} ended with status {child.exitcode}")
        else:
            time.sleep(0.05)
    child.join()
    took = time.perf_counter() - start
    print(f"{name} against {axis}: {took:.0f} s", file=sys.stderr, flush=True)
    return found


def grown(first: float, last: float) -> list[int]:
    """Return sizes a factor of ten apart, and the last."""
    steps = int(np.floor(np.log10(last / first) + 1e-9)) + 1
    sizes = [round(first * 10**k) for k in range(steps)]
    return sizes if sizes[-1] == round(last) else [*sizes, round(last)]


def scaling_table(axis: str, most: dict[str, float], limits: Limits, first: float) -> Table:
    table = Table(
        f"One core, against the number of {axis}",
        ("step", axis, "processor [s]", f"{axis}/s", "wall [s]", "memory at most [MB]",
         "time grows to the", "NumPy twin over it", "of the memory bandwidth"),
    )  # fmt: skip
    for name, last in most.items():
        points = measure(name, axis, grown(first, last), min(MUONS, int(last)))
        for point in points:
            final = point is points[-1]
            grows = slope([p.size for p in points], [p.cpu for p in points]) if final else "–"
            twin = point.twin_s / point.cpu
            share = point.least_bytes / limits.bytes_per_s / point.cpu
            table.add(
                name, point.size, point.cpu, point.size / point.cpu, point.wall,
                round(point.peak_mb), grows, twin if twin == twin else "–",
                f"{share:.1%}" if share else "–",
            )  # fmt: skip
    return table


def _poca_row(table: Table, scatters: Scatters, grid: VoxelGrid, limits: Limits) -> None:
    n = len(scatters)
    (counts, sums), spent = best(lambda: vertices(scatters, grid), 7)
    (twin_counts, twin_sums), slower = best(lambda: numpy_poca(scatters, grid))
    # A point on the border of two voxels may be put in either.
    if np.abs(counts - twin_counts).sum() > 1e-4 * n or not np.isclose(sums.sum(), twin_sums.sum()):
        raise RuntimeError("the PoCA kernel and its NumPy twin differ")
    least = 48.0 * n + 32 * n
    name = f"PoCA: vertices into {np.prod(grid.shape)} voxels"
    table.add(name, spent.cpu, slower.cpu / spent.cpu,
              f"{least / limits.bytes_per_s / spent.cpu:.0%}", "–")  # fmt: skip


def kernels_table(limits: Limits, n: int) -> Table:
    """The inner loops alone: PoCA against NumPy like for like, and em's likelihood."""
    table = Table(
        f"Inner loops on one core, {n} muons",
        ("loop", "processor [s]", "NumPy twin over it", "of the memory bandwidth", "of the exps/s"),
    )
    scatters = muons(n)
    for grid in (cube(VOXELS), cube(1e6)):
        _poca_row(table, scatters, grid, limits)
    some = scatters.take(slice(0, min(n, DISTINCT)))
    fine = cube(VOXELS)
    found = prepare(some, fine, "spectrum", load_detector(LAYOUT), 1)
    problem = Problem(found, MomentumModel(found), fine, 1)
    density = np.full(found.voxels, 0.04)
    mixture = problem.mixture(density)
    _, spent = best(lambda: problem.likelihood(density, mixture))
    visits = len(found.paths.voxel)
    # Voxel and length of each crossing, its density, and its share of the gradient there and back.
    least = visits * (sum(a.itemsize for a in found.paths if a.shape == (visits,)) + 3 * 8)
    # The exponential of each muon's momentum classes is the costliest of what a class takes.
    exps = len(found) * mixture.power.shape[1]
    table.add(f"em: likelihood and gradient, {visits / 1e6:.1f} million visits", spent.cpu, "–",
              f"{least / limits.bytes_per_s / spent.cpu:.0%}",
              f"{exps / limits.exps_per_s / spent.cpu:.0%}")  # fmt: skip
    return table


def limits_table(limits: Limits) -> Table:
    table = Table("What one core of this machine does at most", ("limit", "value"))
    table.add("memory, triad a = b + s c on long arrays [GB/s]", limits.bytes_per_s / 1e9)
    table.add("scalar multiply-adds [Gflop/s]", limits.flops_per_s / 1e9)
    table.add("exponentials [million/s]", limits.exps_per_s / 1e6)
    return table


def run(quick: bool, most: float | None = None, steps: Sequence[str] = ()) -> list[Table]:
    """Measure all steps.

    Parameters
    ----------
    quick : bool
        Smaller largest sizes.
    most : float, optional
        Largest number of muons and voxels of any step.
    steps : sequence of str
        Steps to measure, by default all.
    """
    cap = most or np.inf
    column = 0 if quick else 1
    sizes, voxels = (
        {n: min(last[column], cap) for n, last in mosts.items() if not steps or n in steps}
        for mosts in (MOST, MOST_VOXELS)
    )
    first = min(1e4, cap / 3)
    limits = measure_limits(quick)
    tables = [limits_table(limits)]
    tables.append(kernels_table(limits, int(min(1e6 if quick else 2e6, cap))))
    tables.append(scaling_table("muons", sizes, limits, first))
    tables.append(scaling_table("voxels", voxels, limits, first))
    tables[2].notes.append(f"{VOXELS} voxels of 50 mm.")
    tables[3].notes.append(f"{int(min(MUONS, cap))} muons.")
    for table in tables[2:]:
        table.notes.append(
            "Of the memory bandwidth: what must be read and written once (files, hits, tracks, "
            "and the voxels along each path for poca and asr) over what the triad moves in that "
            "time. The NumPy twins do less than the steps: np.loadtxt reads the numbers only, line "
            "fits take the hits as given, and PoCA fills vertices without paths or errors."
        )
    return tables
