"""A campaign on a Dask cluster: how the image of a lead cube sharpens with the exposure.

Any function of plain data that returns plain data is a job. Results stay in the folder, so a
campaign that was stopped goes on, on this machine (``local:4``) or a cluster
(``tcp://scheduler:8786``): give its address as the argument. Needs the extra ``distributed``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import muscan
from muscan.model.scene import load_scene
from muscan.pipeline.campaign import run_campaign
from muscan.pipeline.distributed import connect


def noise(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean and the spread of λ [mrad²/cm] in the lead cube of the scene ``blocks``."""
    cube = next(body for body in load_scene("blocks").bodies if body.name == "lead cube")
    hits = muscan.simulate("blocks", **parameters, workers=1)
    volume = muscan.reconstruct(muscan.track(hits, workers=1), voxel=50, workers=1)
    axes = [volume.grid.centres(axis) - cube.centre[axis] for axis in range(3)]
    inside = np.ix_(*(abs(offset) < 100 for offset in axes))
    values = volume.values[inside]
    return {"mean": float(np.nanmean(values)), "spread": float(np.nanstd(values))}


def main(
    address: str = "local:2",
    folder: str | Path = "campaign",
    minutes: Sequence[float] = (1.0, 2.0, 4.0),
    seeds: int = 4,
) -> dict[float, float]:
    """Print and return the relative spread inside the cube at each exposure, of all seeds."""
    jobs = [{"minutes": time, "seed": seed} for time in minutes for seed in range(seeds)]
    with connect(address) as client:
        done = run_campaign(noise, jobs, folder, client=client)
    found = {}
    for number, time in enumerate(minutes):
        records = done.records[number * seeds : (number + 1) * seeds]
        found[time] = float(np.mean([one["spread"] / one["mean"] for one in records if one]))
        print(f"{time:g} min: voxels of the cube differ by {found[time]:.0%}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:3])
