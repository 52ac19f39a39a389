"""A detector as the text of a layout that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muscan.model.detector import Detector, Panel
from muscan.model.layout import Technology
from muscan.model.toml_writer import to_toml

#: Decimals of a length [mm] and of a unit vector: a nanometre, and a nanometre at 100 m.
_LENGTH_DECIMALS, _AXIS_DECIMALS = 6, 14
#: What is written of a technology even where it is as usual.
_ALWAYS = {
    "thickness_mm", "material", "measures", "readout", "resolution_mm", "efficiency",
    "noise_hz_per_m2", "time_resolution_ns",
}  # fmt: skip


def layout_text(
    detector: Detector,
    *,
    source: str = "",
    notes: str = "",
    panel_notes: Mapping[str, str] | None = None,
) -> str:
    """Return the layout of a detector: every panel by its axes, every technology with its figures.

    Parameters
    ----------
    detector : Detector
        Its ``text`` is not used: what its panels say counts.
    source : str
        Where the layout's figures come from.
    notes : str
        Comment at the top.
    panel_notes : mapping of str to str, optional
        Comment above each panel, by its name.

    Notes
    -----
    `muscan.model.detector.parse_detector` gives the same detector again, lengths to a nanometre.
    Comments and ``repeat`` of the layout that it was made from are gone.
    """
    names, tables = _technologies(detector)
    head = {"name": detector.name, "description": detector.description, "source": source}
    low, high = detector.bounds.tolist()
    parts = [
        _comment(notes),
        to_toml({**{k: text for k, text in head.items() if text}, "gate_ns": detector.gate_ns}),
        "\n[inspection]\n" + to_toml({"min_mm": low, "max_mm": high}),
    ]
    for name, technology in tables.items():
        changed = technology.model_dump(mode="json", exclude_defaults=True)
        every = technology.model_dump(mode="json", exclude_none=True)
        said = {key: value for key, value in every.items() if key in _ALWAYS or key in changed}
        parts.append("\n" + _header(name) + to_toml(said))
    for body in detector.fixed:
        said = body.model_dump(mode="json", exclude_unset=True)
        parts.append("\n" + to_toml({"fixed": [said]}).lstrip("\n"))
    for panel, technology_name in zip(detector.panels, names, strict=True):
        text = to_toml({"panel": [_entry(panel, technology_name)]}).lstrip("\n")
        parts.append("\n" + _comment((panel_notes or {}).get(panel.name, "")) + text)
    return "".join(parts)


def _header(name: str) -> str:
    key = to_toml({name: 0}).removesuffix(" = 0\n")
    return f"[technology.{key}]\n"


def _technologies(detector: Detector) -> tuple[list[str], dict[str, Technology]]:
    """Return the name of each panel's technology, and the technologies by name, no two alike."""
    names: list[str] = []
    tables: dict[str, Technology] = {}
    for panel in detector.panels:
        wanted = panel.technology_name or panel.name
        name, number = wanted, 1
        while name in tables and tables[name] != panel.technology:
            number += 1
            name = f"{wanted}-{number}"
        tables[name] = panel.technology
        names.append(name)
    return names, tables


def _entry(panel: Panel, technology: str) -> dict[str, Any]:
    own: dict[str, Any] = {
        "name": panel.name,
        "group": panel.group,
        "technology": technology,
        "centre_mm": [round(x, _LENGTH_DECIMALS) for x in panel.centre.tolist()],
        "u_axis": [round(x, _AXIS_DECIMALS) for x in panel.u.tolist()],
        "v_axis": [round(x, _AXIS_DECIMALS) for x in panel.v.tolist()],
    }
    if panel.size != panel.technology.size_mm:
        own["size_mm"] = list(panel.size)
    if any(panel.dead_channels):
        own["dead_channels"] = [list(axis) for axis in panel.dead_channels]
    return own


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
