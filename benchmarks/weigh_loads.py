"""How the columns' likelihood answers to simulated loads of known mass: the table of responses.

    python -m benchmarks.weigh_loads --seeds 1001 1002 1003 --minutes 5 -o loads.csv
    python -m benchmarks.weigh_loads --table loads.csv

The first simulates loads and appends a line for each; the second writes their mean ratios and
spreads by scanner and kind of cargo to ``muscan/identification/load_responses.csv``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

import muscan
from muscan.identification.load import load_scattering
from muscan.identification.weight import RESPONSES, mean_loss
from muscan.model.events import pair_tracks
from muscan.model.scene import Scene
from muscan.pipeline.weigh import _around

TEMPLATES = ("fruit", "cement", "beverages", "clothing", "tobacco", "household", "mixed-relief",
             "ore")  # fmt: skip
#: Share of the scattering from which on a load is of one material.
EVEN = 0.9
FIELDS = ("scanner", "template", "seed", "minutes", "material", "category", "share", "load_kg",
          "scattering", "estimate", "sigma")  # fmt: skip


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
    scene = muscan.draw_scene(template, seed)
    mass, scattering, main, share = true_load(scene, database)
    tracks = muscan.track(muscan.simulate(scene, minutes=minutes, seed=seed))
    around, _ = _around(tracks.detector.bounds, "20ft", database)
    found = load_scattering(
        pair_tracks(tracks), tracks.detector, around, mean_loss([database[main]])
    )
    estimate, sigma = found.total()
    values = (tracks.detector.name, template, seed, minutes, main, database[main].category,
              f"{share:.3f}", f"{mass:.1f}", f"{scattering:.1f}", f"{estimate:.1f}",
              f"{sigma:.1f}")  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


def write_table(path: Path) -> None:
    """Write the mean ratio of all loads, and of each material and category.

    Loads that are one material by `EVEN` of their scattering count for it. The spread is what the
    number of muons does not explain, and the mean's own error. A few loads of a kind tell little
    of its spread: that of all loads counts as one more of them.
    """
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["scanner,cargo,ratio,spread,loads,provenance"]
    for scanner in sorted({row["scanner"] for row in rows}):
        mine = [row for row in rows if row["scanner"] == scanner]
        even = [row for row in mine if float(row["share"]) > EVEN]
        names = sorted({row["material"] for row in even} | {row["category"] for row in even})
        kinds = [[row for row in even if name in (row["material"], row["category"])]
                 for name in names]  # fmt: skip
        templates = [[row for row in even if row["template"] == name] for name in TEMPLATES]
        pooled = pooled_variance([ratios(some)[0] for some in templates if len(some) > 1])
        for cargo, some in [("any", mine), *zip(names, kinds, strict=True)]:
            if len(some) < 2:
                continue
            ratio, own = ratios(some)
            variance = max(max(ratio.var(ddof=1), pooled) - np.mean(own**2), 0.0)
            variance = (len(some) * variance + ratios(mine)[0].var(ddof=1)) / (len(some) + 1)
            spread = np.sqrt(variance + np.mean(own**2) / len(some)) / ratio.mean()
            lines.append(
                f"{scanner},{cargo},{ratio.mean():.4f},{spread:.4f},{len(some)},"
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
    parser.add_argument("--seeds", nargs="+", type=int, default=[1001, 1002, 1003])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--table", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.table:
        write_table(options.table)
        return
    for seed in options.seeds:
        for template in options.templates:
            row = measure(template, seed, options.minutes)
            fresh = not options.output.exists()
            with options.output.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
