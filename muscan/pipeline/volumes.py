"""Verbs that make volumes and say what is in them: reconstruct, identify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from muscan import io
from muscan.errors import InputError
from muscan.model.alerts import AlertReport
from muscan.model.events import Tracks, pair_tracks
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import MaterialMap, Volume, VoxelGrid
from muscan.pipeline.common import PathLike, Progress, naming


def reconstruct(
    tracks: PathLike | Tracks,
    *,
    method: str = "poca",
    voxel: float = 50.0,
    bounds: Sequence[float] | None = None,
    flux: str = "guan2015",
    workers: int | None = None,
    output: PathLike | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Volume | Path:
    """Turn tracks into a volume of scattering density.

    Parameters
    ----------
    tracks : path or Tracks
        Incoming and outgoing tracks.
    method : str
        Name of a reconstruction method, such as ``"poca"``.
    voxel : float
        Size of the voxels [mm].
    bounds : sequence of 6 float, optional
        xmin, xmax, ymin, ymax, zmin, zmax [mm]; the layout's inspected space unless given.
    flux : str
        Flux model from which the spectrum of unknown momenta follows.
    workers : int, optional
        Threads; all cores unless given.
    output : path, optional
        Volume file to write.
    progress : callable, optional
        See `Progress`.
    **options
        Further options of the method.

    Returns
    -------
    Volume or Path

    Raises
    ------
    InputError
        If the tracks or an option is wrong, or if no event has both tracks.
    """
    from muscan.reconstruction import reconstruct as run_method

    found = io.read_tracks(Path(tracks)) if isinstance(tracks, (str, Path)) else tracks
    grid = VoxelGrid.from_bounds(_bounds(found, bounds), voxel)
    if progress is not None:
        progress("reconstruct", None)
    with naming("tracks", tracks):
        volume = run_method(
            pair_tracks(found),
            grid,
            method,
            spectrum=sea_level_spectrum(flux),
            detector=found.detector,
            workers=workers,
            **options,
        )
        if not (volume.n_muons > 0).any():
            raise InputError("tracks", "no muon goes through the volume", "check --bounds")
    volume = replace(volume, run=found.run)
    if output is None:
        return volume
    io.write_volume(Path(output), volume)
    return Path(output)


def identify(
    volume: PathLike | Volume,
    *,
    tracks: PathLike | Tracks | None = None,
    materials: Sequence[PathLike] | MaterialDatabase = (),
    watch: Sequence[str] = (),
    flux: str = "guan2015",
    output: PathLike | None = None,
    progress: Progress | None = None,
) -> tuple[AlertReport, MaterialMap]:
    """Find what is in a volume: materials of voxels, regions, weights and alerts.

    Parameters
    ----------
    volume : path or Volume
        Scattering density.
    tracks : path or Tracks, optional
        The tracks that it was made from.
    materials : sequence of path, or MaterialDatabase
        Material files to lay over the shipped ones, or a database.
    watch : sequence of str
        Names or categories of materials whose alerts are raised in severity.
    flux : str
        Flux model from which the spectrum of unknown momenta follows.
    output : path, optional
        Alert file (JSON) to write, with ``materials.h5`` beside it.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    report : AlertReport
    materials : MaterialMap

    Raises
    ------
    InputError
        If the volume is empty or an option is wrong.
    """
    from muscan.identification import identify as run_identify

    if progress is not None:
        progress("identify", None)
    found = io.read_volume(Path(volume)) if isinstance(volume, (str, Path)) else volume
    muons = io.read_tracks(Path(tracks)) if isinstance(tracks, (str, Path)) else tracks
    database = (
        materials if isinstance(materials, MaterialDatabase) else load_materials(tuple(materials))
    )
    with naming("volume", volume), naming("tracks", tracks):
        report, labels = run_identify(found, muons, database, watch=watch, flux=flux)
    if output is not None:
        io.write_materials(Path(output).with_name("materials.h5"), labels)
        io.write_alerts(Path(output), report)
    return report, labels


def _bounds(tracks: Tracks, given: Sequence[float] | None) -> np.ndarray:
    """Return the corners of the space to reconstruct, shape (2, 3) [mm]."""
    if given is not None:
        if len(given) != 6:
            raise InputError(
                "--bounds", f"{len(given)} numbers", "give xmin,xmax,ymin,ymax,zmin,zmax in mm"
            )
        return np.array(given, dtype=float).reshape(3, 2).T
    if tracks.detector is not None:
        return tracks.detector.bounds
    return np.array([tracks.position.min(axis=0), tracks.position.max(axis=0)], dtype=float)
