"""Detectors: panels of a technology, at a pose, in groups that each measure one track.

A layout file holds ``[[panel]]`` entries; each names a technology (a file of
``detectors/panels`` or a ``[technology.NAME]`` table of the same file). A *group* is a set of
panels that together measure one straight piece of a muon's track, such as the three planes above
the cargo. Which group a muon meets first is the muon's affair: it falls, so the higher one.
"""

from __future__ import annotations

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
Fraction = Annotated[float, Field(ge=0, le=1)]


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
    resolution_mm : tuple of float
        Standard deviation of a measured u and v [mm].
    efficiency : float
        Probability that a crossing muon gives a hit.
    noise_hz_per_m2 : float
        Rate of hits without a muon [Hz/m²].
    time_resolution_ns : float
        Standard deviation of a hit's time [ns].
    """

    description: str = ""
    source: str = ""
    size_mm: tuple[Positive, Positive]
    thickness_mm: Annotated[float, Field(ge=0)] = 10.0
    material: str = "plastic-scintillator"
    measures: Literal["uv", "u", "v"] = "uv"
    resolution_mm: tuple[Positive, Positive]
    efficiency: Fraction = 1.0
    noise_hz_per_m2: Annotated[float, Field(ge=0)] = 0.0
    time_resolution_ns: Annotated[float, Field(ge=0)] = 1.0


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
    """

    name: str
    group: str
    technology: Technology
    centre: FloatArray
    u: FloatArray
    v: FloatArray
    size: tuple[float, float]

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
        u, v = self.technology.resolution_mm
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
    panels = tuple(_place(spec, technologies[spec.technology]) for spec in layout.panel)
    return Detector(layout.name, panels, bounds, layout.gate_ns, layout.description, text)


def _place(spec: PanelSpec, technology: Technology) -> Panel:
    u, v = spec.axes()
    size = spec.size_mm or technology.size_mm
    return Panel(spec.name, spec.group, technology, np.array(spec.centre_mm), u, v, size)
