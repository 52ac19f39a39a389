"""Physics figures: those of the other benchmarks, with settings that end in minutes.

    python -m benchmarks physics [--quick]

Detection against exposure is `benchmarks.bench_detection`, σ(ln λ) over the information limit
comes with it, and the weight of simulated loads is `benchmarks.weigh_loads`. Their own commands
have more scans; here the numbers are small, and the intervals wide.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.stats import beta

from benchmarks import bench_detection, weigh_loads
from benchmarks.machine import Table

#: Loads that are weighed.
LOADS = ("fruit", "beverages", "household")
EXPOSURES_MIN = (0.5, 1.0, 2.0)


def interval(found: int, tried: int) -> tuple[float, float]:
    """Return the 68 % Clopper-Pearson interval of a fraction."""
    low = beta.ppf(0.16, found, tried - found + 1) if found else 0.0
    high = beta.ppf(0.84, found + 1, tried - found) if found < tried else 1.0
    return float(low), float(high)


def detection(benign: int, cubes: int, exposures: tuple[float, ...]) -> Table:
    """A 10 cm uranium cube anywhere in 2.2 m of goods of 0.6 g/cm³, against exposure."""
    table = Table(
        f"10 cm of uranium in 2.2 m of goods, {cubes} cubes, {benign} benign loads",
        ("figure", "value"),
    )
    for minutes in exposures:
        for name, value in bench_detection.detection(minutes, benign, cubes, "em"):
            table.add(name, value)
            if ": found of" in name:
                low, high = interval(int(value.split()[0]), cubes)
                table.add(f"{name}, 68 % interval", f"{low:.0%} … {high:.0%}")
    return table


def information(seeds: int) -> Table:
    """How far the spread of ln λ of a region is from what the muons can tell at best."""
    table = Table("Regions against the information limit", ("figure", "value"))
    for name, value in bench_detection.statistics(seeds):
        table.add(name, value)
    return table


def weight(loads: tuple[str, ...], seeds: int, minutes: float) -> Table:
    """Estimated over true scattering of whole loads: what the weight of a load rests on."""
    table = Table(
        f"Whole loads after {minutes:g} min: estimated over true scattering",
        ("load", "mass [kg]", "estimated over true", "claimed σ", "pull from the mean ratio"),
    )
    rows = [weigh_loads.measure(load, 1001 + seed, minutes) for load in loads
            for seed in range(seeds)]  # fmt: skip
    ratios = np.array([float(str(r["estimate"])) / float(str(r["scattering"])) for r in rows])
    errors = np.array([float(str(r["sigma"])) / float(str(r["scattering"])) for r in rows])
    for row, ratio, error in zip(rows, ratios, errors, strict=True):
        pull = (ratio - ratios.mean()) / error
        name = f"{row['template']} {row['seed']}"
        table.add(name, str(row["load_kg"]), f"{ratio:.3f}", f"{error:.3f}", f"{pull:+.1f}")
    spread = ratios.std(ddof=1) / ratios.mean() if len(ratios) > 1 else float("nan")
    table.notes.append(
        f"Mean ratio {ratios.mean():.3f}, spread {spread:.1%}. The ratio is calibrated away by the "
        "table of responses that `weigh_loads --table` writes; the spread is the weight's error."
    )
    return table


def run(quick: bool, tiny: bool = False) -> list[Table]:
    """Run them: ``tiny`` is for trying the benchmark itself, its figures mean nothing."""
    if tiny:
        return [information(3)]
    jobs = [
        lambda: information(30 if quick else 100),
        lambda: weight(LOADS[:2] if quick else LOADS, 1 if quick else 3, 1.0 if quick else 5.0),
        lambda: detection(*((4, 6, (1.0,)) if quick else (24, 24, EXPOSURES_MIN))),
    ]
    tables = []
    for job in jobs:
        tables.append(job())
        print(tables[-1].markdown(), file=sys.stderr, flush=True)
    return tables
