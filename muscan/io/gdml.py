"""GDML, the geometry text of Geant4 and ROOT, to scenes."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from muscan.errors import InputError
from muscan.io.gdml_materials import SceneMaterials
from muscan.io.gdml_reader import Geometry, load, plain_name, unique
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.pose import FloatArray, rotation_matrix
from muscan.model.scene import Scene, parse_scene
from muscan.model.solids import TOUCHING_MM, Body, Shape, sticks_out
from muscan.model.toml_writer import to_toml

#: A scene of more bodies is refused: volumes within volumes multiply.
MAX_BODIES: Final = 20_000
#: Nothing is smaller, and no hole [mm].
_SMALLEST_MM: Final = 1e-6
#: A full turn is full to this [rad].
_ANGLE_TOLERANCE: Final = 1e-6


@dataclass(frozen=True)
class _Placed:
    """A body in its mother's frame, and the volume whose placement it is.

    Attributes
    ----------
    body : Body
    hole : Body, optional
        Space within it that is its mother's, as of a pipe.
    volume : object
        Of pyg4ometry.
    """

    body: Body
    hole: Body | None
    volume: Any


def read_gdml(
    path: str | Path, detector: str = "", materials: MaterialDatabase | None = None
) -> Scene:
    """Read the world of a GDML file as a scene; its text is that of a scene file.

    Boxes, full tubes and full spheres (hollow ones too), orbs, rotations, copies and assemblies
    are understood; all else is refused. The world's matter becomes the medium, without an end.

    Parameters
    ----------
    path : str or Path
    detector : str
        Name of the layout that the scene is made for; may be empty.
    materials : MaterialDatabase, optional
        Where materials of equal name and content are taken from, else the shipped and the user's.

    Returns
    -------
    Scene
        Its description tells what was left out.

    Raises
    ------
    InputError
        If the file is not GDML or has what scenes have not; the message names it and its volume.
    MissingExtraError
        If pyg4ometry is not installed.
    """
    file = Path(path)
    geometry = load(file)
    if geometry.world.type != "logical":
        raise InputError(file, "the world is no volume", "give it a solid and a material")
    gathered = SceneMaterials(materials or load_materials(), file)
    medium = gathered.name(geometry.world.material)
    flattened = _Flattener(gathered, file)
    flattened.add_world(geometry.world, medium)
    content = {
        "name": plain_name(file.stem),
        "description": _description(geometry, medium),
        "source": f"{file.name}, read by pyg4ometry {geometry.version}",
        "detector": detector,
        "medium": medium,
        "material": gathered.inline,
        "body": flattened.entries,
    }
    return parse_scene(to_toml({key: value for key, value in content.items() if value}), file)


def _description(geometry: Geometry, medium: str) -> str:
    world = plain_name(geometry.world.name)
    text = f"World '{world}' of a GDML file, its {medium} without an end."
    if geometry.left_out:
        left = ", ".join(f"{count} {what}" for what, count in sorted(geometry.left_out.items()))
        text += f" Left out: {left}."
    return text


class _Flattener:
    """Writes the ``[[body]]`` entries of the placements in a world."""

    def __init__(self, materials: SceneMaterials, path: Path) -> None:
        self.entries: list[dict[str, Any]] = []
        self._materials, self._path = materials, path
        self._taken: dict[str, int] = {}
        self._visited = 0

    def add_world(self, world: Any, medium: str) -> None:
        """Add all that stands in the world, level by level."""
        self._solid(world)
        waiting = deque([(world, "", medium)])
        while waiting:
            volume, mother, matter = waiting.popleft()
            sisters = [self._placed(*placement, matter) for placement in self._daughters(volume)]
            for sister, room in zip(sisters, _rooms(sisters), strict=True):
                self.entries.append(_entry(sister.body, room, room.name if room else mother))
                if sister.hole is not None:
                    self.entries.append(_entry(sister.hole, sister.body, sister.body.name))
                waiting.append((sister.volume, sister.body.name, sister.body.material))

    def _daughters(self, volume: Any) -> Iterator[tuple[Any, FloatArray, FloatArray]]:
        """Yield each placement in a volume, those of its assemblies in their place, with its pose.

        The pose is the centre [mm] and the matrix that takes daughter to mother coordinates.
        """
        waiting = deque([(volume, np.zeros(3), np.eye(3))])
        while waiting:
            holder, origin, turn = waiting.popleft()
            for placement in holder.daughterVolumes:
                self._visited += 1
                if self._visited > MAX_BODIES:
                    problem = f"has more than {MAX_BODIES} placements"
                    raise InputError(self._path, problem, "import a part of it")
                centre, rotation = self._pose(placement)
                pose = origin + turn @ centre, turn @ rotation
                if placement.logicalVolume.type == "assembly":
                    waiting.append((placement.logicalVolume, *pose))
                else:
                    yield placement, *pose

    def _pose(self, placement: Any) -> tuple[FloatArray, FloatArray]:
        """Return a placement's centre [mm] and rotation.

        GDML gives the angles of the rotation that takes mother to daughter coordinates, about the
        fixed x, then y, then z axis (GDML Manual; Geant4's reader inverts it, too).
        """
        centre = self._numbers(placement, "position")
        angles = self._numbers(placement, "rotation")
        x, y, z = np.degrees(angles)
        return centre, rotation_matrix((float(x), float(y), float(z))).T

    def _numbers(self, placement: Any, what: str) -> FloatArray:
        try:
            values = np.array([float(value) for value in getattr(placement, what).eval()])
        except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
            raise self._wrong(f"'{placement.name}' has a {what} that is no {what}") from error
        if not np.isfinite(values).all():
            raise self._wrong(f"'{placement.name}' has a {what} that is not finite")
        return values

    def _placed(
        self, placement: Any, centre: FloatArray, rotation: FloatArray, matter: str
    ) -> _Placed:
        volume = placement.logicalVolume
        shape, half, hollow = self._solid(volume)
        name = unique(plain_name(placement.name), self._taken)
        body = Body(name, shape, half, self._materials.name(volume.material), centre, rotation)
        if hollow is None:
            return _Placed(body, None, volume)
        inner = unique(f"{name} hole", self._taken)
        return _Placed(body, replace(body, name=inner, half=hollow, material=matter), volume)

    def _solid(self, volume: Any) -> tuple[Shape, FloatArray, FloatArray | None]:
        """Return a volume's shape, half its size and half its hole's size [mm]."""
        kind = volume.solid.type
        if kind == "Box":
            sides = [self._size(volume, key) for key in ("pX", "pY", "pZ")]
            if min(sides) < _SMALLEST_MM:
                raise self._wrong(f"{_where(volume)} has a side of {min(sides):g} mm")
            return "box", np.array(sides) / 2, None
        inner, length = 0.0, 1.0
        if kind == "Tubs":
            inner, outer, length = (self._size(volume, key) for key in ("pRMin", "pRMax", "pDz"))
            self._check_whole(volume, pDPhi=2 * math.pi)
        elif kind == "Sphere":
            inner, outer = self._size(volume, "pRmin"), self._size(volume, "pRmax")
            self._check_whole(volume, pDPhi=2 * math.pi, pSTheta=0.0, pDTheta=math.pi)
        else:
            outer = self._size(volume, "pRMax")
        if not 0 <= inner < outer or min(outer, length) < _SMALLEST_MM:
            long = f" and the length {length:g}" if kind == "Tubs" else ""
            raise self._wrong(f"{_where(volume)} has the radii {inner:g}, {outer:g}{long} mm")
        half = np.full((2, 3), [[outer], [inner]])
        if kind == "Tubs":
            half[:, 2] = length / 2
        return (
            "cylinder" if kind == "Tubs" else "sphere",
            half[0],
            half[1] if inner >= _SMALLEST_MM else None,
        )

    def _check_whole(self, volume: Any, **angles: float) -> None:
        """Refuse a solid that is cut open; where a full turn starts does not matter."""
        for name, value in angles.items():
            if abs(self._size(volume, name) - value) > _ANGLE_TOLERANCE:
                remedy = "give it the full angles, or remove it"
                raise self._wrong(f"{_where(volume)} is a part of a round solid", remedy)

    def _size(self, volume: Any, name: str) -> float:
        """Return a size [mm] or an angle [rad] of a volume's solid."""
        try:
            value = float(volume.solid.evaluateParameterWithUnits(name))
        except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
            problem = f"{_where(volume)} has a size that is no number of a known unit"
            raise self._wrong(problem) from error
        if not math.isfinite(value):
            raise self._wrong(f"{_where(volume)} has a size that is not finite")
        return value

    def _wrong(self, problem: str, remedy: str = "correct it") -> InputError:
        return InputError(self._path, problem, remedy)


def _where(volume: Any) -> str:
    kind, name = volume.solid.type, plain_name(volume.solid.name)
    return f"volume '{plain_name(volume.name)}': the {kind} '{name}'"


def _rooms(sisters: Sequence[_Placed]) -> list[Body | None]:
    """Return for each of one volume's bodies the smallest of the others' holes that it is in."""
    holes = [sister.hole for sister in sisters if sister.hole is not None]
    if not holes:
        return [None] * len(sisters)
    holes.sort(key=Body.volume_mm3)
    low, high = np.swapaxes([hole.bounds() for hole in holes], 0, 1)
    rooms: list[Body | None] = []
    for sister in sisters:
        lowest, highest = sister.body.bounds()
        near = (low - TOUCHING_MM <= lowest).all(axis=1) & (high + TOUCHING_MM >= highest).all(
            axis=1
        )
        around = (holes[index] for index in np.flatnonzero(near))
        fitting = (
            hole
            for hole in around
            if hole is not sister.hole and sticks_out(hole, sister.body) <= TOUCHING_MM
        )
        rooms.append(next(fitting, None))
    return rooms


def _entry(body: Body, room: Body | None, inside: str) -> dict[str, Any]:
    """Return a body as a ``[[body]]``; given with ``room`` in a frame of which that is a part."""
    centre, rotation = body.centre, body.rotation
    if room is not None:
        centre, rotation = room.rotation.T @ (centre - room.centre), room.rotation.T @ rotation
    entry: dict[str, Any] = {"name": body.name, "shape": body.shape, "material": body.material}
    if body.shape == "box":
        entry["size_mm"] = _plain(2 * body.half)
    else:
        entry["radius_mm"] = _plain(body.half[:1])[0]
    if body.shape == "cylinder":
        entry["height_mm"] = _plain(2 * body.half[2:])[0]
    entry["centre_mm"] = _plain(centre)
    angles = _plain(_angles_deg(rotation))
    if body.shape != "sphere" and any(angles):
        entry["rotation_deg"] = angles
    return entry | ({"inside": inside} if inside else {})


def _angles_deg(rotation: FloatArray) -> FloatArray:
    """Return the angles that `muscan.model.pose.rotation_matrix` takes [degrees]."""
    from scipy.spatial.transform import Rotation

    with warnings.catch_warnings():
        # At a quarter turn about y one of the other two is free, and is set to zero.
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(Rotation.from_matrix(rotation).as_euler("xyz", degrees=True))


def _plain(values: FloatArray) -> list[float]:
    """Return numbers without the dust of formulae: to a picometre, or as little of a degree."""
    return [round(float(value), 9) + 0.0 for value in values]
