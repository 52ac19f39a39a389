"""The transverse frame against Rodrigues' rotation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscan.kernels.frame import transverse_axes

DOWN = np.array([0.0, 0.0, -1.0])


def carried_axes(direction: np.ndarray) -> np.ndarray:
    """The x and y axes after the smallest rotation from straight down, by Rodrigues' formula."""
    axis = np.cross(DOWN, direction)
    sine, cosine = np.linalg.norm(axis), DOWN @ direction
    if sine < 1e-15:
        return np.eye(3)[:2]
    k = axis / sine
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    rotation = np.eye(3) + sine * cross + (1 - cosine) * cross @ cross
    return rotation[:, :2].T


@given(st.floats(0, np.pi / 2), st.floats(-np.pi, np.pi))
def test_axes_are_carried_by_the_smallest_rotation(zenith: float, azimuth: float) -> None:
    direction = np.array(
        [np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), -np.cos(zenith)]
    )
    axes = np.array(transverse_axes(*direction)).reshape(2, 3)
    np.testing.assert_allclose(axes, carried_axes(direction), atol=1e-12)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(axes @ direction, 0, atol=1e-12)
    np.testing.assert_allclose(np.cross(axes[0], axes[1]), -direction, atol=1e-12)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ((0, 0, -1), (1, 0, 0, 0, 1, 0)),
        ((1, 0, 0), (0, 0, 1, 0, 1, 0)),
        ((0, -1, 0), (1, 0, 0, 0, 0, -1)),
    ],
)
def test_axes_of_simple_directions(direction: tuple, expected: tuple) -> None:
    assert transverse_axes(*map(float, direction)) == pytest.approx(expected, abs=1e-15)
