"""Detectors: panels of a technology, at a pose, in groups that each measure one track.

A layout file holds ``[[panel]]`` entries; each names a technology (a file of
``detectors/panels`` or a ``[technology.NAME]`` table of the same file). A *group* is a set of
panels that together measure one straight piece of a muon's track, such as the three planes above
the cargo. Which group a muon meets first is the muon's affair: it falls, so the higher one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from muscan import resources
from muscan.errors import InputError, nearest
from muscan.model import toml
from muscan.model.pose import FloatArray, Vector, rotation_matrix

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Channels = tuple[Annotated[int, Field(ge=0)], ...]
#: Numbers of the dead channels along u and along v.
DeadChannels = tuple[Channels, Channels]


class Technology(toml.Spec):
    """What one kind of panel is: size, what it measures and how well.

    Attributes
    ----------
    size_mm : tuple of float
        Extent along the panel's u and v axes [mm].
    thickness_mm : float
        Thickness of the panel's matter [mm].
    material : str
        Name of that matter in the material database.
    measures : {"uv", "u", "v"}
        The coordinates that a hit has.
    readout : {"gaussian", "pitch"}
        ``gaussian``: the position is measured with a Gaussian error. ``pitch``: what is reported
        is the centre of a channel, so that the error is uniform over its width.
    resolution_mm : tuple of float
        Standard deviation of the Gaussian error of u and v [mm]. With ``readout = "pitch"`` it is
        what shifts the muon before a channel is chosen (drift, light), by default 0.
    pitch_mm : tuple of float, optional
        Width of a channel along u and v [mm]; the size must be a whole number of them along what
        is measured. Channels are counted from 0 at the lowest u and v.
    dead_channels : tuple of two tuples of int
        Numbers of dead channels along u and along v, of every panel of this kind. A hit on one is
        lost with both its coordinates.
    efficiency : float
        Probability that a crossing muon gives a hit.
    efficiency_map : tuple of tuples of float, optional
        Rows along u, numbers in a row along v, from the lowest u and v, of cells that cut the
        panel evenly: factors on ``efficiency``, for the place where the muon crosses.
    extra_hits : float
        Probability that a muon's hit is followed by one more (knock-on electrons, cross talk,
        charge that two amplifiers see), that one by another with the same probability, and so on.
    extra_hit_distance_mm : float
        Standard deviation of an extra hit's distance from the muon along u and along v [mm].
    noise_hz_per_m2 : float
        Rate of hits without a muon [Hz/m²].
    time_resolution_ns : float
        Standard deviation of a hit's time [ns].
    """

    description: str = ""
    source: str = ""
    size_mm: tuple[Positive, Positive]
    thickness_mm: NotNegative = 10.0
    material: str = "plastic-scintillator"
    measures: Literal["uv", "u", "v"] = "uv"
    readout: Literal["gaussian", "pitch"] = "gaussian"
    resolution_mm: tuple[NotNegative, NotNegative] = (0.0, 0.0)
    pitch_mm: tuple[Positive, Positive] | None = None
    dead_channels: DeadChannels = ((), ())
    efficiency: Fraction = 1.0
    efficiency_map: Annotated[tuple[tuple[Fraction, ...], ...], Field(min_length=1)] | None = None
    extra_hits: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    extra_hit_distance_mm: NotNegative = 10.0
    noise_hz_per_m2: NotNegative = 0.0
    time_resolution_ns: NotNegative = 1.0

    @model_validator(mode="after")
    def _whole(self) -> Technology:
        if self.readout == "gaussian" and min(self.resolution_mm) <= 0:
            raise ValueError("a gaussian readout needs resolution_mm, both greater than 0")
        if self.pitch_mm is None and (self.readout == "pitch" or any(self.dead_channels)):
            raise ValueError("a readout by channels and dead_channels need pitch_mm")
        lengths = {len(row) for row in self.efficiency_map or ((1.0,),)}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError("the rows of efficiency_map must be of one length, 1 or more")
        return self

    @property
    def sigma_mm(self) -> tuple[float, float]:
        """Standard deviation of u and v were both measured [mm]: Gaussian and uniform error."""
        u, v = self.resolution_mm
        if self.readout == "gaussian" or self.pitch_mm is None:
            return u, v
        uniform_u, uniform_v = (pitch / math.sqrt(12) for pitch in self.pitch_mm)
        return math.hypot(u, uniform_u), math.hypot(v, uniform_v)


class PanelSpec(toml.Spec):
    """One ``[[panel]]`` entry of a layout file."""

    name: str
    group: str
    technology: str
    centre_mm: Vector
    u_axis: Vector | None = None
    v_axis: Vector | None = None
    rotation_deg: Vector = (0.0, 0.0, 0.0)
    size_mm: tuple[Positive, Positive] | None = None
    dead_channels: DeadChannels = ((), ())

    @model_validator(mode="after")
    def _axes(self) -> PanelSpec:
        if (self.u_axis is None) != (self.v_axis is None):
            raise ValueError("give both u_axis and v_axis, or rotation_deg")
        if self.u_axis is not None and self.v_axis is not None:
            u, v = np.array(self.u_axis), np.array(self.v_axis)
            if min(np.linalg.norm(u), np.linalg.norm(v)) < 1e-9:
                raise ValueError("u_axis and v_axis must not be zero")
            if abs(u @ v) > 1e-6 * np.linalg.norm(u) * np.linalg.norm(v):
                raise ValueError("u_axis and v_axis must be perpendicular")
        return self

    def axes(self) -> tuple[FloatArray, FloatArray]:
        """Return the unit vectors along u and v."""
        if self.u_axis is None or self.v_axis is None:
            matrix = rotation_matrix(self.rotation_deg)
            return matrix[:, 0].copy(), matrix[:, 1].copy()
        u, v = np.array(self.u_axis), np.array(self.v_axis)
        return u / np.linalg.norm(u), v / np.linalg.norm(v)


class Inspection(toml.Spec):
    """The space that the detector looks into, as two corners [mm]."""

    min_mm: Vector
    max_mm: Vector

    @model_validator(mode="after")
    def _ordered(self) -> Inspection:
        if not all(low < high for low, high in zip(self.min_mm, self.max_mm, strict=True)):
            raise ValueError("every coordinate of min_mm must be below that of max_mm")
        return self


class LayoutSpec(toml.Spec):
    """A layout file."""

    name: str
    description: str = ""
    source: str = ""
    gate_ns: Positive = 200.0
    inspection: Inspection
    technology: dict[str, Technology] = Field(default_factory=dict)
    panel: Annotated[list[PanelSpec], Field(min_length=2)]


@dataclass(frozen=True)
class Panel:
    """A panel at its place.

    Attributes
    ----------
    name, group : str
        Its own name and that of the set of panels which measures one track.
    technology : Technology
        What kind of panel it is.
    centre : ndarray, shape (3,)
        Centre of the mid-plane [mm].
    u, v : ndarray, shape (3,)
        In-plane unit vectors.
    size : tuple of float
        Extent along u and v [mm].
    dead_channels : tuple of two tuples of int
        Numbers of the dead channels along u and v, its own and its technology's.
    """

    name: str
    group: str
    technology: Technology
    centre: FloatArray
    u: FloatArray
    v: FloatArray
    size: tuple[float, float]
    dead_channels: DeadChannels = ((), ())

    @property
    def normal(self) -> FloatArray:
        """Unit vector perpendicular to the panel, u × v."""
        return np.cross(self.u, self.v)

    @property
    def area_m2(self) -> float:
        """Sensitive area [m²]."""
        return self.size[0] * self.size[1] * 1e-6

    @property
    def sigma(self) -> tuple[float, float]:
        """Standard deviation of a measured u and v [mm], infinite where not measured."""
        u, v = self.technology.sigma_mm
        measures = self.technology.measures
        return (u if "u" in measures else np.inf, v if "v" in measures else np.inf)

    def corners(self) -> FloatArray:
        """Return the corners of the mid-plane, shape (4, 3) [mm]."""
        signs = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) / 2
        return (
            self.centre
            + signs[:, :1] * self.size[0] * self.u
            + signs[:, 1:] * (self.size[1] * self.v)
        )


@dataclass(frozen=True)
class Detector:
    """Panels, the space between them, and the layout text that says so.

    Attributes
    ----------
    name, description : str
        From the layout file.
    panels : tuple of Panel
        In the order of the file; a hit's ``panel`` is an index into it.
    bounds : ndarray, shape (2, 3)
        Lowest and highest corner of the inspected space [mm].
    gate_ns : float
        Time around a muon in which hits are counted to it [ns].
    text : str
        A layout (TOML) that needs no other file, as stored with the hits.
    """

    name: str
    panels: tuple[Panel, ...]
    bounds: FloatArray
    gate_ns: float = 200.0
    description: str = ""
    text: str = field(default="", repr=False)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order of their first panel."""
        return tuple(dict.fromkeys(panel.group for panel in self.panels))

    @cached_property
    def group_index(self) -> FloatArray:
        """Index of each panel's group, shape (n_panels,) int64."""
        return np.array([self.groups.index(panel.group) for panel in self.panels], dtype=np.int64)

    @cached_property
    def centres(self) -> FloatArray:
        """Panel centres, shape (n_panels, 3) [mm]."""
        return np.array([panel.centre for panel in self.panels])

    @cached_property
    def axes(self) -> FloatArray:
        """Unit vectors u, v and normal of each panel, shape (n_panels, 3, 3)."""
        return np.array([[panel.u, panel.v, panel.normal] for panel in self.panels])

    @cached_property
    def half_sizes(self) -> FloatArray:
        """Half extents along u and v, shape (n_panels, 2) [mm]."""
        return np.array([panel.size for panel in self.panels]) / 2

    @cached_property
    def sigmas(self) -> FloatArray:
        """Resolutions along u and v, shape (n_panels, 2) [mm]; inf where not measured."""
        return np.array([panel.sigma for panel in self.panels])

    def panel_index(self, key: str | int) -> int:
        """Return the index of a panel from its name or number.

        Raises
        ------
        InputError
            If the detector has no such panel.
        """
        for index, panel in enumerate(self.panels):
            if panel.name == key:
                return index
        if str(key).isdecimal() and int(key) < len(self.panels):
            return int(key)
        names = [panel.name for panel in self.panels]
        raise InputError(self.name, f"no panel '{key}'", nearest(str(key), names))


