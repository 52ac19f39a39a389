"""A detector of your own: write its layout, see what it measures, send muons through it."""

from __future__ import annotations

import numpy as np

import muscan
from muscan.model.detector import parse_detector

HEADER = """
name = "table-top"
[inspection]
min_mm = [-300.0, -300.0, -200.0]
max_mm = [300.0, 300.0, 200.0]

[technology.tubes]
size_mm = [800.0, 800.0]
thickness_mm = 3.0
material = "aluminium"
resolution_mm = [0.2, 0.2]
efficiency = 0.97
"""
PANEL = """
[[panel]]
name = "plane {z:.0f}"
group = "{group}"
technology = "tubes"
centre_mm = [0.0, 0.0, {z}]
"""


def layout(heights: tuple[float, ...] = (700.0, 500.0, 300.0)) -> str:
    """Return the text of a layout with planes above and below the table."""
    upper = "".join(PANEL.format(z=z, group="above") for z in heights)
    lower = "".join(PANEL.format(z=-z, group="below") for z in heights)
    return HEADER + upper + lower


def main(minutes: float = 10.0) -> float:
    """Return the angular resolution of the incoming tracks [mrad], from their covariance."""
    detector = parse_detector(layout(), "table-top.toml")
    hits = muscan.simulate("empty", detector=detector, minutes=minutes, seed=1)
    tracks = muscan.track(hits)
    incoming = tracks.side == 0
    angle = 1e3 * float(np.sqrt(np.median(tracks.cov[incoming, 2, 2])))
    print(f"{len(hits.event_id)} hits, {int(incoming.sum())} incoming tracks")
    print(f"angles to {angle:.2f} mrad, scattering in the planes and the air included")
    return angle


if __name__ == "__main__":
    main()
