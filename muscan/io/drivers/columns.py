"""What the columns of a table of hits hold: from its header line and a mapping file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from muscan.errors import InputError, nearest
from muscan.kernels import text as kernel
from muscan.model import toml
from muscan.model.toml import SpecT

#: What is known of a hit, and the column of the long form that holds it.
FIELDS: Final = {
    "x": "x_mm",
    "y": "y_mm",
    "z": "z_mm",
    "sigma_x": "sigma_x_mm",
    "sigma_y": "sigma_y_mm",
    "time": "time_ns",
    "amplitude": "amplitude",
    "momentum": "momentum_GeV",
    "sigma_momentum": "sigma_momentum_GeV",
}
X, Y, Z, SIGMA_X, SIGMA_Y, TIME, AMPLITUDE, MOMENTUM, SIGMA_MOMENTUM = range(len(FIELDS))
EVENT: Final = "event_id"
PANEL: Final = "panel"
_REQUIRED: Final = (EVENT, PANEL, "x_mm", "y_mm", "z_mm")
_DELIMITERS: Final = ",;\t"
_LENGTHS: Final = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_TIMES: Final = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
_MOMENTA: Final = {"GeV": 1.0, "MeV": 1e-3}

Name = Annotated[str, Field(min_length=1)]


class PanelColumns(toml.Spec):
    """One ``[[panel]]`` of a mapping: the columns that hold the hit in one panel."""

    panel: Name | Annotated[int, Field(ge=0)]
    x: Name | None = None
    y: Name | None = None
    z: Name | None = None
    sigma_x: Name | None = None
    sigma_y: Name | None = None
    time: Name | None = None
    amplitude: Name | None = None

    @model_validator(mode="after")
    def _measures(self) -> PanelColumns:
        if self.x is None and self.y is None and self.z is None:
            raise ValueError("name the column of x, y or z")
        return self


class MappingSpec(toml.Spec):
    """A mapping file: ``[[panel]]`` tables for the wide form, ``[columns]`` for the long one."""

    length_unit: Literal["mm", "cm", "m"] = "mm"
    time_unit: Literal["ns", "us", "ms", "s"] = "ns"
    momentum_unit: Literal["GeV", "MeV"] = "GeV"
    event_id: Name | None = None
    time: Name | None = None
    momentum: Name | None = None
    sigma_momentum: Name | None = None
    panel: tuple[PanelColumns, ...] = ()
    columns: dict[str, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_form(self) -> MappingSpec:
        if bool(self.panel) == bool(self.columns):
            raise ValueError("give [[panel]] tables (wide form) or [columns] (long form)")
        known = (EVENT, PANEL, *FIELDS)
        for key in self.columns:
            if key not in known:
                raise ValueError(f"columns.{key}: no such field, {nearest(key, known)}")
        labels = [str(panel.panel) for panel in self.panel]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"panel '{label}' stands twice")
        return self


@dataclass(frozen=True)
class TableFormat:
    """How to read a table.

    Attributes
    ----------
    delimiter : str
        Between fields.
    header_line : int
        Line of the header, from 1.
    columns : tuple of str
        Names in the header.
    kinds : (c,) int8
        See `muscan.kernels.text.parse_rows`.
    slots : (c,) int64
        The same.
    n_slots : int
        Number of columns that are read as numbers.
    fields : (p, 9) int64
        Slot of each of `FIELDS` for each hit that a row can hold; ``n_slots`` where there is none.
    scale : (9,) float64
        Factors to native units.
    labels : tuple of str
        Panels of the hits of a row (wide form), or empty (long form, a column names the panel).
    numbered : bool
        Whether a column holds the event's id; rows are counted otherwise.
    ignored : tuple of str
        Columns that are not read.
    """

    delimiter: str
    header_line: int
    columns: tuple[str, ...]
    kinds: NDArray[np.int8]
    slots: NDArray[np.int64]
    n_slots: int
    fields: NDArray[np.int64]
    scale: NDArray[np.float64]
    labels: tuple[str, ...]
    numbered: bool
    ignored: tuple[str, ...]

    def has(self, field: int) -> bool:
        """Tell whether the table has a field, such as `TIME`."""
        return bool((self.fields[:, field] < self.n_slots).any())


def read_mapping(path: Path, spec: type[SpecT] = MappingSpec) -> SpecT:  # type: ignore[assignment]
    """Read a mapping file of a kind, by default that of tables.

    Raises
    ------
    InputError
        If it is wrong; the message says where.
    """
    content = toml.read_text(path)
    return toml.validate(spec, toml.parse(content, path), path, content)


def table_format(first_block: bytes, path: Path, mapping: MappingSpec | None) -> TableFormat:
    """Return how to read a table from its first lines.

    Raises
    ------
    InputError
        If it has no header, or the header lacks a column.
    """
    number, line = _header_line(first_block, path)
    delimiter = max(_DELIMITERS, key=line.count)
    names = tuple(name.strip().strip('"').strip() for name in line.split(delimiter))
    for name in names:
        if name and names.count(name) > 1:
            raise InputError(path, f"line {number}: column '{name}' stands twice in the header")
    hits = long_form(mapping) if mapping is None or mapping.columns else wide_form(mapping)
    event = _event_column(mapping)
    if mapping is None or mapping.columns:
        label = PANEL if mapping is None else mapping.columns.get(PANEL, PANEL)
        required = [event, label, *(hits[0][field] for field in ("x", "y", "z"))]
        hits = [{f: c for f, c in hits[0].items() if c in names or c in required}]
        if mapping is not None:
            required += [mapping.columns[key] for key in mapping.columns]
        labels: tuple[str, ...] = ()
    else:
        label = None
        required = [column for hit in hits for column in hit.values()]
        required += [event] if event is not None else []
        labels = tuple(str(panel.panel) for panel in mapping.panel)
    _require(required, names, path, number)
    return _build(number, delimiter, names, event, label, hits, labels, mapping)


def _header_line(block: bytes, path: Path) -> tuple[int, str]:
    """Return the number of the first line that is not blank nor a comment, and its text."""
    for number, raw in enumerate(block.split(b"\n"), start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r ")
        except UnicodeDecodeError as error:
            raise InputError(path, f"line {number} is not UTF-8 text", "give a CSV file") from error
        if line.strip() and not line.startswith("#"):
            return number, line
    raise InputError(path, "has no header line", f"begin with {','.join(_REQUIRED)}")


def long_form(mapping: MappingSpec | None) -> list[dict[str, str]]:
    """Return the column of each field of the one hit in a row."""
    columns = {} if mapping is None else mapping.columns
    return [{field: columns.get(field, usual) for field, usual in FIELDS.items()}]


def wide_form(mapping: MappingSpec) -> list[dict[str, str]]:
    """Return the column of each field of each panel's hit; those of the event hold for all."""
    shared = {f: getattr(mapping, f) for f in ("time", "momentum", "sigma_momentum")}
    hits = []
    for panel in mapping.panel:
        own = {f: getattr(panel, f) for f in type(panel).model_fields if f != "panel"}
        merged = {**shared, **{f: c for f, c in own.items() if c is not None}}
        hits.append({field: column for field, column in merged.items() if column is not None})
    return hits


