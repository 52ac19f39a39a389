"""A real window of napari on a real (or virtual) display, used as an operator would."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from muscan import io
from muscan.io import audit

pytestmark = [
    # What napari and its libraries do when they are imported or drawn; none is ours.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:viewer\\..* is a deprecated attribute:DeprecationWarning"),
]


@pytest.fixture
def open_window(screen, needs_napari, tmp_path, monkeypatch):
    """Open a scan's folder; returns viewer and dock; everything is closed afterwards."""
    monkeypatch.setenv("NAPARI_CONFIG", str(tmp_path / "napari-settings.yaml"))
    from muscan.viewer.app import open_scan

    opened = []

    def open_(*paths):
        viewer, dock = open_scan(paths)
        opened.append((viewer, dock))
        viewer.window._qt_window.resize(1400, 900)
        settle()
        return viewer, dock

    yield open_
    for viewer, dock in opened:
        dock.live.setChecked(False)
        until(lambda dock=dock: not dock.tasks)
        viewer.close()
    settle()


def settle(seconds: float = 0.05) -> None:
    from qtpy.QtWidgets import QApplication

    stop = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        if time.monotonic() > stop:
            return
        time.sleep(0.005)


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    stop = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < stop, "it did not happen"
        settle(0.01)


def canvas(viewer) -> np.ndarray:
    """The picture on the canvas, (rows, columns, 3), 0 to 1."""
    settle()
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3] / 255.0


def share(picture: np.ndarray, low: tuple, high: tuple) -> float:
    """The share of the pixels whose colour lies between two."""
    return float(((picture >= low) & (picture <= high)).all(axis=-1).mean())


#: From iron's yellow through orange to lead's red.
HEAVY = ((0.6, 0.0, 0.0), (1.0, 0.75, 0.35))
#: Water's blue.
GOODS = ((0.0, 0.15, 0.25), (0.25, 0.7, 0.75))


def test_a_scan_opens_in_3d_with_all_layers_and_no_dialog(open_window, folder):
    from qtpy.QtWidgets import QApplication, QDialog

    viewer, dock = open_window(folder)
    assert viewer.dims.ndisplay == 3
    assert QApplication.activeModalWidget() is None
    dialogs = [w for w in QApplication.topLevelWidgets() if isinstance(w, QDialog)]
    assert [d for d in dialogs if d.isVisible()] == []
    assert dock.isVisible()
    for layer in viewer.layers:
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3, layer.name
    assert [str(unit) for unit in viewer.layers.extent.units] == ["millimeter"] * 3
    assert dock.table.rowCount() == 2
    assert dock.table.item(0, 2).text() == "lead 80%"
    assert "bench-1" in dock.heading.text()


def test_the_picture_shows_the_lead_and_the_threshold_hides_the_water(open_window, folder):
    viewer, dock = open_window(folder)
    for name in ("panels", "alerts", "alert labels", "inspected space"):
        viewer.layers[name].visible = False
    lead = share(canvas(viewer), *HEAVY)
    assert lead > 0.003
    assert share(canvas(viewer), *GOODS) < lead / 3  # but the rim of the lead
    dock.threshold.setValue(0)
    assert share(canvas(viewer), *GOODS) > 0.05
    dock.threshold.setValue(dock.threshold.maximum())
    nothing = canvas(viewer)
    assert share(nothing, *HEAVY) < lead / 20
    dock.threshold.setValue(40)
    dock.switches["scattering density"].setChecked(False)
    assert not viewer.layers["scattering density"].visible
    assert share(canvas(viewer), *HEAVY) == 0


def test_panels_and_boxes_are_drawn_as_lines(open_window, folder):
    viewer, _ = open_window(folder)
    for layer in viewer.layers:
        layer.visible = layer.name == "panels"
    blue = share(canvas(viewer), (0.1, 0.3, 0.45), (0.5, 0.8, 1.0))
    assert 0.0005 < blue < 0.2
    for layer in viewer.layers:
        layer.visible = layer.name == "alerts"
    assert 0.0003 < share(canvas(viewer), (0.5, 0.1, 0.05), (1.0, 0.5, 0.35)) < 0.2


