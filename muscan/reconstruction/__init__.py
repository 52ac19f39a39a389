"""Tracks to volumes: each method is ``method(scatters, grid, **options) -> Volume``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any, Final

from muscan import plugins
from muscan.errors import InputError
from muscan.model.events import Scatters
from muscan.model.volume import Volume, VoxelGrid

#: Methods that come with muscan; others register in the entry-point group `GROUP`.
BUILTIN: Final = {
    "poca": "muscan.reconstruction.poca:poca",
    "asr": "muscan.reconstruction.asr:asr",
    "em": "muscan.reconstruction.em:em",
    "mlem": "muscan.reconstruction.mlem:mlem",
}
GROUP: Final = "muscan.reconstructors"


def methods() -> list[str]:
    """Return the names of all methods, ours and those of third parties."""
    return plugins.names(GROUP, BUILTIN)


def takes(method: str, option: str) -> bool:
    """Return whether a method has an option.

    Raises
    ------
    InputError
        If there is no such method.
    """
    return option in signature(plugins.load(GROUP, BUILTIN, method)).parameters


def find_method(name: str) -> Callable[..., Volume]:
    """Return a method by its name.

    Raises
    ------
    InputError
        If there is none; the message suggests the nearest one.
    """
    return plugins.load(GROUP, BUILTIN, name)


def reconstruct(
    scatters: Scatters | Iterable[Scatters],
    grid: VoxelGrid,
    method: str = "poca",
    **options: Any,
) -> Volume:
    """Return a volume of scattering density by a method's name.

    Parameters
    ----------
    scatters : Scatters or iterable of Scatters
        Muons with an incoming and an outgoing track, all at once or in portions. Methods of
        third parties get them at once.
    grid : VoxelGrid
        Where to reconstruct.
    method : str
        One of `methods`.
    **options
        Handed to the method, such as ``spectrum``, ``momentum``, ``callback`` and ``workers``.

    Raises
    ------
    InputError
        If there is no such method, or no muon to use.
    """
    run = find_method(method)
    if "team" in options and not takes(method, "team"):
        raise InputError("--dask", f"the method '{method}' works in one process", "leave it out")
    if "fixed" in options and not takes(method, "fixed"):
        raise InputError("--fixed", f"the method '{method}' knows no fixed matter", "use em")
    if method not in BUILTIN and not isinstance(scatters, Scatters):
        scatters = Scatters.join(list(scatters))
    return run(scatters, grid, **options)
