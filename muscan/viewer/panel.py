"""What the dock is made of: its widgets and their table, without what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QDoubleSpinBox,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSlider,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from muscan.model.alerts import Alert
from muscan.viewer.layers import alert_colour
from muscan.viewer.scale import ColourScale

COLUMNS: Final = ("#", "severity", "material", "mass [kg]", "signif.", "decision")
SLIDER_STEPS: Final = 200


class Panel(QWidget):
    """The widgets of the dock, and how the alerts are set out in them."""

    def __init__(self) -> None:
        super().__init__()
        self.heading = QLabel()
        self.heading.setWordWrap(True)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        self.table.setMinimumHeight(120)
        self.explanation = QLabel()
        self.explanation.setWordWrap(True)
        self.reason = QLineEdit()
        self.reason.setPlaceholderText("Reason, needed for a decision")
        self.confirm, self.dismiss = QPushButton("Confirm"), QPushButton("Dismiss")
        self.switches: dict[str, QCheckBox] = {}
        self.switch_grid = QGridLayout()
        self.scale = ColourScale()
        self.threshold = self._slider(0, SLIDER_STEPS)
        self.threshold_label = QLabel()
        self.exposure = self._slider(5, 100)
        self.exposure.setValue(100)
        self.exposure.setTracking(False)
        self.exposure_label = QLabel()
        self.reading = QLabel("Move the mouse over the volume.")
        self.reading.setWordWrap(True)
        self.reading.setMinimumHeight(76)
        self.reading.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.show_tracks = QPushButton("Show its muons")
        self.show_tracks.setToolTip("Tracks through the voxel last clicked, or the chosen alert")
        self.hide_tracks = QPushButton("Hide")
        self.live = QCheckBox("Follow the running scan")
        self.target = QDoubleSpinBox()
        self.target.setRange(0.1, 10_000)
        self.target.setValue(5.0)
        self.target.setSuffix(" min")
        self.target.setToolTip("Wanted exposure")
        self.progress = QProgressBar()
        self.picture = QPushButton("Save picture…")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setMinimumHeight(36)
        self._arrange()

    def show_alerts(self, alerts: Sequence[Alert], decisions: Mapping[str, Any]) -> None:
        """Fill the table, one row an alert; the row that was chosen stays so."""
        chosen = self.table.currentRow()
        self.table.blockSignals(True)
        self.table.setRowCount(len(alerts))
        for row, alert in enumerate(alerts):
            mass = alert.mass_kg
            cells = (
                str(row + 1),
                alert.severity,
                f"{alert.material.name} {alert.material.probability:.0%}",
                "?" if mass.value is None else f"{mass.value:.3g}",
                "?" if alert.significance is None else f"{alert.significance:.1f}",
                str(decisions.get(alert.id, {}).get("action", "open")),
            )
            red, green, blue, _ = alert_colour(alert, decisions)
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setForeground(QColor.fromRgbF(red, green, blue))
                item.setToolTip(alert.reason)
                self.table.setItem(row, column, item)
        if 0 <= chosen < len(alerts):
            self.table.selectRow(chosen)
        self.table.blockSignals(False)

    @staticmethod
    def _slider(low: int, high: int) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(low, high)
        return slider

    def _arrange(self) -> None:
        whole = QVBoxLayout(self)
        whole.addWidget(self.heading)
        whole.addWidget(self.table, stretch=1)
        whole.addWidget(self.explanation)
        decide = QHBoxLayout()
        for widget in (self.reason, self.confirm, self.dismiss):
            decide.addWidget(widget)
        whole.addLayout(decide)
        shown = QGroupBox("Show")
        inner = QVBoxLayout(shown)
        inner.addLayout(self.switch_grid)
        inner.addWidget(self.scale)
        sliders = QGridLayout()
        for row, (label, slider) in enumerate(
            ((self.threshold_label, self.threshold), (self.exposure_label, self.exposure))
        ):
            sliders.addWidget(label, row, 0)
            sliders.addWidget(slider, row, 1)
        inner.addLayout(sliders)
        whole.addWidget(shown)
        probe = QGroupBox("Under the cursor")
        inner = QVBoxLayout(probe)
        inner.addWidget(self.reading)
        row = QHBoxLayout()
        row.addWidget(self.show_tracks)
        row.addWidget(self.hide_tracks)
        inner.addLayout(row)
        whole.addWidget(probe)
        row = QHBoxLayout()
        for widget in (self.live, self.target, self.picture):
            row.addWidget(widget)
        whole.addLayout(row)
        whole.addWidget(self.progress)
        whole.addWidget(self.message)
