"""Poses in space: rotations from Euler angles and checks of axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
FloatArray = NDArray[np.float64]


def rotation_matrix(rotation_deg: Vector) -> FloatArray:
    """Return the rotation by three angles about the fixed x, then y, then z axis.

    Parameters
    ----------
    rotation_deg : tuple of float
        Angles about x, y and z [degrees], right-handed.

    Returns
    -------
    ndarray, shape (3, 3)
        Takes body coordinates to global ones: ``x_global = R @ x_body``.
    """
    a, b, c = np.radians(rotation_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix = about_z @ about_y @ about_x
    # Quarter turns come out exact, so that axis-aligned bodies stay axis-aligned.
    rounded = np.round(matrix)
    return np.asarray(np.where(np.abs(matrix - rounded) < 1e-15, rounded, matrix))
