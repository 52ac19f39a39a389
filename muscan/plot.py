"""Pictures of scans for scripts: slices, projections, spectra, ROC curves, residuals.

Each function returns a `matplotlib.figure.Figure` that no window holds: save it by
``figure.savefig``. Lengths are in mm, scattering densities in mrad²/cm. Matplotlib (the extra
``plot``) is imported when a picture is made, not before.

The colours are made for scattering density: the scale is linear for light goods and logarithmic
above (asinh), so that bananas, machine parts and lead are all told apart, and the colour turns
where the material does: blue and green for goods, yellow at iron, red at lead, white at uranium.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muscan.errors import InputError, MissingExtraError
from muscan.model.alerts import Alert
from muscan.model.detector import Detector
from muscan.model.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

#: What the colours cover: air to just past uranium [mrad²/cm].
LIMITS: Final = (0.0, 80.0)
#: Below this the scale is about linear, above it logarithmic [mrad²/cm].
LINEAR_BELOW: Final = 0.5
#: Scattering densities to mark on a scale: 25 mrad² / X0, X0 from PDG (2024).
MATERIAL_TICKS: Final[Mapping[str, float]] = {
    "air": 0.0,
    "water": 0.69,
    "concrete": 2.2,
    "iron": 14.2,
    "lead": 44.6,
    "uranium": 79.0,
}
#: Colour (RGB) of a scattering density [mrad²/cm].
_COLOURS: Final = {
    0.0: (0.02, 0.03, 0.07),
    0.3: (0.07, 0.16, 0.36),
    0.7: (0.10, 0.36, 0.62),
    2.2: (0.16, 0.62, 0.55),
    7.0: (0.55, 0.78, 0.32),
    14.2: (0.98, 0.83, 0.25),
    26.0: (0.97, 0.52, 0.18),
    44.6: (0.88, 0.16, 0.20),
    62.0: (0.96, 0.52, 0.70),
    80.0: (1.00, 1.00, 1.00),
}
#: The two axes that a view along each axis shows, right and up.
_SHOWN: Final = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
#: The words in pictures of volumes, by key; a report in another language gives its own.
WORDS: Final[Mapping[str, str]] = {
    "along_x": "from the side (along x)",
    "along_y": "from the front (along y)",
    "along_z": "from above (along z)",
    "scattering_density": "scattering density",
    "highest": "highest scattering density along the view, neighbours averaged (3×3×3 voxels)",
    "slice": "slices through ({x:.0f}, {y:.0f}, {z:.0f}) mm",
    **{name: name for name in MATERIAL_TICKS},
}


def to_scale(density: ArrayLike) -> FloatArray:
    """Return where scattering densities [mrad²/cm] lie on the colour scale, 0 to 1 in `LIMITS`."""
    top = np.arcsinh(LIMITS[1] / LINEAR_BELOW)
    return np.asarray(np.arcsinh(np.asarray(density, dtype=float) / LINEAR_BELOW) / top)


def from_scale(place: ArrayLike) -> FloatArray:
    """Return the scattering densities [mrad²/cm] at places on the colour scale."""
    top = np.arcsinh(LIMITS[1] / LINEAR_BELOW)
    return np.asarray(np.sinh(np.asarray(place, dtype=float) * top) * LINEAR_BELOW)


def colours(density: ArrayLike) -> FloatArray:
    """Return the colours of scattering densities, shape (..., 3), red, green and blue 0 to 1."""
    place = to_scale(np.clip(density, *LIMITS))
    anchors, values = to_scale(list(_COLOURS)), np.array(list(_COLOURS.values()))
    return np.stack([np.interp(place, anchors, values[:, c]) for c in range(3)], axis=-1)


def slices(
    volume: Volume,
    position: ArrayLike,
    alerts: Sequence[Alert] = (),
    *,
    bounds: ArrayLike | None = None,
    words: Mapping[str, str] = WORDS,
) -> Figure:
    """Draw the three slices through a point.

    Parameters
    ----------
    volume : Volume
        What to draw.
    position : array_like, shape (3,)
        The point [mm]; one outside is moved to the nearest voxel.
    alerts : sequence of Alert
        Whose boxes to draw in.
    bounds : array_like, shape (2, 3), optional
        Show only this part [mm].
    words : mapping of str to str
        The words in the picture, as `WORDS`.

    Raises
    ------
    InputError
        If the position is not a point.
    MissingExtraError
        If Matplotlib is not installed.
    """
    point = np.asarray(position, dtype=float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError("position", f"{position!r} is not a point", "give x, y and z in mm")
    fractional = (point - volume.grid.origin) / volume.grid.spacing
    index = np.clip(np.rint(fractional).astype(int), 0, np.array(volume.grid.shape) - 1)
    images = [(axis, np.take(volume.values, index[axis], axis=axis)) for axis in (2, 1, 0)]
    x, y, z = volume.grid.position(index)
    return _views(volume, images, alerts, words["slice"].format(x=x, y=y, z=z), words, bounds)


def projections(
    volume: Volume, alerts: Sequence[Alert] = (), *, words: Mapping[str, str] = WORDS
) -> Figure:
    """Draw the highest value along each axis, with the alerts' boxes and numbers.

    Each voxel is first averaged with its neighbours (3×3×3): the highest of many single voxels
    would show their noise and little else.

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    """
    from scipy.ndimage import uniform_filter

    values = uniform_filter(np.nan_to_num(volume.values, nan=0.0), 3, mode="nearest")
    images = [(axis, values.max(axis=axis)) for axis in (2, 1, 0)]
    return _views(volume, images, alerts, words["highest"], words, None)


def spectrum(
    momentum: ArrayLike, *, weights: ArrayLike | None = None, bins: int = 60, label: str = ""
) -> Figure:
    """Draw a momentum spectrum: dN/d ln p against p, with statistical errors.

    Parameters
    ----------
    momentum : array_like, shape (n,)
        Momenta [GeV]; those that are not positive numbers are left out.
    weights : array_like, shape (n,), optional
        Such as 1 / live time.
    bins : int
        Number of bins, even in ln p.
    label : str
        Of the curve.

    Raises
    ------
    InputError
        If no momentum is positive.
    MissingExtraError
        If Matplotlib is not installed.
    """
    p = np.asarray(momentum, dtype=float).ravel()
    known = np.isfinite(p) & (p > 0)
    if not known.any():
        raise InputError("momentum", "no positive momentum", "give momenta in GeV")
    w = np.ones_like(p) if weights is None else np.broadcast_to(weights, p.shape)
    p, w = p[known], np.asarray(w, dtype=float)[known]
    edges = np.geomspace(p.min() * 0.999, p.max() * 1.001, bins + 1)
    step = np.log(edges[1] / edges[0])
    counts = np.histogram(p, edges, weights=w)[0] / step
    errors = np.sqrt(np.histogram(p, edges, weights=w**2)[0]) / step
    figure, axes = _figure(6.4, 4.2)
    axes.errorbar(
        np.sqrt(edges[1:] * edges[:-1]), counts, errors, fmt=".", markersize=4, label=label or None
    )
    axes.set(xscale="log", xlabel="momentum p [GeV/c]", ylabel="dN / d ln p")
    if (counts > 0).any():
        axes.set_ylim(bottom=0)
    if label:
        axes.legend()
    return figure


def roc(curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Draw ROC curves.

    Parameters
    ----------
    curves : mapping of str to (false alarms, detection)
        Both as fractions, equally long, by the name of the curve.

    Raises
    ------
    InputError
        If the two are not equally long.
    MissingExtraError
        If Matplotlib is not installed.
    """
    figure, axes = _figure(5.2, 4.8)
    for name, (false_alarms, detection) in curves.items():
        x, y = np.asarray(false_alarms, dtype=float), np.asarray(detection, dtype=float)
        if x.shape != y.shape or x.ndim != 1:
            raise InputError(name, f"{x.shape} false alarms and {y.shape} detections do not pair")
        order = np.lexsort((y, x))
        axes.step(x[order], y[order], where="post", label=name)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.01),
        xlabel="false alarms (fraction of benign scans)",
        ylabel="detection (fraction of threat scans)",
    )
    axes.legend(loc="lower right")
    return figure


