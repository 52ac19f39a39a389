"""Motions of panels: one by one, all together, and those that straight tracks cannot see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from muscan.model.detector import Detector

FloatArray = NDArray[np.float64]

#: Maps of space x → x + B x + b that carry straight lines into straight lines: B, then b.
_AFFINE = {
    **{f"shift {axis}": (np.zeros((3, 3)), np.eye(3)[i]) for i, axis in enumerate("xyz")},
    "turn x": (np.array([[0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), np.zeros(3)),
    "turn y": (np.array([[0, 0, 1.0], [0, 0, 0], [-1.0, 0, 0]]), np.zeros(3)),
    "turn z": (np.array([[0, -1.0, 0], [1.0, 0, 0], [0, 0, 0]]), np.zeros(3)),
    "shear x with z": (np.array([[0, 0, 1.0], [0, 0, 0], [0, 0, 0]]), np.zeros(3)),
    "shear y with z": (np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 0]]), np.zeros(3)),
    "scale z": (np.diag([0, 0, 1.0]), np.zeros(3)),
}


def moved(detector: Detector, parameters: FloatArray) -> Detector:
    """Return a detector with every panel shifted along and turned about its own axes.

    Parameters
    ----------
    parameters : (p, 6) float64
        Shift along u, v and the normal [mm], and the rotation vector in these axes [rad].

    Notes
    -----
    The layout's text is that of ``detector``: write it anew (`muscan.model.layout_text`).
    """
    panels = []
    for panel, axes, own in zip(detector.panels, detector.axes, parameters, strict=True):
        turn = Rotation.from_rotvec(own[3:] @ axes).as_matrix()
        u = turn @ panel.u
        v = turn @ panel.v
        v = v - (u @ v) * u
        u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
        panels.append(replace(panel, centre=panel.centre + own[:3] @ axes, u=u, v=v))
    return replace(detector, panels=tuple(panels))


def difference(first: Detector, second: Detector) -> FloatArray:
    """Return the parameters (p, 6) that move each panel of ``first`` to that of ``second``."""
    rows = []
    for a, axes, b, others in zip(
        first.panels, first.axes, second.panels, second.axes, strict=True
    ):
        turn = Rotation.from_matrix(others.T @ axes).as_rotvec()
        rows.append(np.concatenate([axes @ (b.centre - a.centre), axes @ turn]))
    return np.array(rows)


def affine_modes(detector: Detector) -> dict[str, FloatArray]:
    """Return how the panels move, (p, 6), with each small affine map of space, by its name.

    A panel is rigid: of what stretches it only the turn is kept.
    """
    found = {}
    centre = detector.centres.mean(axis=0)
    for name, (matrix, shift) in _AFFINE.items():
        rows = []
        for panel, axes in zip(detector.panels, detector.axes, strict=True):
            normal = axes[2]
            tilt = np.cross(normal, -(matrix.T @ normal))
            tilt -= (tilt @ normal) * normal
            about = (panel.v @ matrix @ panel.u - panel.u @ matrix @ panel.v) / 2
            shifted = matrix @ (panel.centre - centre) + shift
            rows.append(np.concatenate([axes @ shifted, axes @ (tilt + about * normal)]))
        found[name] = np.array(rows)
    return found


def weak_subspace(curvature: FloatArray, free: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return orthonormal bases of what the data tell less well than the prior, and of the rest.

    Parameters
    ----------
    curvature : (m, m) float64
        In units of the parameters' prior errors: its eigenvalues are (prior error / error)².
    free : (m,) bool
        Parameters that may move; the others are in neither basis.
    """
    index = np.flatnonzero(free)
    values, vectors = np.linalg.eigh(curvature[np.ix_(index, index)])
    whole = np.zeros((len(free), len(index)))
    whole[index] = vectors
    return whole[:, values < 1.0], whole[:, values >= 1.0]
