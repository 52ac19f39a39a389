"""Constants of the angles' likelihood that is asked cell by cell, and a search in one variable.

The likelihood of regions is `muscan.reconstruction.region`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

#: Fraction of muons that scatter once by any angle, decay or were paired wrongly, and the rms of
#: their angle per plane [mrad].
OUTLIERS: Final = 0.003
OUTLIER_ANGLE: Final = 100.0
#: Muons with a larger angle in a plane are not used [mrad].
LARGEST_ANGLE: Final = 250.0


def golden_section(
    function: Callable[[float], float], low: float, high: float, steps: int
) -> float:
    """Return where a function of one variable is least, to (high − low) 0.618^steps."""
    ratio = (np.sqrt(5) - 1) / 2
    c, d = high - ratio * (high - low), low + ratio * (high - low)
    at_c, at_d = function(c), function(d)
    for _ in range(steps):
        if at_c < at_d:
            high, d, at_d = d, c, at_c
            c = high - ratio * (high - low)
            at_c = function(c)
        else:
            low, c, at_c = c, d, at_d
            d = low + ratio * (high - low)
            at_d = function(d)
    return float((low + high) / 2)
