"""The main job, its page, and the reader of any file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import numpy as np

from muscan import io
from muscan.errors import InputError, MissingExtraError
from muscan.io import audit
from muscan.model.alerts import AlertReport
from muscan.model.containers import container_spec
from muscan.model.detector import Detector
from muscan.model.draw import draw_scene
from muscan.model.events import Hits, Run, Tracks
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.scene import Scene
from muscan.model.volume import MaterialMap, Volume, VoxelGrid
from muscan.pipeline import ahead
from muscan.pipeline.common import SIMULATED_FLUX, PathLike, Progress
from muscan.pipeline.events import simulate, track
from muscan.pipeline.notify import announce, check_targets
from muscan.pipeline.volumes import identify, reconstruct

#: What a scan makes of its tracks; an earlier scan's go first, so that a folder never mixes two.
DERIVED: Final = ("volume.h5", "materials.h5", "alerts.json", "report.html")


def scan(
    source: PathLike | Scene | None = None,
    *,
    output: PathLike,
    minutes: float = 5.0,
    seed: int = 0,
    threat: bool | str = False,
    method: str = "poca",
    voxel: float = 50.0,
    detector: PathLike | Detector | None = None,
    materials: Sequence[PathLike] = (),
    watch: Sequence[str] = (),
    cargo: str = "",
    container: str = "",
    flux: str = "",
    workers: int | None = None,
    notify: Sequence[str] = (),
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
    minutes, seed, method, voxel, detector, materials, watch, cargo, container, flux,
    workers, progress
        As in `simulate`, `reconstruct` and `identify`.
    threat : bool or str
        Hide one of the template's threats; a name says which. See `muscan.draw_scene`.
    notify : sequence of str
        Where the alerts go, as in `watch`: ``stdout``, ``file:PATH``, ``http(s)://…``.

    Returns
    -------
    AlertReport
        Scan and alerts also stand in ``audit.jsonl`` in the folder.

    Raises
    ------
    InputError
        If something is wrong, or a threat is to be hidden in what is no template.
    """
    folder = Path(output)
    recorded = isinstance(source, (str, Path)) and Path(source).suffix in (".h5", ".muhits")
    hits_file = Path(str(source)) if recorded else folder / "hits.h5"
    name = "container" if source is None else source
    if threat and (recorded or isinstance(name, Scene)):
        raise InputError("--threat", f"{source} is no template", "give a template's name or file")
    scene = None if recorded else _drawn(name, max(seed, 0), threat)
    check_options(method, voxel, load_materials(tuple(materials)), watch, cargo, container)
    with ExitStack() as stack:
        stack.enter_context(io.result_folder(folder))
        check_targets(notify)
        if scene is not None:
            stack.enter_context(ahead.compiling(method))
            simulate(
                scene,
                detector=detector,
                minutes=minutes,
                seed=seed,
                flux=flux or SIMULATED_FLUX,
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
        for made in DERIVED:
            (folder / made).unlink(missing_ok=True)
        reconstruct(
            tracks_file,
            method=method,
            voxel=voxel,
            flux=flux,
            workers=workers,
            output=volume_file,
            progress=progress,
        )
        found, _ = identify(
            volume_file,
            tracks=tracks_file,
            materials=materials,
            watch=watch,
            cargo=cargo,
            container=container,
            flux=flux,
            output=folder / "alerts.json",
            progress=progress,
        )
    announce(folder, found, notify)
    with suppress(MissingExtraError):
        report(folder)
    return found


def _drawn(scene: PathLike | Scene, seed: int, threat: bool | str) -> Scene:
    return scene if isinstance(scene, Scene) else draw_scene(scene, seed, threat)


def check_options(
    method: str,
    voxel: float,
    database: MaterialDatabase,
    watch: Sequence[str],
    cargo: str = "",
    container: str = "",
) -> None:
    """Refuse at once what the later steps would refuse: what is before them takes minutes.

    Parameters
    ----------
    method, voxel, watch, cargo, container
        As in `scan`.
    database : MaterialDatabase

    Raises
    ------
    InputError
        Naming the option.
    """
    from muscan import reconstruction
    from muscan.identification.match import candidates, cargo_prior
    from muscan.identification.watchlist import watched_materials

    reconstruction.find_method(method)
    VoxelGrid.from_bounds(np.array([[0.0] * 3, [1.0] * 3]), voxel)
    watched_materials(candidates(database), watch)
    if cargo:
        cargo_prior(database, cargo)
    if container:
        container_spec(container)


def report(folder: PathLike, *, language: str = "en") -> Path:
    """Write ``report.html`` from the files of a scan's folder.

    Parameters
    ----------
    folder : path
        With ``alerts.json`` and ``volume.h5``; decisions are taken from its audit log.
    language : str
        ``"en"``, ``"fr"``, or the path of a message catalogue (TOML).

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        If it is no folder of a scan, or there is no such language.
    MissingExtraError
        If the extra ``report`` is not installed.
    """
    from muscan.reporting import render

    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "is no folder", "give the one that 'muscan scan' wrote")
    for name in ("alerts.json", "volume.h5"):
        if not (folder / name).is_file():
            raise InputError(folder, f"has no {name}", "make it by 'muscan scan'")
    volume = io.read_volume(folder / "volume.h5")
    run = volume.run or Run()
    facts = {"Data": run.source, **{name.replace("_", " "): n for name, n in run.counts.items()}}
    decisions = {
        alert: {
            "decision": entry["action"],
            **{name: entry[name] for name in ("who", "time", "reason")},
        }
        for alert, entry in audit.decisions(folder / audit.FILE_NAME).items()
    }
    page = render(
        io.read_alerts(folder / "alerts.json"),
        volume,
        facts,
        language=language,
        decisions=decisions,
    )
    io.write_text(folder / "report.html", page)
    return folder / "report.html"


def read(path: PathLike) -> Hits | Tracks | Volume | MaterialMap | AlertReport:
    """Read any file of muscan; its ``format`` says what it is.

    Parameters
    ----------
    path : path
        A hit, track, volume, material or alert file.

    Returns
    -------
    Hits, Tracks, Volume, MaterialMap or AlertReport
        Units as in the file's format (``docs/formats``): mm, ns, GeV, mrad²/cm.

    Raises
    ------
    InputError
        If it is none, or damaged.
    """
    path = Path(path)
    if path.suffix == ".json":
        return io.read_alerts(path)
    readers: dict[str, Callable[[Path], Hits | Tracks | Volume | MaterialMap]] = {
        "muscan-hits": io.read_hits,
        "muscan-tracks": io.read_tracks,
        "muscan-volume": io.read_volume,
        "muscan-materials": io.read_materials,
    }
    return readers[io.format_of(path)](path)
