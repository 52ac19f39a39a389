"""Sums over long vectors, in an order that does not depend on the number of threads.

BLAS has threads of its own. Single precision is read as it is and counted in double.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def dot(a, b):
    """Return a·b."""
    total = 0.0
    for i in range(len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(cache=True, nogil=True)
def add(vector, factor, other):
    """Add a factor times another vector to a vector."""
    for i in range(len(vector)):
        vector[i] += factor * np.float64(other[i])
