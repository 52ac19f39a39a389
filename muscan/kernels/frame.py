"""The frame carried along a muon's direction, in which track errors are written."""

from __future__ import annotations

from numba import njit

from muscan.kernels.options import PART


@njit(**PART)
def transverse_axes(
    dx: float, dy: float, dz: float
) -> tuple[float, float, float, float, float, float]:
    """Return the x and y axes carried by the smallest rotation from straight down to a direction.

    Rodrigues' rotation from a = (0, 0, -1) to d about w = a × d is
    R = 1 + [w] + [w]²/(1 + a·d); with a·d = -dz its first two columns have the closed form below.
    The only singular direction is straight up, which a muon that falls never has.

    Parameters
    ----------
    dx, dy, dz : float
        Unit vector, dz <= 0.

    Returns
    -------
    e1x, e1y, e1z, e2x, e2y, e2z : float
        Unit vectors perpendicular to the direction and to each other, with e1 × e2 = -d.
    """
    scale = 1.0 / (1.0 - dz)
    cross = -dx * dy * scale
    return 1.0 - dx * dx * scale, cross, dx, cross, 1.0 - dy * dy * scale, dy
