"""What scenes are built of: bodies, and containers, pallets, drums and cartons made of bodies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal
from zipfile import BadZipFile

import numpy as np
from pydantic import Field, model_validator

from muscan.errors import InputError
from muscan.model import toml
from muscan.model.pose import FloatArray, Vector, rotation_matrix
from muscan.model.solids import Body, Shape, VoxelMap, make_voxel_map

Positive = Annotated[float, Field(gt=0)]
Size = tuple[Positive, Positive, Positive]
Count = Annotated[int, Field(ge=1, le=1000)]

#: Side of a container's corner posts as solid steel, and width and height of its bottom rails:
#: a post of 6 mm sheet with its two castings weighs about 90 kg, a rail with its share of the
#: doors' and the roof's steel about 80 kg.
POST_MM: Final = 67.0
RAIL_MM: Final = (30.0, 58.0)
#: What a carton, a drum or a container holds beside its goods.
AIR = "air"


@dataclass(frozen=True)
class Part:
    """A body before its mother's place is known: its pose is relative to the mother.

    Attributes
    ----------
    body : Body
        With ``centre`` and ``rotation`` in the mother's frame.
    inside : str
        Name of the mother, empty for the medium.
    also : tuple of str
        Further names under which others may refer to it in ``inside``.
    """

    body: Body
    inside: str = ""
    also: tuple[str, ...] = ()


class Placed(toml.Spec):
    """What has a name and a place.

    Attributes
    ----------
    name : str
    centre_mm : tuple of float, optional
        Its centre, in the frame of what it is inside of [mm].
    base_mm : tuple of float, optional
        Instead: the middle of its lowest face [mm].
    rotation_deg : tuple of float
        Angles about the x, then y, then z axis [degrees].
    inside : str
        Name of the body or building block whose matter it replaces; empty for the medium.
    surroundings : bool
        Whether it may stand outside the inspected space.
    """

    name: Annotated[str, Field(pattern=r"^[^/]+$")]
    centre_mm: Vector | None = None
    base_mm: Vector | None = None
    rotation_deg: Vector = (0.0, 0.0, 0.0)
    inside: str = ""
    surroundings: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> Placed:
        if self.centre_mm is not None and self.base_mm is not None:
            raise ValueError("give centre_mm or base_mm, not both")
        return self

    def parts(self, folder: Path) -> Iterator[Part]:
        """Yield the bodies that it is made of; ``folder`` is where files are looked for."""
        raise NotImplementedError

    def _part(
        self,
        shape: Shape,
        half: FloatArray,
        material: str,
        density: float | None,
        also: tuple[str, ...] = (),
        turn: FloatArray | None = None,
        voxels: VoxelMap | None = None,
    ) -> Part:
        """Return the outermost body, at this place."""
        rotation = rotation_matrix(self.rotation_deg)
        if turn is not None:
            rotation = rotation @ turn
        centre = np.array(self.centre_mm or self.base_mm or (0.0, 0.0, 0.0))
        body = Body(self.name, shape, half, material, centre, rotation, density)
        if self.base_mm is not None:
            centre = centre + np.array([0, 0, float(body.reach(np.array([0.0, 0.0, 1.0])))])
        placed = replace(body, centre=centre, surroundings=self.surroundings, voxels=voxels)
        return Part(placed, self.inside, also)


class BodySpec(Placed):
    """A ``[[body]]``: a box, cylinder, sphere or voxel map; ``[[body.body]]`` are its daughters."""

    shape: Shape = "box"
    material: str = ""
    density_g_cm3: Positive | None = None
    size_mm: Size | None = None
    radius_mm: Positive | None = None
    height_mm: Positive | None = None
    axis: Literal["x", "y", "z"] | None = None
    file: str = ""
    materials: tuple[str, ...] = ()
    voxel_mm: Size | None = None
    body: tuple[BodySpec, ...] = ()

    @model_validator(mode="after")
    def _keys_of_shape(self) -> BodySpec:
        needed = {
            "box": ("material", "size_mm"),
            "cylinder": ("material", "radius_mm", "height_mm"),
            "sphere": ("material", "radius_mm"),
            "voxels": ("file", "materials", "voxel_mm"),
        }[self.shape]
        optional = {"box": ("density_g_cm3",), "cylinder": ("density_g_cm3", "axis")}
        allowed = {*needed, *optional.get(self.shape, ()), "density_g_cm3"}
        keys = ("material", "density_g_cm3", "size_mm", "radius_mm", "height_mm", "axis")
        for key in (*keys, "file", "materials", "voxel_mm"):
            given = bool(getattr(self, key))
            if key in needed and not given:
                raise ValueError(f"a {self.shape} needs {key}")
            if given and key not in allowed:
                raise ValueError(f"a {self.shape} has no {key}")
        return self

    def parts(self, folder: Path) -> Iterator[Part]:
        """Yield the body and its daughters."""
        if self.shape == "box":
            own = self._part("box", np.array(self.size_mm) / 2, self.material, self.density_g_cm3)
        elif self.shape == "voxels":
            voxels = self._read_voxels(folder)
            own = self._part("voxels", voxels.half, voxels.materials[0], None, voxels=voxels)
        else:
            assert self.radius_mm is not None
            height = self.height_mm if self.height_mm is not None else 2 * self.radius_mm
            half = np.array([self.radius_mm, self.radius_mm, height / 2])
            own = self._part(
                self.shape, half, self.material, self.density_g_cm3, (), _AXIS[self.axis or "z"]
            )
        yield own
        for daughter in self.body:
            for part in daughter.parts(folder):
                yield part if part.inside else replace(part, inside=self.name)

    def _read_voxels(self, folder: Path) -> VoxelMap:
        """Read the array of an ``.npy`` file, or the array ``ids`` of an ``.npz`` file."""
        path = folder / self.file
        try:
            content = np.load(path, allow_pickle=False)
            if isinstance(content, np.ndarray):
                ids = content
            else:
                with content:
                    ids = content["ids"]
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            wanted = "an .npy file, nor an .npz file with an array 'ids'"
            raise InputError(path, f"neither {wanted}", str(error)) from error
        assert self.voxel_mm is not None
        return make_voxel_map(ids, self.materials, self.voxel_mm, path)


#: Takes the z axis to another.
_AXIS = {
    "z": np.eye(3),
    "x": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "y": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
}


class ContainerSpec(Placed):
    """A ``[[container]]``: a steel shell with a plywood floor, by default a 20-ft ISO box.

    Outer size after ISO 668 (type 1CC). ``wall_mm`` is the mean steel along a straight way through
    a corrugated wall; with a plywood floor that is 1.7 t. The rest of the usual tare of 2.2 t
    (Hapag-Lloyd, Container Specification, 2019: 2.2 to 2.4 t) is the frame, which most muons
    miss: ``frame = true`` adds it as four solid corner posts and two side rails on the floor, with
    the fittings' and the doors' steel in them. Others refer to its inner space by its name.
    """

    size_mm: Size = (6058.0, 2438.0, 2591.0)
    wall_mm: Positive = 2.5
    material: str = "steel"
    floor_mm: Annotated[float, Field(ge=0)] = 28.0
    floor_material: str = "plywood"
    frame: bool = False

    @model_validator(mode="after")
    def _has_room(self) -> ContainerSpec:
        if min(self.size_mm) <= 2 * self.wall_mm + self.floor_mm:
            raise ValueError("the walls and the floor leave no room inside")
        return self

    def parts(self, folder: Path) -> Iterator[Part]:
        """Yield the shell, its inner space and its floor."""
        half = np.array(self.size_mm) / 2
        inner = half - self.wall_mm
        yield self._part("box", half, self.material, None)
        room = f"{self.name}/inside"
        yield Part(Body(room, "box", inner, AIR), self.name, (self.name,))
        if self.floor_mm:
            floor = np.array([inner[0], inner[1], self.floor_mm / 2])
            centre = np.array([0.0, 0.0, self.floor_mm / 2 - inner[2]])
            yield Part(Body(f"{self.name}/floor", "box", floor, self.floor_material, centre), room)
        if self.frame:
            yield from self._frame(inner, room)

    def _frame(self, inner: FloatArray, room: str) -> Iterator[Part]:
        post = np.array([POST_MM / 2, POST_MM / 2, inner[2] - self.floor_mm / 2])
        rail = np.array([inner[0] - POST_MM, RAIL_MM[0] / 2, RAIL_MM[1] / 2])
        for y in (-1.0, 1.0):
            for x in (-1.0, 1.0):
                at = np.array([x * (inner[0] - post[0]), y * (inner[1] - post[1]), 0.0])
                at[2] = self.floor_mm / 2
                name = f"{self.name}/post {x:+.0f}{y:+.0f}"
                yield Part(Body(name, "box", post, self.material, at), room)
            at = np.array([0.0, y * (inner[1] - rail[1]), self.floor_mm - inner[2] + rail[2]])
            yield Part(Body(f"{self.name}/rail {y:+.0f}", "box", rail, self.material, at), room)


class PalletSpec(Placed):
    """A ``[[pallet]]``: a wooden deck with a block of goods on it.

    The deck is by default an EPAL Euro pallet: 1200 × 800 × 144 mm, 25 kg.
    """

    size_mm: Size = (1200.0, 800.0, 144.0)
    deck_material: str = "wood"
    deck_density_g_cm3: Positive = 0.18
    load_material: str = ""
    load_density_g_cm3: Positive | None = None
    load_size_mm: Size | None = None

    @model_validator(mode="after")
    def _load_is_whole(self) -> PalletSpec:
        if bool(self.load_material) != (self.load_size_mm is not None):
            raise ValueError("give both load_material and load_size_mm, or neither")
        return self

    def parts(self, folder: Path) -> Iterator[Part]:
        """Yield the space taken, the deck and the load."""
        deck = np.array(self.size_mm)
        load = np.array(self.load_size_mm or (0.0, 0.0, 0.0))
        whole = np.array([max(deck[0], load[0]), max(deck[1], load[1]), deck[2] + load[2]])
        space = f"{self.name}/space"
        outer = self._part("box", whole / 2, AIR, None)
        yield replace(outer, body=replace(outer.body, name=space))
        floor = -whole[2] / 2
        yield Part(
            Body(
                f"{self.name}/deck", "box", deck / 2, self.deck_material,
                np.array([0.0, 0.0, floor + deck[2] / 2]), np.eye(3), self.deck_density_g_cm3,
            ),
            space,
        )  # fmt: skip
        if self.load_material:
            centre = np.array([0.0, 0.0, floor + deck[2] + load[2] / 2])
            load_body = Body(
                self.name, "box", load / 2, self.load_material, centre, np.eye(3),
                self.load_density_g_cm3,
            )  # fmt: skip
            yield Part(load_body, space)


class DrumSpec(Placed):
    """A ``[[drum]]``: a steel drum, by default of 200 l (585 mm across, 880 mm high)."""

    radius_mm: Positive = 292.5
    height_mm: Positive = 880.0
    wall_mm: Positive = 1.0
    material: str = "steel"
    contents: str
    contents_density_g_cm3: Positive | None = None
    fill: Annotated[float, Field(gt=0, le=1)] = 0.95

    @model_validator(mode="after")
    def _has_room(self) -> DrumSpec:
        if min(self.radius_mm, self.height_mm / 2) <= self.wall_mm:
            raise ValueError("the wall leaves no room inside")
        return self

    def parts(self, folder: Path) -> Iterator[Part]:
        """Yield the shell, its inner space and the contents."""
        half = np.array([self.radius_mm, self.radius_mm, self.height_mm / 2])
        inner = half - self.wall_mm
        yield self._part("cylinder", half, self.material, None)
        room = f"{self.name}/inside"
        yield Part(Body(room, "cylinder", inner, AIR), self.name)
        filled = inner * np.array([1.0, 1.0, self.fill])
        contents = Body(
            f"{self.name}/contents", "cylinder", filled, self.contents,
            np.array([0.0, 0.0, filled[2] - inner[2]]), np.eye(3), self.contents_density_g_cm3,
        )  # fmt: skip
        yield Part(contents, room, (self.name,))


class CartonsSpec(Placed):
    """A ``[[cartons]]``: a stack of equal boxes with gaps; ``density_g_cm3`` is the bulk's."""

    count: tuple[Count, Count, Count]
    carton_mm: Size
    gap_mm: Annotated[float, Field(ge=0)] = 5.0
    material: str
    density_g_cm3: Positive | None = None

    def parts(self, folder: Path) -> Iterator[Part]:
        """Yield the space taken and the cartons, named by their place in the stack."""
        count, carton = np.array(self.count), np.array(self.carton_mm)
        pitch = carton + self.gap_mm
        whole = count * pitch - self.gap_mm
        outer = self._part("box", whole / 2, AIR, None)
        yield outer
        for place in itertools.product(*(range(n) for n in self.count)):
            centre = (np.array(place) - (count - 1) / 2) * pitch
            name = f"{self.name} {'.'.join(str(i + 1) for i in place)}"
            carton_body = Body(
                name, "box", carton / 2, self.material, centre, np.eye(3), self.density_g_cm3
            )
            yield Part(carton_body, self.name)
