"""A scene and its detector as the arrays that the transport kernel walks through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import geometry as kernel
from muscan.kernels.transport import TransportTables
from muscan.model.detector import Detector
from muscan.model.material import Material, MaterialDatabase
from muscan.model.pose import FloatArray
from muscan.model.scene import Scene, check_in_detector, panel_body
from muscan.model.solids import Body
from muscan.simulation.tables import build_tables

#: Room between the outermost matter and the faces on which muons start [mm].
MARGIN_MM = 20.0

_SHAPES = {
    "box": kernel.BOX,
    "cylinder": kernel.CYLINDER,
    "sphere": kernel.SPHERE,
    "voxels": kernel.VOXELS,
}


@dataclass(frozen=True)
class World:
    """Everything that a muon can meet.

    Attributes
    ----------
    geometry : Geometry
    tables : TransportTables
    per_x0 : ndarray, shape (n_materials,)
        Inverse radiation lengths [1/mm].
    bounds : ndarray, shape (2, 3)
        A box around all bodies and panels [mm].
    spread : float
        Five standard deviations of a muon's deflection by the panels and the medium, times its
        momentum and velocity [GeV].
    """

    geometry: kernel.Geometry
    tables: TransportTables
    per_x0: FloatArray
    bounds: FloatArray
    spread: float


def build_world(
    scene: Scene, detector: Detector, database: MaterialDatabase, scattering: str = "moliere"
) -> World:
    """Return the world of a scene in a detector.

    Raises
    ------
    InputError
        If the scene does not fit the detector, or a material is unknown.
    """
    check_in_detector(scene, detector)
    panels = [panel_body(panel) for panel in detector.panels]
    known = scene.materials(database)
    for body in panels:
        known.setdefault(body.material, database[body.material])
    corners = np.array([body.bounds() for body in (*scene.bodies, *panels)])
    bounds = np.array(
        [corners[:, 0].min(axis=0) - MARGIN_MM, corners[:, 1].max(axis=0) + MARGIN_MM]
    )
    medium = Body("world", "box", (bounds[1] - bounds[0]) / 2, scene.medium, bounds.mean(axis=0))
    geometry, materials = bodies_to_geometry(medium, scene.bodies, panels, known)
    per_x0 = np.array([1 / material.radiation_length_mm for material in materials])
    across = [2 * body.half[2] / known[body.material].radiation_length_mm for body in panels]
    diagonal = float(np.linalg.norm(bounds[1] - bounds[0]))
    thickness = sum(across) + diagonal / known[scene.medium].radiation_length_mm
    return World(
        geometry,
        build_tables(materials, scattering),
        per_x0,
        bounds,
        5 * 0.015 * float(np.sqrt(thickness)),
    )


def bodies_to_geometry(
    medium: Body, bodies: Sequence[Body], panels: Sequence[Body], known: Mapping[str, Material]
) -> tuple[kernel.Geometry, list[Material]]:
    """Return bodies and panels as arrays, with the materials that these number.

    Parameters
    ----------
    medium : Body
        The world, which holds everything else.
    bodies : sequence of Body
        As in a scene: a mother before its daughters, counted from 0.
    panels : sequence of Body
        In the order of the detector's panels.
    known : mapping of str to Material
        Every material that is used, by the name that is used.
    """
    everything = [
        medium,
        *(replace(body, mother=body.mother + 1) for body in bodies),
        *(replace(panel, mother=0) for panel in panels),
    ]
    materials = _Materials(known)
    index = [
        materials.index(body.material, None if body.voxels else body.density_g_cm3)
        for body in everything
    ]
    shown, kept = _without_invisible(everything, index, 1 + len(bodies))
    records = np.zeros(len(shown), kernel.BODY)
    nodes: list[tuple[FloatArray, int, int]] = []
    maps: list[NDArray[np.int32]] = []
    corners = [body.bounds() for body in shown]
    for i, (body, record) in enumerate(zip(shown, records, strict=True)):
        record["centre"], record["half"] = body.centre, body.half
        record["rotation"] = body.rotation.T
        record["kind"], record["aligned"] = _SHAPES[body.shape], _is_upright(body)
        record["material"], record["mother"] = index[kept[i]], body.mother
        record["panel"] = max(kept[i] - 1 - len(bodies), -1)
        record["first"] = len(nodes)
        _add_nodes(nodes, [j for j, other in enumerate(shown) if j and other.mother == i], corners)
        record["last"] = len(nodes)
        if body.voxels is not None:
            numbers = [materials.index(name) for name in body.voxels.materials]
            record["voxel_shape"] = body.voxels.ids.shape
            record["first_voxel"] = sum(len(voxels) for voxels in maps)
            maps.append(np.array(numbers, np.int32)[body.voxels.ids].ravel())
    tree = np.zeros(len(nodes), kernel.NODE)
    for node, (box, skip, leaf) in zip(tree, nodes, strict=True):
        node["low"], node["high"] = box
        node["skip"], node["body"] = skip, leaf
    voxels = np.concatenate([*maps, np.empty(0, np.int32)])
    # Arrays of records, so that fields are attributes also where numba is switched off.
    bodies_and_nodes = records.view(np.recarray), tree.view(np.recarray)
    return kernel.Geometry(*bodies_and_nodes, voxels), materials.listed


class _Materials:
    """Numbers materials in the order in which they are met."""

    def __init__(self, known: Mapping[str, Material]) -> None:
        self.known = known
        self.listed: list[Material] = []
        self._index: dict[tuple[str, float], int] = {}

    def index(self, name: str, density: float | None = None) -> int:
        material = self.known[name]
        if density is not None and density != material.density_g_cm3:
            material = material.with_density(density)
        key = (material.name, material.density_g_cm3)
        if key not in self._index:
            self._index[key] = len(self.listed)
            self.listed.append(material)
        return self._index[key]


def _is_upright(body: Body) -> bool:
    """Whether a body is a box whose own axes are the global ones."""
    return body.shape == "box" and bool((body.rotation == np.eye(3)).all())


def _without_invisible(
    bodies: Sequence[Body], material: Sequence[int], first_panel: int
) -> tuple[list[Body], list[int]]:
    """Drop bodies of their mother's own matter, whose borders no muon can feel; not panels."""
    stands_for: dict[int, int] = {}
    kept: list[int] = []
    out: list[Body] = []
    for i, body in enumerate(bodies):
        mother = stands_for[body.mother] if i else -1
        plain = 0 < i < first_panel and body.voxels is None and out[mother].voxels is None
        if plain and material[kept[mother]] == material[i]:
            stands_for[i] = mother
            continue
        stands_for[i] = len(out)
        kept.append(i)
        out.append(replace(body, mother=mother))
    return out, kept


def _add_nodes(
    nodes: list[tuple[FloatArray, int, int]],
    group: list[int],
    bounds: Sequence[FloatArray],
) -> None:
    """Append a tree of boxes over bodies, in the order of a walk that goes deep first."""
    if not group:
        return
    corners = np.array([bounds[i] for i in group])
    box = np.array([corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)])
    if len(group) == 1:
        nodes.append((box, len(nodes) + 1, group[0]))
        return
    place = len(nodes)
    nodes.append((box, -1, -1))
    middle = corners.mean(axis=1)
    axis = int(np.argmax(np.ptp(middle, axis=0)))
    # What is higher comes first, as muons meet it: the rest is then passed over.
    order = np.argsort(-middle[:, axis], kind="stable")
    half = len(group) // 2
    _add_nodes(nodes, [group[i] for i in order[:half]], bounds)
    _add_nodes(nodes, [group[i] for i in order[half:]], bounds)
    nodes[place] = (box, len(nodes), -1)
