"""What a layout file says: technologies, panels with poses and repeats, and the inspected space.

`muscan.model.detector` makes a detector of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from muscan.model import toml
from muscan.model.building_blocks import BodySpec
from muscan.model.pose import FloatArray, Vector, rotation_matrix
from muscan.model.strips import Strips

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
    strips : Strips
        What raw channels of a readout by pitch hold (``[strips]``).
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
    strips: Strips = Strips()

    @model_validator(mode="after")
    def _whole(self) -> Technology:
        if self.readout == "gaussian" and min(self.resolution_mm) <= 0:
            raise ValueError("a gaussian readout needs resolution_mm, both greater than 0")
        if self.pitch_mm is None and (self.readout == "pitch" or any(self.dead_channels)):
            raise ValueError("a readout by channels and dead_channels need pitch_mm")
        if self.readout != "pitch" and "strips" in self.model_fields_set:
            raise ValueError('strips are of a readout by channels: give readout = "pitch"')
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


class Repeat(toml.Spec):
    """How often a panel stands again, and how far on each time."""

    count: Annotated[int, Field(ge=1, le=1000)]
    step_mm: Vector


class PanelSpec(toml.Spec):
    """One ``[[panel]]`` entry of a layout file; with ``repeat``, several panels."""

    name: str
    group: str
    technology: str
    centre_mm: Vector
    u_axis: Vector | None = None
    v_axis: Vector | None = None
    rotation_deg: Vector = (0.0, 0.0, 0.0)
    size_mm: tuple[Positive, Positive] | None = None
    dead_channels: DeadChannels = ((), ())
    repeat: Repeat | tuple[Repeat, ...] = ()

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

    def expanded(self) -> Iterator[PanelSpec]:
        """Yield the panels that a repeated one stands for, numbered from 1, the last step fastest.

        ``name = "roof"`` with one repeat gives ``roof-1``, ``roof-2``, …; with two, ``roof-1-1``.
        """
        repeats = (self.repeat,) if isinstance(self.repeat, Repeat) else self.repeat
        if not repeats:
            yield self
            return
        steps = np.array([repeat.step_mm for repeat in repeats])
        for places in itertools.product(*(range(repeat.count) for repeat in repeats)):
            x, y, z = (np.array(self.centre_mm) + np.array(places) @ steps).tolist()
            name = "-".join([self.name, *(str(place + 1) for place in places)])
            yield self.model_copy(update={"name": name, "centre_mm": (x, y, z), "repeat": ()})


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
    """A layout file; a ``[[fixed]]`` is as a scene's ``[[body]]``, and always stands there."""

    name: str
    description: str = ""
    source: str = ""
    gate_ns: Positive = 200.0
    inspection: Inspection
    technology: dict[str, Technology] = Field(default_factory=dict)
    panel: Annotated[list[PanelSpec], Field(min_length=1)]
    fixed: tuple[BodySpec, ...] = ()

    def panels(self) -> list[PanelSpec]:
        """Return the panels, those of a repeat one by one."""
        return [panel for spec in self.panel for panel in spec.expanded()]

    @model_validator(mode="after")
    def _several(self) -> LayoutSpec:
        if len(self.panels()) < 2:
            raise ValueError("a layout has two panels or more")
        return self

    @model_validator(mode="after")
    def _solid(self) -> LayoutSpec:
        waiting = list(self.fixed)
        while waiting:
            body = waiting.pop()
            if body.shape == "voxels":
                raise ValueError(f"the fixed body '{body.name}' is a voxel map: give boxes")
            waiting += body.body
        return self
