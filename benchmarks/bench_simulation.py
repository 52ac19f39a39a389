"""How fast the simulation is: one command, fixed seeds, one table.

    python -m benchmarks.bench_simulation [--quick]

Rates are muons a second of one core's own time (CPU time), so that a busy machine shows less;
``scaling`` is from wall-clock time and needs an idle one. The generator is set against a plain
NumPy twin that draws the same distribution by inverting cumulative sums.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from muscan.kernels.source import draw_muons
from muscan.model.flux import FluxModel, load_flux
from muscan.simulation import Simulation, make_source

BOX = np.array([[-4000.0, -2000.0, -2100.0], [4000.0, 2000.0, 2100.0]])
#: Muons that other programs do a second and core, measured on a like machine and scene.
OTHERS = {"generator": ("EcoMug (C++)", 1.2e6), "container": ("Geant4 11.4.0", 4450.0)}


def cpu_time(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def numpy_generator(model: FluxModel, n: int, rng: np.random.Generator) -> np.ndarray:
    """Momenta, points and directions through a horizontal plane, in whole-array NumPy."""
    edges = np.linspace(np.log(0.1), np.log(1e4), 513)
    p, c = np.exp((edges[1:] + edges[:-1]) / 2), (np.arange(128) + 0.5) / 128
    cumulative = np.cumsum(model.intensity(p[:, None], c) * p[:, None] * c)
    cell = np.searchsorted(cumulative, rng.random(n) * cumulative[-1])
    momentum = np.exp(edges[cell // 128] + rng.random(n) * (edges[1] - edges[0]))
    cosine = (cell % 128 + rng.random(n)) / 128
    sine, phi = np.sqrt(1 - cosine**2), 2 * np.pi * rng.random(n)
    x, y = (rng.uniform(*BOX[:, axis], n) for axis in (0, 1))
    return np.array([momentum, x, y, sine * np.cos(phi), sine * np.sin(phi), -cosine])


def generator(n: int) -> None:
    source = make_source(BOX)
    rng = np.random.Generator(np.random.PCG64(1))
    chunk = 65_536
    columns = (
        np.empty(chunk, np.float32),
        np.empty(chunk, np.int8),
        np.empty((chunk, 3), np.float32),
        np.empty((chunk, 3), np.float32),
    )
    draw_muons(rng, source.tables, *columns)
    rounds = n // chunk
    spent = cpu_time(lambda: [draw_muons(rng, source.tables, *columns) for _ in range(rounds)])
    rate = rounds * chunk / spent
    model = load_flux("guan2015")
    twin = n / 10 / cpu_time(lambda: numpy_generator(model, n // 10, rng))
    name, other = OTHERS["generator"]
    print(f"{'generator':24s} {rate / 1e6:8.1f} million/s   {rate / twin:5.1f} × NumPy twin"
          f"   {rate / other:6.1f} × {name}")  # fmt: skip


def engine(scene: str, n: int) -> None:
    for _ in Simulation(scene, muons=1000, workers=1).chunks():
        pass
    simulation = Simulation(scene, muons=n, seed=1, workers=1)
    spent = cpu_time(lambda: [None for _ in simulation.chunks()])
    counts = simulation.statistics()
    transported = n - counts["missed"]
    line = (
        f"{scene:24s} {n / spent / 1e3:8.0f} thousand/s  ({transported / spent / 1e3:.0f} carried"
    )
    line += f" through, {counts['kept'] / spent / 1e3:.0f} recorded)"
    if scene in OTHERS:
        name, other = OTHERS[scene]
        line += f"   {n / spent / other:6.0f} × {name}"
    print(line)


def scaling(n: int) -> None:
    wall = []
    for workers in (1, 2):
        simulation = Simulation("container", muons=n, seed=1, workers=workers)
        start = time.perf_counter()
        for _ in simulation.chunks():
            pass
        wall.append(time.perf_counter() - start)
    print(f"{'scaling on two cores':24s} {wall[0] / wall[1]:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the muons")
    scale = 0.1 if parser.parse_args().quick else 1.0
    generator(int(2e7 * scale))
    for scene in ("container", "empty", "blocks"):
        engine(scene, int(2e6 * scale))
    scaling(int(2e6 * scale))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak memory':24s} {peak:8.0f} MB")


if __name__ == "__main__":
    main()
