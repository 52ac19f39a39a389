"""What napari shows of a scan: layer data, made without napari and without Qt.

Every layer is in mm, with axes (z, y, x): napari cuts along the first axis, so its slices are
seen from above. Data of layers are views of the scan's arrays, turned around, not copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muscan import plot
from muscan.model.alerts import Alert
from muscan.model.detector import Detector
from muscan.model.events import Hits, Scatters
from muscan.model.volume import MaterialMap, Volume, VoxelGrid
from muscan.viewer.scan import Scan

#: Data, keyword arguments and the kind of a layer, as napari's readers give them.
LayerData = tuple[Any, dict[str, Any], str]
FloatArray = NDArray[np.float64]

DENSITY: Final = "scattering density"
UNCERTAINTY: Final = "uncertainty"
MUONS: Final = "muon counts"
MATERIALS: Final = "materials"
SPACE: Final = "inspected space"
PANELS: Final = "panels"
ALERTS: Final = "alerts"
LABELS: Final = "alert labels"
INCOMING: Final = "incoming tracks"
OUTGOING: Final = "outgoing tracks"
HITS: Final = "hits"

#: Under this nothing is drawn at first [mrad²/cm]: the noise of air, the lightest of goods.
FIRST_THRESHOLD: Final = 1.0
MAX_HITS: Final = 20_000

_AXES: Final = {"units": ("mm", "mm", "mm"), "axis_labels": ("z", "y", "x")}
_SEVERITY_COLOURS: Final = {
    "critical": (1.0, 0.15, 0.15, 1.0),
    "high": (1.0, 0.35, 0.2, 1.0),
    "medium": (1.0, 0.65, 0.1, 1.0),
    "low": (1.0, 0.9, 0.3, 1.0),
    "info": (0.6, 0.8, 1.0, 1.0),
}
_DISMISSED: Final = (0.5, 0.5, 0.5, 0.6)


def of_scan(scan: Scan) -> list[LayerData]:
    """Return all layers of a scan, the lowest first; each refers to the scan in its metadata."""
    found: list[LayerData] = []
    if scan.volume is not None:
        found += of_volume(scan.volume)
        found.append(space(scan.volume.grid))
    if scan.materials is not None:
        found.append(of_materials(scan.materials))
    if scan.detector is not None:
        found.append(panels(scan.detector))
    if scan.hits is not None:
        found.append(of_hits(scan.hits))
    if scan.tracks_file is not None and scan.volume is None:
        found += of_tracks(scan.read_scatters(), 500)
    if scan.report is not None:
        found += of_alerts(scan.report.alerts, scan.decisions)
    return [
        (data, {**options, "metadata": {"muscan": scan}}, kind) for data, options, kind in found
    ]


def colour_map(threshold: float = 0.0) -> dict[str, Any]:
    """Return the colours of scattering density for napari, nothing drawn below a threshold.

    Parameters
    ----------
    threshold : float
        [mrad²/cm].
    """
    top = plot.LIMITS[1]
    # Even steps on the colour scale, so closer where light goods are told apart.
    density = plot.from_scale(np.linspace(0, 1, 64))
    density = np.unique(np.append(density[density < top], [min(max(threshold, 0.0), top), top]))
    opacity = np.where(density < threshold, 0.0, 0.35 + 0.65 * plot.to_scale(density))
    return {
        "name": "scattering density",
        "colors": np.column_stack([plot.colours(density), opacity]),
        "controls": density / top,
    }


def of_volume(volume: Volume) -> list[LayerData]:
    """Return image layers of a volume: its quantity, and hidden its other channels."""
    images = [_image(volume, DENSITY, display_values(volume), True)]
    images[0][1].update(
        colormap=colour_map(FIRST_THRESHOLD), contrast_limits=plot.LIMITS, rendering="mip"
    )
    others = {UNCERTAINTY: volume.uncertainty, MUONS: volume.n_muons, **volume.channels}
    for name, values in others.items():
        # Every third voxel along each axis tells the limits well enough.
        some = values[::3, ::3, ::3]
        finite = some[np.isfinite(some)]
        top = float(np.quantile(finite, 0.995)) if finite.size else 1.0
        layer = _image(volume, name, np.nan_to_num(values, nan=0.0, posinf=top).T, False)
        layer[1].update(contrast_limits=(0.0, top or 1.0), colormap="viridis")
        images.append(layer)
    return images


def display_values(volume: Volume) -> NDArray[np.float32]:
    """Return a volume's values as the layer shows them: axes (z, y, x), unknown as 0."""
    values = volume.values
    return (np.nan_to_num(values, nan=0.0) if np.isnan(values).any() else values).T


