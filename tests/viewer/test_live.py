"""A real window beside a real `muscan watch`, on a scan that is being recorded."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import muscan
from muscan import io

pytestmark = [
    pytest.mark.slow,
    # What napari and its libraries do when they are imported or drawn; none is ours.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:viewer\\..* is a deprecated attribute:DeprecationWarning"),
]
REPLAY = Path(__file__).parents[2] / "examples" / "live_scan.py"
SCENE = """
name = "cube"
detector = "{layout}"
[[body]]
name = "cube"
shape = "box"
material = "uranium"
centre_mm = [100, 100, 0]
size_mm = [200, 200, 200]
"""


def settled(true, seconds: float = 240.0) -> None:
    """Let the window live until something is true."""
    from qtpy.QtWidgets import QApplication

    stop = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < stop, "it did not happen"
        QApplication.processEvents()
        time.sleep(0.01)


def run(*words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def test_the_window_shows_what_watch_finds_while_it_finds_it(
    screen, needs_napari, bench, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_CONFIG", str(tmp_path / "napari-settings.yaml"))
    (tmp_path / "bench.toml").write_text(bench.text)
    (tmp_path / "scene.toml").write_text(SCENE.format(layout=tmp_path / "bench.toml"))
    hits, live, out = tmp_path / "hits.h5", tmp_path / "live.h5", tmp_path / "out"
    muscan.simulate(tmp_path / "scene.toml", minutes=0.5, rate_scale=10, seed=4, output=hits)
    program = ("-c", "from muscan.cli import main; main()")
    watching = run(
        *program, "watch", live, "--out", out,
        "--method", "poca", "--every", "0.3", "--no-early", "--timeout", "100",
    )  # fmt: skip
    writing = run(REPLAY, hits, live, "--speed", "1.5", "--block-rows", "512")
    viewer = dock = None
    try:
        settled((out / "alerts.json").exists)
        from muscan.viewer import layers
        from muscan.viewer.app import open_scan

        viewer, dock = open_scan([out])
        dock.live.setChecked(True)
        shown = {dock.scan.volume.run.live_time_s}

        def ended() -> bool:
            shown.add(dock.scan.volume.run.live_time_s)
            return watching.poll() is not None and max(shown) > 29.9

        settled(ended)
        assert (writing.wait(), watching.wait()) == (0, 0)
        # The alerts are written last, and read with the next look.
        last = io.read_alerts(out / "alerts.json")
        settled(lambda: dock.scan.report == last)
        assert len(shown) > 1
        volume = io.read_volume(out / "volume.h5")
        assert viewer.layers[layers.MUONS].data.sum() == volume.n_muons.sum()
        assert dock.table.rowCount() == len(last.alerts) > 0
    finally:
        for process in (watching, writing):
            process.kill()
            process.wait()
        if dock is not None:
            dock.live.setChecked(False)
            settled(lambda: not dock.tasks)
            viewer.close()
