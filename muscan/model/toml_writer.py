"""Plain data to TOML text: what `tomllib` reads back to the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_toml(data: Mapping[str, Any]) -> str:
    """Return a mapping as TOML text: lists of tables as ``[[name]]``, inner tables inline.

    Parameters
    ----------
    data : mapping
        Of str, bool, int, finite float, lists and mappings.
    """
    lines = [f"{_key(key)} = {_value(value)}" for key, value in data.items() if not _tables(value)]
    for key, value in data.items():
        if _tables(value):
            for table in value:
                lines += ["", f"[[{_key(key)}]]"]
                lines += [f"{_key(name)} = {_value(item)}" for name, item in table.items()]
    return "\n".join(lines) + "\n"


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, Mapping) for x in value)


def _key(name: str) -> str:
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if plain else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value)


def _text(value: str) -> str:
    # JSON escapes what TOML's basic strings escape, in the same way, but for the delete sign.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
