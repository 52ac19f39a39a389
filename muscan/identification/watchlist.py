"""Watch lists: materials or categories to look for, from what mass, and how urgently.

An item is written ``uranium``, ``uranium:0.5kg`` or ``narcotic:2kg:high``; a list may stand in a
TOML file with ``[[watch]]`` tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from muscan.errors import InputError, nearest
from muscan.identification.match import Candidates
from muscan.model import toml
from muscan.model.alerts import SEVERITIES, Severity
from muscan.model.manifest import KILOGRAMS


@dataclass(frozen=True)
class WatchRule:
    """What is asked of a watched material.

    Attributes
    ----------
    minimum_kg : float
        An object that is certainly lighter does not count.
    severity : str or None
        Least severity of the alert.
    """

    minimum_kg: float = 0.0
    severity: Severity | None = None


class WatchItem(toml.Spec):
    """A ``[[watch]]`` of a file."""

    name: str
    minimum_mass: str = "0 kg"
    severity: Severity | None = None


class WatchFile(toml.Spec):
    """A watch list's file."""

    watch: Annotated[tuple[WatchItem, ...], Field(min_length=1)]


def watched_materials(kinds: Candidates, watch: Iterable[str]) -> Mapping[str, WatchRule]:
    """Return the materials that a watch list means, with what is asked of each.

    Parameters
    ----------
    kinds : Candidates
    watch : iterable of str
        Items, or paths of TOML files of items. Of several items for a material the last counts.

    Raises
    ------
    InputError
        If an item is neither a category nor a material, or a mass or a severity is wrong.
    """
    found: dict[str, WatchRule] = {}
    for item, source in _items(watch):
        rule = WatchRule(_kilograms(item.minimum_mass, source), item.severity)
        names = [
            name
            for name, category in zip(kinds.names[1:], kinds.categories[1:], strict=True)
            if item.name in (name, category)
        ]
        if not names:
            known = {*kinds.names, *kinds.categories}
            raise InputError(
                source, f"no material or category '{item.name}'", nearest(item.name, known)
            )
        found.update(dict.fromkeys(names, rule))
    return found


def _items(watch: Iterable[str]) -> list[tuple[WatchItem, str]]:
    found = []
    for text in watch:
        if text.endswith(".toml"):
            content = toml.read_text(Path(text).expanduser())
            file = toml.validate(WatchFile, toml.parse(content, text), text, content)
            found += [(item, text) for item in file.watch]
            continue
        name, *rest = (part.strip() for part in text.split(":"))
        values = {"name": name}
        for part in rest:
            values["minimum_mass" if part[:1].isdigit() else "severity"] = part
        severity = values.get("severity")
        if severity is not None and severity not in SEVERITIES:
            hint = f"one of {', '.join(SEVERITIES)}"
            raise InputError("--watch", f"'{text}': no severity '{severity}'", hint)
        found.append((WatchItem.model_validate(values), "--watch"))
    return found


def _kilograms(text: str, source: str) -> float:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", text.strip())
    unit = (match[2] or "kg") if match else ""
    if match is None or unit not in KILOGRAMS:
        hint = f"write it as 0.5kg; units are {', '.join(KILOGRAMS)}"
        raise InputError(source, f"'{text}' is no mass", hint)
    return float(match[1]) * KILOGRAMS[unit]
