"""Scenes of a study: drawn from templates, or built here where a plain one is asked for.

Besides the templates (`muscan.model.draw`) a study knows

- ``uniform-DENSITY``: a load of one density [g/cm³] that fills 5.6 × 2.2 × 2.2 m, and as its threat
  a 100 mm cube of uranium anywhere in it, and
- ``materials``: the 200 mm cubes of `MATERIALS` in air, at places drawn from the seed, all of
  them threats.
"""

from __future__ import annotations

import numpy as np

from muscan.errors import InputError
from muscan.model.draw import draw_scene
from muscan.model.scene import Scene, parse_scene

#: Cubes of the scene ``materials``, by scattering density.
MATERIALS = ("water", "concrete", "aluminium", "iron", "lead", "tungsten", "uranium")
EDGE_MM = 200.0
#: Distance of the places for the cubes, and how far a cube may be from its own [mm].
PITCH_MM, JITTER_MM = 900.0, np.array([120.0, 120.0, 350.0])
_UNIFORM = "uniform-"
_LOAD_MM = np.array([5600.0, 2200.0, 2200.0])
_HIDDEN_MM = 100.0


def study_scene(name: str, seed: int, threat: bool | str = False) -> Scene:
    """Return a scene of a study.

    Parameters
    ----------
    name : str
        A template's or scene's name or file, ``uniform-DENSITY`` or ``materials``.
    seed : int
        Same seed, same load; with and without the threat.
    threat : bool or str
        Whether to hide a threat, or which.

    Raises
    ------
    InputError
        If there is no such scene, or it has no threat to hide.
    """
    if name == "materials":
        return _materials(seed)
    if name.startswith(_UNIFORM):
        return _uniform(name, seed, bool(threat))
    return draw_scene(name, seed, threat)


def _uniform(name: str, seed: int, threat: bool) -> Scene:
    try:
        density = float(name.removeprefix(_UNIFORM))
    except ValueError:
        density = 0.0
    if not 0.01 <= density <= 5:
        raise InputError(name, "names no density", "give uniform-0.6 or so, in g/cm³")
    text = f"""name = "{name}"
detector = "container-portal"
threats = {'["hidden"]' if threat else "[]"}
[[body]]
name = "load"
material = "household-goods"
density_g_cm3 = {density}
size_mm = {_LOAD_MM.tolist()}
"""
    if threat:
        room = (_LOAD_MM - _HIDDEN_MM) / 2
        place = np.random.default_rng(np.random.SeedSequence(seed)).uniform(-room, room)
        text += _cube("hidden", "uranium", place, _HIDDEN_MM) + 'inside = "load"\n'
    return parse_scene(text, name)


def _materials(seed: int) -> Scene:
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    slots = PITCH_MM * (np.array(list(np.ndindex(3, 3))) - 1)
    text = f'name = "materials"\ndetector = "blocks-lab"\nthreats = {list(MATERIALS)}\n'
    for material, slot in zip(MATERIALS, rng.permutation(slots), strict=False):
        place = np.append(slot, 0.0) + rng.uniform(-JITTER_MM, JITTER_MM)
        text += _cube(material, material, place, EDGE_MM)
    return parse_scene(text, "materials")


def _cube(name: str, material: str, place: np.ndarray, edge: float) -> str:
    centre = [round(float(x), 3) for x in place]
    return (
        f'[[body]]\nname = "{name}"\nmaterial = "{material}"\n'
        f"size_mm = {[edge] * 3}\ncentre_mm = {centre}\n"
    )
