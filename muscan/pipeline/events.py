"""Verbs that make events: simulate, import, track."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np

from muscan import io
from muscan.errors import InputError
from muscan.io import drivers
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits, Run, Tracks, join_hits
from muscan.model.material import load_materials
from muscan.model.scene import Scene, load_scene
from muscan.pipeline.common import PathLike, Progress, counted, summed


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
    rate_scale: float = 1.0,
    momentum_range: tuple[float, float] = (0.1, 10_000.0),
    momentum_resolution: float | None = None,
    trigger: str = "incoming",
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
    rate_scale : float
        Factor on the flux, to match a rate measured at your place.
    momentum_range : tuple of float
        Lowest and highest momentum of the muons [GeV], within 0.05 to 10 000.
    momentum_resolution : float, optional
        Relative standard deviation of a measured momentum; none is measured unless given.
    trigger : {"incoming", "any"}
        Record events with two hits in a group that may have the incoming track, or with two
        hits anywhere.
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
    from muscan.simulation import Simulation

    simulation = Simulation(
        load_scene(scene),
        detector,
        minutes=minutes,
        muons=muons,
        seed=seed,
        flux=flux,
        scattering=scattering,
        rate_scale=rate_scale,
        momentum_range=momentum_range,
        momentum_resolution=momentum_resolution,
        trigger=trigger,
        materials=load_materials(materials),
        workers=workers,
    )
    chunks = counted(simulation.chunks(), "simulate", simulation.n_chunks, progress)
    if output is None:
        return replace(join_hits([hits for hits, _ in chunks]), run=simulation.run)
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
    chunks = _nonempty(source.chunks(), paths)
    if output is None:
        result: Hits | Path = replace(
            join_hits(list(chunks)), run=_with_live_time(source.run, live_time)
        )
    else:
        result = Path(output)
        with io.HitsWriter(result, source.detector) as writer:
            for hits in chunks:
                writer.append(hits)
            writer.run = _with_live_time(source.run, live_time)
    for note in source.notes:
        warnings.warn(note, stacklevel=2)
    return result


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
    from muscan.tracking import find_tracks

    layout = None if detector is None else load_detector(detector)
    source = hits if isinstance(hits, (str, Path)) else "hits"
    pieces = io.iter_hits(Path(hits)) if isinstance(hits, (str, Path)) else [hits]
    found = counted(
        (find_tracks(piece, detector=layout, workers=workers) for piece in pieces),
        "track",
        None,
        progress,
    )
    if output is None:
        parts = list(found)
        tracks = replace(Tracks.join(parts), run=summed(part.run for part in parts))
        _require_tracks(len(tracks), source, tracks.run)
        return tracks
    runs: list[Run] = []
    first = next(found)
    with io.TracksWriter(Path(output), first.detector) as writer:
        for part in chain([first], found):
            writer.append(part)
            runs.append(part.run)
        writer.run = summed(runs)
        _require_tracks(writer.rows, source, writer.run)
    return Path(output)


def _nonempty(chunks: Iterator[Hits], paths: Sequence[Path]) -> Iterator[Hits]:
    rows = 0
    for hits in chunks:
        rows += len(hits)
        yield hits
    if rows == 0:
        raise InputError(", ".join(map(str, paths)), "no hits are left after reading")


def _require_tracks(rows: int, source: PathLike, run: Run) -> None:
    if rows == 0:
        reasons = ", ".join(f"{name} {count}" for name, count in run.counts.items() if count)
        raise InputError(source, f"no event has a track ({reasons})", "check the layout")


def _with_live_time(run: Run, live_time: float | None) -> Run:
    return run if live_time is None else replace(run, live_time_s=live_time)
