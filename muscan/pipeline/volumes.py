"""Verbs that make volumes and say what is in them: reconstruct, identify."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from muscan import io
from muscan.errors import InputError, nearest
from muscan.model.alerts import AlertReport
from muscan.model.containers import frame_boxes
from muscan.model.detector import Detector
from muscan.model.events import Run, Tracks, pair_tracks
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.region import RegionTester
from muscan.model.scene import Scene, fixed_scene, load_scene, with_fixed
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import MaterialMap, Volume, VoxelGrid
from muscan.pipeline.common import PathLike, Progress, assumed_flux, naming, summed
from muscan.pipeline.distributed import DaskTeam

if TYPE_CHECKING:
    from distributed import Client

FloatArray = NDArray[np.float64]


def reconstruct(
    tracks: PathLike | Tracks,
    *,
    method: str = "poca",
    voxel: float = 50.0,
    bounds: Sequence[float] | None = None,
    channels: Sequence[str] = ("scattering",),
    fixed: PathLike | Scene | None = None,
    materials: Sequence[PathLike] = (),
    flux: str = "",
    workers: int | None = None,
    client: Client | None = None,
    output: PathLike | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Volume | Path:
    """Turn tracks into a volume of scattering density, stopping density, or both.

    A file is read in pieces, of which one is held at a time.

    Parameters
    ----------
    tracks : path or Tracks
        Incoming and outgoing tracks.
    method : str
        Name of a reconstruction method of scattering density, such as ``"poca"``.
    voxel : float
        Size of the voxels [mm].
    bounds : sequence of 6 float, optional
        xmin, xmax, ymin, ymax, zmin, zmax [mm]; the layout's inspected space unless given.
    channels : sequence of str
        ``"scattering"``, ``"stopping"`` or both; with both, ``stopping`` is a further channel of
        the volume and is guided by the scattering.
    fixed : path or Scene, optional
        Scene of bodies that are known to stand there, such as a container's shell, beside those
        that the layout names. A method that knows no fixed matter leaves the layout's out.
    materials : sequence of path
        Material files to lay over the shipped ones, for what is fixed.
    flux : str
        Flux model from which the spectrum of unknown momenta follows; unless given, ``guan2015``
        for simulated muons and ``ecomug`` for recorded ones.
    workers : int, optional
        Threads; all cores unless given.
    client : distributed.Client, optional
        A Dask cluster that shares the work, for methods that can.
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
    from muscan.reconstruction.fixed import rasterise
    from muscan.reconstruction.stopping import stopping, with_stopping

    wanted = _channels(channels)
    if output is not None:
        io.spare(Path(output), tracks, fixed, *materials)
    pieces, runs, first = _pieces(tracks, bounds)
    detector, found_bounds = first.detector, _bounds(first, bounds)
    grid = VoxelGrid.from_bounds(found_bounds, voxel)
    if progress is not None:
        progress("reconstruct", None)
    if client is not None:
        options["team"] = DaskTeam(client)
    known = _fixed(fixed, detector, grid, method)
    if known is not None:
        database = load_materials(tuple(materials)) if materials else None
        options["fixed"] = rasterise(known, grid, database)
    spectrum = sea_level_spectrum(assumed_flux(flux, first.run))
    common: dict[str, Any] = {"spectrum": spectrum, "detector": detector, "workers": workers}
    with naming("tracks", tracks):
        if "scattering" in wanted:
            scatters = (pair_tracks(piece) for piece in pieces())
            volume = run_method(scatters, grid, method, **common, **options)
            if "stopping" in wanted:
                volume = with_stopping(volume, pieces(), **common)
        else:
            volume = stopping(pieces(), grid, **common)
        if not (volume.n_muons > 0).any():
            raise InputError("tracks", "no muon goes through the volume", "check --bounds")
    volume = replace(volume, run=summed(runs))
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
    cargo: str = "",
    container: str = "",
    flux: str = "",
    false_alarms: float | None = None,
    workers: int | None = None,
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
        Names or categories of materials whose alerts are raised in severity, each with a least
        mass where one is given (``uranium:0.5kg``), or files of such items.
    cargo, container : str
        Declared cargo, by which the total mass is weighed by the muons (`muscan.weigh`) and the
        cargo's own materials are expected more; and container, whose posts and rails are then
        looked for and are no objects.
    flux : str
        As in `reconstruct`; measured momenta are used.
    false_alarms : float, optional
        Alerts of which chance makes more than this many a scan are left out; 0.05 unless given.
    workers : int, optional
        Threads; all cores unless given.
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
    from muscan.identification.match import cargo_prior
    from muscan.pipeline.weigh import weigh, with_load

    if progress is not None:
        progress("identify", None)
    if output is not None:
        for written in (Path(output), Path(output).with_name("materials.h5")):
            io.spare(written, volume, tracks)
    found = io.read_volume(Path(volume)) if isinstance(volume, (str, Path)) else volume
    muons = io.read_tracks(Path(tracks)) if isinstance(tracks, (str, Path)) else tracks
    database = (
        materials if isinstance(materials, MaterialDatabase) else load_materials(tuple(materials))
    )
    flux = assumed_flux(flux, (muons or found).run or Run())
    with naming("volume", volume), naming("tracks", tracks):
        _require_one_scan(found, muons)
        tester = None if muons is None else _tester(muons, found, flux, workers)
        if found.run is None and muons is not None:
            found = replace(found, run=muons.run)
        options: dict[str, Any] = {} if false_alarms is None else {"false_alarms": false_alarms}
        if cargo:
            options["prior"] = cargo_prior(database, cargo)
        if container:
            middle = (found.grid.lower + found.grid.upper) / 2
            options["known"] = list(frame_boxes(container, middle, database))
        report, labels = run_identify(found, tester, database, watch=watch, **options)
        report = _calibrated(report, muons, cargo, container)
        if muons is not None and cargo:
            load = weigh(muons, cargo=cargo, container=container, materials=database, flux=flux)
            report = with_load(report, load, cargo)
    if output is not None:
        io.write_materials(Path(output).with_name("materials.h5"), labels)
        io.write_alerts(Path(output), report)
    return report, labels