def of_materials(materials: MaterialMap) -> LayerData:
    """Return the voxels' materials as a hidden label layer that tells their names."""
    names = materials.names
    options = {
        "name": MATERIALS,
        "visible": False,
        "opacity": 0.6,
        "features": {"index": np.arange(len(names)), "material": list(names)},
        **_placed(materials.grid),
    }
    return materials.labels.T, options, "labels"


def space(grid: VoxelGrid) -> LayerData:
    """Return the outline of the reconstructed space."""
    return _lines(box_edges(grid.lower, grid.upper), SPACE, (0.55, 0.6, 0.65, 0.8), _width(grid))


def panels(detector: Detector) -> LayerData:
    """Return the outlines of a detector's panels."""
    edges = []
    for panel in detector.panels:
        corners = panel.corners()
        edges += [[corners[i], corners[(i + 1) % 4]] for i in range(4)]
    size = float(np.ptp(np.array(edges), axis=(0, 1)).max())
    return _lines(np.array(edges), PANELS, (0.3, 0.65, 0.9, 0.7), size / 350)


def of_alerts(
    alerts: Sequence[Alert], decisions: Mapping[str, Mapping[str, Any]]
) -> list[LayerData]:
    """Return the alerts' boxes, coloured by severity (grey if dismissed), and their labels."""
    edges, edge_colours, tops, texts, text_colours = [], [], [], [], []
    for number, alert in enumerate(alerts, start=1):
        low, high = np.array(alert.extent_mm, dtype=float)
        colour = alert_colour(alert, decisions)
        edges.append(box_edges(low, high))
        edge_colours += [colour] * 12
        tops.append([*(low[:2] + high[:2]) / 2, high[2] + (high[2] - low[2])])
        texts.append(alert_text(number, alert, decisions))
        text_colours.append(colour)
    joined = np.concatenate(edges) if edges else np.zeros((0, 2, 3))
    boxes = _lines(joined, ALERTS, np.array(edge_colours).reshape(-1, 4), _box_width(edges))
    labels = (
        np.array(tops, dtype=float).reshape(-1, 3)[:, ::-1],
        {
            "name": LABELS,
            "size": 1.0,
            "face_color": "transparent",
            "border_color": "transparent",
            "text": {
                "string": {"array": texts, "default": ""},
                "color": {"array": text_colours, "default": "white"},
                "size": 11,
                "anchor": "lower_left",
            },
            "blending": "translucent_no_depth",
            **_AXES,
        },
        "points",
    )
    if not texts:
        labels[1].pop("text")
    return [boxes, labels]


def _box_width(boxes: Sequence[FloatArray]) -> float:
    """Return a width of line that outlines boxes without filling them [mm]."""
    sizes = [float(np.ptp(box, axis=(0, 1)).max()) for box in boxes]
    return max(float(np.median(sizes)) / 25, 0.1) if sizes else 1.0


def alert_colour(
    alert: Alert, decisions: Mapping[str, Mapping[str, Any]]
) -> tuple[float, float, float, float]:
    """Return the colour of an alert: of its severity, or grey if it was dismissed."""
    if decisions.get(alert.id, {}).get("action") == "dismissed":
        return _DISMISSED
    return _SEVERITY_COLOURS[alert.severity]


