"""Manifests: the goods lines of a declaration, and what a check of them against a scan says.

The form is described in ``docs/formats/manifest.md``; `manifest_schema` is its JSON Schema.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from muscan.model import toml
from muscan.model.alerts import Interval, Number, Probability, schema_of

#: Kilograms in a unit of mass, and millimetres in a unit of length.
KILOGRAMS: Final = {"kg": 1.0, "t": 1000.0, "g": 0.001, "lb": 0.45359237}
MILLIMETRES: Final = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
#: Chapters of the Harmonized System; 77 is kept free (WCO, HS Nomenclature 2022).
CHAPTERS: Final = frozenset(f"{n:02d}" for n in range(1, 98) if n != 77)

MassUnit = Literal["kg", "t", "g", "lb"]
LengthUnit = Literal["mm", "cm", "m"]
Check = Literal["total-mass", "zone-mass", "density", "object"]
Triple = tuple[float, float, float]


class Mass(toml.Spec):
    """A mass with its unit."""

    value: Annotated[float, Field(gt=0)]
    unit: MassUnit

    @property
    def kg(self) -> float:
        """In kilograms."""
        return self.value * KILOGRAMS[self.unit]


class Zone(toml.Spec):
    """The box in which goods stand, in the scanner's coordinates."""

    min: Triple
    max: Triple
    unit: LengthUnit = "mm"

    @model_validator(mode="after")
    def _ordered(self) -> Zone:
        if not all(low < high for low, high in zip(self.min, self.max, strict=True)):
            raise ValueError("min is not below max along every axis")
        return self

    @property
    def bounds_mm(self) -> tuple[Triple, Triple]:
        """Lowest and highest corner [mm]."""
        scale = MILLIMETRES[self.unit]
        low, high = (tuple(scale * x for x in corner) for corner in (self.min, self.max))
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])


class Packages(toml.Spec):
    """How many packages of what kind."""

    count: Annotated[int, Field(ge=0)]
    kind: str = ""


def _hs_code(code: str) -> str:
    digits = re.sub(r"[. ]", "", code)
    if not re.fullmatch(r"(\d{2}){1,5}", digits):
        raise ValueError("an HS code has 2, 4, 6, 8 or 10 digits, such as 0803.90")
    if digits[:2] not in CHAPTERS:
        raise ValueError(f"the Harmonized System has no chapter {digits[:2]}")
    return code


class GoodsItem(toml.Spec):
    """A goods line.

    Attributes
    ----------
    sequence : int
        Its number in the declaration.
    description : str
    hs_code : str
        Two to ten digits; dots and spaces may stand between them.
    packages : Packages, optional
    net_mass : Mass
        Of the goods.
    gross_mass : Mass, optional
        With their packing, pallets included.
    zone : Zone, optional
        Where they stand.
    materials : tuple of str
        Materials or categories of the database that they are; those of the HS chapter if empty.
    """

    sequence: Annotated[int, Field(ge=1)]
    description: Annotated[str, Field(min_length=1)]
    hs_code: Annotated[str, AfterValidator(_hs_code)]
    packages: Packages | None = None
    net_mass: Mass
    gross_mass: Mass | None = None
    zone: Zone | None = None
    materials: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _gross_is_more(self) -> GoodsItem:
        if self.gross_mass is not None and self.gross_mass.kg < self.net_mass.kg:
            raise ValueError("the gross mass is less than the net mass")
        return self

    @property
    def chapter(self) -> str:
        """The chapter of the Harmonized System."""
        return re.sub(r"[. ]", "", self.hs_code)[:2]


class Transport(toml.Spec):
    """What the goods stand in: its number, what kind it is, and its own mass."""

    number: str = ""
    type: Literal["", "20ft", "40ft"] = ""
    tare: Mass | None = None


class Manifest(toml.Spec):
    """The content of a manifest.

    Attributes
    ----------
    reference : str
        Of the declaration.
    container : Transport, optional
        Its number and its own mass.
    goods : list of GoodsItem
    """

    format: Literal["muscan-manifest"]
    format_version: Literal[1]
    reference: str = ""
    container: Transport | None = None
    goods: Annotated[list[GoodsItem], Field(min_length=1)]

    @model_validator(mode="after")
    def _own_numbers(self) -> Manifest:
        numbers = [item.sequence for item in self.goods]
        twice = next((n for n in numbers if numbers.count(n) > 1), None)
        if twice is not None:
            raise ValueError(f"goods line {twice} stands twice")
        return self


class Comparison(toml.Spec):
    """One thing declared against what was found.

    Attributes
    ----------
    check : str
        ``total-mass``, ``zone-mass``, ``density`` or ``object``.
    sequence : int or None
        The goods line; None for the load as a whole.
    declared : str
        What was declared, in words.
    found : Interval or None
        What was found, with its 68 % interval, in ``unit``.
    unit : str
    significance : float or None
        How many standard deviations lie between them; None where nothing can be said.
    chance : float or None
        Probability that chance alone makes as much or more.
    agrees : bool
    text : str
        The same in a sentence.
    """

    check: Check
    sequence: int | None
    declared: str
    found: Interval | None
    unit: str
    significance: Number
    chance: Probability | None
    agrees: bool
    text: str


class ManifestReport(toml.Spec):
    """What a check found.

    Attributes
    ----------
    reference, run_id, materials_version : str
        Of the manifest, the scan and the database.
    passed : bool
        Whether everything agrees.
    comparisons : list of Comparison
        Mismatches first, the most significant first.
    warnings : list of str
        What could not be checked.
    """

    format: Literal["muscan-manifest-check"] = "muscan-manifest-check"
    format_version: Literal[1] = 1
    reference: str
    run_id: str
    materials_version: str
    passed: bool
    comparisons: list[Comparison]
    warnings: list[str] = Field(default_factory=list)

    @property
    def mismatches(self) -> list[Comparison]:
        """The comparisons that do not agree."""
        return [item for item in self.comparisons if not item.agrees]


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of a JSON file.

    Raises
    ------
    InputError
        If it cannot be read, is no JSON, or a value is wrong: the first fault, in one line.
    """
    return toml.validate(Manifest, toml.read_json(path, "muscan-manifest"), path)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a manifest.

    The text in ``docs/formats/manifest.schema.json`` is this function's result.
    """
    return schema_of(Manifest, "muscan manifest, version 1", "validation")
