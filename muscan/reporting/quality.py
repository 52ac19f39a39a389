"""The HTML page of a scan's data quality."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from muscan.model.quality import PanelQuality, Quality
from muscan.reporting import rendering

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 80
#: Panels in one row of a picture, and panels beyond which none are drawn.
_COLUMNS, _MOST_PANELS = 6, 36
#: Points of the rate's profile.
_POINTS = 300


def render_quality(quality: Quality) -> str:
    """Return one self-contained HTML page.

    Raises
    ------
    MissingExtraError
        If Jinja or Matplotlib is not installed.
    """
    environment = rendering.environment()
    environment.filters["number"] = _number
    shown = quality.panels[:_MOST_PANELS]
    return environment.get_template("quality.html").render(
        quality=quality,
        pictures=[
            ("Events a second", _address(_rate_picture(quality))),
            ("χ² per degree of freedom of the tracks", _address(_chi2_picture(quality))),
            ("Hits by place", _address(_maps(shown, "hits", lambda panel: panel.hit_map))),
            ("Median residual of u [mm]", _address(_residuals(shown, 0))),
            ("Median residual of v [mm]", _address(_residuals(shown, 1))),
        ],
        software=f"muscan {version('muscan')}",
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "unknown" if value is None or not np.isfinite(value) else f"{value:.{digits}g}"


def _rate_picture(quality: Quality) -> Figure:
    figure = _figure(9, 2.6)
    axes = figure.subplots()
    # The last interval is cut off anywhere.
    counts = quality.seconds[:-1] if len(quality.seconds) > 1 else quality.seconds
    width = max(1, -(-len(counts) // _POINTS))
    whole = len(counts) // width * width
    mean = counts[:whole].reshape(-1, width).mean(axis=1) / quality.interval_s
    axes.step(np.arange(len(mean)) * width * quality.interval_s, mean, where="post")
    axes.set(xlabel="time [s]", ylabel="events/s", ylim=(0, 1.15 * mean.max(initial=1.0)))
    return figure


def _chi2_picture(quality: Quality) -> Figure:
    figure = _figure(9, 2.6)
    axes = figure.subplots()
    axes.hist(np.clip(quality.chi2, 0, 10), bins=100, range=(0, 10), histtype="stepfilled")
    axes.set(xlabel="χ² per degree of freedom (above 10 in the last bin)", ylabel="tracks")
    return figure


def _residuals(panels: Sequence[PanelQuality], axis: int) -> Figure:
    values = [panel.residual_maps[axis] for panel in panels]
    finite = np.concatenate([np.abs(value[np.isfinite(value)]) for value in values] or [[]])
    top = float(finite.max(initial=0.0)) or 1.0
    return _maps(
        panels, "mm", lambda panel: panel.residual_maps[axis], cmap="RdBu", vmin=-top, vmax=top
    )


def _maps(
    panels: Sequence[PanelQuality],
    label: str,
    values: Callable[[PanelQuality], NDArray[np.float64]],
    **options: Any,
) -> Figure:
    rows = -(-len(panels) // _COLUMNS)
    figure = _figure(12, 1.9 * rows + 0.5)
    places = np.atleast_1d(figure.subplots(rows, _COLUMNS, squeeze=False)).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, panel in zip(places, panels, strict=False):
        drawn = axes.imshow(values(panel).T, origin="lower", aspect="auto", **options)
        axes.set_title(panel.name, fontsize="small")
        if not options:
            figure.colorbar(drawn, ax=axes)
    if options:
        figure.colorbar(drawn, ax=list(places), label=label)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _address(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
