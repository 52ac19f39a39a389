"""Finds data files: the user's own first, then those shipped with muscan.

A shipped folder stands in the wheel at ``muscan/_shipped/KIND`` and in a checkout at the
repository's root. The user's data folder is ``platformdirs.user_data_path("muscan")/KIND``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from muscan.errors import InputError, nearest

_PACKAGE = Path(__file__).parent
_CHECKOUT: Final = {
    "detectors/scanners": "detectors/scanners",
    "detectors/panels": "detectors/panels",
    "materials": "materials",
    "scenes": "examples/scenes",
    "scenes/customs": "examples/scenes/customs",
    "schemas": "docs/formats",
}


def shipped_folder(kind: str) -> Path:
    """Return the folder of shipped files of a kind, such as ``"detectors/scanners"``."""
    installed = _PACKAGE / "_shipped" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / _CHECKOUT[kind]


def user_folder(kind: str) -> Path:
    """Return the folder where the user's own files of a kind are looked for."""
    from platformdirs import user_data_path

    return user_data_path("muscan", appauthor=False) / kind


def user_files(kind: str) -> list[Path]:
    """Return the user's own TOML files of a kind; none where the folder may not be read."""
    folder = user_folder(kind)
    # A service may run under a home that it may not enter.
    with suppress(PermissionError):
        return sorted(folder.glob("*.toml")) if folder.is_dir() else []
    return []


def names(kind: str) -> dict[str, Path]:
    """Return every TOML file of a kind by its stem; the user's hide the shipped ones."""
    files = [*sorted(shipped_folder(kind).glob("*.toml")), *user_files(kind)]
    return {path.stem: path for path in files}


def find(kind: str, name: str | Path, relative_to: Path | None = None) -> Path:
    """Return the file that a name or a path means.

    Parameters
    ----------
    kind : str
        ``"scenes"``, ``"detectors/scanners"``, ``"detectors/panels"`` or ``"materials"``.
    name : str or Path
        A path to a file, or the name of a shipped or user file without its suffix.
    relative_to : Path, optional
        A folder in which a relative path is tried too.

    Raises
    ------
    InputError
        If nothing has that path or name.
    """
    path = Path(name).expanduser()
    candidates = [path] if relative_to is None else [path, relative_to / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = names(kind)
    if path.name in known and path.name == str(name):
        return known[path.name]
    if path.is_dir():
        raise InputError(name, "is a folder", "name a file in it")
    if path.suffix or len(path.parts) > 1:
        listing = ", ".join(known) or "none shipped"
        raise InputError(name, "no such file", f"give a path, or a name from: {listing}")
    what = {"scenes": "scene", "materials": "material file"}.get(kind, "layout")
    what = "panel technology" if kind == "detectors/panels" else what
    raise InputError(name, f"no such {what}", nearest(path.name, known))
