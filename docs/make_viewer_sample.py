"""Make the small scan that ships as the viewer's sample data.

Run it from a checkout: ``python docs/make_viewer_sample.py``. The volume, the materials and
the alerts are kept, the hits and tracks (tens of MB) are not.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import muscan

TARGET = Path(__file__).parents[1] / "muscan" / "viewer" / "sample"
KEPT = ("volume.h5", "materials.h5", "alerts.json")


def main() -> None:
    """Scan the shipped suitcase for twenty minutes with voxels of 30 mm."""
    with tempfile.TemporaryDirectory() as folder:
        muscan.scan("suitcase", output=folder, minutes=20, voxel=30, seed=3)
        TARGET.mkdir(exist_ok=True)
        for name in KEPT:
            shutil.copyfile(Path(folder) / name, TARGET / name)
    size = sum((TARGET / name).stat().st_size for name in KEPT)
    print(f"{TARGET}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
