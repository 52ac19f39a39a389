"""The verbs of muscan: each step of the chain, from files or objects to files or objects.

A verb takes a path or what would be read from it. With ``output`` it writes a file, streaming
where the data may be large, and returns the file's path; without, it returns the object.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np

from muscan import io
from muscan.errors import InputError, MissingExtraError
from muscan.io import drivers
from muscan.model.alerts import AlertReport
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits, Run, Tracks, pair_tracks
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.scene import Scene, load_scene
from muscan.model.volume import MaterialMap, Volume, VoxelGrid

#: Called with the name of a step and the fraction of it that is done, None where unknown.
Progress = Callable[[str, float | None], None]
PathLike = str | Path


@overload
def simulate(scene: PathLike | Scene = ..., *, output: None = None, **options: Any) -> Hits: ...
@overload
def simulate(scene: PathLike | Scene = ..., *, output: PathLike, **options: Any) -> Path: ...
def simulate(
    scene: PathLike | Scene = "container",
    *,
    detector: PathLike | Detector | None = None,
    minutes: float | None = None,
    muons: int | None = None,
    seed: int = 0,
    flux: str = "guan2015",
    scattering: str = "moliere",
    materials: Sequence[PathLike] = (),
    workers: int | None = None,
    output: PathLike | None = None,
    progress: Progress | None = None,
) -> Hits | Path:
    """Send cosmic muons through a scene and a detector's panels.

    Parameters
    ----------
    scene : str, Path or Scene
        A scene's file, or the name of a shipped or user scene.
    detector : str, Path or Detector, optional
        A layout; the one that the scene names unless given.
    minutes : float, optional
        Exposure [min]; 5 unless ``muons`` is given.
    muons : int, optional
        Number of muons to generate instead.
    seed : int
        The same seed gives the same hits, whatever the number of workers.
    flux : str
        Flux model, such as ``"guan2015"``.
    scattering : {"moliere", "highland"}
        Model of multiple scattering.
    materials : sequence of path
        Material files to lay over the shipped ones.
    workers : int, optional
        Threads; all cores unless given.
    output : path, optional
        Hit file to write, with the truth in ``/truth``.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Hits or Path
        The hits, or the path of the file where ``output`` is given.

    Raises
    ------
    InputError
        If the scene, the layout or an option is wrong.
    """
    from muscan.simulate import Simulation

    simulation = Simulation(
        load_scene(scene),
        detector,
        minutes=minutes,
        muons=muons,
        seed=seed,
        flux=flux,
        scattering=scattering,
        materials=load_materials(materials),
        workers=workers,
    )
    chunks = _counted(simulation.chunks(), "simulate", simulation.n_chunks, progress)
    if output is None:
        hits = Hits.join([hits for hits, _ in chunks])
        return replace(hits, run=simulation.run)
    with io.HitsWriter(Path(output), simulation.detector, simulation.scene.text) as writer:
        for hits, truth in chunks:
            writer.append(hits, truth)
        writer.run = simulation.run
    return Path(output)


def import_hits(
    files: PathLike | Sequence[PathLike],
    *,
    driver: str = "csv",
    detector: PathLike | Detector | None = None,
    mapping: PathLike | None = None,
    live_time: float | None = None,
    output: PathLike | None = None,
    progress: Progress | None = None,
) -> Hits | Path:
    """Turn recorded data of a panel driver into hits.

    Parameters
    ----------
    files : path or sequence of path
        What the driver reads, in order.
    driver : str
        Name of a driver, such as ``"csv"``.
    detector : str, Path or Detector, optional
        The layout; some drivers can infer one and say so.
    mapping : path, optional
        Mapping file (TOML) for drivers that take one.
    live_time : float, optional
        Live time [s]; from the time stamps unless given, else unknown.
    output : path, optional
        Hit file to write.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Hits or Path

    Warns
    -----
    UserWarning
        With what the driver assumed, such as an inferred layout.

    Raises
    ------
    InputError
        If a file or option is wrong, or if no hits are left.
    """
    paths = [Path(files)] if isinstance(files, (str, Path)) else [Path(f) for f in files]
    if live_time is not None and not 0 < live_time < np.inf:
        raise InputError("--live-time", f"{live_time} s is not a time", "give a positive number")
    source = drivers.open_source(
        driver,
        paths,
        detector=None if detector is None else load_detector(detector),
        mapping=None if mapping is None else Path(mapping),
        progress=progress,
    )
    for note in source.notes:
        warnings.warn(note, stacklevel=2)
    chunks = _nonempty(source.chunks(), paths)
    if output is None:
        hits = Hits.join(list(chunks))
        return replace(hits, run=_with_live_time(source.run, live_time))
    with io.HitsWriter(Path(output), source.detector) as writer:
        for hits in chunks:
            writer.append(hits)
        writer.run = _with_live_time(source.run, live_time)
    return Path(output)


def track(
    hits: PathLike | Hits,
    *,
    detector: PathLike | Detector | None = None,
    workers: int | None = None,
    output: PathLike | None = None,
    progress: Progress | None = None,
) -> Tracks | Path:
    """Turn hits into one incoming and one outgoing track an event.

    Parameters
    ----------
    hits : path or Hits
        What the panels saw.
    detector : str, Path or Detector, optional
        A (corrected) layout instead of the one stored with the hits; same panels, same order.
    workers : int, optional
        Threads; all cores unless given.
    output : path, optional
        Track file to write.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Tracks or Path
        ``run.counts`` tells the unusable events by reason.

    Raises
    ------
    InputError
        If the hits are unsound, or if no event has a track.
    """
    from muscan.track import find_tracks

    layout = None if detector is None else load_detector(detector)
    source = hits if isinstance(hits, (str, Path)) else "hits"
    pieces = io.iter_hits(Path(hits)) if isinstance(hits, (str, Path)) else [hits]
    found = _counted(
        (find_tracks(piece, detector=layout, workers=workers) for piece in pieces),
        "track",
        None,
        progress,
    )
    if output is None:
        parts = list(found)
        tracks = replace(Tracks.join(parts), run=_summed(part.run for part in parts))
        _require_tracks(len(tracks), source, tracks.run)
        return tracks
    runs: list[Run] = []
    first = next(found)
    with io.TracksWriter(Path(output), first.detector) as writer:
        for part in chain([first], found):
            writer.append(part)
            runs.append(part.run)
        writer.run = _summed(runs)
        _require_tracks(writer.rows, source, writer.run)
    return Path(output)


def reconstruct(
    tracks: PathLike | Tracks,
    *,
    method: str = "poca",
    voxel: float = 50.0,
    bounds: Sequence[float] | None = None,
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
    from muscan.reconstruct import reconstruct as run_method

    found = io.read_tracks(Path(tracks)) if isinstance(tracks, (str, Path)) else tracks
    source = tracks if isinstance(tracks, (str, Path)) else "tracks"
    scatters = pair_tracks(found)
    if len(scatters) == 0:
        raise InputError(source, "no event has both an incoming and an outgoing track")
    grid = VoxelGrid.from_bounds(_bounds(found, bounds), voxel)
    if progress is not None:
        progress("reconstruct", None)
    volume = run_method(scatters, grid, method, workers=workers, **options)
    volume = replace(volume, run=found.run)
    if not (volume.n_muons > 0).any():
        raise InputError(source, "no muon goes through the volume", "check --bounds")
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
    from muscan.identify import identify as run_identify

    if progress is not None:
        progress("identify", None)
    found = io.read_volume(Path(volume)) if isinstance(volume, (str, Path)) else volume
    muons = io.read_tracks(Path(tracks)) if isinstance(tracks, (str, Path)) else tracks
    database = (
        materials if isinstance(materials, MaterialDatabase) else load_materials(tuple(materials))
    )
    report, labels = run_identify(found, muons, database, watch=watch)
    if output is not None:
        io.write_materials(Path(output).with_name("materials.h5"), labels)
        io.write_alerts(Path(output), report)
    return report, labels


def scan(
    source: PathLike | Scene | None = None,
    *,
    output: PathLike,
    minutes: float = 5.0,
    seed: int = 0,
    method: str = "poca",
    voxel: float = 50.0,
    detector: PathLike | Detector | None = None,
    materials: Sequence[PathLike] = (),
    watch: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> AlertReport:
    """Do the main job: simulate (or take recorded hits), track, reconstruct, identify.

    Parameters
    ----------
    source : path or Scene, optional
        A scene, or a hit file (``.h5``); the shipped ``container`` unless given.
    output : path
        Folder for ``hits.h5 tracks.h5 volume.h5 materials.h5 alerts.json``, and ``report.html``
        where the extra ``report`` is installed; made if missing.
    minutes, seed, method, voxel, detector, materials, watch, workers, progress
        As in `simulate`, `reconstruct` and `identify`.

    Returns
    -------
    AlertReport
    """
    folder = Path(output)
    recorded = isinstance(source, (str, Path)) and Path(source).suffix in (".h5", ".muhits")
    hits_file = Path(str(source)) if recorded else folder / "hits.h5"
    scene = None if recorded else load_scene("container" if source is None else source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be made ({error.strerror})", "choose another") from error
    if scene is not None:
        simulate(
            scene,
            detector=detector,
            minutes=minutes,
            seed=seed,
            materials=materials,
            workers=workers,
            output=hits_file,
            progress=progress,
        )
    tracks_file, volume_file = folder / "tracks.h5", folder / "volume.h5"
    layout = detector if recorded else None
    track(hits_file, detector=layout, workers=workers, output=tracks_file, progress=progress)
    if recorded:
        io.copy_file(hits_file, folder / "hits.h5")
    reconstruct(
        tracks_file,
        method=method,
        voxel=voxel,
        workers=workers,
        output=volume_file,
        progress=progress,
    )
    found, _ = identify(
        volume_file,
        tracks=tracks_file,
        materials=materials,
        watch=watch,
        output=folder / "alerts.json",
        progress=progress,
    )
    with suppress(MissingExtraError):
        report(folder)
    return found


def report(folder: PathLike) -> Path:
    """Write ``report.html`` from the files of a scan's folder.

    Parameters
    ----------
    folder : path
        With ``alerts.json`` and ``volume.h5``, and ``tracks.h5`` where there is one.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    MissingExtraError
        If the extra ``report`` is not installed.
    """
    from muscan.report import render

    folder = Path(folder)
    volume = io.read_volume(folder / "volume.h5")
    run = volume.run or Run()
    facts = {"Data": run.source, **{name.replace("_", " "): n for name, n in run.counts.items()}}
    page = render(io.read_alerts(folder / "alerts.json"), volume, facts)
    io.write_text(folder / "report.html", page)
    return folder / "report.html"


def read(path: PathLike) -> Hits | Tracks | Volume | MaterialMap | AlertReport:
    """Read any file of muscan; its ``format`` says what it is.

    Raises
    ------
    InputError
        If it is none, or damaged.
    """
    path = Path(path)
    if path.suffix == ".json":
        return io.read_alerts(path)
    readers = {
        "muscan-hits": io.read_hits,
        "muscan-tracks": io.read_tracks,
        "muscan-volume": io.read_volume,
        "muscan-materials": io.read_materials,
    }
    return readers[io.format_of(path)](path)


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


def _require_tracks(rows: int, source: PathLike, run: Run) -> None:
    if rows == 0:
        reasons = ", ".join(f"{name} {count}" for name, count in run.counts.items() if count)
        raise InputError(source, f"no event has a track ({reasons})", "check the layout")


def _with_live_time(run: Run, live_time: float | None) -> Run:
    return run if live_time is None else replace(run, live_time_s=live_time)


def _summed(runs: Iterable[Run]) -> Run:
    """Return the first run with the counts of all."""
    listed = list(runs)
    counts: dict[str, int] = {}
    for run in listed:
        for name, count in run.counts.items():
            counts[name] = counts.get(name, 0) + count
    return replace(listed[0], counts=counts)


def _nonempty(chunks: Iterator[Hits], paths: Sequence[Path]) -> Iterator[Hits]:
    rows = 0
    for hits in chunks:
        rows += len(hits)
        yield hits
    if rows == 0:
        raise InputError(", ".join(map(str, paths)), "no hits are left after reading")


def _counted(
    chunks: Iterable[Any], step: str, total: int | None, progress: Progress | None
) -> Iterator[Any]:
    """Yield the chunks, telling ``progress`` of each."""
    if progress is not None:
        progress(step, 0.0 if total else None)
    for number, chunk in enumerate(chunks, start=1):
        yield chunk
        if progress is not None and total:
            progress(step, number / total)
    if progress is not None:
        progress(step, 1.0)
