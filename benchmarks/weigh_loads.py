"""How well loads are weighed: simulated loads of known mass, and the table of responses.

    python -m benchmarks.weigh_loads --seeds 23 24 --minutes 10 -o loads.csv
    python -m benchmarks.weigh_loads --show loads.csv
    python -m benchmarks.weigh_loads --table loads.csv

The first simulates loads, weighs them as declared, appends a line for each and prints what was
found against the truth, as the second does with a file. The third writes mean ratios and spreads
by scanner and kind of cargo to ``muscan/identification/load_responses.csv``: take other seeds for
that than those that are shown.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

import muscan
from benchmarks.machine import Table
from muscan.identification.weight import RESPONSES, mean_power, response_of
from muscan.model.scene import Scene

#: About 20 t of cement, sugar or paper on ten pallets.
FULL = Path(__file__).with_name("full-load.toml")
TEMPLATES = ("full-load", "cement", "fruit", "beverages", "clothing", "ore", "steel-coils")
#: Share of the scattering from which on a load is of one material.
EVEN = 0.9
FIELDS = ("scanner", "template", "seed", "minutes", "material", "category", "share", "load_kg",
          "scattering", "estimate", "sigma")  # fmt: skip
#: Loads from which on a kind has a spread of its own.
OWN = 5
#: Information floor on 20 t after 10 min [kg] (docs/physics.md).
FLOOR_KG = 64.0


def true_load(scene: Scene, database: muscan.MaterialDatabase) -> tuple[float, float, str, float]:
    """Return mass [kg] and ∫ λ dV [mrad²/cm · litre] of what is not container.

    Then its main material, and that one's share of the scattering.
    """
    masses, materials = scene.masses_kg(database), scene.materials(database)
    kept = [
        materials[body.material].state != "gas" and not body.name.startswith("container")
        for body in scene.bodies
    ]
    powers = np.array([materials[body.material].mass_scattering_power for body in scene.bodies])
    scattering = np.where(kept, masses * powers, 0.0)
    by_material: dict[str, float] = {}
    for body, share in zip(scene.bodies, scattering, strict=True):
        by_material[body.material] = by_material.get(body.material, 0.0) + share
    main = max(by_material, key=by_material.__getitem__)
    total = float(scattering.sum())
    return float(masses[kept].sum()), total, main, by_material[main] / total


def measure(template: str, seed: int, minutes: float) -> dict[str, object]:
    database = muscan.load_materials()
    scene = muscan.draw_scene(FULL if template == FULL.stem else template, seed)
    mass, scattering, main, share = true_load(scene, database)
    tracks = muscan.track(muscan.simulate(scene, minutes=minutes, seed=seed + 5000))
    found = muscan.weigh(tracks, cargo=main, container="20ft", materials=database)
    estimate, sigma = found.columns.total()
    values = (tracks.detector.name, template, seed, minutes, main, database[main].category,
              f"{share:.3f}", f"{mass:.1f}", f"{scattering:.1f}", f"{estimate:.1f}",
              f"{sigma:.1f}")  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show(rows: list[dict[str, str]]) -> Table:
    """Return each load's found mass against the true one, and how many intervals hold it.

    What is true is the mass of the declared goods that scatter as the whole load does: of pallets
    nothing is declared, and their wood counts for less in cement. The load's own mass stands
    beside it.
    """
    database = muscan.load_materials()
    table = Table("Loads", ["load", "seed", "load [kg]", "as the goods [kg]", "found [kg]", "68 %",
                            "difference [kg]", "in σ", "over 1.5 × the floor"])  # fmt: skip
    inside = []
    for row in rows:
        kind = database[row["material"]]
        response = response_of(row["scanner"], [kind])
        power, spread = mean_power([kind])
        estimate, sigma = float(row["estimate"]), float(row["sigma"])
        true = float(row["scattering"]) / power
        mass = estimate / response.ratio / power
        width = mass * float(np.sqrt((sigma / estimate) ** 2 + response.spread**2 + spread**2))
        inside.append(abs(mass - true) <= width)
        table.add(
            f"{row['template']}, {row['material']}",
            row["seed"],
            f"{float(row['load_kg']):.0f}",
            f"{true:.0f}",
            f"{mass:.0f}",
            f"± {width:.0f}",
            f"{mass - true:+.0f}",
            f"{(mass - true) / width:+.1f}",
            f"{abs(mass - true) / (1.5 * FLOOR_KG):.1f}",
        )
    table.add("inside", "", "", "", "", "", "", f"{sum(inside)}/{len(inside)}", "")
    return table


def write_table(path: Path) -> None:
    """Write the mean ratio of all loads, and of each material and category.

    Loads that are one material by `EVEN` of their scattering count for it. The spread is what the
    number of muons does not explain, and the mean's own error. A few loads of a kind tell little
    of its spread: with fewer than `OWN`, that within all kinds is taken.
    """
    rows = read(path)
    lines = ["scanner,cargo,ratio,spread,loads,provenance"]
    for scanner in sorted({row["scanner"] for row in rows}):
        mine = [row for row in rows if row["scanner"] == scanner]
        even = [row for row in mine if float(row["share"]) > EVEN]
        pairs = {(row["category"], row["material"]) for row in even}
        # One material does not speak for its category.
        several = [kind for kind, _ in pairs if sum(kind == other for other, _ in pairs) > 1]
        names = sorted({material for _, material in pairs} | set(several))
        kinds = [[row for row in even if name in (row["material"], row["category"])]
                 for name in names]  # fmt: skip
        within = [[row for row in even if row["category"] == name]
                  for name in {row["category"] for row in even}]  # fmt: skip
        pooled = pooled_variance([ratios(some)[0] for some in within if len(some) > 1])
        for cargo, some in [("any", mine), *zip(names, kinds, strict=True)]:
            if len(some) < 2:
                continue
            ratio, own = ratios(some)
            variance = ratio.var(ddof=1) if len(some) >= OWN else pooled
            variance = max(variance - np.mean(own**2), 0.0)
            spread = np.sqrt(variance * (1 + 1 / len(some)) + np.mean(own**2) / len(some))
            lines.append(
                f"{scanner},{cargo},{ratio.mean():.4f},{spread / ratio.mean():.4f},{len(some)},"
                f"benchmarks/weigh_loads.py {muscan.__version__}"
            )
    RESPONSES.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ratios(rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates over true values, and their statistical errors."""
    true = np.array([float(row["scattering"]) for row in rows])
    found, sigma = (np.array([float(row[name]) for row in rows]) for name in ("estimate", "sigma"))
    return found / true, sigma / true


def pooled_variance(groups: list[np.ndarray]) -> float:
    """Return the variance within groups."""
    degrees = sum(len(group) - 1 for group in groups)
    return sum(float(np.square(group - group.mean()).sum()) for group in groups) / max(degrees, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", nargs="+", default=TEMPLATES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[23, 24])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--show", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("loads.csv"))
    options = parser.parse_args()
    if options.table:
        write_table(options.table)
        return
    if options.show:
        print(show(read(options.show)).markdown())
        return
    rows = []
    for seed in options.seeds:
        for template in options.templates:
            row = measure(template, seed, options.minutes)
            rows.append({name: str(value) for name, value in row.items()})
            fresh = not options.output.exists()
            with options.output.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)
    print(show(rows).markdown())


if __name__ == "__main__":
    main()
