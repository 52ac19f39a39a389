"""Muons at normal incidence on one slab in vacuum: what transport is validated with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels.transport import TURNED, TransportTables, cross_segment, follow
from muscan.model.material import Material, load_materials
from muscan.simulation.tables import LARGEST_MOMENTUM, build_tables

_CHUNK: Final = 16_384
#: Longest piece for a muon that goes sideways, in thicknesses of the slab.
SIDEWAYS_STEP: Final = 0.02


def transport_slab(
    material: str | Material,
    thickness_mm: float,
    momentum_GeV: float,
    n: int,
    *,
    seed: int,
    scattering: str = "moliere",
) -> dict[str, NDArray[np.float64] | NDArray[np.bool_]]:
    """Send µ⁻ at normal incidence through one slab in vacuum.

    Parameters
    ----------
    material : str or Material
        A material, or the name of one in the database.
    thickness_mm : float
        Thickness of the slab [mm]; 0 is an empty slab.
    momentum_GeV : float
        Momentum of every muon as it enters [GeV].
    n : int
        Number of muons.
    seed : int
        Seed of the random numbers. The same seed gives the same result on any number of cores.
    scattering : {"moliere", "highland"}
        Law of multiple scattering: see `muscan.simulation.tables.build_tables`.

    Returns
    -------
    dict of (n,) ndarray
        ``theta_x``, ``theta_y``: projected angles atan(px/pz), atan(py/pz) [rad] and ``x``, ``y``
        [mm] at the exit face, or those of the point where a muon stopped; ``momentum`` [GeV], NaN
        where stopped; ``stopped``, bool, also of the few that came back out of the entrance.

    Raises
    ------
    InputError
        If the material or the law is unknown, or a number is out of its range.

    Examples
    --------
    >>> muons = transport_slab("lead", 100, 3, 10_000, seed=1)
    >>> bool(0.020 < np.std(muons["theta_x"]) < 0.025)
    True
    """
    if not (np.isfinite(thickness_mm) and thickness_mm >= 0):
        raise InputError("thickness_mm", f"{thickness_mm} is no thickness", "give 0 mm or more")
    if not 0 < momentum_GeV <= LARGEST_MOMENTUM:
        remedy = f"give it in GeV, above 0 and up to {LARGEST_MOMENTUM:g}"
        raise InputError("momentum_GeV", f"{momentum_GeV} is no momentum of a muon here", remedy)
    if int(n) != n or n <= 0:
        raise InputError("n", f"{n} is no number of muons", "give 1 or more")
    if seed < 0:
        raise InputError("seed", f"{seed} is negative", "give 0 or a positive whole number")
    if isinstance(material, str):
        material = load_materials()[material]
    tables = build_tables([material], scattering, charge=-1)
    out = _cross_chunks(tables, float(momentum_GeV), float(thickness_mm), int(n), seed)
    stopped = out[4] == 0
    return {
        "theta_x": out[0],
        "theta_y": out[1],
        "x": out[2],
        "y": out[3],
        "momentum": np.where(stopped, np.nan, out[4]),
        "stopped": stopped,
    }


def _cross_chunks(
    tables: TransportTables,
    momentum: float,
    thickness: float,
    n: int,
    seed: int,
    workers: int | None = None,
) -> NDArray[np.float64]:
    """Return angles, positions and momentum (5, n), one random stream for each chunk of muons."""
    out = np.empty((5, n))
    starts = range(0, n, _CHUNK)
    streams = np.random.SeedSequence(seed).spawn(len(starts))

    def cross(stream: np.random.SeedSequence, start: int) -> None:
        part = out[:, start : start + _CHUNK]
        _cross_slab(np.random.default_rng(stream), tables, momentum, thickness, part)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(cross, streams, starts))
    return out


@njit(cache=True, nogil=True)
def _cross_slab(
    rng: np.random.Generator,
    tables: TransportTables,
    p: float,
    thickness: float,
    out: NDArray[np.float64],
) -> None:
    for i in range(out.shape[1]):
        q, x, y, z, ux, uy, uz = p, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0
        inside = thickness > 0
        # Nearly always one piece; a slow muon that is turned far aside is followed in several.
        while q > 0 and inside:
            face = (thickness - z) / uz if uz > 0 else -z / min(uz, -1e-9)
            # A muon that goes sideways soon goes elsewhere: the way ahead is cut short.
            length = face if abs(uz) > TURNED else min(face, SIDEWAYS_STEP * thickness)
            q, vx, vy, vz, dx, dy, travelled = cross_segment(rng, tables, 0, q, length)
            inside = travelled < face
            x, y, z, ux, uy, uz = follow(x, y, z, ux, uy, uz, travelled, vx, vy, vz, dx, dy)
            # Displaced out of the entrance but on its way in, it is still inside.
            inside &= z < thickness and (z > 0 or uz > 0)
            z = max(z, 0.0)
        if uz <= 0:  # back out of the entrance
            q = 0.0
        elif q > 0:
            x += (thickness - z) * ux / uz
            y += (thickness - z) * uy / uz
        out[0, i], out[1, i] = np.arctan2(ux, uz), np.arctan2(uy, uz)
        out[2, i], out[3, i], out[4, i] = x, y, q
