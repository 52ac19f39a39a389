"""A first scan from Python: simulate, track, reconstruct, identify.

Run it with ``python examples/first_scan.py``; it takes about a minute the first time.
"""

from __future__ import annotations

import numpy as np

import muscan


def main(minutes: float = 5.0) -> None:
    """Scan the shipped container and print what stands out."""
    hits = muscan.simulate("container", minutes=minutes, seed=1)
    tracks = muscan.track(hits)
    counts = tracks.run.counts
    print(f"{counts['events']} events, {counts['in_and_out']} with a track in and a track out")

    volume = muscan.reconstruct(tracks, voxel=50)
    highest = float(np.nanmax(volume.values))
    print(f"{volume.grid.shape} voxels, λ up to {highest:.0f} {volume.units}")

    report, _ = muscan.identify(volume, tracks=tracks)
    for alert in report.alerts:
        x, y, z = alert.position_mm
        print(f"{alert.severity}: {alert.material.name} at {x:.0f}, {y:.0f}, {z:.0f} mm")
        print(f"  {alert.reason}")


if __name__ == "__main__":
    main()