def alert_text(number: int, alert: Alert, decisions: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what stands beside an alert's box: material, probability, mass, decision."""
    mass = alert.mass_kg.value
    kilograms = "mass unknown" if mass is None else f"{mass:.3g} kg"
    text = f"{number}  {alert.material.name} {alert.material.probability:.0%}, {kilograms}"
    decision = decisions.get(alert.id, {}).get("action")
    return f"{text} ({decision})" if decision else text


def of_tracks(scatters: Scatters, limit: int = 200) -> list[LayerData]:
    """Return incoming and outgoing tracks as lines; of more than ``limit``, those first in time.

    Each goes from the tracker to where the two come closest (`muscan.viewer.probe.meeting`).
    """
    from muscan.viewer.probe import meeting

    some = scatters.take(slice(0, limit))
    near_in, near_out = meeting(some)
    incoming = np.stack([some.in_position, near_in], axis=1)
    outgoing = np.stack([near_out, some.out_position], axis=1)
    size = float(np.ptp(incoming, axis=(0, 1)).max()) if len(some) else 1.0
    return [
        _lines(incoming, INCOMING, (0.4, 0.9, 1.0, 0.7), size / 900),
        _lines(outgoing, OUTGOING, (1.0, 0.6, 0.9, 0.7), size / 900),
    ]


def of_hits(hits: Hits) -> LayerData:
    """Return hits as points, the first `MAX_HITS` of them; an unmeasured coordinate is 0."""
    some = hits.take(slice(0, MAX_HITS))
    panel = some.panel.astype(int)
    axes, centres = hits.detector.axes[panel], hits.detector.centres[panel]
    u, v = np.nan_to_num(some.u)[:, None], np.nan_to_num(some.v)[:, None]
    position = centres + u * axes[:, 0] + v * axes[:, 1]
    options = {
        "name": HITS,
        "size": float(hits.detector.half_sizes.max()) / 100,
        "features": {"event_id": some.event_id, "panel": panel},
        "face_color": "cyan",
        "border_width": 0,
        **_AXES,
    }
    return position[:, ::-1], options, "points"


def box_edges(low: Any, high: Any) -> FloatArray:
    """Return the ends of the 12 edges of a box, shape (12, 2, 3) [mm]."""
    corners = np.array([np.asarray(low, dtype=float), np.asarray(high, dtype=float)])
    bits = np.array([[n >> axis & 1 for axis in range(3)] for n in range(8)])
    points = corners[bits, np.arange(3)]
    pairs = [(a, a | 1 << axis) for axis in range(3) for a in range(8) if not a & 1 << axis]
    return np.array([[points[a], points[b]] for a, b in pairs])


def _image(volume: Volume, name: str, values: Any, visible: bool) -> LayerData:
    options = {
        "name": name,
        "visible": visible,
        # Writing no depth, so that boxes and labels are never hidden.
        "blending": "translucent_no_depth",
        "interpolation3d": "linear",
        **_placed(volume.grid),
    }
    return values, options, "image"


def _placed(grid: VoxelGrid) -> dict[str, Any]:
    """Return where a grid's layer is: ``translate`` is the centre of the first voxel."""
    return {"scale": grid.spacing[::-1], "translate": grid.origin[::-1], **_AXES}


def _lines(ends: Any, name: str, colours: Any, width: float) -> LayerData:
    """Return line segments, given by their ends, shape (n, 2, 3) [mm], as a vector layer."""
    turned = np.asarray(ends, dtype=float)[..., ::-1]
    vectors = np.stack([turned[:, 0], turned[:, 1] - turned[:, 0]], axis=1)
    options = {
        "name": name,
        "edge_width": width,
        "edge_color": np.atleast_2d(colours) if len(turned) else "white",
        "vector_style": "line",
        "blending": "translucent_no_depth",
        **_AXES,
    }
    return vectors, options, "vectors"


def _width(grid: VoxelGrid) -> float:
    return float((grid.upper - grid.lower).max()) / 300
