"""Materials of a GDML file, as pyg4ometry reads them, to materials of a scene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from muscan.errors import InputError
from muscan.io.gdml_reader import plain_name, unique
from muscan.model.composition import periodic_table
from muscan.model.material import MaterialDatabase

#: A material of the database stands for one of the file whose density is this near (relative),
#: and whose mass fractions are each this near.
SAME_DENSITY: Final = 0.005
SAME_FRACTION: Final = 0.005
#: Below this Geant4 takes matter of no given state for a gas [g/cm³].
GAS_BELOW_G_CM3: Final = 0.01
#: Mass fractions may miss a sum of one by this much; they are then scaled.
FRACTION_TOLERANCE: Final = 0.01


class SceneMaterials:
    """The materials of a scene, gathered as its bodies ask for them.

    Parameters
    ----------
    database : MaterialDatabase
        Where a material of the same name, density and composition is looked for.
    path : Path
        Names the file in errors.

    Attributes
    ----------
    inline : list of dict
        The ``[[material]]`` entries that the scene needs.
    """

    def __init__(self, database: MaterialDatabase, path: Path) -> None:
        self.inline: list[dict[str, Any]] = []
        self._database, self._path = database, path
        self._names: dict[str, str] = {}
        self._taken: dict[str, int] = {}
        self._fractions: dict[str, dict[str, float]] = {}

    def name(self, material: Any) -> str:
        """Return the name in the scene of one of pyg4ometry's materials.

        Raises
        ------
        InputError
            If it is not defined in the file and not one of Geant4's, or its fractions are wrong.
        """
        if material.name not in self._names:
            self._names[material.name] = self._add(material)
        return self._names[material.name]

    def _add(self, material: Any) -> str:
        density, state = _density_and_state(material)
        if density is None:
            problem = f"material '{plain_name(material.name)}' is not defined"
            raise InputError(self._path, problem, "define it, or use a name of Geant4's")
        elements = self._mass_fractions(material)
        if density < GAS_BELOW_G_CM3:
            state = state or "gas"
        name = unique(plain_name(material.name), self._taken)
        known = self._database.get(name)
        if (
            known is None
            or abs(known.density_g_cm3 / density - 1) > SAME_DENSITY
            or _difference(known.composition, elements) > SAME_FRACTION
        ):
            entry = {"name": name, "elements": elements, "density_g_cm3": density}
            self.inline.append(entry | {"state": state or "solid"})
        return name

    def _mass_fractions(self, material: Any) -> dict[str, float]:
        """Return the mass fractions of elements, of a sum of one."""
        if material.name not in self._fractions:
            found = self._weights(material)
            total = math.fsum(found.values())
            if not (math.isfinite(total) and total > 0 and min(found.values()) >= 0):
                problem = f"material '{plain_name(material.name)}' has fractions of sum {total:g}"
                raise InputError(self._path, problem, "correct them")
            self._fractions[material.name] = {
                symbol: float(f"{weight / total:.10g}")
                for symbol, weight in found.items()
                if weight
            }
        return self._fractions[material.name]

    def _weights(self, material: Any) -> dict[str, float]:
        if material.density is None and not material.components:
            return self._nist_weights(material.name)
        if not material.components:
            return {self._symbol(material.atomic_number): 1.0}
        weights: dict[str, float] = {}
        parts = {kind for _, _, kind in material.components}
        amounts = [float(amount) for _, amount, _ in material.components]
        if parts == {"massfraction"} and abs(math.fsum(amounts) - 1) > FRACTION_TOLERANCE:
            name = plain_name(material.name)
            problem = f"material '{name}' has mass fractions of sum {math.fsum(amounts):.4g}, not 1"
            raise InputError(self._path, problem, "correct them")
        for (part, _, kind), amount in zip(material.components, amounts, strict=True):
            fractions, atom = self._part(part)
            for symbol, fraction in fractions.items():
                weight = amount * fraction * (atom if kind == "natoms" else 1.0)
                weights[symbol] = weights.get(symbol, 0.0) + weight
        return weights

    def _part(self, part: Any) -> tuple[Mapping[str, float], float]:
        """Return the mass fractions of a component, and an element's atomic mass [g/mol]."""
        if part.type == "element-simple":
            return {self._symbol(part.Z): 1.0}, float(part.A)
        if part.type != "element-composite":
            return self._mass_fractions(part), math.nan
        masses: dict[str, float] = {}
        for isotope, abundance, _ in part.components:
            symbol = self._symbol(isotope.Z)
            # The molar mass may be left out; the mass number is then within 1 % of it.
            masses[symbol] = masses.get(symbol, 0.0) + abundance * (isotope.a or isotope.N)
        total = math.fsum(masses.values())
        if not total > 0:
            problem = f"element '{plain_name(part.name)}' has no isotopes"
            raise InputError(self._path, problem, "give their fractions")
        abundances = math.fsum(abundance for _, abundance, _ in part.components)
        return {symbol: mass / total for symbol, mass in masses.items()}, total / abundances

    def _nist_weights(self, name: str) -> dict[str, float]:
        found = _nist(name)
        if found["type"] == "element":
            return {self._symbol(found["z"]): 1.0}
        return {self._symbol(z): fraction for z, _, fraction in found["elements"]}

    def _symbol(self, z: float) -> str:
        for symbol, element in periodic_table().items():
            if element.z == z:
                return symbol
        raise InputError(self._path, f"no element has the atomic number {z:g}", "correct it")


def _density_and_state(material: Any) -> tuple[float | None, str]:
    """Return the density [g/cm³], None if it is nowhere defined, and the state or ''."""
    density, state = material.density, material.state
    if density is None and material.type == "nist":
        found = _nist(material.name)
        density, state = found["density"], found["state"]
    state = str(state or "").lower()
    return density, state if state in ("solid", "liquid", "gas") else ""


def _nist(name: str) -> dict[str, Any]:
    """Return Geant4's own material of a name, from pyg4ometry's table."""
    from pyg4ometry import geant4

    found: dict[str, Any] = geant4.nist_materials_name_lookup(name)
    return found


def _difference(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    return max(abs(a.get(symbol, 0.0) - b.get(symbol, 0.0)) for symbol in {*a, *b})
