"""A sweep for a detector design: how fine must the planes be to see a lead brick?

The same muons pass panels of growing resolution; what is asked is how far the brick's mean
scattering density stands above what is seen beside it.
"""

from __future__ import annotations

import numpy as np
from custom_detector import layout

import muscan
from muscan.model.detector import parse_detector
from muscan.model.scene import parse_scene

BRICK = """
name = "brick"
[[body]]
name = "brick"
material = "lead"
size_mm = [100.0, 100.0, 50.0]
"""


def contrast(resolution: float, minutes: float) -> float:
    """Return the brick's excess over its surroundings, in their standard deviations."""
    text = layout().replace(
        "resolution_mm = [0.2, 0.2]", f"resolution_mm = [{resolution}, {resolution}]"
    )
    detector = parse_detector(text, "sweep.toml")
    scene = parse_scene(BRICK, "brick.toml")
    hits = muscan.simulate(scene, detector=detector, minutes=minutes, seed=2)
    volume = muscan.reconstruct(muscan.track(hits), method="asr", voxel=25)
    x, y, z = np.meshgrid(*(volume.grid.centres(axis) for axis in range(3)), indexing="ij")
    brick = (abs(x) < 50) & (abs(y) < 50) & (abs(z) < 25)
    beside = (abs(x) > 100) & (abs(x) < 200) & (abs(y) < 100) & (abs(z) < 100)
    inside, outside = volume.values[brick], volume.values[beside]
    return float((np.nanmean(inside) - np.nanmean(outside)) / np.nanstd(outside))


def main(
    minutes: float = 10.0, resolutions: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
) -> list[float]:
    """Print and return the contrast at each resolution."""
    found = [contrast(resolution, minutes) for resolution in resolutions]
    for resolution, value in zip(resolutions, found, strict=True):
        print(f"{resolution:4.1f} mm: {value:6.1f} standard deviations")
    return found


if __name__ == "__main__":
    main()
