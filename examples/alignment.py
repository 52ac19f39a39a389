"""Alignment: a plane that is not where the layout says, found from the muons of an empty scan.

Straight tracks cannot see a shift or a shear of the whole detector, so two planes that were
surveyed are held where the layout has them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from custom_detector import layout

import muscan
from muscan.model.detector import parse_detector

MOVED, DISPLACEMENT_MM = "plane 500", np.array([0.8, 0.0, 0.0])
SURVEYED = ("plane 700", "plane -700")


def main(minutes: float = 2.0) -> tuple[float, float]:
    """Return how far off the plane is found to be along x, and the error of that [mm]."""
    nominal = parse_detector(layout(), "table-top.toml")
    panels = [
        replace(panel, centre=panel.centre + (panel.name == MOVED) * DISPLACEMENT_MM)
        for panel in nominal.panels
    ]
    built = replace(nominal, panels=tuple(panels))
    hits = muscan.simulate("empty", detector=built, minutes=minutes, seed=4)

    found = muscan.align(hits, detector=nominal, reference=SURVEYED)
    names = [panel.name for panel in nominal.panels]
    for name, shift, error in zip(names, found.correction, found.error, strict=True):
        held = ", held" if name in SURVEYED else f" ± {error[0]:.3f}"
        print(f"{name:>10}: x {shift[0]:+.3f}{held} mm")
    print(f"residuals: {found.spread_before_mm:.2f} mm, now {found.spread_after_mm:.2f} mm")
    moved = names.index(MOVED)
    return float(found.correction[moved, 0]), float(found.error[moved, 0])


if __name__ == "__main__":
    main()
