"""Scenes: what stands in a detector, as nested bodies of named materials.

A scene file is TOML: ``[[body]]`` entries and the building blocks ``[[container]]``,
``[[pallet]]``, ``[[drum]]`` and ``[[cartons]]`` (`muscan.model.building_blocks`). A body that is
``inside`` another, or written as its ``[[body.body]]``, replaces its mother's matter, and its
place is given from its mother's centre along its mother's axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from muscan.errors import InputError, nearest
from muscan.model import toml
from muscan.model.building_blocks import (
    BodySpec,
    CartonsSpec,
    ContainerSpec,
    DrumSpec,
    PalletSpec,
    Part,
)
from muscan.model.detector import Detector, Panel
from muscan.model.inline_material import InlineMaterial
from muscan.model.pose import FloatArray
from muscan.model.solids import TOUCHING_MM, Body, overlap, sticks_out

if TYPE_CHECKING:
    from muscan.model.material import Material, MaterialDatabase

#: Two panels' matter may share this much, as where the panels of two walls meet [mm].
THINNEST_PANEL_MM = 0.1


class SceneSpec(toml.Spec):
    """A scene file."""

    name: str
    description: str = ""
    source: str = ""
    detector: str = ""
    medium: str = "air"
    threats: tuple[str, ...] = ()
    material: tuple[InlineMaterial, ...] = ()
    body: tuple[BodySpec, ...] = ()
    container: tuple[ContainerSpec, ...] = ()
    pallet: tuple[PalletSpec, ...] = ()
    drum: tuple[DrumSpec, ...] = ()
    cartons: tuple[CartonsSpec, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Bodies in a medium.

    Attributes
    ----------
    name : str
    bodies : tuple of Body
        At their global places, a mother before its daughters.
    medium : str
        Name of the material between the bodies.
    detector : str
        Name of the layout that the scene is made for; may be empty.
    description : str
    text : str
        The scene's file, as stored with simulated hits.
    source : str
        The file's path, for messages.
    inline : tuple of InlineMaterial
        Materials of its own.
    threats : tuple of str
        Names of the bodies that a search is for: the truth of a study, nothing that is simulated.
    containers : tuple of str
        Names of the containers, whose own mass is tare.
    """

    name: str
    bodies: tuple[Body, ...] = ()
    medium: str = "air"
    detector: str = ""
    description: str = ""
    text: str = field(default="", repr=False)
    source: str = ""
    inline: tuple[InlineMaterial, ...] = ()
    threats: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_bodies(self.bodies, self.source or self.name)
        known = {body.name for body in self.bodies}
        for name in self.threats:
            if name not in known:
                problem = f"threats: no body is called '{name}'"
                raise InputError(self.source or self.name, problem, nearest(name, known))

    @cached_property
    def bounds(self) -> FloatArray | None:
        """Lowest and highest corner around all bodies, (2, 3) [mm]; None for an empty scene."""
        if not self.bodies:
            return None
        corners = np.array([body.bounds() for body in self.bodies])
        return np.array([corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)])

    def material_names(self) -> list[str]:
        """Return the names of all materials used, the medium's first."""
        used = [self.medium]
        for body in self.bodies:
            used += body.voxels.materials if body.voxels else [body.material]
        return list(dict.fromkeys(used))

    def materials(self, database: MaterialDatabase) -> dict[str, Material]:
        """Return the materials used, by name.

        Raises
        ------
        InputError
            If the database lacks one; the message names the body and the nearest material.
        """
        found = {}
        inline = {spec.name: spec for spec in self.inline}
        for name in self.material_names():
            try:
                found[name] = inline[name].build(database) if name in inline else database[name]
            except InputError as error:
                problem = f"{self._user_of(name)} is of unknown material '{error.source}'"
                raise InputError(self.source or self.name, problem, error.remedy) from error
        return found

    def mass_kg(self, database: MaterialDatabase) -> float:
        """Return the mass of all bodies, each without its daughters [kg]."""
        return float(self.masses_kg(database).sum())

    def masses_kg(self, database: MaterialDatabase) -> FloatArray:
        """Return the mass of each body without its daughters [kg]."""
        materials = self.materials(database)
        masses = np.zeros(len(self.bodies))
        for index, body in enumerate(self.bodies):
            if body.voxels is not None:
                counts = np.bincount(body.voxels.ids.ravel(), minlength=len(body.voxels.materials))
                densities = [materials[name].density_g_cm3 for name in body.voxels.materials]
                masses[index] = float(counts @ densities) * float(np.prod(body.voxels.spacing))
                continue
            own = body.volume_mm3() - sum(
                daughter.volume_mm3() for daughter in self.bodies if daughter.mother == index
            )
            masses[index] = own * (body.density_g_cm3 or materials[body.material].density_g_cm3)
        return masses * 1e-6

    def _user_of(self, material: str) -> str:
        for body in self.bodies:
            if material in (body.voxels.materials if body.voxels else (body.material,)):
                return f"body '{body.name}'"
        return "the medium"


