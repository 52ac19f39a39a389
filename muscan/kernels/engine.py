"""Muons through nested bodies and panels, and their hits."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.geometry import (
    VOXELS,
    aims_at,
    body_span,
    next_daughter,
    to_body,
    voxel_step,
)
from muscan.kernels.response import add_noise, record_crossings, sort_by_time, triggers
from muscan.kernels.source import draw_muon
from muscan.kernels.transport import cross_segment
from muscan.kernels.transport import follow as move

MUON_MASS = 0.1056583755  # GeV
LIGHT = 299.792458  # mm/ns
LIFETIME = 2196.9811  # ns

#: What becomes of a muon: the indices of `counts`.
GENERATED, MISSED, LEFT, STOPPED, DECAYED, STUCK, UNTRIGGERED, KEPT = range(8)

#: A step ends where the muon is displaced sideways by this standard deviation [mm] …
SIDEWAYS = 2.0
#: … or turned by this one [rad], so that it is looked up anew in which body it is.
TURN = 0.1
#: Pieces of the medium that are thinner than this are crossed straight, and their matter is added
#: to the next piece of the medium, until together they are thicker [radiation lengths].
THINNEST = 2e-3
MAX_STEPS = 100_000
#: Panels that one muon can cross.
MAX_CROSSINGS = 64


class MuonColumns(NamedTuple):
    """Columns of muons that kernels fill; meaning as in `muscan.model.events.Muons`."""

    event_id: NDArray[np.uint64]
    momentum: NDArray[np.float32]
    charge: NDArray[np.int8]
    position: NDArray[np.float32]
    direction: NDArray[np.float32]


@njit(cache=True, nogil=True)
def longest_step(length, per_x0, beta_p):  # type: ignore[no-untyped-def]
    """Return a length, cut so that the muon is not turned or displaced too far in one step.

    Parameters
    ----------
    length : float
        Length to the next border [mm].
    per_x0 : float
        Inverse radiation length [1/mm].
    beta_p : float
        Velocity times momentum [GeV].

    Notes
    -----
    Over a length s, the angle's variance is θ² = (15 MeV/βp)²·s/X0 (B. Rossi, High-Energy
    Particles, 1952) and that of the displacement s²θ²/3.
    """
    per_mm = (0.015 / beta_p) ** 2 * per_x0
    if length * length * length * per_mm > 3.0 * SIDEWAYS * SIDEWAYS:
        length = (3.0 * SIDEWAYS * SIDEWAYS / per_mm) ** (1.0 / 3.0)
    if length * per_mm > TURN * TURN:
        length = TURN * TURN / per_mm
    return length


@njit(cache=True, nogil=True)
def _cross_panel(panel, x, y, z, ex, ey, ez, row):  # type: ignore[no-untyped-def]
    """Write where a piece of path crosses a panel's mid-plane; return how far along it, or −1."""
    c = panel.centre
    au, av, aw = to_body(panel, x - c[0], y - c[1], z - c[2])
    bu, bv, bw = to_body(panel, ex - c[0], ey - c[1], ez - c[2])
    if (aw > 0.0) == (bw > 0.0):
        return -1.0
    share = aw / (aw - bw)
    u, v = au + share * (bu - au), av + share * (bv - av)
    if abs(u) > panel.half[0] or abs(v) > panel.half[1]:
        return -1.0
    length = math.sqrt((bu - au) ** 2 + (bv - av) ** 2 + (bw - aw) ** 2)
    row[0], row[1], row[3] = u, v, length / abs(bw - aw)
    return share


