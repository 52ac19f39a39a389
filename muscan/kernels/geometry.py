"""Straight lines through nested boxes, cylinders, spheres and voxel maps."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

BOX, CYLINDER, SPHERE, VOXELS = 0, 1, 2, 3

#: A chord shorter than this is not entered [mm].
SHORTEST_CHORD = 1e-6


#: A body: its kind of shape; whether it is a box along the global axes; its centre, half size
#: (radius, radius and half height of a cylinder, radius of a sphere) [mm]; its rotation, whose rows
#: are its own axes; the index of its material (in a voxel map, not used), of its mother and of the
#: panel that it is (or −1); its daughters' nodes, from ``first`` to before ``last``; its voxels.
BODY = np.dtype(
    [
        ("centre", np.float64, (3,)),
        ("half", np.float64, (3,)),
        ("rotation", np.float64, (3, 3)),
        ("kind", np.int32),
        ("aligned", np.int32),
        ("material", np.int32),
        ("mother", np.int32),
        ("panel", np.int32),
        ("first", np.int32),
        ("last", np.int32),
        ("voxel_shape", np.int32, (3,)),
        ("first_voxel", np.int64),
    ],
    align=True,
)

#: A node of a tree of boxes: the corners of what hangs on it [mm]; the node to go on with if it is
#: missed; the body that it is, or −1.
NODE = np.dtype(
    [("low", np.float64, (3,)), ("high", np.float64, (3,)), ("skip", np.int32), ("body", np.int32)],
    align=True,
)


class Geometry(NamedTuple):
    """Nested bodies; body 0 is the world, and a mother stands before its daughters.

    Attributes
    ----------
    bodies : (n,) BODY
    nodes : (m,) NODE
    voxels : (k,) int32
        Index of the material of each voxel of all maps.
    """

    bodies: NDArray[np.void]
    nodes: NDArray[np.void]
    voxels: NDArray[np.int32]


@njit(cache=True, nogil=True)
def reciprocal(d):  # type: ignore[no-untyped-def]
    """Return 1/d, large but finite where d vanishes."""
    if abs(d) < 1e-12:
        return 1e12 if d >= 0.0 else -1e12
    return 1.0 / d


@njit(cache=True, nogil=True)
def box_span(lx, ly, lz, hx, hy, hz, x, y, z, ix, iy, iz):  # type: ignore[no-untyped-def]
    """Return where a line enters and leaves a box along the axes; enters > leaves if it misses.

    ``ix, iy, iz`` are the reciprocals of the direction's components.
    """
    a, b = (lx - x) * ix, (hx - x) * ix
    c, d = (ly - y) * iy, (hy - y) * iy
    e, f = (lz - z) * iz, (hz - z) * iz
    enter = max(max(min(a, b), min(c, d)), min(e, f))
    leave = min(min(max(a, b), max(c, d)), max(e, f))
    return enter, leave


@njit(cache=True, nogil=True)
def _cylinder_span(radius, half, x, y, z, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Enter and leave a cylinder about z, in its own frame."""
    a = dx * dx + dy * dy
    b = x * dx + y * dy
    c = x * x + y * y - radius * radius
    if a < 1e-20:
        if c > 0.0:
            return 1.0, 0.0
        enter, leave = -1e12, 1e12
    else:
        root = b * b - a * c
        if root < 0.0:
            return 1.0, 0.0
        root = math.sqrt(root)
        enter, leave = (-b - root) / a, (-b + root) / a
    iz = reciprocal(dz)
    p, q = (-half - z) * iz, (half - z) * iz
    return max(enter, min(p, q)), min(leave, max(p, q))


@njit(cache=True, nogil=True)
def to_body(body, x, y, z):  # type: ignore[no-untyped-def]
    """Rotate a vector to the axes of a body."""
    r = body.rotation
    return (
        r[0, 0] * x + r[0, 1] * y + r[0, 2] * z,
        r[1, 0] * x + r[1, 1] * y + r[1, 2] * z,
        r[2, 0] * x + r[2, 1] * y + r[2, 2] * z,
    )


