"""What objects are said to be and to weigh, against the truth: one command, fixed seeds, tables.

    python -m benchmarks.bench_identity [--quick] [--scans N] [--first SEED] [--rows FILE]

Two kinds of scans between the planes of ``blocks-lab`` (0.3 mm, momentum unknown): the seven 20 cm
cubes of the study ``materials`` in air, and objects of 19 to 152 kg in cargo of 0.3 g/cm³. The sky
of the scans is by turns that of each published spectrum, while the analysis always takes
``guan2015``: so the error that comes with not knowing the spectrum is part of what is tested.

With ``--rows`` what was measured is kept in a file, and read from it if it is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.machine import Table
from muscan.identification.background import contrast
from muscan.identification.match import Candidates, candidates, inseparable, object_posterior
from muscan.identification.refine import measured_on_muons
from muscan.identification.segment import Region, known_voxels, regions_of
from muscan.identification.verdict import object_errors
from muscan.identification.weight import object_mass
from muscan.model.alerts import Interval
from muscan.model.events import Tracks, pair_tracks
from muscan.model.material import Material, MaterialDatabase, load_materials
from muscan.model.scene import Scene, parse_scene
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import reconstruct
from muscan.reconstruction.region import MuonTester
from muscan.simulation import Simulation
from muscan.studies.scenes import EDGE_MM, MATERIALS, study_scene
from muscan.tracking import find_tracks

FLUXES = ("guan2015", "ecomug", "reyna2006")
MINUTES = 5.0
BOUNDS = np.array([[-1200.0, -1200.0, -600.0], [1200.0, 1200.0, 600.0]])
#: Objects in cargo of `CARGO` g/cm³: material and edge [mm].
HIDDEN = (("uranium", 100.0), ("lead", 120.0), ("tungsten", 120.0), ("iron", 200.0),
          ("lead", 200.0), ("uranium", 200.0), ("iron", 140.0))  # fmt: skip
CARGO = 0.3
DENSE = ("iron", "lead", "tungsten", "uranium")
#: λ up to which matter may be organic [mrad²/cm]: PVC and fluorinated plastics have 2.
ORGANIC = 2.5
#: An object is found if a region's centre is as near as this [mm].
NEAR = np.array([100.0, 100.0, 200.0])


@dataclass(frozen=True)
class Row:
    """An object that was there, and what the muons say of it (NaN where it was not found)."""

    scene: str
    flux: str
    material: str
    edge_mm: float
    density: float = np.nan
    sigma: float = np.nan
    background: float = np.nan
    excess: float = np.nan
    excess_sigma: float = np.nan

    @property
    def region(self) -> Region:
        """What was measured; where it is does not matter here."""
        nowhere = np.zeros(3)
        return Region(
            centre=nowhere, lower=nowhere, upper=nowhere, volume_mm3=0.0,
            scattering_density=self.density, sigma=self.sigma, background=self.background,
            excess=self.excess, excess_sigma=self.excess_sigma, significance=np.inf, n_muons=0,
            voxels=np.empty(0, np.int64), chance=0.0,
        )  # fmt: skip


def in_cargo(seed: int) -> Scene:
    """Return a load with the objects of `HIDDEN` in it, at places drawn from the seed."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    slots = rng.permutation(750.0 * (np.array(list(np.ndindex(3, 3))) - 1))
    text = f"""name = "cargo"
detector = "blocks-lab"
[[body]]
name = "load"
material = "paper"
density_g_cm3 = {CARGO}
size_mm = {(BOUNDS[1] - BOUNDS[0]).tolist()}
centre_mm = [0.0, 0.0, 0.0]
"""
    for number, ((material, edge), slot) in enumerate(zip(HIDDEN, slots, strict=False)):
        place = np.append(slot, 0.0) + rng.uniform(-1, 1, 3) * (100.0, 100.0, 350.0)
        text += f"""[[body]]
name = "object-{number}"
inside = "load"
material = "{material}"
size_mm = {[edge] * 3}
centre_mm = {[round(float(x), 2) for x in place]}
"""
    return parse_scene(text, "cargo")


def measure(scene: Scene, flux: str, seed: int) -> list[Row]:
    """Return the small objects of a scene with what the muons of a scan say of each."""
    simulation = Simulation(scene, minutes=MINUTES, seed=seed, flux=flux)
    parts = [find_tracks(hits) for hits, _ in simulation.chunks()]
    tracks = replace(Tracks.join(parts), run=simulation.run)
    grid = VoxelGrid.from_bounds(BOUNDS, 50)
    scatters = pair_tracks(tracks)
    volume = reconstruct(scatters, grid, "poca", detector=tracks.detector)
    above = contrast(volume, known_voxels(volume))
    tester = MuonTester(scatters, grid, detector=tracks.detector)
    regions = measured_on_muons(regions_of(volume, above), volume, tester)
    return [
        _row(scene.name, flux, body.material, 2 * float(body.half[0]), body.centre, regions)
        for body in scene.bodies
        if 2 * body.half.max() <= EDGE_MM
    ]


def _row(
    scene: str, flux: str, material: str, edge: float, centre: np.ndarray, regions: list[Region]
) -> Row:
    near = [r for r in regions if (np.abs(r.centre - centre) < NEAR).all()]
    if not near:
        return Row(scene, flux, material, edge)
    best = max(near, key=lambda region: region.significance)
    return Row(
        scene, flux, material, edge, best.scattering_density, best.sigma, best.background,
        best.excess, best.excess_sigma,
    )  # fmt: skip


