"""A scan as the viewer holds it: what its folder or files have, as far as they are there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from muscan import io
from muscan.errors import InputError
from muscan.io import audit
from muscan.model.alerts import AlertReport
from muscan.model.detector import Detector
from muscan.model.events import Hits, Scatters, Tracks, pair_tracks
from muscan.model.volume import MaterialMap, Volume

#: Suffixes of our HDF5 files beside ``.h5``, which no other program claims.
SUFFIXES: Final = (".muvol", ".muhits", ".mutracks")
_LIVE_FILES: Final = ("volume.h5", "materials.h5", "alerts.json")


@dataclass(frozen=True)
class Scan:
    """What is known of a scan.

    Attributes
    ----------
    name : str
        To show.
    volume, materials, report, detector, hits : optional
        As far as they are there.
    tracks_file : Path or None
        Tracks are read when they are asked for: there may be millions.
    alerts_file : Path or None
        Decisions go into the log beside it.
    decisions : mapping of str to mapping
        The last entry of the log on each alert, by its id.
    """

    name: str
    volume: Volume | None = None
    materials: MaterialMap | None = None
    report: AlertReport | None = None
    detector: Detector | None = None
    hits: Hits | None = None
    tracks_file: Path | None = None
    alerts_file: Path | None = None
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def audit_file(self) -> Path | None:
        """The log of decisions."""
        return None if self.alerts_file is None else self.alerts_file.with_name(audit.FILE_NAME)

    def read_tracks(self) -> Tracks:
        """Read the tracks; slow, so do it in a worker.

        Raises
        ------
        InputError
            If there are none.
        """
        if self.tracks_file is None:
            raise InputError(self.name, "has no tracks", "open its folder, or its track file too")
        return io.read_tracks(self.tracks_file)

    def read_scatters(self) -> Scatters:
        """Read the tracks that come in pairs; slow, so do it in a worker."""
        return pair_tracks(self.read_tracks())


def load(paths: Sequence[str | Path]) -> Scan:
    """Return the scan in a folder, or in one or more files.

    Parameters
    ----------
    paths : sequence of path
        A folder as `muscan scan` writes it, or hit, track, volume, material and alert files.

    Raises
    ------
    InputError
        If there is nothing to show, or a file is damaged.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += _files_of(path) if path.is_dir() else [path]
    found: dict[str, Any] = {}
    for path in files:
        found |= _load_file(path)
    named = Path(paths[0]).resolve()
    report = found.get("report")
    if report is not None and report.scan.run_id:
        found["name"] = report.scan.run_id
    scan = Scan(**{"name": named.name if named.is_dir() else named.stem, **found})
    if scan.audit_file is not None and scan.audit_file.exists():
        scan = Scan(**{**vars(scan), "decisions": audit.decisions(scan.audit_file)})
    return scan


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a scan's folder; hits only where there is nothing made of them."""
    names = ("volume.h5", "materials.h5", "tracks.h5", "alerts.json")
    found = [folder / name for name in names if (folder / name).is_file()]
    found = found or [path for path in [folder / "hits.h5"] if path.is_file()]
    found += sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not found:
        raise InputError(folder, "has no volume.h5 to show", "make it by 'muscan scan'")
    return found


def _load_file(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return {"report": io.read_alerts(path), "alerts_file": path}
    kind = io.format_of(path)
    if kind == "muscan-volume":
        return {"volume": io.read_volume(path)}
    if kind == "muscan-materials":
        return {"materials": io.read_materials(path)}
    # One row is enough for the layout.
    if kind == "muscan-tracks":
        first = next(iter(io.iter_tracks(path, rows=1)))
        return {"tracks_file": path, **({"detector": first.detector} if first.detector else {})}
    hits = next(iter(io.iter_hits(path, rows=200_000)))
    return {"hits": hits, "detector": hits.detector}


def follow(folder: Path, interval_s: float = 1.0) -> Iterator[Scan | None]:
    """Yield the scan as it is, then whenever its files have changed, None in between.

    It never ends. What is there already comes first, as it may have changed since it was shown.

    Parameters
    ----------
    folder : Path
        Which a running scan writes to.
    interval_s : float
        Time between looks [s].
    """
    last: dict[str, tuple[int, int]] = {}
    while True:
        state = _state(folder)
        if state != last and "volume.h5" in state:
            # A file that is replaced while it is read is read again at the next look.
            try:
                scan = load([folder])
            except InputError:
                yield None
            else:
                last = state
                yield scan
        else:
            yield None
        time.sleep(interval_s)


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for name in _LIVE_FILES:
        try:
            status = (folder / name).stat()
        except FileNotFoundError:
            continue
        found[name] = (status.st_mtime_ns, status.st_size)
    return found
