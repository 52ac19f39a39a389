"""What matter is made of: elements, chemical formulae, and what follows from mass fractions.

Element data stand in ``materials/periodic-table.csv``; its header names the sources.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from muscan.errors import InputError, nearest
from muscan.resources import shipped_folder
from muscan.units import AVOGADRO_PER_MOL, CLASSICAL_ELECTRON_RADIUS_CM, FINE_STRUCTURE

Composition = Mapping[str, float]

#: Tsai's radiation logarithms of the lightest atoms, where Thomas–Fermi does not hold:
#: Z -> (L_rad, L'_rad); Y.-S. Tsai, Rev. Mod. Phys. 46 (1974) 815, as in PDG table 34.2.
_LIGHT_ATOM_LOGARITHMS: Final = {
    1: (5.31, 6.144),
    2: (4.79, 5.621),
    3: (4.74, 5.805),
    4: (4.71, 5.924),
}
_FORMULA_TOKEN: Final = re.compile(r"([A-Z][a-z]?|[()])(\d+(?:\.\d+)?)?")


class DensityEffect(NamedTuple):
    """Sternheimer's parameters of the density effect (Sternheimer, Berger, Seltzer 1984)."""

    cbar: float
    x0: float
    x1: float
    a: float
    k: float
    delta0: float = 0.0


@dataclass(frozen=True)
class Element:
    """A chemical element.

    Attributes
    ----------
    z : int
        Atomic number.
    symbol, name : str
        As ``Fe`` and ``iron``.
    atomic_mass : float
        Standard atomic mass [g/mol].
    excitation_eV, excitation_gas_eV, excitation_condensed_eV : float
        Mean excitation energy of the element, and as part of a gaseous or condensed compound.
    density_effect : DensityEffect or None
        Tabulated parameters of the pure element.
    """

    z: int
    symbol: str
    name: str
    atomic_mass: float
    excitation_eV: float
    excitation_gas_eV: float
    excitation_condensed_eV: float
    density_effect: DensityEffect | None

    @property
    def radiation_length_g_cm2(self) -> float:
        """Radiation length [g/cm²] by Tsai's formula (PDG, eq. 34.25)."""
        z = self.z
        if z in _LIGHT_ATOM_LOGARITHMS:
            nucleus, electrons = _LIGHT_ATOM_LOGARITHMS[z]
        else:
            nucleus = math.log(184.15 * z ** (-1 / 3))
            electrons = math.log(1194.0 * z ** (-2 / 3))
        a2 = (FINE_STRUCTURE * z) ** 2
        coulomb = a2 * (1 / (1 + a2) + 0.20206 - 0.0369 * a2 + 0.0083 * a2**2 - 0.002 * a2**3)
        atom = z * z * (nucleus - coulomb) + z * electrons
        unit = 4 * FINE_STRUCTURE * CLASSICAL_ELECTRON_RADIUS_CM**2 * AVOGADRO_PER_MOL
        return self.atomic_mass / (unit * atom)


@lru_cache(maxsize=1)
def periodic_table() -> Mapping[str, Element]:
    """Return the elements by symbol, hydrogen to californium."""
    text = (shipped_folder("materials") / "periodic-table.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    table: dict[str, Element] = {}
    for row in rows:
        effect = None
        if row["cbar"]:
            effect = DensityEffect(*(float(row[key]) for key in DensityEffect._fields))
        table[row["symbol"]] = Element(
            int(row["z"]),
            row["symbol"],
            row["name"],
            float(row["atomic_mass"]),
            float(row["excitation_eV"]),
            float(row["excitation_gas_eV"]),
            float(row["excitation_condensed_eV"]),
            effect,
        )
    return MappingProxyType(table)


def element(symbol: str) -> Element:
    """Return an element by its symbol.

    Raises
    ------
    InputError
        If there is no such element.
    """
    table = periodic_table()
    if symbol not in table:
        raise InputError(symbol, "no such element", nearest(symbol, table))
    return table[symbol]


def formula_fractions(formula: str) -> dict[str, float]:
    """Return the mass fractions of a chemical formula.

    Parameters
    ----------
    formula : str
        Such as ``C17H22ClNO4``, ``Ca3(PO4)2`` or, with water of crystallisation, ``CaSO4·2H2O``.

    Raises
    ------
    ValueError
        If the formula cannot be read or names an unknown element.
    """
    counts: dict[str, float] = {}
    for part in formula.split("·"):
        matched = re.match(r"\d+(?:\.\d+)?", part)
        factor = float(matched.group()) if matched else 1.0
        atoms = _count_atoms(part[matched.end() if matched else 0 :], formula)
        for symbol, count in atoms.items():
            counts[symbol] = counts.get(symbol, 0.0) + factor * count
    masses = {symbol: n * periodic_table()[symbol].atomic_mass for symbol, n in counts.items()}
    total = sum(masses.values())
    return {symbol: mass / total for symbol, mass in masses.items()}


def _count_atoms(part: str, formula: str) -> dict[str, float]:
    """Count the atoms of a formula without ``·``, with a stack of open brackets."""
    stack: list[dict[str, float]] = [{}]
    position = 0
    while position < len(part):
        token = _FORMULA_TOKEN.match(part, position)
        if token is None:
            raise ValueError(f"formula '{formula}' cannot be read at '{part[position:]}'")
        symbol, count = token.group(1), float(token.group(2) or 1)
        position = token.end()
        if symbol == "(":
            stack.append({})
            continue
        if symbol == ")":
            if len(stack) == 1:
                raise ValueError(f"formula '{formula}' closes a bracket that it did not open")
            inner = stack.pop()
        elif symbol in periodic_table():
            inner = {symbol: 1.0}
        else:
            raise ValueError(f"no such element '{symbol}' in formula '{formula}'")
        for name, n in inner.items():
            stack[-1][name] = stack[-1].get(name, 0.0) + count * n
    if len(stack) != 1 or not stack[0]:
        raise ValueError(f"formula '{formula}' is empty or leaves a bracket open")
    return stack[0]


def radiation_length(composition: Composition) -> float:
    """Return the radiation length [g/cm²] by the mixture rule 1/X0 = Σ w/X0_i."""
    return 1 / sum(w / element(s).radiation_length_g_cm2 for s, w in composition.items())


def z_over_a(composition: Composition) -> float:
    """Return ⟨Z/A⟩ = Σ w Z/A [mol/g], the moles of electrons in a gram."""
    return sum(w * element(s).z / element(s).atomic_mass for s, w in composition.items())


def mean_excitation(
    composition: Composition, phase: Literal["gas", "condensed"] = "condensed"
) -> float:
    """Return the mean excitation energy [eV] by Bragg's rule, ln I = Σ w (Z/A) ln I / Σ w (Z/A).

    A pure element has its own value; in a compound the constituents have those of ICRU Report 37
    for the phase.
    """
    if len(composition) == 1:
        return element(next(iter(composition))).excitation_eV
    total = 0.0
    for symbol, fraction in composition.items():
        atom = element(symbol)
        energy = atom.excitation_gas_eV if phase == "gas" else atom.excitation_condensed_eV
        total += fraction * atom.z / atom.atomic_mass * math.log(energy)
    return math.exp(total / z_over_a(composition))
