"""Alerts: what a scan found, as the content of ``alerts.json``.

JSON has neither NaN nor infinity: a number that is not known, or a limit that is not bounded, is
``null`` in the file and ``None`` here. Numbers are kept to six significant digits, so that a file
reads well and does not depend on the last bit of a sum.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from muscan.model import toml

Severity = Literal["info", "low", "medium", "high", "critical"]

#: Severities from the least to the most urgent.
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")
#: Least false-alarm rate that is told to readers: no distribution is known so far out in its tail.
LEAST_RATE: Final = 1e-9

_DIGITS: Final = 6


def _finite_or_none(value: Any) -> Any:
    """Turn NaN and infinities into None; leave what is not a number to the validator."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return number if math.isfinite(number) else None


def _significant(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


Rounded = Annotated[float, AfterValidator(_significant)]
Number = Annotated[Rounded | None, BeforeValidator(_finite_or_none)]
Point = tuple[Rounded, Rounded, Rounded]
Probability = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda value: round(value, 4))]
Count = Annotated[int, Field(ge=0)]


class _Item(toml.Spec):
    """Base of the items: in a written file every key stands, so the schema asks for it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
    )


class Interval(_Item):
    """An estimate and its 68 % interval; ``None`` where unknown or unbounded."""

    value: Number
    low: Number
    high: Number


class Alternative(_Item):
    """Another material that the measurement allows."""

    name: str
    probability: Probability


class MaterialGuess(_Item):
    """The most probable material of a region.

    Attributes
    ----------
    name : str
        Name in the material database, or ``unknown`` when nothing in it fits.
    category : str
        The category of that material, or ``unknown``.
    probability : float
        Posterior probability of that material.
    alternatives : list of Alternative
        Other materials, the most probable first.
    """

    name: str
    category: str
    probability: Probability
    alternatives: list[Alternative] = Field(default_factory=list)


class Alert(_Item):
    """A region of the volume that an officer should look at.

    Attributes
    ----------
    id : str
        Stable name: the same for the same run and place.
    severity : str
        One of `SEVERITIES`.
    position_mm : tuple of 3 float
        Centre of the region [mm].
    extent_mm : tuple of 2 points
        Lowest and highest corner of the box around the region [mm].
    volume_l : float
        Volume of the region [litre].
    scattering_density : Interval
        Scattering density of the region's matter [mrad²/cm].
    material : MaterialGuess
        What it may be.
    mass_kg : Interval
        Its mass [kg].
    significance : float or None
        Excess over the local background in standard deviations, at this place.
    false_alarm_rate : float or None
        Expected number of regions a scan, anywhere in it, that chance alone makes as significant.
    n_muons : int
        Muons that went through the region.
    reason : str
        Why this is an alert, in a sentence.
    """

    id: str
    severity: Severity
    position_mm: Point
    extent_mm: tuple[Point, Point]
    volume_l: Annotated[float, Field(ge=0), AfterValidator(_significant)]
    scattering_density: Interval
    material: MaterialGuess
    mass_kg: Interval
    significance: Number
    false_alarm_rate: Number
    n_muons: Count
    reason: str


class ScanInfo(_Item):
    """The scan that the alerts belong to; further keys are allowed and kept.

    Attributes
    ----------
    run_id : str
        Name of the run; empty where unknown.
    live_time_s : float or None
        Time during which muons were recorded [s].
    n_muons : int
        Muons with an incoming and an outgoing track (without tracks: the most in any voxel).
    method : str
        Reconstruction method of the volume.
    materials_version : str
        Version (content hash) of the material database.
    """

    model_config = ConfigDict(extra="allow")

    run_id: str
    live_time_s: Number
    n_muons: Count
    method: str
    materials_version: str


class AlertReport(_Item):
    """The content of ``alerts.json``.

    Attributes
    ----------
    scan : ScanInfo
        What was scanned and how.
    alerts : list of Alert
        The most severe first, then the most significant.
    total_mass_kg : Interval
        Mass of all matter inside the volume [kg], the container's own included.
    warnings : list of str
        What limits the trust in the above.
    """

    format: Literal["muscan-alerts"] = "muscan-alerts"
    format_version: Literal[1] = 1
    scan: ScanInfo
    alerts: list[Alert]
    total_mass_kg: Interval
    warnings: list[str] = Field(default_factory=list)


def alerts_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``alerts.json``.

    The text in ``docs/formats/alerts.schema.json`` is this function's result.
    """
    return schema_of(AlertReport, "muscan alerts, version 1", "serialization")


def schema_of(
    model: type[toml.Spec], title: str, mode: Literal["serialization", "validation"]
) -> dict[str, Any]:
    """Return the JSON Schema of a model, as it is read (validation) or written."""
    schema = model.model_json_schema(mode=mode)
    _drop_titles(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}


def schema_text() -> str:
    """Return the schema as the text of the shipped file."""
    return as_text(alerts_schema())


def as_text(schema: dict[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _drop_titles(node: Any) -> None:
    """Remove the titles that pydantic makes of the keys, and tidy the docstrings, in place."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        if isinstance(node.get("description"), str):
            node["description"] = node["description"].split("\n\n")[0].replace("\n", " ")
        for child in node.values():
            _drop_titles(child)
    elif isinstance(node, list):
        for child in node:
            _drop_titles(child)


def alert_id(run_id: str, position_mm: tuple[float, float, float]) -> str:
    """Return an id that is the same for the same run and the same place (to 1 mm)."""
    place = ",".join(str(round(coordinate)) for coordinate in position_mm)
    digest = hashlib.sha256(f"{run_id}@{place}".encode()).hexdigest()[:10]
    return f"{run_id}-{digest}" if run_id else digest