def _event_column(mapping: MappingSpec | None) -> str | None:
    if mapping is None:
        return EVENT
    return mapping.columns.get(EVENT, EVENT) if mapping.columns else mapping.event_id


def _require(
    required: Sequence[str | None], names: tuple[str, ...], path: Path, number: int
) -> None:
    for column in required:
        if column is not None and column not in names:
            others = [name[:40] for name in names if name and name not in required]
            found = nearest(column, others or names)
            raise InputError(
                path,
                f"line {number}: the header has no column '{column}'",
                f"{found}; for a table of another form give a mapping",
            )


def _build(
    number: int,
    delimiter: str,
    names: tuple[str, ...],
    event: str | None,
    label: str | None,
    hits: Sequence[Mapping[str, str]],
    labels: tuple[str, ...],
    mapping: MappingSpec | None,
) -> TableFormat:
    kinds = np.full(len(names), kernel.SKIP, dtype=np.int8)
    slots = np.zeros(len(names), dtype=np.int64)
    used = dict.fromkeys(column for hit in hits for column in hit.values())
    slot_of = {column: slot for slot, column in enumerate(used)}
    for column, slot in slot_of.items():
        kinds[names.index(column)] = kernel.NUMBER
        slots[names.index(column)] = slot
    if event is not None:
        kinds[names.index(event)] = kernel.IDENTIFIER
    if label is not None:
        kinds[names.index(label)] = kernel.LABEL
    fields = np.array(
        [[slot_of[hit[f]] if f in hit else len(slot_of) for f in FIELDS] for hit in hits],
        dtype=np.int64,
    )
    ignored = tuple(
        name for name, kind in zip(names, kinds, strict=True) if kind == kernel.SKIP and name
    )
    return TableFormat(
        delimiter=delimiter,
        header_line=number,
        columns=names,
        kinds=kinds,
        slots=slots,
        n_slots=len(slot_of),
        fields=fields,
        scale=scale_of(mapping),
        labels=labels,
        numbered=event is not None,
        ignored=ignored,
    )


def scale_of(mapping: MappingSpec | None) -> NDArray[Any]:
    """Return the factors that take each of `FIELDS` to native units, shape (9,)."""
    scale = np.ones(len(FIELDS))
    if mapping is not None:
        scale[[X, Y, Z, SIGMA_X, SIGMA_Y]] = _LENGTHS[mapping.length_unit]
        scale[TIME] = _TIMES[mapping.time_unit]
        scale[[MOMENTUM, SIGMA_MOMENTUM]] = _MOMENTA[mapping.momentum_unit]
    return scale