def _require_one_scan(volume: Volume, tracks: Tracks | None) -> None:
    if tracks is None or volume.run is None:
        return
    one, other = volume.run.run_id, tracks.run.run_id
    if one and other and one != other:
        raise InputError(
            "tracks",
            f"are of the run '{other}', the volume of '{one}'",
            "give the tracks that the volume was made from",
        )


def _calibrated(
    report: AlertReport, tracks: Tracks | None, cargo: str, container: str
) -> AlertReport:
    """Return the report with the false-alarm rates of benign scans, where there are such."""
    from muscan.identification.operating_points import ANY_CARGO, false_alarms_of, with_rates

    layout = tracks.detector.name if tracks is not None and tracks.detector is not None else ""
    live = report.scan.live_time_s or 0.0
    rates = false_alarms_of(layout, report.scan.method, live, cargo or ANY_CARGO, container)
    return with_rates(report, rates)


def _tester(tracks: Tracks, volume: Volume, flux: str, workers: int | None) -> RegionTester | None:
    """Return the muons ready to test regions of a volume, None if no muon has both tracks."""
    from muscan.reconstruction.region import MuonTester

    scatters = pair_tracks(tracks)
    if len(scatters) == 0:
        return None
    return MuonTester(
        scatters,
        volume.grid,
        spectrum=sea_level_spectrum(flux),
        momentum="measured" if np.isfinite(scatters.momentum).any() else "spectrum",
        detector=tracks.detector,
        workers=workers,
    )


def _fixed(
    given: PathLike | Scene | None, detector: Detector | None, grid: VoxelGrid, method: str
) -> Scene | None:
    """Return what is known to stand in the grid, None if nothing is."""
    from muscan.reconstruction import takes

    if given is not None:
        named = load_scene(given)
        return named if detector is None else with_fixed(named, detector)
    scene = None if detector is None else fixed_scene(detector)
    if scene is None or not takes(method, "fixed"):
        return None
    reach = np.array([body.bounds() for body in scene.bodies])
    upper = grid.lower + grid.spacing * np.array(grid.shape)
    inside = (reach[:, 0] < upper).all(axis=1) & (reach[:, 1] > grid.lower).all(axis=1)
    return scene if inside.any() else None


def _channels(given: Sequence[str]) -> set[str]:
    known = ("scattering", "stopping")
    for name in given:
        if name not in known:
            raise InputError("--channels", f"no channel '{name}'", nearest(name, known))
    if not given:
        raise InputError("--channels", "none is given", "give scattering, stopping or both")
    return set(given)


def _pieces(
    tracks: PathLike | Tracks, bounds: Sequence[float] | None
) -> tuple[Callable[[], Iterator[Tracks]], list[Run], Tracks]:
    """Return what gives the pieces of the tracks, their runs once, and the first piece.

    All tracks are one piece where neither bounds nor a layout tell the space to reconstruct.
    """
    runs: list[Run] = []
    if isinstance(tracks, Tracks):
        runs.append(tracks.run)
        return lambda: iter([tracks]), runs, tracks
    path = Path(tracks)
    first = next(io.iter_tracks(path))
    if bounds is None and first.detector is None:
        return _pieces(io.read_tracks(path), bounds)

    def pieces() -> Iterator[Tracks]:
        again = bool(runs)
        for piece in io.iter_tracks(path):
            if not again:
                runs.append(piece.run)
            yield piece

    return pieces, runs, first


def _bounds(tracks: Tracks, given: Sequence[float] | None) -> FloatArray:
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
