"""A scan so small that it also runs without numba: every kernel of the chain, on few muons.

As a program it writes its numbers to the file named: a test runs it in a process of its own with
``NUMBA_DISABLE_JIT=1``, and compares them with those of the compiled kernels.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import muscan
from muscan.model.detector import parse_detector
from muscan.model.events import Hits
from muscan.model.scene import parse_scene

#: Strips with noise, shared charge and losses, three planes a side; and a wall of two more.
LAYOUT = """
name = "lab"
gate_ns = 300
[inspection]
min_mm = [-200, -200, -150]
max_mm = [200, 200, 150]
[technology.strip]
size_mm = [600, 600]
material = "plastic-scintillator"
thickness_mm = 10
readout = "pitch"
pitch_mm = [6.0, 6.0]
efficiency = 0.97
noise_hz_per_m2 = 20000
time_resolution_ns = 2
[technology.strip.strips]
charge_spread_mm = [2.5, 2.5]
gain_adc = 500
pedestal_adc = 80
noise_adc = 4
threshold_adc = 20
time_jitter_ns = 0.5
"""
for _group, _z in (("upper", 520), ("upper", 420), ("upper", 320), ("lower", -320),
                   ("lower", -420), ("lower", -520)):  # fmt: skip
    LAYOUT += f"""
[[panel]]
name = "{_group}{abs(_z)}"
group = "{_group}"
technology = "strip"
centre_mm = [0, 0, {_z}]
"""

SCENE = """
name = "shapes"
[[body]]
name = "block"
shape = "box"
material = "lead"
centre_mm = [-80, 0, 0]
size_mm = [120, 120, 160]
[[body]]
name = "tilted block"
shape = "box"
material = "iron"
centre_mm = [100, 100, 0]
size_mm = [60, 60, 80]
rotation_deg = [20, 10, 0]
[[body]]
name = "drum"
shape = "cylinder"
material = "water"
centre_mm = [100, -80, 0]
radius_mm = 70
height_mm = 200
[[body.body]]
name = "core"
shape = "sphere"
material = "uranium"
centre_mm = [0, 0, 0]
radius_mm = 40
[[body]]
name = "map"
shape = "voxels"
file = "map.npy"
materials = ["air", "concrete"]
voxel_mm = [20, 20, 20]
centre_mm = [-80, 120, 0]
"""


def run(folder: Path, muons: int = 2000) -> dict[str, np.ndarray]:
    """Return the numbers of a scan of some muons, with files in a folder."""
    detector = parse_detector(LAYOUT, "lab.toml")
    np.save(folder / "map.npy", np.indices((3, 3, 3)).sum(axis=0) % 2)
    scene = parse_scene(SCENE, folder / "shapes.toml")
    hits = muscan.simulate(
        scene, detector=detector, muons=muons, seed=3, workers=1, raw=folder / "raw.csv"
    )
    imported = muscan.import_hits(folder / "raw.csv", driver="strips", detector=detector)
    write_csv(folder / "hits.csv", hits)
    recorded = muscan.import_hits(folder / "hits.csv", driver="csv", detector=detector)
    tracks = muscan.track(hits, workers=1)
    numbers = {"u": hits.u, "panel": hits.panel, "amplitude": hits.amplitude}
    numbers |= {"imported_u": imported.u, "imported_sigma": imported.sigma_u}
    numbers |= {"recorded_u": recorded.u, "recorded_time": recorded.time}
    numbers |= {"slopes": tracks.direction, "chi2": tracks.chi2, "cov": tracks.cov}
    options = {"voxel": 50.0, "workers": 1}
    for method in ("poca", "asr", "mlem"):
        numbers[method] = muscan.reconstruct(tracks, method=method, **options).values
    both = ("scattering", "stopping")
    volume = muscan.reconstruct(tracks, method="em", channels=both, **options)
    report, materials = muscan.identify(volume, tracks=tracks, workers=1)
    numbers |= {
        "em": volume.values,
        "uncertainty": volume.uncertainty,
        "materials": materials.labels,
    }
    numbers |= dict(volume.channels)
    numbers["alerts"] = np.array([alert.position_mm for alert in report.alerts])
    return numbers


def write_csv(path: Path, hits: Hits) -> None:
    """Write hits in global coordinates, as someone else's table."""
    detector = hits.detector
    axes = detector.axes[hits.panel]
    places = detector.centres[hits.panel]
    places = places + hits.u[:, None] * axes[:, 0] + hits.v[:, None] * axes[:, 1]
    with path.open("w") as file:
        file.write("event_id,panel,x_mm,y_mm,z_mm,time_ns\n")
        for event, panel, (x, y, z), time in zip(
            hits.event_id, hits.panel, places, hits.time, strict=True
        ):
            file.write(f"{event},{panel},{x:.5f},{y:.3e},{z:.1f},{time:.3f}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        np.savez(sys.argv[1], **run(Path(place)))