def load_detector(name: str | Path | Detector) -> Detector:
    """Return the detector of a layout file, or of a shipped or user layout's name.

    Raises
    ------
    InputError
        If there is no such layout, or it is wrong; the message says where.
    """
    if isinstance(name, Detector):
        return name
    path = resources.find("detectors/scanners", name)
    return parse_detector(toml.read_text(path), path)


def parse_detector(text: str, source: str | Path) -> Detector:
    """Return the detector of a layout's text; ``source`` names it in errors."""
    layout = toml.validate(LayoutSpec, toml.parse(text, source), source, text)
    technologies = dict(layout.technology)
    for spec in layout.panel:
        if spec.technology not in technologies:
            found = resources.find("detectors/panels", spec.technology)
            content = toml.read_text(found)
            technologies[spec.technology] = toml.validate(
                Technology, toml.parse(content, found), found, content
            )
            text = f'{text.rstrip()}\n\n[technology."{spec.technology}"]\n{content.strip()}\n'
    names = [spec.name for spec in layout.panel]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(source, f"panel '{min(twice)}' stands twice", "give each its own name")
    bounds = np.array([layout.inspection.min_mm, layout.inspection.max_mm])
    panels = tuple(_place(spec, technologies[spec.technology], source) for spec in layout.panel)
    return Detector(layout.name, panels, bounds, layout.gate_ns, layout.description, text)


