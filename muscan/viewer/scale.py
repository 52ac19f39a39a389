"""The colour scale of scattering density as a small widget, marked with materials."""

from __future__ import annotations

from typing import Final

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget

from muscan import plot

_STEPS: Final = 256
_HEIGHT: Final = 42
_BAR: Final = 14


class ColourScale(QWidget):
    """A horizontal bar from air to uranium; what lies under the threshold is hatched out."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = 0.0
        self.setFixedHeight(_HEIGHT)
        self.setMinimumWidth(260)
        self.setToolTip("Scattering density [mrad²/cm] at 3 GeV/c")
        row = plot.colours(plot.from_scale(np.linspace(0, 1, _STEPS)))
        pixels = np.ascontiguousarray((row * 255).round().astype(np.uint8))
        self._bytes = pixels.tobytes()
        self._image = QImage(self._bytes, _STEPS, 1, 3 * _STEPS, QImage.Format.Format_RGB888)

    def set_threshold(self, density: float) -> None:
        """Mark what is not drawn [mrad²/cm]."""
        self.threshold = density
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # (Qt's name)
        """Draw the bar, its ticks and their materials."""
        painter = QPainter(self)
        width = self.width() - 2
        painter.drawImage(QRectF(1, 1, width, _BAR), self._image)
        hidden = width * float(plot.to_scale(self.threshold))
        painter.fillRect(QRectF(1, 1, hidden, _BAR), QColor(38, 41, 48))
        painter.fillRect(QRectF(1, 1, hidden, _BAR), Qt.BrushStyle.BDiagPattern)
        font = painter.font()
        font.setPointSizeF(7.0)
        painter.setFont(font)
        painter.setPen(self.palette().color(self.foregroundRole()))
        # From the right, so that a label gives way to its right neighbour.
        limit = float(self.width())
        for name, density in reversed(list(plot.MATERIAL_TICKS.items())):
            x = 1 + width * float(plot.to_scale(density))
            painter.drawLine(int(x), _BAR, int(x), _BAR + 4)
            text = f"{name}\n{density:.2g}"
            size = painter.fontMetrics().horizontalAdvance(name)
            left = max(min(x - size / 2, limit - size), 0.0)
            place = QRectF(left, _BAR + 4, size + 2, 24)
            painter.drawText(place, Qt.AlignmentFlag.AlignHCenter, text)
            limit = left - 6
        painter.end()