def load_scene(scene: str | Path | Scene, seed: int = 0) -> Scene:
    """Return the scene of a file, or of a shipped or user scene's name.

    Parameters
    ----------
    scene : str, Path or Scene
        A template (`muscan.draw_scene`) is drawn, without a threat.
    seed : int
        Of the drawing.

    Raises
    ------
    InputError
        If there is no such scene, or it is wrong; the message says where.
    """
    from muscan.model.draw import draw_scene

    return scene if isinstance(scene, Scene) else draw_scene(scene, seed)


def parse_scene(text: str, source: str | Path) -> Scene:
    """Return the scene of a file's text; ``source`` names it in errors.

    Raises
    ------
    InputError
        If a key is unknown, a size not positive, a body outside its mother, or two overlap.
    """
    spec = toml.validate(SceneSpec, toml.parse(text, source), source, text)
    folder = Path(source).parent
    blocks = (*spec.body, *spec.container, *spec.pallet, *spec.drum, *spec.cartons)
    parts = [part for block in blocks for part in block.parts(folder)]
    return Scene(
        spec.name,
        _place(parts, source),
        spec.medium,
        spec.detector,
        spec.description,
        text,
        str(source),
        spec.material,
        spec.threats,
        tuple(container.name for container in spec.container),
    )


def fixed_scene(detector: Detector) -> Scene | None:
    """Return the bodies that always stand in a detector as a scene; None if there are none.

    Raises
    ------
    InputError
        If two overlap, or one sticks out of its mother.
    """
    if not detector.fixed:
        return None
    anywhere = (spec.model_copy(update={"surroundings": True}) for spec in detector.fixed)
    parts = [part for spec in anywhere for part in spec.parts(Path())]
    return Scene(f"{detector.name} fixed", _place(parts, detector.name), source=detector.name)


def with_fixed(scene: Scene, detector: Detector) -> Scene:
    """Return a scene with the bodies that always stand in a detector.

    A body of the scene takes the place of a fixed one of the same name, and of what is in that.
    The text stays the scene's own, for the layout tells the rest.

    Raises
    ------
    InputError
        If a body of the scene overlaps a fixed one.
    """
    fixed = fixed_scene(detector)
    if fixed is None:
        return scene
    known = {body.name for body in scene.bodies}
    index: dict[int, int] = {}
    bodies = list(scene.bodies)
    for number, body in enumerate(fixed.bodies):
        mother = index.get(body.mother, -1)
        if body.name not in known and (body.mother < 0 or mother >= 0):
            index[number] = len(bodies)
            bodies.append(replace(body, mother=mother))
    return replace(scene, bodies=tuple(bodies))


def check_bodies(bodies: Sequence[Body], source: str | Path) -> None:
    """Refuse bodies that overlap or that stick out of their mothers.

    Raises
    ------
    InputError
        Naming both bodies.
    """
    sisters: dict[int, list[Body]] = {}
    for index, body in enumerate(bodies):
        if body.mother >= index:
            raise InputError(source, f"body '{body.name}' stands before its mother", "reorder them")
        if not (np.isfinite(body.half).all() and (body.half > 0).all()):
            raise InputError(source, f"body '{body.name}' has no positive size", "give it one")
        if body.mother >= 0:
            mother = bodies[body.mother]
            if mother.voxels is not None:
                problem = f"body '{body.name}' is inside the voxel map '{mother.name}'"
                raise InputError(source, problem, "draw it into the map instead")
            out = sticks_out(mother, body)
            if out > TOUCHING_MM:
                problem = f"body '{body.name}' sticks {out:.3g} mm out of '{mother.name}'"
                raise InputError(source, problem, "move it, or make it smaller")
        sisters.setdefault(body.mother, []).append(body)
    for group in sisters.values():
        _check_sisters(group, source)