def collect(scans: int, first: int) -> list[Row]:
    rows: list[Row] = []
    for seed in range(first, first + scans):
        flux = FLUXES[seed % len(FLUXES)]
        for scene in (study_scene("materials", seed), in_cargo(seed)):
            rows += measure(scene, flux, seed)
        print(f"seed {seed}, {flux}: {len(rows)} objects", file=sys.stderr, flush=True)
    return rows


@dataclass(frozen=True)
class Judged:
    """A found object with what it is said to be."""

    row: Row
    truth: Material
    ratio: float
    relative: float
    probability: np.ndarray
    mass: Interval

    @property
    def true_kg(self) -> float:
        return self.truth.density_g_cm3 * self.row.edge_mm**3 / 1e6


def judged(rows: list[Row], materials: MaterialDatabase, kinds: Candidates) -> list[Judged]:
    """Return what is said of the objects that were found."""
    found = []
    for row in rows:
        if not np.isfinite(row.density):
            continue
        truth = materials[row.material]
        true = truth.mass_scattering_power * truth.density_g_cm3
        relative, excess_sigma, common = object_errors(row.region)
        probability = object_posterior(kinds, row.density, relative)
        mass = object_mass(
            kinds, probability, row.excess, excess_sigma, row.density, row.background,
            relative=relative, common=common,
        )  # fmt: skip
        ratio = float(row.density / true)
        found.append(Judged(row, truth, ratio, relative, probability, mass))
    return found


def objects_table(rows: list[Row], found: list[Judged]) -> Table:
    table = Table(
        "Objects: λ and mass",
        ["object", "found", "λ over truth", "pull: mean, width", "mass over truth",
         "mass in its 68 % interval", "interval, half width"],
    )  # fmt: skip
    for case in dict.fromkeys((r.scene, r.material, r.edge_mm) for r in rows):
        there = [r for r in rows if (r.scene, r.material, r.edge_mm) == case]
        ours = [j for j in found if (j.row.scene, j.row.material, j.row.edge_mm) == case]
        name = f"{case[1]} {case[2]:.0f} mm, {case[0]}"
        table.add(name, f"{len(ours)}/{len(there)}", *_summary(ours))
    for scene in dict.fromkeys(r.scene for r in rows):
        for flux in FLUXES:
            ours = [j for j in found if (j.row.scene, j.row.flux) == (scene, flux)]
            table.add(f"all, {scene}, sky of {flux}", str(len(ours)), *_summary(ours))
    table.add("all", f"{len(found)}/{len(rows)}", *_summary(found))
    return table


def _summary(found: list[Judged]) -> list[str]:
    if not found:
        return ["–"] * 5
    pulls = np.array([np.log(j.ratio) / j.relative for j in found])
    density = np.median([j.ratio for j in found])
    values, low, high = np.array([(j.mass.value, j.mass.low, j.mass.high) for j in found]).T
    true = np.array([j.true_kg for j in found])
    inside = int(((low <= true) & (true <= high)).sum())
    return [
        f"{density:.2f}",
        f"{pulls.mean():+.2f}, {pulls.std():.2f}",
        f"{np.median(values / true):.2f}",
        f"{inside}/{len(found)} ({inside / len(found):.0%})",
        f"{np.median((high - low) / 2 / true):.2f}",
    ]


def reliability(found: list[Judged], kinds: Candidates) -> Table:
    """Compare stated probabilities with how often they are right, in bins."""
    entries, groups = [], []
    for one in found:
        true = kinds.names.index(one.truth.name)
        best = int(one.probability.argmax())
        entries.append((one.probability[best], best == true))
        members = inseparable(kinds, one.probability, one.row.density, one.relative)
        groups.append((one.probability[members].sum(), true in members))
    table = Table(
        "Stated probability against how often it is right", ["of", "stated", "objects", "right"]
    )
    for label, pairs in (("the entry", entries), ("its group", groups)):
        stated, right = np.array(pairs, dtype=float).T
        for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.001)):
            chosen = (stated >= low) & (stated < high)
            if chosen.any():
                table.add(label, f"{stated[chosen].mean():.0%}", int(chosen.sum()),
                          f"{right[chosen].mean():.0%}")  # fmt: skip
    return table


def confusion(found: list[Judged], kinds: Candidates) -> Table:
    """Return what the cubes in air are named, by the seven materials' ranges of λ."""
    table = Table("Cubes in air: named", ["true", "named, times", "dense metal called organic"])
    for material in MATERIALS:
        ours = [j for j in found if j.row.scene == "materials" and j.truth.name == material]
        names = [kinds.names[int(j.probability.argmax())] for j in ours]
        told = ", ".join(f"{n} {names.count(n)}" for n in sorted(set(names), key=names.count)[::-1])
        light = sum(kinds.high[int(j.probability.argmax())] < ORGANIC for j in ours)
        table.add(material, told or "not found", str(light) if material in DENSE else "–")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three scans of each kind")
    parser.add_argument("--scans", type=int, default=12, help="scans of each kind")
    parser.add_argument("--first", type=int, default=100, help="first seed")
    parser.add_argument("--rows", type=Path, help="JSON file of what was measured")
    options = parser.parse_args()
    if options.rows and options.rows.exists():
        rows = [Row(**row) for row in json.loads(options.rows.read_text())]
    else:
        rows = collect(3 if options.quick else options.scans, options.first)
        if options.rows:
            options.rows.write_text(json.dumps([asdict(row) for row in rows]))
    materials = load_materials()
    kinds = candidates(materials)
    found = judged(rows, materials, kinds)
    for table in (objects_table(rows, found), reliability(found, kinds), confusion(found, kinds)):
        print(table.markdown())


if __name__ == "__main__":
    main()
