"""Containers whose own matter is known: their sizes, masses and frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError, nearest
from muscan.model.building_blocks import ContainerSpec
from muscan.model.material import MaterialDatabase
from muscan.model.region import KnownBox
from muscan.model.scene import Scene

FloatArray = NDArray[np.float64]

#: Outer sizes [mm] (ISO 668, types 1CC and 1AAA) and usual own masses [kg] of containers
#: (Hapag-Lloyd, Container Specification, 2019).
CONTAINERS: Final = {
    "20ft": ((6058.0, 2438.0, 2591.0), 2200.0),
    "40ft": ((12192.0, 2438.0, 2896.0), 3900.0),
}
#: A post or a rail is at most this share of its length wide: what is extended in two
#: directions, as floor and walls, is part of the background that a volume shows.
LINEAR: Final = 0.1
#: They are given in pieces of at most this length [mm].
PIECE_MM: Final = 300.0


def container_spec(kind: str) -> tuple[ContainerSpec, float]:
    """Return a kind of container, with its frame, and its own mass [kg].

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if kind not in CONTAINERS:
        hint = nearest(kind, CONTAINERS)
        raise InputError("--container", f"no such container '{kind}'", hint)
    size, tare = CONTAINERS[kind]
    return ContainerSpec(name=kind, size_mm=size, frame=True), tare


def container_of(scene: Scene) -> str:
    """Return the kind of container that a scene's load is in, "" if in none of these.

    What its papers, and the marks on its walls, say.
    """
    shells = [body for body in scene.bodies if body.name in scene.containers]
    kinds = [
        kind
        for kind, (size, _) in CONTAINERS.items()
        for shell in shells
        if np.allclose(2 * shell.half, size, atol=1.0)
    ]
    return kinds[0] if len(kinds) == 1 else ""


def frame_boxes(kind: str, middle: FloatArray, materials: MaterialDatabase) -> Iterator[KnownBox]:
    """Yield the posts and rails of a container that stands around a place.

    Parameters
    ----------
    kind : str
        Of `CONTAINERS`.
    middle : ndarray, shape (3,)
        Of the container [mm].
    materials : MaterialDatabase
    """
    spec, _ = container_spec(kind)
    room = f"{spec.name}/inside"
    for part in spec.parts(Path()):
        half = part.body.half
        _, second, longest = np.sort(half)
        if part.inside != room or second > LINEAR * longest:
            continue
        density = materials[part.body.material].scattering_density
        pieces = np.maximum(np.ceil(2 * half / PIECE_MM), 1).astype(int)
        size = 2 * half / pieces
        for index in np.ndindex(*pieces):
            low = middle + part.body.centre - half + np.array(index) * size
            yield KnownBox(part.body.name, np.array([low, low + size]), density)