def residuals(values: ArrayLike, *, quantity: str = "residual", units: str = "mm") -> Figure:
    """Draw residuals with a Gaussian of their median and 68 % half-width.

    Parameters
    ----------
    values : array_like, shape (n,)
        Residuals; those that are not finite are left out.
    quantity, units : str
        What is on the axis.

    Raises
    ------
    InputError
        If fewer than two are finite.
    MissingExtraError
        If Matplotlib is not installed.
    """
    r = np.asarray(values, dtype=float).ravel()
    r = r[np.isfinite(r)]
    if len(r) < 2:
        raise InputError("values", f"{len(r)} finite residuals", "give at least two")
    low, middle, high = np.quantile(r, [0.15865, 0.5, 0.84135])
    width = (high - low) / 2 or float(np.ptp(r)) or 1.0
    edges = np.linspace(middle - 5 * width, middle + 5 * width, 81)
    figure, axes = _figure(6.4, 4.2)
    inside = np.histogram(r, edges)[0]
    axes.stairs(inside, edges, fill=True, alpha=0.35, label=f"{len(r)} values")
    x = np.linspace(edges[0], edges[-1], 400)
    scale = len(r) * (edges[1] - edges[0]) / (width * np.sqrt(2 * np.pi))
    axes.plot(
        x,
        scale * np.exp(-0.5 * ((x - middle) / width) ** 2),
        label=f"median {middle:.3g}, 68 % half-width {width:.3g} {units}",
    )
    outside = len(r) - int(inside.sum())
    axes.set(
        xlabel=f"{quantity} [{units}]",
        ylabel="count",
        title=f"{outside} beyond the axis" if outside else "",
    )
    axes.legend()
    return figure


