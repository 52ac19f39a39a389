"""Detectors: panels of a technology, at a pose, in groups that each measure one track.

A layout file (`muscan.model.layout`) holds ``[[panel]]`` entries; each names a technology (a file
of ``detectors/panels`` or a ``[technology.NAME]`` table of the same file). A *group* is a set of
panels that together measure one straight piece of a muon's track, such as the three planes above
the cargo. Which group a muon meets first is the muon's affair: it falls, so the higher one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from muscan import resources
from muscan.errors import InputError, nearest
from muscan.model import toml
from muscan.model.building_blocks import BodySpec
from muscan.model.layout import DeadChannels, LayoutSpec, PanelSpec
from muscan.model.layout import Technology as Technology
from muscan.model.pose import FloatArray
from muscan.model.toml_writer import to_toml


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
    technology_name : str
        The technology's name in the layout.
    """

    name: str
    group: str
    technology: Technology
    centre: FloatArray
    u: FloatArray
    v: FloatArray
    size: tuple[float, float]
    dead_channels: DeadChannels = ((), ())
    technology_name: str = ""

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
    fixed : tuple of BodySpec
        Bodies that always stand there, such as a table; `muscan.model.scene.fixed_scene` places
        them.
    """

    name: str
    panels: tuple[Panel, ...]
    bounds: FloatArray
    gate_ns: float = 200.0
    description: str = ""
    text: str = field(default="", repr=False)
    fixed: tuple[BodySpec, ...] = ()

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
    """Return the detector of a layout's text; ``source`` names it in errors.

    Raises
    ------
    InputError
        If a key is unknown or wrong, or there is no such technology; the message says where.
    """
    layout = toml.validate(LayoutSpec, toml.parse(text, source), source, text)
    technologies = dict(layout.technology)
    specs = layout.panels()
    for spec in specs:
        if spec.technology not in technologies:
            found = resources.find("detectors/panels", spec.technology)
            content = toml.read_text(found)
            data = toml.parse(content, found)
            technologies[spec.technology] = toml.validate(Technology, data, found, content)
            if any(isinstance(value, dict) for value in data.values()):
                content = to_toml(data)  # a table's header would begin another one in the layout
            text = f'{text.rstrip()}\n\n[technology."{spec.technology}"]\n{content.strip()}\n'
    names = [spec.name for spec in specs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(source, f"panel '{min(twice)}' stands twice", "give each its own name")
    bounds = np.array([layout.inspection.min_mm, layout.inspection.max_mm])
    panels = tuple(_place(spec, technologies[spec.technology], source) for spec in specs)
    return Detector(
        layout.name, panels, bounds, layout.gate_ns, layout.description, text, layout.fixed
    )


def _place(spec: PanelSpec, technology: Technology, source: str | Path) -> Panel:
    u, v = spec.axes()
    size = spec.size_mm or technology.size_mm
    both = zip(technology.dead_channels, spec.dead_channels, strict=True)
    dead_u, dead_v = (tuple(sorted({*general, *own})) for general, own in both)
    _check_channels(spec.name, size, technology, (dead_u, dead_v), source)
    centre = np.array(spec.centre_mm)
    return Panel(
        spec.name, spec.group, technology, centre, u, v, size, (dead_u, dead_v), spec.technology
    )


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
