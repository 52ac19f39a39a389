"""What may be wrong with a layout: panels in each other or in the cargo, directions unmeasured."""

from __future__ import annotations

import itertools

import numpy as np

from muscan.model.detector import Detector
from muscan.model.pose import FloatArray

#: Centre [mm], axes as rows, and half sizes [mm].
Box = tuple[FloatArray, FloatArray, FloatArray]
#: Smallest eigenvalue of a measured combination of a group's position and angle.
_MEASURED = 1e-3


def overlaps(detector: Detector) -> list[tuple[str, str]]:
    """Return the pairs of panels whose matter shares some space."""
    boxes = _boxes(detector)
    names = [panel.name for panel in detector.panels]
    return [
        (names[i], names[j])
        for i, j in itertools.combinations(range(len(boxes)), 2)
        if _boxes_meet(boxes[i], boxes[j])
    ]


def intruders(detector: Detector) -> list[str]:
    """Return the panels whose matter reaches into the inspected space."""
    low, high = detector.bounds
    space = ((low + high) / 2, np.eye(3), (high - low) / 2)
    return [
        panel.name
        for panel, box in zip(detector.panels, _boxes(detector), strict=True)
        if _boxes_meet(box, space)
    ]


def unmeasured(detector: Detector) -> dict[str, list[str]]:
    """Return what each group does not measure of a muon that crosses all its panels head-on.

    Returns
    -------
    dict of str to list of str
        By group, such as ``"position and angle along (0, 1, 0)"``; groups that measure all are
        left out.
    """
    found = {}
    for group, name in enumerate(detector.groups):
        members = np.flatnonzero(detector.group_index == group)
        normal = detector.axes[members[0], 2]
        first, second = detector.axes[members[0], 0], detector.axes[members[0], 1]
        depth = detector.centres[members] @ normal
        depth = (depth - depth.mean()) / max(float(np.abs(depth - depth.mean()).max()), 1e-9)
        rows = []
        for index, at in zip(members, depth, strict=True):
            for axis in np.flatnonzero(np.isfinite(detector.sigmas[index])):
                across = np.array(
                    [detector.axes[index, axis] @ first, detector.axes[index, axis] @ second]
                )
                rows.append(np.concatenate([across, at * across]))
        values, vectors = np.linalg.eigh(np.array(rows).T @ np.array(rows))
        missing = [
            _described(vector, first, second)
            for value, vector in zip(values, vectors.T, strict=True)
            if value < _MEASURED
        ]
        if missing:
            found[name] = sorted(missing)
    return found


def _described(vector: FloatArray, first: FloatArray, second: FloatArray) -> str:
    what = []
    for name, part in (("position", vector[:2]), ("angle", vector[2:])):
        if np.linalg.norm(part) > 0.1:
            along = part[0] * first + part[1] * second
            along = along / np.linalg.norm(along)
            along = along * np.sign(along[np.argmax(np.abs(along))])
            what.append(f"{name} along ({', '.join(f'{x + 0:.3g}' for x in np.round(along, 3))})")
    return " with ".join(what)


def _boxes(detector: Detector) -> list[Box]:
    """Return the matter of each panel."""
    return [
        (panel.centre, axes, np.array([*panel.size, panel.technology.thickness_mm]) / 2)
        for panel, axes in zip(detector.panels, detector.axes, strict=True)
    ]


def _boxes_meet(first: Box, second: Box) -> bool:
    """Return whether two boxes (centre, axes as rows, half sizes) share more than a surface.

    By the separating axis theorem (S. Gottschalk et al., SIGGRAPH 1996).
    """
    apart = second[0] - first[0]
    crosses = [np.cross(a, b) for a in first[1] for b in second[1]]
    for axis in [*first[1], *second[1], *crosses]:
        length = np.linalg.norm(axis)
        if length < 1e-9:
            continue
        unit = axis / length
        reach = np.abs(first[1] @ unit) @ first[2] + np.abs(second[1] @ unit) @ second[2]
        if abs(apart @ unit) >= reach - 1e-6:
            return False
    return True
