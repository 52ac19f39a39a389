"""Likelihood of a box against what is around it, straight from the muons.

A momentum p stands for a reach u(p), what matter the muon could still cross, in units of the
momentum lost at the minimum of ionisation: so the reach at any depth is the first one less what
was crossed, and slow muons lose more (`reach_of`). The scattering power in a bin of the path
(`muscan.kernels.ways`) is the geometric mean of those at its two ends: for β near 1 the mean of
1/p² between two momenta is one over their product. Angles are in mrad, offsets in mrad mm and
scattering densities in mrad²/mm.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.exponential import exp_minus
from muscan.kernels.ways import BINS

#: Added to a density so that its logarithm is finite.
LEAST_DENSITY = 1e-290
_MASS2 = 0.1056583755**2
#: Momentum at which scattering densities hold [GeV].
_REFERENCE = 3.0
#: Scattering density times the radiation length [mrad²] at the reference momentum.
MRAD2_PER_X0 = 25.0
#: Width of the angles of wrongly paired tracks over that of single scatters.
_WRONG = 6.0
#: Scale of the reach [GeV]: a muon of 0.42 GeV just crosses 132 g/cm² of water (PDG, muon ranges).
REACH = 0.25
#: Momentum classes of a muon (`muscan.model.spectrum.CLASS_EDGES`). A constant, and with all
#: numbers of the classes in one flat array: so the compiler sees that loops over classes may go
#: through vector registers, and the work of a muon is a third of what it is else.
CLASSES = 12
#: Where in that array the numbers begin, see `classes`; and its size.
SAA, SAB, SBB, INCOMING, AFTER, ROOT, POWERS = range(0, 7 * CLASSES, CLASSES)
WORK = POWERS + BINS * CLASSES
#: Sums over the classes in any order, and no check of every division.
VECTOR: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}


class Momenta(NamedTuple):
    """Momenta of the classes.

    Attributes
    ----------
    reach : (rows, k) float64
        Reach of the incoming momentum; for each kind of muon one row a loss [GeV].
    weight : (rows, k) float64
    steps : int
        Rows a kind of muon: the losses are 0 and ``first`` times powers of ``ratio``.
    first, ratio : float
    lowest : float
        Reach below which a muon is not tracked [GeV].
    outlier, outlier_angle : float
        Fraction of muons that scatter once by any angle, and their rms angle per plane [mrad].
    """

    reach: np.ndarray
    weight: np.ndarray
    steps: int
    first: float
    ratio: float
    lowest: float
    outlier: float
    outlier_angle: float


@njit(cache=True, nogil=True)
def reach_of(p):
    """Reach [GeV] of momenta [GeV]: p²/(p + a).

    Close to ∫ β^(8/3) dp, for losses a length that go as 1/β^(5/3) below the minimum of ionisation.
    """
    return p * p / (p + REACH)


@njit(cache=True, nogil=True, inline="always")
def root_power(reach):
    """Square root of the scattering power, p0/βp, of a reach."""
    p = 0.5 * (reach + math.sqrt(reach * (reach + 4.0 * REACH)))
    square = p * p
    return _REFERENCE * math.sqrt(square + _MASS2) / square


@njit(cache=True, nogil=True, inline="always")
def highland(thickness):
    """Highland's over Rossi's scattering variance for a path in radiation lengths."""
    factor = 13.6 / 15.0 * (1.0 + 0.038 * math.log(min(max(thickness, 1e-3), 1e2)))
    return factor * factor


@njit(cache=True, nogil=True, inline="always")
def _row_of(momenta, loss):
    """Row of a loss in a momentum table, and the share of the next one."""
    if loss < momenta.first:
        return 0, max(loss, 0.0) / momenta.first
    place = 1.0 + math.log(loss / momenta.first) / math.log(momenta.ratio)
    place = min(place, momenta.steps - 1.000001)
    return int(place), place - int(place)


@njit(cache=True, nogil=True)
def new_work():
    """Return room for the classes of one muon, see `classes`."""
    return np.zeros(WORK)


@njit(cache=True, nogil=True, **VECTOR)
def classes(momenta, row, bins, panels, scale, split, extra, work):
    """Fill each class's elements of S without the box, and its momentum at the box.

    Parameters
    ----------
    momenta : Momenta
    row : int
        First row of the muon.
    bins : ndarray, shape (BINS, 4)
    panels : ndarray, shape (2, 3)
    scale : float
        Highland's factor for the whole path.
    split : float
        Depth of the box in bins.
    extra : float
        What the box takes more than what it replaced [GeV].
    work : ndarray, shape (WORK,)
        Receives, each for all classes, from `SAA`, `SAB`, `SBB` on S, from `INCOMING` on the
        incoming reaches, from `AFTER` on the scattering powers in the box, and from `POWERS` on
        those in the bins.

    Returns
    -------
    int
        Row of the table that was used, for the weights.
    """
    total = extra
    for b in range(BINS):
        total += bins[b, 3]
    step, part = _row_of(momenta, total)
    here = row + step
    lowest = momenta.lowest
    b_box = min(max(int(split), 0), BINS - 1)
    entering = depth_loss(bins, split)
    leaving = entering + extra
    aa, ab, bb = np.float64(panels[0, 0]), np.float64(panels[0, 1]), np.float64(panels[0, 2])
    for k in range(CLASSES):
        less = (1.0 - part) * momenta.reach[here, k]
        work[INCOMING + k] = less + part * momenta.reach[here + 1, k]
    for k in range(CLASSES):
        p = work[INCOMING + k]
        r = root_power(max(p, lowest))
        work[ROOT + k] = r
        work[SAA + k] = r * r * aa
        work[SAB + k] = r * r * ab
        work[SBB + k] = r * r * bb
        one, two = max(p - entering, lowest), max(p - leaving, lowest)
        work[AFTER + k] = root_power(one) * root_power(two)
    lost = 0.0
    for b in range(BINS):
        lost += bins[b, 3]
        if b == b_box:
            lost += extra
        aa, ab, bb = scale * bins[b, 0], scale * bins[b, 1], scale * bins[b, 2]
        powers = POWERS + b * CLASSES
        for k in range(CLASSES):
            r = root_power(max(work[INCOMING + k] - lost, lowest))
            q = work[ROOT + k] * r
            work[ROOT + k] = r
            work[powers + k] = q
            work[SAA + k] += q * aa
            work[SAB + k] += q * ab
            work[SBB + k] += q * bb
    aa, ab, bb = np.float64(panels[1, 0]), np.float64(panels[1, 1]), np.float64(panels[1, 2])
    for k in range(CLASSES):
        q = work[ROOT + k] * work[ROOT + k]
        work[SAA + k] += q * aa
        work[SAB + k] += q * ab
        work[SBB + k] += q * bb
    return here


@njit(cache=True, nogil=True, inline="always")
def depth_loss(bins, split):
    """Momentum lost down to a depth, given in bins [GeV]."""
    here = min(max(int(split), 0), BINS - 1)
    lost = (split - here) * bins[here, 3]
    for b in range(here):
        lost += bins[b, 3]
    return lost


@njit(cache=True, nogil=True, inline="always")
def crossed(bins):
    """Thickness of what a muon crosses, in mrad² at the reference momentum."""
    thickness = 0.0
    for b in range(BINS):
        thickness += bins[b, 0]
    return thickness


@njit(cache=True, nogil=True)
def outlier_density(ways, n, momenta):
    """Density of one muon as an outlier: a single scatter, or two tracks that are not one muon's.

    Both are normal in angle with an even place along the path; the latter, one in five, are
    `_WRONG` times as wide.
    """
    data, noise = ways.data[n], ways.noise[n]
    half = 0.5 * ways.along[n, 1]
    total = 0.0
    for kind in range(2):
        once = momenta.outlier_angle * momenta.outlier_angle * (1.0 if kind == 0 else _WRONG**2)
        once_bb = once * half * half / 3.0
        exponent, volume = 0.0, 1.0
        for plane in range(2):
            a, b = np.float64(data[2 * plane]), np.float64(data[2 * plane + 1])
            aa, ab, bb = noise[3 * plane] + once, noise[3 * plane + 1], noise[3 * plane + 2]
            bb += once_bb
            det = aa * bb - ab * ab
            exponent += 0.5 * (bb * a * a - 2 * ab * a * b + aa * b * b) / det
            volume *= det
        share = 0.8 if kind == 0 else 0.2
        total += share * math.exp(-exponent) / math.sqrt(volume)
    return total


@njit(cache=True, nogil=True, **VECTOR)
def mixture_log_density(data, noise, weight, work, aa, ab, bb, single, outlier):
    """Log of the mixture density of one muon, with (2π)⁻² left out.

    Parameters
    ----------
    data, noise : ndarray, shape (4,) and (6,)
        As in `Ways`.
    weight : ndarray, shape (CLASSES,)
    work : ndarray, shape (WORK,)
        From `classes`.
    aa, ab, bb : float
        Elements of S of the box: those of class k are S_k + after_k (aa, ab, bb).
    single, outlier : float
        Density of an outlier, from `outlier_density`, and the fraction of outliers.
    """
    a1, b1 = np.float64(data[0]), np.float64(data[1])
    a2, b2 = np.float64(data[2]), np.float64(data[3])
    n0, n1, n2 = np.float64(noise[0]), np.float64(noise[1]), np.float64(noise[2])
    n3, n4, n5 = np.float64(noise[3]), np.float64(noise[4]), np.float64(noise[5])
    aa1, ab1, bb1 = a1 * a1, 2.0 * a1 * b1, b1 * b1
    aa2, ab2, bb2 = a2 * a2, 2.0 * a2 * b2, b2 * b2
    total = 0.0
    for k in range(CLASSES):
        q = work[AFTER + k]
        qaa, qab, qbb = work[SAA + k] + q * aa, work[SAB + k] + q * ab, work[SBB + k] + q * bb
        vaa, vab, vbb = n0 + qaa, n1 + qab, n2 + qbb
        waa, wab, wbb = n3 + qaa, n4 + qab, n5 + qbb
        v, w = vaa * vbb - vab * vab, waa * wbb - wab * wab
        inverse = 1.0 / (v * w)
        exponent = w * (vbb * aa1 - vab * ab1 + vaa * bb1)
        exponent += v * (wbb * aa2 - wab * ab2 + waa * bb2)
        total += weight[k] * math.sqrt(inverse) * exp_minus(0.5 * inverse * exponent)
    return math.log((1.0 - outlier) * total + outlier * single + LEAST_DENSITY)


@njit(cache=True, nogil=True)
def base_densities(ways, bins, momenta, rows, values):
    """Fill the log densities of muons in what their bins hold, without any box."""
    work = new_work()
    for n in rows:
        scale = highland(crossed(bins[n]) / MRAD2_PER_X0)
        here = classes(momenta, ways.row[n], bins[n], ways.panels[n], scale, 0.5 * BINS, 0.0, work)
        values[n] = mixture_log_density(
            ways.data[n], ways.noise[n], momenta.weight[here], work,
            0.0, 0.0, 0.0, outlier_density(ways, n, momenta), momenta.outlier,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def region_density(ways, bins, momenta, rows, moments, increase, extra):
    """Return the log likelihood of muons with a higher density in a region.

    Parameters
    ----------
    ways, bins, momenta
        See `muscan.kernels.ways`.
    rows : ndarray of int, shape (m,)
        Muons.
    moments : ndarray, shape (m, 4)
        From `muscan.kernels.ways.crossings`.
    increase : float
        Density above the background's [mrad²/mm].
    extra : float
        Loss above the background's [GeV/mm].
    """
    work = new_work()
    total = 0.0
    for i in range(rows.shape[0]):
        n = rows[i]
        scale = highland((crossed(bins[n]) + increase * moments[i, 0]) / MRAD2_PER_X0)
        here = classes(
            momenta, ways.row[n], bins[n], ways.panels[n], scale,
            moments[i, 3], extra * moments[i, 0], work,
        )  # fmt: skip
        more = scale * increase
        total += mixture_log_density(
            ways.data[n], ways.noise[n], momenta.weight[here], work,
            more * moments[i, 0], more * moments[i, 1], more * moments[i, 2],
            outlier_density(ways, n, momenta), momenta.outlier,
        )  # fmt: skip
    return total
