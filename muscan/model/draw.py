"""Scenes with random geometry, drawn from templates.

A template is a scene file in which a value may be random (`muscan.model.random_values`), with

- ``[let]``: values drawn once and used as ``"$name"``,
- ``[[rows]]``: units (pallets, drums, cartons, bodies) set out in rows and layers,
- ``[[threat]]``: what may be hidden, in which bodies, how many pieces.

The load and the threat are drawn from separate streams of the seed: with and without the threat,
the same seed gives the same load. The result is a scene like any other, with the text of a scene
file and no chance left in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field, model_validator

from muscan import resources
from muscan.errors import InputError, nearest
from muscan.model import toml
from muscan.model.building_blocks import BodySpec
from muscan.model.pose import FloatArray, Vector
from muscan.model.random_values import Drawer, is_random
from muscan.model.scene import Scene, SceneSpec, parse_scene
from muscan.model.solids import Body, overlap, sticks_out
from muscan.model.toml_writer import to_toml

#: Places tried for a hidden body before it is said not to fit.
TRIES: Final = 400
#: What lies on something is this far above it, so that rounding does not make them overlap [mm].
CLEARANCE_MM: Final = 1.0
_UNITS: Final = ("pallet", "drum", "cartons", "body")
_EXTRAS: Final = ("let", "rows", "threat")

Blocks = dict[str, list[dict[str, Any]]]


class UnitSpec(toml.Spec):
    """A ``[[rows.unit]]``: exactly one building block, without name and place."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    pallet: dict[str, Any] | None = None
    drum: dict[str, Any] | None = None
    cartons: dict[str, Any] | None = None
    body: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_block(self) -> UnitSpec:
        given = [kind for kind in _UNITS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_UNITS)}")
        for key in ("name", "inside", "base_mm", "centre_mm"):
            if key in getattr(self, given[0]):
                raise ValueError(f"{key} of a unit follows from its row")
        return self

    @property
    def kind(self) -> str:
        """Which building block it is."""
        return next(kind for kind in _UNITS if getattr(self, kind) is not None)


