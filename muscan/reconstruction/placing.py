"""Where known matter stands: the place of a frame of boxes that the muons like best.

A container's posts are known, its place between the panels only to a few centimetres. Shift, turn
about the vertical and a factor on the densities of all boxes together are fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from muscan.model.region import KnownBox

FloatArray = NDArray[np.float64]

#: How far from where it is said to stand a frame is sought, and how finely [mm].
REACH: Final = 100.0
PITCH: Final = 50.0
#: How far beside the declared place it is expected (standard deviation [mm]), how much it is
#: turned [rad], and how well the logarithm of its densities is known.
PLACE_ERROR: Final = 50.0
TURN_ERROR: Final = 0.005
DENSITY_ERROR: Final = 0.3


def moved(known: Sequence[KnownBox], place: FloatArray) -> list[KnownBox]:
    """Return boxes shifted across, turned about their common middle, and scaled in density.

    Parameters
    ----------
    known : sequence of KnownBox
    place : ndarray, shape (4,)
        Shift in x and y [mm], turn [rad], logarithm of the factor on the densities. The boxes stay
        upright; only their middles turn.
    """
    middle = np.mean([box.bounds for box in known], axis=(0, 1))
    cosine, sine = np.cos(place[2]), np.sin(place[2])
    found = []
    for box in known:
        centre, half = box.bounds.mean(axis=0), (box.bounds[1] - box.bounds[0]) / 2
        x, y, _ = centre - middle
        at = np.array(
            [
                middle[0] + cosine * x - sine * y + place[0],
                middle[1] + sine * x + cosine * y + place[1],
                centre[2],
            ]
        )
        density = box.density * float(np.exp(place[3]))
        found.append(KnownBox(box.name, np.array([at - half, at + half]), density))
    return found


def best_place(
    known: Sequence[KnownBox], log_ratio: Callable[[Sequence[KnownBox]], float]
) -> tuple[FloatArray, float]:
    """Return the most likely place of known boxes, as `moved` takes it, and its log ratio.

    Parameters
    ----------
    known : sequence of KnownBox
    log_ratio : callable
        Of the muons' likelihood with boxes, over that without [nats].
    """
    errors = np.array([PLACE_ERROR, PLACE_ERROR, TURN_ERROR, DENSITY_ERROR])

    def cost(place: FloatArray) -> float:
        return 0.5 * float(np.square(place / errors).sum()) - log_ratio(moved(known, place))

    steps = np.arange(-REACH, REACH + PITCH / 2, PITCH)
    tried = [np.array([x, y, 0.0, 0.0]) for x in steps for y in steps]
    start = min(tried, key=cost)
    simplex = start + np.vstack([np.zeros(4), np.diag([10.0, 10.0, 0.003, 0.2])])
    found = minimize(
        cost, start, method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": 100, "xatol": 1e-2, "fatol": 0.05},
    )  # fmt: skip
    return np.asarray(found.x), log_ratio(moved(known, found.x))