def layout(detector: Detector) -> Figure:
    """Draw a detector's panels and inspected space from above, the front and the side.

    Each group has its colour; a view shows where its panels are, whatever stands before them.
    """
    figure = _new_figure(13, 4.2)
    places = figure.subplots(1, 3)
    low, high = detector.bounds
    for axes, axis in zip(places, (2, 1, 0), strict=True):
        right, up = _SHOWN[axis]
        space = np.array([[low[right], low[up]], [high[right], high[up]]])
        outline = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])
        corners = np.where(outline, space[1], space[0])
        axes.plot(*corners.T, color="0.4", linestyle=":", linewidth=1, label="inspected space")
        for number, group in enumerate(detector.groups):
            for panel in detector.panels:
                if panel.group == group:
                    edges = np.vstack([panel.corners(), panel.corners()[:1]])[:, [right, up]]
                    axes.plot(*edges.T, color=f"C{number}", linewidth=1.2, label=group)
        axes.set(
            aspect="equal",
            title=WORDS[f"along_{'xyz'[axis]}"],
            xlabel=f"{'xyz'[right]} [mm]",
            ylabel=f"{'xyz'[up]} [mm]",
        )
    handles, labels = places[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside right upper", fontsize="small")
    figure.suptitle(f"{detector.name}: {detector.description}", fontsize="medium", wrap=True)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _new_figure(width, height)
    return figure, figure.subplots()


def _new_figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plot", error.name) from error
    return Figure(figsize=(width, height), layout="constrained")


def density_scale() -> tuple[Normalize, Colormap]:
    """Return Matplotlib's norm and colour map of scattering density."""
    try:
        from matplotlib.colors import FuncNorm, LinearSegmentedColormap
    except ImportError as error:
        raise MissingExtraError("plot", error.name) from error
    anchors = to_scale(list(_COLOURS))
    anchors[-1] = 1.0
    map_ = LinearSegmentedColormap.from_list(
        "scattering_density", list(zip(anchors, _COLOURS.values(), strict=True)), N=512
    ).with_extremes(bad="0.5", under=_COLOURS[0.0])
    return FuncNorm((to_scale, from_scale), *LIMITS, clip=True), map_


def _views(
    volume: Volume,
    images: Sequence[tuple[int, NDArray[Any]]],
    alerts: Sequence[Alert],
    title: str,
    words: Mapping[str, str],
    bounds: ArrayLike | None,
) -> Figure:
    grid = volume.grid
    low, high = (grid.lower, grid.upper) if bounds is None else np.asarray(bounds, dtype=float)
    size = np.asarray(high) - np.asarray(low)
    widths = np.array([size[_SHOWN[axis][0]] for axis, _ in images])
    figure = _new_figure(13, 3.6)
    places = figure.subplots(1, len(images), width_ratios=np.maximum(widths, widths.max() / 3))
    norm, colour_map = density_scale()
    for axes, (axis, image) in zip(places, images, strict=True):
        right, up = _SHOWN[axis]
        extent = (grid.lower[right], grid.upper[right], grid.lower[up], grid.upper[up])
        shown = np.ma.masked_invalid(image.T)
        drawn = axes.imshow(shown, origin="lower", extent=extent, norm=norm, cmap=colour_map)
        _draw_boxes(axes, alerts, right, up)
        axes.set_xlim(low[right], high[right])
        axes.set_ylim(low[up], high[up])
        axes.set_title(words[f"along_{'xyz'[axis]}"], fontsize="small")
        axes.set_xlabel(f"{'xyz'[right]} [mm]", fontsize="small")
        axes.set_ylabel(f"{'xyz'[up]} [mm]", fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.locator_params(nbins=6)  # more would run into each other in narrow views
    label = f"{words['scattering_density']} [mrad²/cm]"
    bar = figure.colorbar(drawn, ax=places, shrink=0.9)
    bar.set_label(label, fontsize="small")
    bar.set_ticks(
        list(MATERIAL_TICKS.values()),
        labels=[f"{value:.2g} {words[name]}" for name, value in MATERIAL_TICKS.items()],
    )
    bar.ax.tick_params(labelsize="x-small")
    figure.suptitle(title, fontsize="medium")
    return figure


def _draw_boxes(axes: Axes, alerts: Sequence[Alert], right: int, up: int) -> None:
    from matplotlib.patches import Rectangle

    for number, alert in enumerate(alerts, start=1):
        low, high = alert.extent_mm
        width, height = high[right] - low[right], high[up] - low[up]
        box = Rectangle((low[right], low[up]), width, height, fill=False, linewidth=1.2)
        box.set_edgecolor("cyan")
        axes.add_patch(box)
        if len(alerts) > 1:
            corner = (high[right], high[up])
            axes.annotate(str(number), corner, color="cyan", fontsize="small", annotation_clip=True)
