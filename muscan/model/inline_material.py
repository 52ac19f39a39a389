"""Materials written in a scene's own file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from muscan.model import toml
from muscan.model.composition import formula_fractions, periodic_table
from muscan.model.matter import Material, State

if TYPE_CHECKING:
    from muscan.model.material import MaterialDatabase

Positive = Annotated[float, Field(gt=0)]


class InlineMaterial(toml.Spec):
    """A ``[[material]]`` of a scene; exactly one of formula, elements and mixture.

    Attributes
    ----------
    name : str
        Its name in this scene; it hides one of the database.
    formula : str
        Chemical formula.
    elements, mixture : dict of str to float
        Mass fractions of elements, or of materials of the database; scaled to a sum of one.
    density_g_cm3 : float
    state : str
        As of `muscan.model.matter.Material`.
    """

    name: Annotated[str, Field(min_length=1)]
    formula: str = ""
    elements: dict[str, Positive] = Field(default_factory=dict)
    mixture: dict[str, Positive] = Field(default_factory=dict)
    density_g_cm3: Positive
    state: State = "solid"

    @model_validator(mode="after")
    def _one_composition(self) -> InlineMaterial:
        if sum(map(bool, (self.formula, self.elements, self.mixture))) != 1:
            raise ValueError("give exactly one of formula, elements and mixture")
        if self.formula:
            formula_fractions(self.formula)
        for symbol in self.elements:
            if symbol not in periodic_table():
                raise ValueError(f"no such element '{symbol}'")
        return self

    def build(self, database: MaterialDatabase) -> Material:
        """Return the material; a mixture takes its parts from the database."""
        if self.formula:
            fractions = dict(formula_fractions(self.formula))
        elif self.elements:
            fractions = dict(self.elements)
        else:
            fractions = {}
            for name, weight in self.mixture.items():
                for symbol, fraction in database[name].composition.items():
                    fractions[symbol] = fractions.get(symbol, 0.0) + weight * fraction
        total = math.fsum(fractions.values())
        scaled = {symbol: value / total for symbol, value in fractions.items()}
        return Material(self.name, self.density_g_cm3, scaled, state=self.state)
