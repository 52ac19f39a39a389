"""Compile what a scan needs later while its first step runs.

The first scan on a machine compiles its kernels, which takes longer than the scan; numba compiles
one function at a time. A second process makes a scan of some straight lines meanwhile, from the
track finding on, and what it compiles the scan itself then takes from numba's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits, Run
from muscan.pipeline.events import track
from muscan.pipeline.volumes import identify, reconstruct

#: Lines of the small scan, the largest slope of one, and how much it changes on the way.
LINES: Final = 400
SLOPE: Final = 0.2
KINK: Final = 0.01
LAYOUT: Final = "blocks-lab"


@contextmanager
def compiling(method: str) -> Iterator[None]:
    """Compile in a second process, where something is to compile and a core for it.

    Parameters
    ----------
    method : str
        Of the reconstruction.
    """
    if is_compiled() or (os.cpu_count() or 1) < 2:
        yield
        return
    command = [sys.executable, "-m", __name__, method]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as child:
        try:
            yield
        finally:
            child.terminate()


def is_compiled() -> bool:
    """Tell whether numba's cache has the kernel of the track finding, the first of those later."""
    from muscan.kernels.track_finding import find_in_events

    folder = find_in_events.stats.cache_path
    name = f"*.{find_in_events.py_func.__name__}-*.nbi"
    return folder is not None and any(Path(folder).glob(name))


def small_scan(method: str) -> None:
    """Find tracks, reconstruct and identify in a scan of lines with a kink halfway."""
    tracks = track(lines(load_detector(LAYOUT)))
    volume = reconstruct(tracks, method=method, voxel=200.0)
    identify(volume, tracks=tracks)


def lines(detector: Detector, seed: int = 0) -> Hits:
    """Return the hits of some kinked lines in the upright panels of a detector."""
    rng = np.random.default_rng(seed)
    panels = detector.panels
    middle = detector.bounds.mean(axis=0)
    spread = 0.3 * (detector.bounds[1] - detector.bounds[0])[:2]
    start = middle[:2] + rng.uniform(-1, 1, (LINES, 2)) * spread
    slope = rng.uniform(-SLOPE, SLOPE, (LINES, 2))
    below = slope + rng.normal(0, KINK, (LINES, 2))
    heights = np.array([panel.centre[2] for panel in panels])
    depth = heights - middle[2]
    across = np.where(depth[:, None, None] > 0, slope, below) * depth[:, None, None] + start
    local = across - np.array([panel.centre[:2] for panel in panels])[:, None]
    axes = np.array([[panel.u[:2], panel.v[:2]] for panel in panels])
    u, v = np.einsum("pka,pna->kpn", axes, local)
    count = LINES * len(panels)
    return Hits(
        event_id=np.repeat(np.arange(LINES, dtype=np.uint64), len(panels)),
        panel=np.tile(np.arange(len(panels), dtype=np.uint16), LINES),
        u=u.T.ravel().astype(np.float32),
        v=v.T.ravel().astype(np.float32),
        sigma_u=np.full(count, 0.3, np.float32),
        sigma_v=np.full(count, 0.3, np.float32),
        time=np.repeat(np.arange(LINES) * 1e6, len(panels)),
        amplitude=np.ones(count, np.float32),
        detector=detector,
        run=Run(live_time_s=1.0, source="lines"),
    )


if __name__ == "__main__":
    small_scan(sys.argv[1])
