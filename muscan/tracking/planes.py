"""A detector's panels as the arrays that the kernels take."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from muscan.kernels import line_fit
from muscan.kernels.line_fit import FloatArray
from muscan.kernels.track_finding import Planes
from muscan.model.detector import Detector, Panel
from muscan.model.material import load_materials
from muscan.units import (
    MUON_MASS_GEV,
    REFERENCE_MOMENTUM_GEV,
    SCATTERING_CONSTANT_MEV,
)

#: What is between the panels.
MEDIUM = "air"


def arrange(detector: Detector) -> Planes:
    """Return the panels as arrays, group by group from the outermost to the innermost.

    Scattering is Rossi's, θ² = (15 MeV / βp)² x/X0 for each projection: unlike Highland's it
    adds up over the panels of a track.
    """
    centre = detector.centres
    normal = detector.axes[:, 2]
    middle = detector.bounds.mean(axis=0)
    order: list[int] = []
    start = [0]
    inward = []
    for group in range(len(detector.groups)):
        members = np.flatnonzero(detector.group_index == group)
        falling = _falling(normal[members])
        towards = middle - centre[members].mean(axis=0)
        # Along the normal, because a wall's centre need not be level with the inspected space.
        depth = (centre[members] - middle) @ falling * np.sign(towards @ falling or 1.0)
        order += members[np.argsort(depth, kind="stable")].tolist()
        start.append(len(order))
        inward.append(towards / max(float(np.linalg.norm(towards)), 1e-9))
    panels = np.array(order, dtype=np.int64)
    table = np.empty((len(panels), line_fit.PLANE_COLUMNS))
    table[:, line_fit.CENTRE : line_fit.U_AXIS] = centre[panels]
    table[:, line_fit.U_AXIS : line_fit.HALF] = detector.axes[panels].reshape(-1, 9)
    table[:, line_fit.HALF : line_fit.LAYER] = detector.half_sizes[panels]
    table[:, line_fit.LAYER] = [_panel_scattering(detector.panels[index]) for index in order]
    table[:, line_fit.MEDIUM] = _scattering(MEDIUM)
    return Planes(
        table=table,
        plane_of=np.argsort(panels),
        start=np.array(start, dtype=np.int64),
        inward=np.array(inward),
    )


def _falling(normals: FloatArray) -> FloatArray:
    """Return the mean direction of normals, each turned to agree with the first, never upward."""
    signs = np.where(normals @ normals[0] < 0, -1.0, 1.0)
    mean = (normals * signs[:, None]).sum(axis=0)
    mean /= np.linalg.norm(mean)
    return np.asarray(-mean if mean[2] > 0 else mean)


def _panel_scattering(panel: Panel) -> float:
    """Return the variance of the projected angle through a panel at normal incidence [rad²]."""
    thickness = panel.technology.thickness_mm
    return thickness * _scattering(panel.technology.material) if thickness > 0 else 0.0


@lru_cache(maxsize=64)
def _scattering(material: str) -> float:
    """Return the variance of the projected angle a length at the reference momentum [rad²/mm]."""
    p = REFERENCE_MOMENTUM_GEV
    beta_p = p * p / np.hypot(p, MUON_MASS_GEV)
    theta = SCATTERING_CONSTANT_MEV * 1e-3 / beta_p
    return float(theta**2 / load_materials()[material].radiation_length_mm)