def test_choosing_an_alert_takes_the_view_there(open_window, folder, report):
    viewer, dock = open_window(folder)
    before = viewer.scene.camera.zoom
    dock.table.selectRow(1)
    settle()
    place = np.array(report.alerts[1].position_mm)[::-1]
    np.testing.assert_allclose(viewer.scene.camera.center, place, atol=1)
    np.testing.assert_allclose(viewer.dims.point, place, atol=40)
    assert viewer.scene.camera.zoom >= before
    assert report.alerts[1].reason in dock.explanation.text()
    dock.table.selectRow(0)
    settle()
    place = np.array(report.alerts[0].position_mm)[::-1]
    np.testing.assert_allclose(viewer.scene.camera.center, place, atol=1)
    # The lead is then in the middle of the canvas.
    picture = canvas(viewer)
    rows, columns = (size // 2 for size in picture.shape[:2])
    middle = picture[rows - 60 : rows + 60, columns - 60 : columns + 60]
    assert share(middle, *HEAVY) > 0.3


def test_the_probe_reads_what_is_under_the_mouse(open_window, folder):
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    viewer, dock = open_window(folder)
    dock.table.selectRow(0)
    settle()
    native = viewer.window._qt_viewer.canvas.native
    middle = QPoint(native.width() // 2, native.height() // 2)
    dock.reading.setText("")
    QTest.mouseMove(native, QPoint(5, 5))
    settle()
    QTest.mouseMove(native, middle)
    until(lambda: "λ = 44.6" in dock.reading.text())
    assert "± 0.2" in dock.reading.text()
    assert "lead" in dock.reading.text()
    # A click chooses the voxel whose muons are then shown.
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, pos=middle)
    until(lambda: dock.chosen is not None)
    dock.show_tracks.click()
    until(lambda: "muons go through" in dock.message.text())
    assert {"incoming tracks", "outgoing tracks"} <= {layer.name for layer in viewer.layers}
    dock.hide_tracks.click()
    assert "incoming tracks" not in viewer.layers


def test_the_probe_in_a_slice(open_window, folder, volume):
    viewer, dock = open_window(folder)
    viewer.dims.ndisplay = 2
    place = volume.grid.position([5, 9, 4])
    viewer.dims.set_point((0, 1, 2), tuple(place[::-1]))
    viewer.cursor.position = tuple(place[::-1])
    dock._cursor = (tuple(place[::-1]), None, (1, 2))
    reading = dock._read_cursor()
    assert reading.index == (5, 9, 4)
    assert share(canvas(viewer), *HEAVY) > 0.003


def test_dismissing_writes_the_record_and_shows_it(open_window, folder, report):
    viewer, dock = open_window(folder)
    dock.table.selectRow(0)
    dock.dismiss.click()
    assert "--reason" in dock.message.text()
    assert not (folder / "audit.jsonl").exists()
    dock.reason.setText("opened: a counterweight")
    dock.dismiss.click()
    (entry,) = audit.verify(folder / "audit.jsonl")
    assert entry["action"] == "dismissed"
    assert entry["subject"] == report.alerts[0].id
    assert entry["reason"] == "opened: a counterweight"
    assert list(entry["evidence"]) == ["alerts.json"]
    assert dock.table.item(0, 5).text() == "dismissed"
    assert dock.table.item(1, 5).text() == "open"
    colours = viewer.layers["alerts"].edge_color
    assert np.ptp(colours[0][:3]) == 0
    dock.table.selectRow(1)
    dock.reason.setText("seen by X-ray too")
    dock.confirm.click()
    assert [e["action"] for e in audit.verify(folder / "audit.jsonl")] == ["dismissed", "confirmed"]


def test_following_a_running_scan(open_window, folder, volume):
    viewer, dock = open_window(folder)
    assert dock.live.isEnabled()
    dock.live.setChecked(True)
    settle(0.3)
    later = replace(
        volume, values=np.full_like(volume.values, 14.2), run=replace(volume.run, live_time_s=150.0)
    )
    io.write_volume(folder / "volume.h5", later)
    until(lambda: float(viewer.layers["scattering density"].data.max()) < 15)
    assert "150 s" in dock.heading.text()
    assert dock.progress.value() == 50  # of the five minutes wanted
    assert dock.shown.values[5, 9, 4] == np.float32(14.2)


def test_a_shorter_exposure_is_reconstructed_in_the_background(open_window, folder):
    viewer, dock = open_window(folder)
    whole = viewer.layers["muon counts"].data.sum()
    dock.exposure.setValue(50)
    until(lambda: not dock.tasks and not dock.message.text())
    half = dock.shown
    assert half.attributes["n_scatters"] == 150
    assert half.values.shape == (16, 20, 12)
    assert viewer.layers["muon counts"].data.sum() != whole
    assert dock.exposure_label.text() == "first 30 s"
    dock.exposure.setValue(100)
    assert viewer.layers["muon counts"].data.sum() == whole


def test_a_picture_is_saved(open_window, folder, tmp_path):
    _, dock = open_window(folder)
    settle()
    dock.save_picture(tmp_path / "scan.png")
    assert (tmp_path / "scan.png").read_bytes()[:4] == b"\x89PNG"
    assert "scan.png" in dock.message.text()


def test_a_volume_alone_has_no_decisions(open_window, folder):
    viewer, dock = open_window(folder / "volume.h5")
    assert dock.table.rowCount() == 0
    assert not dock.confirm.isEnabled()
    assert not dock.live.isEnabled()
    assert not dock.show_tracks.isEnabled()
    assert "alerts" not in viewer.layers


def test_the_dock_opens_from_napari_itself(open_window, folder):
    viewer, _ = open_window(folder)
    from muscan.viewer import plugin

    second = plugin.dock(viewer)
    assert second.table.rowCount() == 2
    second.deleteLater()


def test_muscan_view_saves_a_picture(screen, needs_napari, folder, tmp_path):
    picture = tmp_path / "window.png"
    code = "import sys; from muscan.cli import main; main(sys.argv[1:])"
    subprocess.run(
        [sys.executable, "-c", code, "view", str(folder), "--picture", str(picture)],
        check=True,
        timeout=600,
    )
    assert picture.stat().st_size > 10_000
