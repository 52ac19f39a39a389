"""Make the pictures of the viewer and of the report that stand in docs/images.

Needs a display (``xvfb-run -a python docs/make_docs_images.py`` where there is none), the
extras ``viewer`` and ``report``, and Chromium for the picture of the page.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import muscan
from muscan.viewer.app import open_scan
from muscan.viewer.plugin import SAMPLE

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def picture_of_viewer(target: Path) -> None:
    """Open the sample, choose its first alert, save the window."""
    from qtpy.QtWidgets import QApplication

    viewer, dock = open_scan([SAMPLE])
    viewer.window.resize(1400, 860)
    QApplication.processEvents()
    dock.table.selectRow(0)
    QApplication.processEvents()
    viewer.screenshot(str(target), canvas_only=False, flash=False)
    viewer.close()


def picture_of_report(target: Path) -> None:
    """Write the sample's page and let Chromium draw the top of it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium: the picture of the report is not made")
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan"
        shutil.copytree(SAMPLE, scan)
        page = muscan.report(scan)
        subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--hide-scrollbars",
                "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
                "--disable-background-networking", "--disable-sync", "--no-first-run",
                f"--user-data-dir={folder}/profile", "--window-size=1250,1200",
                "--virtual-time-budget=20000", f"--screenshot={target}", page.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip


def _shrink(path: Path) -> None:
    """Pack a PNG as well as can be."""
    from PIL import Image

    Image.open(path).convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Make both."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, make in (("viewer.png", picture_of_viewer), ("report.png", picture_of_report)):
        make(IMAGES / name)
        _shrink(IMAGES / name)


if __name__ == "__main__":
    main()