@njit(cache=True, nogil=True)
def body_span(body, x, y, z, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Return where a line enters and leaves a body [mm along it]; enters > leaves if it misses."""
    x, y, z = x - body.centre[0], y - body.centre[1], z - body.centre[2]
    a, b, c = body.half[0], body.half[1], body.half[2]
    if body.kind == SPHERE:
        along = x * dx + y * dy + z * dz
        root = along * along - (x * x + y * y + z * z - a * a)
        if root < 0.0:
            return 1.0, 0.0
        root = math.sqrt(root)
        return -along - root, -along + root
    if not body.aligned:
        x, y, z = to_body(body, x, y, z)
        dx, dy, dz = to_body(body, dx, dy, dz)
    if body.kind == CYLINDER:
        return _cylinder_span(a, c, x, y, z, dx, dy, dz)
    return box_span(-a, -b, -c, a, b, c, x, y, z, reciprocal(dx), reciprocal(dy), reciprocal(dz))


@njit(cache=True, nogil=True)
def next_daughter(bodies, nodes, mother, x, y, z, dx, dy, dz, limit):  # type: ignore[no-untyped-def]
    """Return the first daughter of a body that a ray enters within a length, and where.

    Returns
    -------
    body : int
        The daughter, or −1.
    distance : float
        Where it is entered [mm], 0 if the point is already inside; ``limit`` if none is.
    """
    ix, iy, iz = reciprocal(dx), reciprocal(dy), reciprocal(dz)
    found = -1
    i, end = bodies[mother].first, bodies[mother].last
    while i < end:
        node = nodes[i]
        low, high = node.low, node.high
        enter, leave = box_span(
            low[0], low[1], low[2], high[0], high[1], high[2], x, y, z, ix, iy, iz
        )
        if enter >= limit or leave - max(enter, 0.0) <= SHORTEST_CHORD:
            i = node.skip
            continue
        if node.body >= 0:
            body = bodies[node.body]
            if not body.aligned:
                enter, leave = body_span(body, x, y, z, dx, dy, dz)
            enter = max(enter, 0.0)
            if enter < limit and leave - enter > SHORTEST_CHORD:
                found, limit = node.body, enter
        i += 1
    return found, limit


@njit(cache=True, nogil=True)
def voxel_step(body, voxels, x, y, z, dx, dy, dz, limit):  # type: ignore[no-untyped-def]
    """Return the material at a point of a voxel map and how far a ray stays in it [mm]."""
    x, y, z = to_body(body, x - body.centre[0], y - body.centre[1], z - body.centre[2])
    dx, dy, dz = to_body(body, dx, dy, dz)
    half, shape = body.half, body.voxel_shape
    nx, ny, nz = shape[0], shape[1], shape[2]
    wx, wy, wz = 2.0 * half[0] / nx, 2.0 * half[1] / ny, 2.0 * half[2] / nz
    x, y, z = x + half[0], y + half[1], z + half[2]
    # A nudge along the ray decides for the voxel ahead when the point lies on a face.
    kx = min(max(int((x + SHORTEST_CHORD * dx) / wx), 0), nx - 1)
    ky = min(max(int((y + SHORTEST_CHORD * dy) / wy), 0), ny - 1)
    kz = min(max(int((z + SHORTEST_CHORD * dz) / wz), 0), nz - 1)
    sx, sy, sz = 1 if dx >= 0 else -1, 1 if dy >= 0 else -1, 1 if dz >= 0 else -1
    ix, iy, iz = reciprocal(dx), reciprocal(dy), reciprocal(dz)
    tx = ((kx + (sx + 1) // 2) * wx - x) * ix
    ty = ((ky + (sy + 1) // 2) * wy - y) * iy
    tz = ((kz + (sz + 1) // 2) * wz - z) * iz
    first = body.first_voxel
    material = voxels[first + (kx * ny + ky) * nz + kz]
    while True:
        t = min(tx, ty, tz)
        if t >= limit:
            return material, limit
        if t == tx:
            kx, tx = kx + sx, tx + wx * abs(ix)
        elif t == ty:
            ky, ty = ky + sy, ty + wy * abs(iy)
        else:
            kz, tz = kz + sz, tz + wz * abs(iz)
        if not (0 <= kx < nx and 0 <= ky < ny and 0 <= kz < nz):
            return material, limit
        if voxels[first + (kx * ny + ky) * nz + kz] != material:
            return material, max(t, SHORTEST_CHORD)


@njit(cache=True, nogil=True)
def aims_at(bodies, nodes, group, through, margin, x, y, z, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Return whether a muon can trigger: it aims at two panels that count, within a margin.

    Parameters
    ----------
    group : (n_panels,) int32
        Negative for panels that do not count.
    through : bool
        Whether a muon that meets a body may be scattered into such panels.
    margin : float
        Length by which every panel is widened per mm of way to it.
    """
    ix, iy, iz = reciprocal(dx), reciprocal(dy), reciprocal(dz)
    met = 0
    # Widened boxes may reach out of their tree's: a plain walk over the leaves, which are few.
    for i in range(bodies[0].first, bodies[0].last):
        node = nodes[i]
        if node.body < 0:
            continue
        body = bodies[node.body]
        if not through if body.panel < 0 else group[body.panel] < 0:
            continue
        wide = 10.0 + margin * (
            abs(body.centre[0] - x) + abs(body.centre[1] - y) + abs(body.centre[2] - z)
        )
        enter, leave = box_span(
            node.low[0] - wide, node.low[1] - wide, node.low[2] - wide,
            node.high[0] + wide, node.high[1] + wide, node.high[2] + wide,
            x, y, z, ix, iy, iz,
        )  # fmt: skip
        if leave <= max(enter, 0.0):
            continue
        met += 1
        if body.panel < 0 or met >= 2:
            return True
    return False
