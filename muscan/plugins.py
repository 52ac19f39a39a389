"""Things found by name: built in, or added by third parties through entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from muscan.errors import InputError, nearest


def names(group: str, builtin: Mapping[str, str]) -> list[str]:
    """Return the names known in a group such as ``"muscan.drivers"``."""
    return sorted({*builtin, *(point.name for point in entry_points(group=group))})


def load(group: str, builtin: Mapping[str, str], name: str) -> Callable[..., Any]:
    """Return the callable that a name means.

    Parameters
    ----------
    group : str
        The entry-point group in which third parties add theirs.
    builtin : mapping of str to str
        Our own, name → ``"package.module:callable"``; these cannot be replaced.
    name : str
        The name to look up.

    Raises
    ------
    InputError
        If no such name is known; the message suggests the nearest one.
    """
    if name in builtin:
        module, attribute = builtin[name].split(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    for point in entry_points(group=group, name=name):
        return point.load()  # type: ignore[no-any-return]
    kind = group.rpartition(".")[2].removesuffix("s")
    raise InputError(name, f"no such {kind}", nearest(name, names(group, builtin)))
