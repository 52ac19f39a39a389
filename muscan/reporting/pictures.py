"""The pictures of a report, as data addresses to put into the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from muscan import plot
from muscan.model.alerts import Alert
from muscan.model.volume import Volume
from muscan.reporting import solid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 90


def projections(volume: Volume, alerts: Sequence[Alert], words: Mapping[str, str]) -> str:
    """Return the three highest-value projections as a PNG data address."""
    return _address(plot.projections(volume, alerts, words=words))


def slices(volume: Volume, alert: Alert, words: Mapping[str, str]) -> str:
    """Return three slices through an alert and its surroundings as a PNG data address."""
    bounds = surroundings(volume, alert)
    figure = plot.slices(volume, alert.position_mm, [alert], bounds=bounds, words=words)
    return _address(figure)


def solid_view(volume: Volume, alert: Alert) -> str:
    """Return a 3D view of an alert and its surroundings as a PNG data address."""
    from matplotlib.image import imsave

    stream = io.BytesIO()
    bounds = surroundings(volume, alert)
    imsave(stream, solid.picture(volume, bounds, alert.extent_mm), format="png")
    return _data_address(stream)


def surroundings(volume: Volume, alert: Alert) -> NDArray[np.float64]:
    """Return the corners of a cube about an alert, four times its size, at least 16 voxels."""
    low, high = np.array(alert.extent_mm, dtype=float)
    half = max(2 * float((high - low).max()), 8 * float(volume.grid.spacing.max()))
    centre = (low + high) / 2
    return np.array([centre - half, centre + half])


def _address(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    return _data_address(stream)


def _data_address(stream: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
