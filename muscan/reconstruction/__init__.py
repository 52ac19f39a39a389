"""Tracks to volumes: each method is ``method(scatters, grid, **options) -> Volume``."""

from __future__ import annotations

from collections.abc import Iterable
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
    run = plugins.load(GROUP, BUILTIN, method)
    if "team" in options and "team" not in signature(run).parameters:
        raise InputError("--dask", f"the method '{method}' works in one process", "leave it out")
    if "fixed" in options and "fixed" not in signature(run).parameters:
        raise InputError("--fixed", f"the method '{method}' knows no fixed matter", "use em")
    if method not in BUILTIN and not isinstance(scatters, Scatters):
        scatters = Scatters.join(list(scatters))
    volume: Volume = run(scatters, grid, **options)
    return volume
