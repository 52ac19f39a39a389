"""What is true of a scene: its threats and its masses, from geometry. For studies only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from muscan.model.material import MaterialDatabase
from muscan.model.pose import FloatArray
from muscan.model.scene import Scene


@dataclass(frozen=True)
class HiddenThreat:
    """A body that a search is for.

    Attributes
    ----------
    name : str
    materials : tuple of str
        Its own and its daughters', the one with the largest mass first.
    categories : tuple of str
        Theirs.
    centre_mm : ndarray, shape (3,)
    size_mm : ndarray, shape (3,)
        Of the box around it.
    mass_kg : float
        With its daughters.
    scattering_density : float
        Mean λ over the body and its daughters [mrad²/cm].
    """

    name: str
    materials: tuple[str, ...]
    categories: tuple[str, ...]
    centre_mm: FloatArray
    size_mm: FloatArray
    mass_kg: float
    scattering_density: float


@dataclass(frozen=True)
class SceneTruth:
    """Threats and masses of a scene.

    Attributes
    ----------
    threats : tuple of HiddenThreat
    total_kg : float
        Of all bodies, without the air in them.
    tare_kg : float
        Of the containers themselves.
    """

    threats: tuple[HiddenThreat, ...]
    total_kg: float
    tare_kg: float

    @property
    def load_kg(self) -> float:
        """Mass of what is not container, threats included [kg]."""
        return self.total_kg - self.tare_kg


def scene_truth(scene: Scene, database: MaterialDatabase) -> SceneTruth:
    """Return what is true of a scene.

    Parameters
    ----------
    scene : Scene
    database : MaterialDatabase
        Its materials.
    """
    materials = scene.materials(database)
    masses = scene.masses_kg(database)
    masses[[materials[body.material].state == "gas" for body in scene.bodies]] = 0.0
    found = []
    for name in scene.threats:
        first = next(i for i, body in enumerate(scene.bodies) if body.name == name)
        rows = _with_daughters(scene, first)
        rows.sort(key=lambda row: -masses[row])
        names = tuple(dict.fromkeys(scene.bodies[row].material for row in rows))
        body = scene.bodies[first]
        low, high = body.bounds()
        scattering = sum(
            masses[row] * materials[scene.bodies[row].material].mass_scattering_power
            for row in rows
        )
        found.append(
            HiddenThreat(
                name,
                names,
                tuple(materials[item].category for item in names),
                body.centre,
                high - low,
                float(masses[rows].sum()),
                float(1e6 * scattering / body.volume_mm3()),
            )
        )
    return SceneTruth(tuple(found), float(masses.sum()), float(masses[_shells(scene)].sum()))


def _with_daughters(scene: Scene, first: int) -> list[int]:
    rows = [first]
    for index in range(first + 1, len(scene.bodies)):
        if scene.bodies[index].mother in rows:
            rows.append(index)
    return rows


def _shells(scene: Scene) -> np.ndarray:
    """Tell which bodies are containers: the shell, its air, and what is named after it."""
    return np.array(
        [
            any(body.name == name or body.name.startswith(f"{name}/") for name in scene.containers)
            for body in scene.bodies
        ],
        dtype=bool,
    )
