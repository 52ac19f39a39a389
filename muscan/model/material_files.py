"""Files of materials: ``[[material]]`` entries of TOML, validated, with the line of each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from muscan.errors import InputError, nearest
from muscan.model import toml
from muscan.model.composition import DensityEffect, formula_fractions, periodic_table
from muscan.model.matter import State

Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]

#: What a material can be; ``materials/README.md`` explains them.
CATEGORIES: Final = (
    "special-nuclear",
    "radioactive-shielding",
    "explosive",
    "narcotic",
    "weapon-metal",
    "precious-metal",
    "metal",
    "element",
    "structural",
    "mineral",
    "ceramic-glass",
    "plastic",
    "rubber",
    "wood-paper",
    "textile",
    "food",
    "beverage",
    "tobacco",
    "chemical",
    "fuel",
    "liquid",
    "gas",
    "biological",
    "electronics",
    "consumer",
    "vehicle",
    "detector",
)
#: Mass fractions may miss a sum of one by this much, as rounded tables do; they are then scaled.
FRACTION_TOLERANCE: Final = 2e-3


class SternheimerSpec(toml.Spec):
    """Tabulated density-effect parameters."""

    cbar: float
    x0: float
    x1: float
    a: Positive
    k: Positive
    delta0: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> SternheimerSpec:
        if self.x0 >= self.x1:
            raise ValueError("x0 must be below x1")
        return self


class MaterialSpec(toml.Spec):
    """One ``[[material]]`` entry; exactly one of formula, elements and mixture."""

    name: Name
    aliases: tuple[str, ...] = ()
    formula: str = ""
    elements: dict[str, Positive] = Field(default_factory=dict)
    mixture: dict[str, Positive] = Field(default_factory=dict)
    density_g_cm3: Positive
    density_range_g_cm3: tuple[Positive, Positive] | None = None
    matter_density_g_cm3: Positive | None = None
    state: State = "solid"
    category: str
    hs_chapter: Annotated[str, Field(pattern=r"^(\d\d)?$")] = ""
    description: str = ""
    source: Annotated[str, Field(min_length=3)]
    mean_excitation_eV: Positive | None = None
    sternheimer: SternheimerSpec | None = None
    density_effect_like: Annotated[str, Field(pattern=r"^$|^[a-z0-9][a-z0-9.+-]*$")] = ""

    @field_validator("category")
    @classmethod
    def _known_category(cls, value: str) -> str:
        if value not in CATEGORIES:
            raise ValueError(f"no such category; {nearest(value, CATEGORIES)}")
        return value

    @field_validator("formula")
    @classmethod
    def _readable_formula(cls, value: str) -> str:
        if value:
            formula_fractions(value)
        return value

    @field_validator("elements")
    @classmethod
    def _known_elements(cls, value: dict[str, float]) -> dict[str, float]:
        for symbol in value:
            if symbol not in periodic_table():
                raise ValueError(f"no such element '{symbol}'")
        return _summing_to_one(value)

    @field_validator("mixture")
    @classmethod
    def _whole_mixture(cls, value: dict[str, float]) -> dict[str, float]:
        return _summing_to_one(value)

    @model_validator(mode="after")
    def _consistent(self) -> MaterialSpec:
        given = [key for key in ("formula", "elements", "mixture") if getattr(self, key)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of formula, elements and mixture, not {found}")
        if self.sternheimer is not None and self.density_effect_like:
            raise ValueError("give sternheimer or density_effect_like, not both")
        if self.density_range_g_cm3 is not None:
            low, high = self.density_range_g_cm3
            if not low <= self.density_g_cm3 <= high:
                raise ValueError(
                    f"density_range_g_cm3 [{low}, {high}] must hold density_g_cm3 "
                    f"{self.density_g_cm3}"
                )
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the materials that this one refers to."""
        like = (self.density_effect_like,) if self.density_effect_like else ()
        return (*self.mixture, *like)

    def density_effect(self) -> DensityEffect | None:
        """Return the tabulated density-effect parameters, or None."""
        return None if self.sternheimer is None else DensityEffect(**self.sternheimer.model_dump())


def _summing_to_one(fractions: dict[str, float]) -> dict[str, float]:
    total = math.fsum(fractions.values())
    if fractions and abs(total - 1) > FRACTION_TOLERANCE:
        raise ValueError(f"mass fractions sum to {total:.6g}, not 1")
    return fractions


class _FileSpec(toml.Spec):
    material: Annotated[list[MaterialSpec], Field(min_length=1)]


@dataclass(frozen=True)
class Entry:
    """An entry and where it stands: its file and ``line N``."""

    spec: MaterialSpec
    file: Path
    where: str


def normalised(name: str) -> str:
    """Return the form in which names are compared."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def read_layer(files: Iterable[Path]) -> dict[str, Entry]:
    """Read files whose entries stand beside each other, by name.

    Raises
    ------
    InputError
        If an entry is wrong, or two have the same name or alias, naming both places.
    """
    layer: dict[str, Entry] = {}
    taken: dict[str, Entry] = {}
    for file in files:
        for entry in _read(file):
            for name in (entry.spec.name, *entry.spec.aliases):
                first = taken.setdefault(normalised(name), entry)
                if first is not entry:
                    place = first.where if first.file == file else f"{first.file}, {first.where}"
                    raise InputError(
                        file,
                        f"{entry.where}: the name '{name}' is taken by '{first.spec.name}' "
                        f"({place})",
                        "rename one of them",
                    )
            layer[entry.spec.name] = entry
    return layer


def _read(file: Path) -> list[Entry]:
    text = toml.read_text(file)
    content = toml.validate(_FileSpec, toml.parse(text, file), file, text)
    header = re.compile(r"^\s*\[\[\s*material\s*\]\]", re.MULTILINE)
    lines = [text.count("\n", 0, found.end()) + 1 for found in header.finditer(text)]
    if len(lines) != len(content.material):
        places = [f"material[{i + 1}]" for i in range(len(content.material))]
    else:
        places = [f"line {line}" for line in lines]
    return [Entry(spec, file, place) for spec, place in zip(content.material, places, strict=True)]