def check_in_detector(scene: Scene, detector: Detector) -> None:
    """Refuse a scene that stands outside the inspected space, or in a panel's way.

    Raises
    ------
    InputError
        Naming the body and what it conflicts with.
    """
    source = scene.source or scene.name
    low, high = detector.bounds
    panels = [panel_body(panel) for panel in detector.panels]
    for first, panel in enumerate(panels):
        for other in panels[first + 1 :]:
            if overlap(panel, other):
                problem = f"panels '{panel.name}' and '{other.name}' overlap"
                raise InputError(detector.name, problem, "move one of them")
    for body in scene.bodies:
        if body.mother >= 0:
            continue
        for panel in panels:
            if overlap(panel, body):
                problem = f"panel '{panel.name}' of {detector.name} is in body '{body.name}'"
                raise InputError(source, problem, "move the body, or choose another detector")
        lowest, highest = body.bounds()
        inside = (lowest >= low - TOUCHING_MM).all() and (highest <= high + TOUCHING_MM).all()
        if not inside and not body.surroundings:
            problem = (
                f"body '{body.name}' ({_box(lowest, highest)}) is not within the space that "
                f"{detector.name} inspects ({_box(low, high)})"
            )
            remedy = "move it, choose another detector, or say surroundings = true"
            raise InputError(source, problem, remedy)


def panel_body(panel: Panel) -> Body:
    """Return the matter of a panel."""
    thickness = max(panel.technology.thickness_mm, THINNEST_PANEL_MM)
    return Body(
        panel.name,
        "box",
        np.array([panel.size[0], panel.size[1], thickness]) / 2,
        panel.technology.material,
        panel.centre,
        np.stack([panel.u, panel.v, panel.normal], axis=1),
    )


def _check_sisters(group: Sequence[Body], source: str | Path) -> None:
    corners = np.array([body.bounds() for body in group])
    for first in range(len(group) - 1):
        low = np.maximum(corners[first + 1 :, 0], corners[first, 0])
        high = np.minimum(corners[first + 1 :, 1], corners[first, 1])
        close = np.flatnonzero((high - low > TOUCHING_MM).all(axis=1)) + first + 1
        for other in map(int, close):
            if overlap(group[first], group[other]):
                problem = f"bodies '{group[first].name}' and '{group[other].name}' overlap"
                remedy = 'move one, or put one inside the other (inside = "NAME")'
                raise InputError(source, problem, remedy)


def _place(parts: Sequence[Part], source: str | Path) -> tuple[Body, ...]:
    """Bring every part to its global place, mothers first."""
    referred: dict[str, str] = {}
    names: set[str] = set()
    for part in parts:
        if part.body.name in names:
            raise InputError(
                source, f"body '{part.body.name}' stands twice", "give each its own name"
            )
        names.add(part.body.name)
        referred.setdefault(part.body.name, part.body.name)
        # A container's or a drum's name means its inner space to what is put inside it.
        referred.update(dict.fromkeys(part.also, part.body.name))
    placed: dict[str, int] = {}
    bodies: list[Body] = []
    waiting = list(parts)
    while waiting:
        left = []
        for part in waiting:
            mother = part.inside
            if mother and not _own_mother(part, mother):
                mother = referred.get(mother, mother)
            if mother and mother not in names:
                hint = nearest(part.inside, referred)
                problem = f"body '{part.body.name}' is inside the unknown '{part.inside}'"
                raise InputError(source, problem, hint)
            if mother and mother not in placed:
                left.append(part)
                continue
            placed[part.body.name] = len(bodies)
            index = placed[mother] if mother else -1
            bodies.append(_in_mother(part.body, index, bodies))
        if len(left) == len(waiting):
            problem = f"body '{left[0].body.name}' is inside itself"
            raise InputError(source, problem, "put its mother into something else")
        waiting = left
    return tuple(bodies)


def _own_mother(part: Part, mother: str) -> bool:
    """Whether a part of a building block names the block's own shell."""
    return part.body.name.startswith(f"{mother}/")


def _in_mother(body: Body, index: int, bodies: Sequence[Body]) -> Body:
    if index < 0:
        return body
    mother = bodies[index]
    return replace(
        body,
        mother=index,
        centre=mother.centre + mother.rotation @ body.centre,
        rotation=mother.rotation @ body.rotation,
    )


def _box(low: FloatArray, high: FloatArray) -> str:
    return " × ".join(f"{a:.0f}…{b:.0f}" for a, b in zip(low, high, strict=True)) + " mm"
