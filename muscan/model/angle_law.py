"""The law by which muons of unknown momentum leave matter of a thickness: a table of angles.

For each cosine of the zenith angle and each thickness t (∫ λ dl along the way), the angle in a
plane is a mixture of normal distributions of the variances t u: u is the scattering power, from
that of the fastest muons to that of single collisions. The weights belong to the muons that come
out again. Between the tabulated thicknesses they are taken linearly in ln t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class AngleLaw:
    """Angles behind matter of one kind, under the sky's spectrum.

    Attributes
    ----------
    cosine : ndarray, shape (c,)
        Cosines of the zenith angle, ascending and evenly spaced.
    thickness : ndarray, shape (t,)
        ∫ λ dl of all that is crossed, ascending and evenly spaced in the logarithm [mrad²].
    power : ndarray, shape (k,)
        Variance of the angle in a plane over the thickness, ascending.
    weight : ndarray, shape (c, t, k)
        Share of the muons that come out; sums to one along the last axis.
    survival : ndarray, shape (c, t)
        Share of the muons with an incoming track that come out as far as an outgoing one asks.
    open_survival : ndarray, shape (c,)
        The same of muons that go past everything but the panels.
    """

    cosine: FloatArray
    thickness: FloatArray
    power: FloatArray
    weight: FloatArray
    survival: FloatArray
    open_survival: FloatArray

    def rows(self, cosine: NDArray[Any]) -> NDArray[np.int32]:
        """Return the row of the nearest cosine for each muon."""
        place = np.interp(cosine, self.cosine, np.arange(len(self.cosine)))
        return np.asarray(np.rint(place), np.int32)
