"""The words of a report, by language: one TOML file each in ``languages/``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from muscan.errors import InputError, nearest

_FOLDER: Final = Path(__file__).with_name("languages")
_REFERENCE: Final = "en"


def languages() -> list[str]:
    """Return the codes of the languages that are there, such as ``"en"``."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(language: str | Path) -> dict[str, Any]:
    """Return the words of a language, English where it has none.

    Parameters
    ----------
    language : str or Path
        A code of `languages`, or the path of a file like ``languages/en.toml``.

    Returns
    -------
    dict
        With the keys of ``languages/en.toml``, and ``code``.

    Raises
    ------
    InputError
        If there is no such language, or its file is no catalogue.
    """
    path = Path(language)
    if path.suffix != ".toml":
        path = _FOLDER / f"{language}.toml"
        if str(language) not in languages():
            raise InputError(
                language, "no such language", nearest(str(language), languages())
            ) from None
    reference, found = _read(_FOLDER / f"{_REFERENCE}.toml"), _read(path)
    return {"code": path.stem, **_merged(reference, found, path)}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(path, f"is no catalogue ({error})", "write it like en.toml") from error


def _merged(reference: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    merged = {**reference, **found}
    for key, value in reference.items():
        if isinstance(value, dict):
            table = found.get(key, {})
            if not isinstance(table, dict):
                raise InputError(path, f"[{key}] is not a table", "write it like en.toml")
            merged[key] = {**value, **table}
    return merged
