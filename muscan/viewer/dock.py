"""The dock beside the volume: alerts, decisions, sliders, probe, live mode."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import FunctionWorker, GeneratorWorker
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QFileDialog

from muscan import pipeline, plot
from muscan.errors import MuscanError
from muscan.io import audit
from muscan.model.alerts import Alert
from muscan.model.events import Tracks
from muscan.model.volume import Volume
from muscan.viewer import layers, probe
from muscan.viewer.canvas import Canvas
from muscan.viewer.panel import SLIDER_STEPS, Panel
from muscan.viewer.scan import Scan, follow

if TYPE_CHECKING:
    from napari.viewer import Viewer

_SWITCHES = {
    layers.DENSITY: "scattering",
    "stopping": "stopping",
    layers.UNCERTAINTY: "uncertainty",
    layers.MUONS: "muon counts",
    layers.MATERIALS: "materials",
    layers.PANELS: "panels",
    layers.ALERTS: "alert boxes",
    layers.LABELS: "alert labels",
}
_PROBE_DELAY_MS = 30


class ScanDock(Panel):
    """Shows the alerts of a scan and steers the view; one for each window.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Whose layers it steers; the scan is found in the metadata of a layer.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.canvas = Canvas(napari_viewer)
        self.scan = self._scan_of_layers()
        self.shown: Volume | None = self.scan.volume
        self.chosen: probe.Reading | None = None
        self.tasks: list[Any] = []
        self._tracks: Tracks | None = None
        self._follower: GeneratorWorker | None = None
        self._cursor: tuple[Any, Any, Any] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._read_cursor)
        self._connect()
        self._fill()
        self.threshold.setValue(round(float(plot.to_scale(layers.FIRST_THRESHOLD)) * SLIDER_STEPS))

    # --- what is shown -------------------------------------------------------------------------

    def _scan_of_layers(self) -> Scan:
        for layer in self.viewer.layers:
            if isinstance(layer.metadata.get("muscan"), Scan):
                return layer.metadata["muscan"]
        return Scan("no scan: open a muscan file, then open this dock again")

    def _connect(self) -> None:
        self.table.itemSelectionChanged.connect(self._show_chosen_alert)
        self.confirm.clicked.connect(lambda: self.decide("confirmed"))
        self.dismiss.clicked.connect(lambda: self.decide("dismissed"))
        self.threshold.valueChanged.connect(self._set_threshold)
        self.exposure.valueChanged.connect(self._set_exposure)
        self.exposure.sliderMoved.connect(self._label_exposure)
        self.show_tracks.clicked.connect(self._ask_for_tracks)
        self.hide_tracks.clicked.connect(self._hide_tracks)
        self.live.toggled.connect(self._set_live)
        self.picture.clicked.connect(self._ask_for_picture)
        self.viewer.mouse_move_callbacks.append(self._on_move)
        self.viewer.mouse_drag_callbacks.append(self._on_press)
        self.destroyed.connect(self._forget)

    def _forget(self) -> None:
        if self._follower is not None:
            self._follower.quit()
        for callbacks, own in (
            (self.viewer.mouse_move_callbacks, self._on_move),
            (self.viewer.mouse_drag_callbacks, self._on_press),
        ):
            if own in callbacks:
                callbacks.remove(own)

    def _fill(self) -> None:
        """Show the scan's facts, alerts and switches."""
        scan = self.scan
        run = scan.volume.run if scan.volume is not None else None
        live = run.live_time_s if run is not None else math.nan
        n_muons = f", {scan.report.scan.n_muons} muons" if scan.report else ""
        exposure = f", {live:.0f} s" if math.isfinite(live) else ""
        method = f", {scan.volume.method}" if scan.volume is not None else ""
        self.heading.setText(f"<b>{scan.name}</b>{exposure}{n_muons}{method}")
        self.progress.setRange(0, 100)
        share = live / (60 * self.target.value()) if math.isfinite(live) else 0.0
        self.progress.setValue(min(round(100 * share), 100))
        self.progress.setFormat(f"exposure {live:.0f} s" if math.isfinite(live) else "")
        self.progress.setVisible(self.live.isChecked())
        self.live.setEnabled(scan.alerts_file is not None)
        self.exposure.setEnabled(scan.tracks_file is not None and scan.volume is not None)
        self.show_tracks.setEnabled(scan.tracks_file is not None)
        self._label_exposure(self.exposure.value())
        self._fill_table()
        self._fill_switches()

    def _fill_table(self) -> None:
        self.show_alerts(self.alerts, self.scan.decisions)
        self._explain()

    def _fill_switches(self) -> None:
        for name, label in _SWITCHES.items():
            layer = self.canvas.layer(name)
            if layer is None or name in self.switches:
                continue
            switch = QCheckBox(label)
            switch.setChecked(layer.visible)
            switch.toggled.connect(lambda on, name=name: self.canvas.switch(name, on))
            place = len(self.switches)
            self.switch_grid.addWidget(switch, place // 3, place % 3)
            self.switches[name] = switch

    # --- alerts and decisions ------------------------------------------------------------------

    @property
    def alerts(self) -> list[Alert]:
        """The scan's alerts, as in the table."""
        return [] if self.scan.report is None else self.scan.report.alerts

    @property
    def chosen_alert(self) -> Alert | None:
        """The alert whose row is selected."""
        rows = self.table.selectionModel().selectedRows()
        return self.alerts[rows[0].row()] if rows else None

    def _show_chosen_alert(self) -> None:
        self._explain()
        alert = self.chosen_alert
        if alert is None:
            return
        self.chosen = None
        self.canvas.look_at(*alert.extent_mm, alert.position_mm)
        if self.shown is not None:
            self._tell(probe.read_at(self.shown, alert.position_mm, self.scan.materials))

    def _explain(self) -> None:
        alert = self.chosen_alert
        self.explanation.setText("" if alert is None else alert.reason)
        decidable = alert is not None and self.scan.audit_file is not None
        self.confirm.setEnabled(decidable)
        self.dismiss.setEnabled(decidable)

    def decide(self, decision: audit.Decision) -> None:
        """Write a decision on the chosen alert, with the reason given, into the log."""
        alert, path = self.chosen_alert, self.scan.audit_file
        if alert is None or path is None:
            return
        try:
            audit.decide(
                path, alert.id, decision, self.reason.text(), evidence=self.scan.alerts_file
            )
            decisions = audit.decisions(path)
        except MuscanError as error:
            self.say(str(error))
            return
        self.say(f"{alert.material.name}: {decision}; written to {path.name}")
        self.reason.clear()
        self.scan = Scan(**{**vars(self.scan), "decisions": decisions})
        self._draw_alerts()
        self._fill_table()

    def _draw_alerts(self) -> None:
        """Put the boxes and labels of the scan's alerts in place of those that are shown."""
        self.canvas.put(layers.of_alerts(self.alerts, self.scan.decisions), self.scan)

    def say(self, text: str) -> None:
        """Show a message under the buttons."""
        self.message.setText(text)

    # --- sliders -------------------------------------------------------------------------------

    def _set_threshold(self, step: int) -> None:
        density = float(plot.from_scale(step / SLIDER_STEPS)) if step else 0.0
        self.threshold_label.setText(f"from λ = {density:.2g}")
        self.scale.set_threshold(density)
        self.canvas.set_threshold(density)

    def _label_exposure(self, percent: int) -> None:
        run = self.scan.volume.run if self.scan.volume is not None else None
        live = run.live_time_s if run is not None else math.nan
        text = (
            f"first {live * percent / 100:.0f} s" if math.isfinite(live) else f"first {percent} %"
        )
        self.exposure_label.setText(text if percent < 100 else "all muons")

    def _set_exposure(self, percent: int) -> None:
        self._label_exposure(percent)
        volume = self.scan.volume
        if volume is None:
            return
        if percent >= 100:
            self._show_volume(volume)
            return
        self.say(f"Reconstructing the first {percent} % …")
        self._start(lambda: self._of_exposure(volume, percent), self._show_exposed)

    def _of_exposure(self, volume: Volume, percent: int) -> Volume:
        """Reconstruct with the first muons only (in a worker)."""
        tracks = self._all_tracks()
        last = tracks.event_id[max(len(tracks) * percent // 100 - 1, 0)]
        some = tracks.take(slice(0, int(np.searchsorted(tracks.event_id, last, side="right"))))
        low, high = volume.grid.lower, volume.grid.upper
        spacing: Any = volume.grid.spacing
        bounds = np.column_stack([low, high]).ravel().tolist()
        made = pipeline.reconstruct(some, method=volume.method, voxel=spacing, bounds=bounds)
        assert isinstance(made, Volume)  # a path only where an output is named
        return made

    def _all_tracks(self) -> Tracks:
        if self._tracks is None:
            self._tracks = self.scan.read_tracks()
        return self._tracks

    def _show_exposed(self, volume: Volume) -> None:
        self.say("")
        self._show_volume(volume)

    def _show_volume(self, volume: Volume) -> None:
        self.shown = volume
        self.canvas.put_volume(volume, self.scan)

    # --- probe ---------------------------------------------------------------------------------

    def _on_move(self, viewer: Viewer, event: Any) -> None:
        self._cursor = (event.position, event.view_direction, event.dims_displayed)
        if not self._timer.isActive():
            self._timer.start(_PROBE_DELAY_MS)

    def _on_press(self, viewer: Viewer, event: Any) -> Any:
        """A click (without a drag) chooses the voxel under the cursor."""
        yield
        dragged = False
        while event.type == "mouse_move":
            dragged = True
            yield
        if not dragged:
            self._cursor = (event.position, event.view_direction, event.dims_displayed)
            self.chosen = self._read_cursor()

    def _read_cursor(self) -> probe.Reading | None:
        if self._cursor is None or self.shown is None:
            return None
        place = self.canvas.place_under(*self._cursor, self.shown)
        reading = None if place is None else probe.read_at(self.shown, place, self.scan.materials)
        self._tell(reading)
        return reading

    def _tell(self, reading: probe.Reading | None) -> None:
        if reading is not None:
            self.reading.setText(reading.text())

    # --- tracks --------------------------------------------------------------------------------

    def _ask_for_tracks(self) -> None:
        alert, volume = self.chosen_alert, self.shown
        if self.chosen is not None and volume is not None:
            half = volume.grid.spacing / 2
            low, high = self.chosen.position - half, self.chosen.position + half
        elif alert is not None:
            low, high = np.array(alert.extent_mm)
        else:
            self.say("Click into the volume, or choose an alert.")
            return
        self.say("Reading tracks …")
        self._start(lambda: self._of_box(low, high), self._draw_tracks)

    def _of_box(self, low: Any, high: Any) -> tuple[int, list[layers.LayerData]]:
        from muscan.model.events import pair_tracks

        found = probe.tracks_through(pair_tracks(self._all_tracks()), low, high)
        return len(found), layers.of_tracks(found)

    def _draw_tracks(self, found: tuple[int, list[layers.LayerData]]) -> None:
        count, made = found
        self._hide_tracks()
        self.canvas.put(made, self.scan)
        drawn = len(made[0][0])
        self.say(f"{count} muons go through" + (f"; the {drawn} most scattered are drawn"
                 if drawn < count else ""))  # fmt: skip

    def _hide_tracks(self) -> None:
        self.canvas.remove((layers.INCOMING, layers.OUTGOING))

    # --- live mode, workers, pictures ----------------------------------------------------------

    def _set_live(self, on: bool) -> None:
        if self._follower is not None:
            self._follower.quit()
            self._follower = None
        if on and self.scan.alerts_file is not None:
            self._follower = GeneratorWorker(follow, self.scan.alerts_file.parent)
            self._follower.yielded.connect(self._update)
            self._run(self._follower)
        self._fill()

    def _update(self, scan: Scan | None) -> None:
        """Show what a running scan has written since."""
        if scan is None or not self.live.isChecked():
            return
        self.scan, self._tracks = scan, None
        if scan.volume is not None:
            self._show_volume(scan.volume)
        self.canvas.put_materials(scan.materials)
        self._draw_alerts()
        self._fill()

    def _start(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run something slow in a thread, then show its result."""
        worker = FunctionWorker(work)
        worker.returned.connect(done)
        self._run(worker)

    def _run(self, worker: FunctionWorker | GeneratorWorker) -> None:
        """Start a worker, and hold it until it has finished."""
        self.tasks.append(worker)
        worker.errored.connect(lambda error: self.say(str(error)))
        worker.finished.connect(lambda: self.tasks.remove(worker))
        worker.start()

    def _ask_for_picture(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save picture", "scan.png", "PNG (*.png)")
        if path:
            self.save_picture(Path(path))

    def save_picture(self, path: Path) -> None:
        """Save the canvas as a PNG file."""
        self.viewer.screenshot(str(path), canvas_only=True)
        self.say(f"Saved: {path}")