@njit(cache=True, nogil=True)
def follow(rng, g, tables, per_x0, p, x, y, z, dx, dy, dz, panels, crossings):  # type: ignore[no-untyped-def]
    """Carry one muon through the world, noting the panels that it crosses.

    Parameters
    ----------
    g : Geometry
    tables : TransportTables
    per_x0 : (n_materials,) float64
        Inverse radiation lengths [1/mm].
    p, x, y, z, dx, dy, dz : float
        Momentum [GeV], start [mm] and direction.
    panels : (MAX_CROSSINGS,) int32, crossings : (MAX_CROSSINGS, 4) float64
        Filled with the panel, and u, v [mm], time [ns] and relative path length.

    Returns
    -------
    n : int
        Panels crossed.
    fate : int
        `LEFT`, `STOPPED`, `DECAYED` or `STUCK`.
    """
    bodies, nodes = g.bodies, g.nodes
    n, at, time = 0, 0, 0.0
    owed, medium = 0.0, bodies[0].material
    age = LIFETIME * rng.standard_exponential()
    for _ in range(MAX_STEPS):
        body = bodies[at]
        leave = math.inf
        if at > 0:
            leave = body_span(body, x, y, z, dx, dy, dz)[1]
            if leave <= 0.0:
                at = body.mother
                continue
        daughter, border = next_daughter(bodies, nodes, at, x, y, z, dx, dy, dz, leave)
        if daughter < 0 and at == 0:
            return n, LEFT
        material, length = body.material, border
        if body.kind == VOXELS:
            material, length = voxel_step(body, g.voxels, x, y, z, dx, dy, dz, border)
        energy = math.sqrt(p * p + MUON_MASS * MUON_MASS)
        length = longest_step(length, per_x0[material], p * p / energy)
        ox, oy = 0.0, 0.0
        if length > 0.0:
            tx, ty, tz, travelled, speed = 0.0, 0.0, 1.0, length, p / energy * LIGHT
            if material == medium and (owed + length) * per_x0[material] < THINNEST:
                owed += length
            else:
                matter = length + owed if material == medium else length
                p, tx, ty, tz, ox, oy, travelled = cross_segment(rng, tables, material, p, matter)
                if matter > length:
                    share, owed = length / matter, 0.0
                    ox, oy, travelled = ox * share, oy * share, travelled * share
            ex, ey, ez, fx, fy, fz = move(x, y, z, dx, dy, dz, travelled, tx, ty, tz, ox, oy)
            duration = travelled / speed
            if body.panel >= 0 and n < MAX_CROSSINGS:
                share = _cross_panel(body, x, y, z, ex, ey, ez, crossings[n])
                if share >= 0.0:
                    panels[n], crossings[n, 2] = body.panel, time + share * duration
                    n += 1
            if p <= 0.0:
                return n, STOPPED
            time += duration
            age -= duration * MUON_MASS / energy
            if age <= 0.0:
                return n, DECAYED
            x, y, z, dx, dy, dz = ex, ey, ez, fx, fy, fz
            if length < border or travelled < length:
                continue
        # The displacement has moved the muon off the border: slide it back along its new way.
        target = daughter if daughter >= 0 else at
        enter, leave = body_span(bodies[target], x, y, z, dx, dy, dz)
        if enter <= leave:
            back = enter if daughter >= 0 else leave
            if abs(back) <= 3.0 * (abs(ox) + abs(oy)):
                x, y, z = x + back * dx, y + back * dy, z + back * dz
        if daughter < 0:
            at = body.mother
        elif enter <= leave:
            at = daughter
    return n, STUCK


@njit(cache=True, nogil=True)
def simulate_chunk(  # type: ignore[no-untyped-def]
    rng,
    source,
    g,
    tables,
    per_x0,
    response,
    spread,
    through,
    start,
    duration,
    hits,
    signals,
    muons,
    counts,
):
    """Draw muons, carry them through the world and write the hits of those that are recorded.

    Parameters
    ----------
    rng : numpy Generator
    source : SourceTables
    g : Geometry
    tables : TransportTables
    per_x0 : (n_materials,) float64, [1/mm]
    response : Response
    spread : float
        Bound on a muon's deflection by the panels and the medium, times its momentum [GeV].
    through : bool
        Whether a muon may be scattered by a body into panels that trigger.
    start, duration : float
        Times at which the first muon may, and before which the last must, arrive [ns].
    hits : HitColumns
    signals : SignalColumns
        Filled with what strips would see, where it has room.
    muons : MuonColumns
        As long as the number of muons to draw.
    counts : (8,) int64
        What became of the muons, added to.

    Returns
    -------
    n_hits, n_events : int
        Rows filled of ``hits`` and ``muons``.
    """
    panels = np.empty(MAX_CROSSINGS, np.int32)
    crossings = np.empty((MAX_CROSSINGS, 4))
    n_hits = n_events = 0
    n_muons = muons.momentum.size
    for i in range(n_muons):
        p, charge, x, y, z, dx, dy, dz = draw_muon(rng, source)
        counts[GENERATED] += 1
        beta_p = p * p / math.sqrt(p * p + MUON_MASS * MUON_MASS)
        wide = min(spread / beta_p, 0.5)
        if not aims_at(g.bodies, g.nodes, response.group, through, wide, x, y, z, dx, dy, dz):
            counts[MISSED] += 1
            continue
        n, fate = follow(rng, g, tables, per_x0, p, x, y, z, dx, dy, dz, panels, crossings)
        counts[fate] += 1
        time = start + duration * (i + rng.random()) / n_muons
        n_signals = signals.n[0]
        end = record_crossings(
            rng, response, panels, crossings, n, n_events, time, hits, signals, n_hits
        )
        if not triggers(response, hits, n_hits, end):
            signals.n[0] = n_signals
            counts[UNTRIGGERED] += 1
            continue
        end = add_noise(rng, response, n_events, time, hits, signals, end)
        sort_by_time(hits, n_hits, end)
        n_hits = end
        counts[KEPT] += 1
        muons.event_id[n_events] = n_events
        muons.momentum[n_events] = p
        muons.charge[n_events] = charge
        for axis, value in enumerate((x, y, z)):
            muons.position[n_events, axis] = value
        for axis, value in enumerate((dx, dy, dz)):
            muons.direction[n_events, axis] = value
        n_events += 1
    return n_hits, n_events