class RowsSpec(toml.Spec):
    """A ``[[rows]]``, with its random values drawn, but for those of its units.

    Attributes
    ----------
    name : str
        The units' names follow from it: ``name 1.2.1``.
    inside : str
    base_mm : tuple of float
        Middle of the lowest face of the whole [mm].
    count : tuple of int
        Units along x, y and z.
    pitch_mm : tuple of float
        From one unit's middle to the next one's, along z from base to base [mm].
    jitter_mm : tuple of float
        Each unit is moved by up to this, to either side [mm].
    empty : float
        Share of the places left empty, of the highest layer only.
    unit : list of UnitSpec
        One of them is drawn for every place.
    """

    name: Annotated[str, Field(pattern=r"^[^/]+$")]
    inside: str = ""
    base_mm: Vector
    count: tuple[int, int, int]
    pitch_mm: Vector
    jitter_mm: Vector = (0.0, 0.0, 0.0)
    empty: Annotated[float, Field(ge=0, lt=1)] = 0.0
    unit: Annotated[list[UnitSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _counts(self) -> RowsSpec:
        if not all(1 <= number <= 100 for number in self.count):
            raise ValueError("each count is 1 to 100")
        return self


class ThreatSpec(toml.Spec):
    """A ``[[threat]]``: one of them is hidden in a threat version of the scene.

    Attributes
    ----------
    name : str
        The bodies' names follow from it: ``name 1``.
    weight : float
        How often it is drawn beside the others.
    inside : list of str
        Names of bodies to hide it in; ``*`` stands for anything.
    count : int
        Pieces.
    rest : bool
        Whether it lies on what is below it, rather than being packed anywhere.
    body : dict
        As a ``[[body]]`` without a place.
    """

    name: Annotated[str, Field(pattern=r"^[^/]+$")]
    weight: Annotated[float, Field(gt=0)] = 1.0
    inside: Annotated[list[str], Field(min_length=1)]
    count: Any = 1
    rest: bool = False
    body: dict[str, Any]

    @model_validator(mode="after")
    def _no_place(self) -> ThreatSpec:
        for key in ("name", "inside", "base_mm", "centre_mm"):
            if key in self.body:
                raise ValueError(f"{key} of a threat's body is drawn")
        return self


@dataclass(frozen=True)
class _Template:
    """A file taken apart: the parts of a scene, and what only templates have."""

    data: Mapping[str, Any]
    source: Path
    text: str

    @property
    def is_fixed(self) -> bool:
        return not any(key in self.data for key in _EXTRAS) and not is_random(self.data)

    @property
    def threats(self) -> list[ThreatSpec]:
        return [
            toml.validate(ThreatSpec, item, f"{self.source}: threat[{number}]")
            for number, item in enumerate(self.data.get("threat", []), start=1)
        ]


def draw_scene(scene: str | Path, seed: int, threat: bool | str = False) -> Scene:
    """Return a scene drawn at random from a template.

    Parameters
    ----------
    scene : str or Path
        A template's file, or the name of a shipped or user one. A scene without any chance is
        returned as it is.
    seed : int
        Same seed, same scene; with and without the threat, the same load.
    threat : bool or str
        Hide one of the template's threats; a name says which.

    Returns
    -------
    Scene
        ``threats`` names what is hidden; see `muscan.model.truth.scene_truth`.

    Raises
    ------
    InputError
        If there is no such template, it is wrong, it has no such threat, or the threat does not
        fit anywhere.
    """
    template = _read(scene)
    if template.is_fixed:
        if threat:
            raise InputError(template.source, "has no [[threat]] to hide", "draw a template")
        return parse_scene(template.text, template.source)
    load_stream, threat_stream = np.random.SeedSequence(seed).spawn(2)
    data = _draw_load(template, np.random.default_rng(load_stream))
    data["source"] = f"drawn from the template {template.source.stem}, seed {seed}"
    drawn = _scene_of(data, template.source)
    if not threat:
        return drawn
    rng = np.random.default_rng(threat_stream)
    hidden = _choose_threat(template, threat, rng)
    data["source"] += f", threat {hidden.name}"
    data["threats"], data["body"] = [], list(data.get("body", []))
    for body in _hide(hidden, drawn, Drawer(rng, template.source), template.source):
        data["threats"].append(body["name"])
        data["body"].append(body)
    return _scene_of(data, template.source)


def threat_names(scene: str | Path) -> list[str]:
    """Return the names of a template's threats."""
    return [threat.name for threat in _read(scene).threats]


def template_names() -> dict[str, Path]:
    """Return the shipped and the user's templates of customs scenes by name."""
    return resources.names("scenes/customs")


def _read(scene: str | Path) -> _Template:
    path = _find(scene)
    text = toml.read_text(path)
    return _Template(toml.parse(text, path), path, text)


def _find(scene: str | Path) -> Path:
    templates = template_names()
    fixed = resources.names("scenes")
    name = str(scene)
    if name in templates and name not in fixed and not Path(name).is_file():
        return templates[name]
    if Path(name).suffix or len(Path(name).parts) > 1 or name in fixed or Path(name).is_file():
        return resources.find("scenes", scene)
    raise InputError(name, "no such scene", nearest(name, {*fixed, *templates}))


def _scene_of(data: Mapping[str, Any], source: Path) -> Scene:
    # Checked first without the text, whose lines are not those of the template.
    toml.validate(SceneSpec, data, source)
    return parse_scene(to_toml(data), source)


def _draw_load(template: _Template, rng: np.random.Generator) -> dict[str, Any]:
    """Return the data of a scene file: everything drawn, the rows set out, no threat."""
    drawer = Drawer(rng, template.source)
    for name, value in template.data.get("let", {}).items():
        drawer.let(name, value)
    plain = {key: value for key, value in template.data.items() if key not in _EXTRAS}
    data: dict[str, Any] = drawer.draw(plain)
    for number, given in enumerate(template.data.get("rows", []), start=1):
        own = drawer.draw({key: value for key, value in given.items() if key != "unit"})
        where = f"{template.source}: rows[{number}]"
        rows = toml.validate(RowsSpec, own | {"unit": given.get("unit", [])}, where)
        for kind, blocks in _set_out(rows, drawer).items():
            data[kind] = [*data.get(kind, []), *blocks]
    return data


def _set_out(rows: RowsSpec, drawer: Drawer) -> Blocks:
    """Draw a unit for each place of the rows."""
    found: Blocks = {}
    weights = np.array([unit.weight for unit in rows.unit])
    count, pitch = np.array(rows.count), np.array(rows.pitch_mm)
    for place in itertools.product(*(range(number) for number in rows.count)):
        unit = rows.unit[int(drawer.rng.choice(len(weights), p=weights / weights.sum()))]
        moved = np.array(rows.jitter_mm) * drawer.rng.uniform(-1, 1, 3)
        top = place[2] == rows.count[2] - 1
        if drawer.rng.random() < rows.empty and top:
            continue
        offset = (np.array(place) - (count - 1) / 2 * [1, 1, 0]) * pitch + moved
        name = f"{rows.name} {'.'.join(str(index + 1) for index in place)}"
        block = _named({"name": name, **drawer.draw(getattr(unit, unit.kind))}, name)
        block["base_mm"] = _rounded(np.array(rows.base_mm) + offset)
        if rows.inside:
            block["inside"] = rows.inside
        found.setdefault(unit.kind, []).append(block)
    return found


def _named(block: dict[str, Any], name: str) -> dict[str, Any]:
    """Give the daughters of a body names that no other has."""
    renamed = {**block, "name": name}
    if "body" in block:
        daughters = (_named(item, f"{name} {item.get('name', 'inner')}") for item in block["body"])
        renamed["body"] = list(daughters)
    return renamed


def _rounded(point: FloatArray) -> list[float]:
    return [round(float(x), 3) for x in point]


def _choose_threat(template: _Template, threat: bool | str, rng: np.random.Generator) -> ThreatSpec:
    threats = template.threats
    if not threats:
        raise InputError(template.source, "has no [[threat]] to hide", "add one")
    weights = np.array([item.weight for item in threats])
    chosen = threats[int(rng.choice(len(threats), p=weights / weights.sum()))]
    if isinstance(threat, str):
        named = [item for item in threats if item.name == threat]
        if not named:
            hint = nearest(threat, [item.name for item in threats])
            raise InputError(template.source, f"has no threat '{threat}'", hint)
        return named[0]
    return chosen


def _hide(threat: ThreatSpec, scene: Scene, drawer: Drawer, source: Path) -> list[dict[str, Any]]:
    """Find a place for each piece of a threat."""
    hosts = [
        body
        for body in scene.bodies
        if body.voxels is None
        and any(
            fnmatchcase(body.name, pattern) and body.name.count("/") == pattern.count("/")
            for pattern in threat.inside
        )
    ]
    if not hosts:
        names = ", ".join(threat.inside)
        raise InputError(source, f"threat '{threat.name}': no body is called {names}")
    bodies, pieces = list(scene.bodies), []
    for number in range(1, int(drawer.draw(threat.count)) + 1):
        name = f"{threat.name} {number}"
        given = _named({"name": name, **drawer.draw(threat.body)}, name)
        where = f"{source}: threat '{threat.name}', body"
        part = next(iter(toml.validate(BodySpec, given, where).parts(source.parent)))
        piece = _find_place(part.body, hosts, bodies, threat.rest, drawer.rng)
        if piece is None:
            problem = f"threat '{threat.name}' fits into none of {len(hosts)} bodies"
            raise InputError(source, problem, "make it smaller, or name larger bodies")
        bodies.append(piece)
        host = bodies[piece.mother]
        local = host.rotation.T @ (piece.centre - host.centre)
        pieces.append({**given, "inside": host.name, "centre_mm": _rounded(local)})
    return pieces


def _find_place(
    piece: Body, hosts: list[Body], bodies: list[Body], rest: bool, rng: np.random.Generator
) -> Body | None:
    """Return the piece at a random place in a host, drawn by volume; None if it fits nowhere."""
    volumes = np.array([host.volume_mm3() for host in hosts])
    index = {body.name: number for number, body in enumerate(bodies)}
    for _ in range(TRIES):
        host = hosts[int(rng.choice(len(hosts), p=volumes / volumes.sum()))]
        rotation = host.rotation @ piece.rotation
        turned = replace(piece, rotation=rotation, mother=index[host.name])
        room = np.array([host.half[i] - turned.reach(host.rotation[:, i]) for i in range(3)])
        if (room < 0).any():
            continue
        local = np.round(room * rng.uniform(-1, 1, 3), 1)
        centre = host.centre + host.rotation @ local
        placed = replace(turned, centre=centre)
        sisters = [body for body in bodies if body.mother == placed.mother]
        if _fits(placed, host, sisters):
            return _lowered(placed, host, sisters) if rest else placed
    return None


def _fits(piece: Body, host: Body, sisters: list[Body]) -> bool:
    return sticks_out(host, piece) <= 0 and not any(overlap(piece, other) for other in sisters)


def _lowered(piece: Body, host: Body, sisters: list[Body]) -> Body:
    """Let a piece down until it all but lies on something: by halved steps, as far as it fits."""
    lowest, step = piece, float(2 * np.abs(host.half).max())
    while step > CLEARANCE_MM:
        lower = replace(lowest, centre=lowest.centre - np.array([0.0, 0.0, step]))
        if _fits(lower, host, sisters):
            lowest = lower
        step /= 2
    above = replace(lowest, centre=lowest.centre + np.array([0.0, 0.0, CLEARANCE_MM]))
    return above if _fits(above, host, sisters) else piece