def _place(spec: PanelSpec, technology: Technology, source: str | Path) -> Panel:
    u, v = spec.axes()
    size = spec.size_mm or technology.size_mm
    both = zip(technology.dead_channels, spec.dead_channels, strict=True)
    dead_u, dead_v = (tuple(sorted({*general, *own})) for general, own in both)
    _check_channels(spec.name, size, technology, (dead_u, dead_v), source)
    centre = np.array(spec.centre_mm)
    return Panel(spec.name, spec.group, technology, centre, u, v, size, (dead_u, dead_v))


def _check_channels(
    name: str,
    size: tuple[float, float],
    technology: Technology,
    dead: DeadChannels,
    source: str | Path,
) -> None:
    """Refuse a panel that is not a whole number of channels, or that has not its dead ones."""
    if technology.pitch_mm is None:
        if any(dead):
            problem = f"panel '{name}' has dead_channels, but its technology no pitch_mm"
            raise InputError(source, problem, "give the technology a pitch_mm")
        return
    for axis, length, width, numbers in zip("uv", size, technology.pitch_mm, dead, strict=True):
        if axis not in technology.measures:
            continue
        n = round(length / width)
        if abs(length / width - n) > 1e-6:
            problem = f"panel '{name}' is {length:g} mm along {axis}, no whole number of channels"
            raise InputError(source, problem, f"give a size_mm that is a multiple of {width:g} mm")
        if numbers and numbers[-1] >= n:
            problem = f"panel '{name}' has no channel {numbers[-1]} along {axis} to be dead"
            raise InputError(source, problem, f"give numbers from 0 to {n - 1}")
