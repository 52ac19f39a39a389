"""Verbs that make events: simulate, track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muscan import io
from muscan.errors import InputError
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits, Run, Tracks, join_hits
from muscan.model.material import load_materials
from muscan.model.scene import Scene, load_scene
from muscan.pipeline.common import PathLike, Progress, counted, summed
from muscan.pipeline.distributed import chunks_on

if TYPE_CHECKING:
    from distributed import Client


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
    client: Client | None = None,
    output: PathLike | None = None,
    raw: PathLike | None = None,
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
    client : distributed.Client, optional
        A Dask cluster that simulates instead of threads; the hits are the same.
    output : path, optional
        Hit file to write, with the truth in ``/truth``.
    raw : path, optional
        Text file to write the raw channels of the same events to, as the ``strips`` driver reads
        them; every panel must be read out by pitch.
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

    for written in (output, raw):
        if written is not None:
            io.spare(Path(written), scene, detector, *materials)
    simulation = Simulation(
        load_scene(scene, max(seed, 0)),
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
        raw=raw is not None,
    )
    if client is not None:
        simulation.elsewhere = chunks_on(client)
    found = counted(simulation.chunks_with_raw(), "simulate", simulation.n_chunks, progress)
    with ExitStack() as stack:
        if raw is not None:
            strips = stack.enter_context(io.StripsWriter(Path(raw), simulation.detector))
            found = _writing(found, strips)
        if output is None:
            return replace(join_hits([hits for hits, _, _ in found]), run=simulation.run)
        writer = stack.enter_context(
            io.HitsWriter(Path(output), simulation.detector, simulation.scene.text)
        )
        for hits, truth, _ in found:
            writer.append(hits, truth)
        writer.run = simulation.run
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
        Its resolutions scale those of the hits.
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
    from muscan.calibration.relayout import with_layout
    from muscan.tracking import find_tracks

    if output is not None:
        io.spare(Path(output), hits, detector)
    layout = None if detector is None else load_detector(detector)
    source = hits if isinstance(hits, (str, Path)) else "hits"
    pieces = io.iter_hits(Path(hits)) if isinstance(hits, (str, Path)) else [hits]
    placed = pieces if layout is None else (with_layout(piece, layout) for piece in pieces)
    found = counted(
        (find_tracks(piece, workers=workers) for piece in placed),
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


def _writing(found: Iterator[Any], strips: io.StripsWriter) -> Iterator[Any]:
    """Yield what is simulated, its raw channels written."""
    for hits, truth, raw in found:
        strips.append(raw)
        yield hits, truth, raw


def _require_tracks(rows: int, source: PathLike, run: Run) -> None:
    if rows == 0:
        reasons = ", ".join(f"{name} {count}" for name, count in run.counts.items() if count)
        raise InputError(source, f"no event has a track ({reasons})", "check the layout")
