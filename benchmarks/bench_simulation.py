"""How fast the simulation is: one command, fixed seeds, one table.

    python -m benchmarks.bench_simulation [--quick] [--ecomug EcoMug.h]

Rates are muons a second of one core's own time (CPU time), so that a busy machine shows less;
``scaling`` is from wall-clock time and needs an idle one. The generator is set against a plain
NumPy twin that draws the same distribution by inverting cumulative sums, a slab against a NumPy
twin with no more physics than Highland's width and a mean loss in ten steps. With the path of
EcoMug's header (github.com/dr4kan/EcoMug) and a C++ compiler (``c++``, or that of ``$CXX``) EcoMug
is measured on this machine, too; otherwise it and Geant4 stand with figures of an earlier one.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from muscan.kernels.source import draw_muons
from muscan.model.flux import FluxModel, load_flux
from muscan.model.material import load_materials
from muscan.simulation import Simulation, make_source
from muscan.simulation.slab import _cross_chunks
from muscan.simulation.tables import build_tables

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


#: Draws muons as `numpy_generator` does, and prints how many a second of its own time.
ECOMUG = """
#include "%s"
#include <cstdio>
#include <cstdlib>
#include <ctime>
int main(int, char** argv) {
  const long n = std::atol(argv[1]);
  EcoMug gen;
  gen.SetUseSky();
  gen.SetSkySize({{8., 4.}});
  gen.SetSkyCenterPosition({{0., 0., 2.1}});
  gen.SetSeed(1);
  double sum = 0;
  const std::clock_t start = std::clock();
  for (long i = 0; i < n; ++i) { gen.Generate(); sum += gen.GetGenerationMomentum(); }
  const double spent = double(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%%g %%g", n / spent, sum);
}
"""


def ecomug_rate(header: Path, n: int) -> float:
    """Muons that EcoMug draws a second of one core's time, compiled with -O3."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "ecomug.cpp", Path(folder) / "ecomug"
        source.write_text(ECOMUG % header.resolve(), encoding="utf-8")
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-O3", "-std=c++17", source, "-o", program], check=True)
        done = subprocess.run([program, str(n)], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[0])


def numpy_slab(p: float, thickness: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Angles, displacements and momenta behind a slab of iron, in whole-array NumPy."""
    iron, steps = load_materials()["iron"], 10
    momenta = np.geomspace(0.02, 100, 400)
    loss = iron.mass_stopping_power(momenta) * iron.density_g_cm3 * 1e-4
    q, step = np.full(n, p), thickness / steps
    theta, x = np.zeros((2, n)), np.zeros((2, n))
    width = 0.0136 * np.sqrt(step / iron.radiation_length_mm)
    width *= 1 + 0.038 * np.log(thickness / iron.radiation_length_mm)
    for _ in range(steps):
        energy = np.hypot(q, 0.1056583755)
        sigma = width * energy / q**2
        a, b = rng.standard_normal((2, 2, n))
        x += step * (theta + sigma * (a / np.sqrt(12) + b / 2))
        theta += sigma * b
        energy = np.maximum(energy - step * np.interp(q, momenta, loss), 0.106)
        q = np.sqrt(energy**2 - 0.1056583755**2)
    return np.concatenate([theta, x, q[None]])


def slab(n: int) -> None:
    tables, rng = build_tables([load_materials()["iron"]], charge=-1), np.random.default_rng(1)
    _cross_chunks(tables, 3.0, 100.0, 1000, 1, workers=1)
    spent = cpu_time(lambda: _cross_chunks(tables, 3.0, 100.0, n, 1, workers=1))
    twin = n / 10 / cpu_time(lambda: numpy_slab(3.0, 100.0, n // 10, rng))
    print(f"{'100 mm of iron':24s} {n / spent / 1e6:8.1f} million/s   {n / spent / twin:5.1f} × "
          "NumPy twin (Gaussian, mean loss)")  # fmt: skip


def generator(n: int, header: Path | None) -> None:
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
    if header is not None:
        name, other = f"{name}, measured: {{:.2f}} million/s", ecomug_rate(header, n // 10)
        name = name.format(other / 1e6)
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
    parser.add_argument("--ecomug", type=Path, metavar="EcoMug.h", help="header of EcoMug")
    options = parser.parse_args()
    if options.ecomug is not None and not options.ecomug.is_file():
        parser.error(f"no such header: {options.ecomug}")
    scale = 0.1 if options.quick else 1.0
    generator(int(2e7 * scale), options.ecomug)
    slab(int(2e6 * scale))
    for scene in ("container", "empty", "blocks"):
        engine(scene, int(2e6 * scale))
    scaling(int(2e6 * scale))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak memory':24s} {peak:8.0f} MB")


if __name__ == "__main__":
    main()
