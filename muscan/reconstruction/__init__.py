"""Tracks to volumes: each method is ``method(scatters, grid, **options) -> Volume``."""

from __future__ import annotations

from typing import Any, Final

from muscan import plugins
from muscan.model.events import Scatters
from muscan.model.volume import Volume, VoxelGrid

#: Methods that come with muscan; others register in the entry-point group `GROUP`.
BUILTIN: Final = {
    "poca": "muscan.reconstruction.poca:poca",
    "asr": "muscan.reconstruction.asr:asr",
    "em": "muscan.reconstruction.em:em",
}
GROUP: Final = "muscan.reconstructors"


def methods() -> list[str]:
    """Return the names of all methods, ours and those of third parties."""
    return plugins.names(GROUP, BUILTIN)


def reconstruct(
    scatters: Scatters, grid: VoxelGrid, method: str = "poca", **options: Any
) -> Volume:
    """Return a volume of scattering density by a method's name.

    Parameters
    ----------
    scatters : Scatters
        Muons with an incoming and an outgoing track.
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
    volume: Volume = plugins.load(GROUP, BUILTIN, method)(scatters, grid, **options)
    return volume
