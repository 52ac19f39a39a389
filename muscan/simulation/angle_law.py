"""Tabulates by transport how muons of the sky's spectrum leave layers of matter.

An approximate law (Highland's width, classes of momentum, mean losses) is 10 to 15 % off in the
thickness that follows from angles of unknown momentum. So the same transport as that of the
simulation makes the table: muons of evenly spaced quantiles of the spectrum go through a layer
above, the goods, and a layer below, and their angles are reduced to a mixture of normal
distributions, the most likely one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

from muscan.kernels.transport import cross_segment, follow
from muscan.model.angle_law import AngleLaw
from muscan.model.material import Material
from muscan.model.spectrum import MomentumSpectrum
from muscan.simulation.tables import build_tables
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]
#: A material and its thickness along the vertical [mm].
Layer = tuple[Material, float]

#: Muons for each cosine, and the cosines.
MUONS: Final = 20_000
COSINES: Final = np.linspace(0.5, 1.0, 11)
#: Thicknesses along the way [mrad²], from those of the fixed layers or the first one to the last,
#: 2 m of steel, and how many.
THICKNESSES: Final = (1.0, 3000.0, 18)
#: Scattering powers of the mixture: at 3 GeV and a radiation length, 0.9.
POWERS: Final = np.geomspace(2e-3, 2e2, 17)
#: Parts into which a step of thickness is cut.
FINER: Final = 4
#: Angles above this are single collisions that no likelihood should ask for [mrad].
WIDEST: Final = 500.0
#: Bins of ln θ² in which the mixture is fitted, and its steps.
_BINS: Final = np.geomspace(1e-3, 2 * WIDEST**2, 400)
_STEPS: Final = 400
_CHUNK: Final = 4096


def angle_law(
    goods: Material,
    spectrum: MomentumSpectrum,
    *,
    entry: Sequence[Layer] = (),
    before: Sequence[Layer] = (),
    above: Sequence[Layer] = (),
    below: Sequence[Layer] = (),
    after: Sequence[Layer] = (),
    muons: int = MUONS,
    seed: int = 0,
    workers: int | None = None,
) -> AngleLaw:
    """Return the law of angles behind goods between layers.

    Parameters
    ----------
    goods : Material
        What the thickness is of.
    spectrum : MomentumSpectrum
        Of the muons before everything.
    entry : sequence of (Material, float)
        Layers that a muon crosses for its incoming track to be seen; vertical thickness [mm].
    before, after : sequence of (Material, float)
        Further layers that take momentum and whose scattering is not part of the angle: panels
        above, and those below that it crosses for an outgoing track.
    above, below : sequence of (Material, float)
        Layers right above and below the goods, such as a container's roof and floor; their
        thickness counts in that of the law.
    muons : int
        For each cosine of the zenith angle.
    seed : int
    workers : int, optional
        Threads; they do not change the result.
    """
    layers = [*entry, *before, *above, *below, *after]
    tables = build_tables([goods, *(material for material, _ in layers)])
    index = np.arange(1, len(layers) + 1)
    depth = np.array([thickness for _, thickness in layers])
    parts = np.cumsum([0, len(entry), len(before), len(above), len(below), len(after)])
    fixed = sum(m.scattering_density * d / MM_PER_CM for m, d in (*above, *below))
    first, last, number = THICKNESSES
    thickness = np.geomspace(max(first, fixed), last, number)
    weights, survival = [], []
    for row, cosine in enumerate(COSINES):
        momenta = spectrum.quantile(float(cosine), (np.arange(muons) + 0.5) / muons)
        # At a flat angle the layers alone may be more than the first thicknesses.
        goods_mrad2 = np.maximum(thickness - fixed / cosine, 0.0)
        length = goods_mrad2 * MM_PER_CM / goods.scattering_density
        out = np.empty((number + 2, muons))
        starts = range(0, muons, _CHUNK)
        streams = np.random.SeedSequence((seed, row)).spawn(len(starts))

        def cross(stream, start, p=momenta, mm=length, depth=depth / cosine, out=out):  # type: ignore[no-untyped-def]
            rows = slice(start, start + _CHUNK)
            rng = np.random.default_rng(stream)
            _cross_layers(rng, tables, p[rows], mm, index, depth, parts, out[:, rows])

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(cross, streams, starts))
        totals = goods_mrad2 + fixed / cosine
        weights.append([_mixture(*each) for each in zip(out[2:], totals, strict=True)])
        came = np.isfinite(out).sum(axis=1)
        survival.append(came[1:] / came[0])
    found = np.array(survival)
    # Between the table's thicknesses all is taken linearly, so it is made finer by splines first.
    logs = np.log(thickness)
    fine = np.linspace(logs[0], logs[-1], FINER * (number - 1) + 1)
    weight = np.maximum(PchipInterpolator(logs, np.array(weights), axis=1)(fine), 0.0)
    weight /= weight.sum(axis=2, keepdims=True)
    out = CubicSpline(logs, found[:, 1:], axis=1)(fine)
    return AngleLaw(COSINES, np.exp(fine), POWERS, weight, np.clip(out, 1e-6, 1.0), found[:, 0])


def _mixture(squares: FloatArray, thickness: float) -> FloatArray:
    """Return the most likely weights of `POWERS`, given θ² in both planes together [mrad²]."""
    inside = squares[squares < WIDEST**2]
    number = np.histogram(inside, _BINS)[0].astype(float)
    number[0] += np.count_nonzero(inside < _BINS[0])
    variance = 2 * thickness * POWERS
    edges = np.exp(-np.append(0.0, _BINS[1:])[:, None] / variance)
    share = edges[:-1] - edges[1:]
    seen = 1 - np.exp(-(WIDEST**2) / variance)
    weight = np.full(len(POWERS), 1 / len(POWERS))
    if not number.any():
        return weight
    for _ in range(_STEPS):
        density = share @ weight
        weight *= share.T @ (number / np.maximum(density, 1e-300))
        weight /= seen
        weight /= weight.sum()
    return weight


@njit(cache=True, nogil=True)
def _go(rng, tables, material, length, state):  # type: ignore[no-untyped-def]
    """Carry a muon over a layer; return whether it came out."""
    p, x, y, z, ux, uy, uz = state
    inside = length > 0.0
    z = 0.0
    while inside:
        if p <= 0.0 or uz < 0.2:
            return False, state
        face = (length - z) / uz
        p, vx, vy, vz, dx, dy, travelled = cross_segment(rng, tables, material, p, face)
        if p <= 0.0:
            return False, state
        inside = travelled < face
        x, y, z, ux, uy, uz = follow(x, y, z, ux, uy, uz, travelled, vx, vy, vz, dx, dy)
        inside &= z < length
        z = max(z, 0.0)
    return True, (p, x, y, 0.0, ux, uy, uz)


@njit(cache=True, nogil=True)
def _cross_layers(rng, tables, momenta, length, index, depth, parts, out):  # type: ignore[no-untyped-def]
    """Fill the squared tangent of the angle [mrad²] behind each thickness, inf where none came.

    The first two rows of ``out`` tell whether a muon is seen at all, and whether it would come out
    past everything. The goods are crossed from one thickness to the next; at each, the muon goes
    on through the layers below as well, and what comes of that does not change it for the next.
    """
    for n in range(momenta.size):
        state = (momenta[n], 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        alive, state = _stack(rng, tables, index, depth, parts[0], parts[1], True, state)
        out[0, n] = 0.0 if alive else np.inf
        alive, state = _stack(rng, tables, index, depth, parts[1], parts[2], alive, state)
        comes, _ = _stack(rng, tables, index, depth, parts[4], parts[5], alive, state)
        out[1, n] = 0.0 if comes else np.inf
        state = (state[0], 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        alive, state = _stack(rng, tables, index, depth, parts[2], parts[3], alive, state)
        done = 0.0
        for k in range(length.size):
            if alive:
                alive, state = _go(rng, tables, 0, length[k] - done, state)
            done = length[k]
            comes, below = _stack(rng, tables, index, depth, parts[3], parts[4], alive, state)
            angle = 1e6 * (below[4] ** 2 + below[5] ** 2) / below[6] ** 2
            comes, _ = _stack(rng, tables, index, depth, parts[4], parts[5], comes, below)
            out[k + 2, n] = angle if comes else np.inf


@njit(cache=True, nogil=True)
def _stack(rng, tables, index, depth, first, last, alive, state):  # type: ignore[no-untyped-def]
    """Carry a muon over some layers; return whether it came out."""
    for layer in range(first, last):
        if alive:
            alive, state = _go(rng, tables, index[layer], depth[layer], state)
    return alive, state
