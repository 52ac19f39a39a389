"""Hit files: what the panels saw, and for simulated ones the truth beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io import hdf5, schema
from muscan.model.detector import Detector
from muscan.model.events import Hits, MomentumMeasurements, Muons, join_hits

#: Hits read at a time where a file is streamed; about 80 MB in memory.
STREAM_ROWS = 2_000_000


class HitsWriter(hdf5.EventsWriter):
    """Writes a hit file chunk by chunk; the file appears when the block succeeds.

    Parameters
    ----------
    path : Path
        Of the file.
    detector : Detector
        Whose layout is stored with the hits.
    scene : str, optional
        A simulated scene's text, for ``/truth``.
    """

    def __init__(self, path: Path, detector: Detector, scene: str | None = None) -> None:
        super().__init__(path, schema.HITS, detector)
        self._scene = scene
        self._truth: hdf5.TableWriter | None = None
        self._momenta: hdf5.TableWriter | None = None

    def _begin(self) -> None:
        self._hits = hdf5.TableWriter(self._file, schema.HIT_TABLE)
        if self._scene is not None:
            self._truth = hdf5.TableWriter(self._file, schema.TRUTH_TABLE)
            hdf5.write_text_dataset(self._file, schema.SCENE, self._scene)

    def append(self, hits: Hits, truth: Muons | None = None) -> None:
        """Append hits, and the truth of their muons where it is known."""
        self._hits.append(hits)
        if truth is not None and self._truth is not None:
            self._truth.append(truth)
        if hits.momenta is not None:
            if self._momenta is None:
                self._momenta = hdf5.TableWriter(self._file, schema.MOMENTUM_TABLE)
            self._momenta.append(hits.momenta)


def write_hits(path: Path, hits: Hits) -> None:
    """Write hits to a file."""
    with HitsWriter(path, hits.detector) as writer:
        writer.append(hits)
        writer.run = hits.run


def iter_hits(path: Path, rows: int = STREAM_ROWS) -> Iterator[Hits]:
    """Yield a file's hits in pieces that never part an event.

    Hits with a coordinate that is not a number, though its panel measures it, are dropped and
    counted in ``run.counts["hits_not_finite"]`` of the piece.

    Parameters
    ----------
    path : Path
        Of the file.
    rows : int
        About how many hits a piece has.

    Raises
    ------
    InputError
        If the file is not a sound hit file, or has no hits.
    """
    with hdf5.open_checked(path, schema.HITS) as file:
        total = hdf5.check_table(file, schema.HIT_TABLE, path)
        detector = hdf5.read_detector(file, path)
        if detector is None:
            raise InputError(path, f"has no {schema.DETECTOR}", "import it again with a layout")
        if total == 0:
            raise InputError(path, "has no hits")
        run = hdf5.read_run(file, path)
        momenta = _read_momenta(file, path)
        for number, (start, stop) in enumerate(
            hdf5.event_slices(file, schema.HIT_TABLE, total, rows)
        ):
            columns: dict[str, Any] = hdf5.read_rows(file, schema.HIT_TABLE, start, stop)
            counts = run.counts if number == 0 else {}
            hits = Hits(**columns, detector=detector, run=replace(run, counts=counts))
            hits = replace(hits, momenta=_momenta_of(momenta, hits.event_id))
            yield _finite(_checked(hits, path, start))


def read_hits(path: Path) -> Hits:
    """Read a whole hit file; see `iter_hits`."""
    parts = list(iter_hits(path))
    if len(parts) == 1:
        return parts[0]
    counts: dict[str, int] = {}
    for part in parts:
        for name, count in part.run.counts.items():
            counts[name] = counts.get(name, 0) + count
    return replace(join_hits(parts), run=replace(parts[0].run, counts=counts))


def read_truth(path: Path) -> tuple[Muons, str]:
    """Read the truth of a simulated file: its muons, and the scene's text."""
    with hdf5.open_checked(path, schema.HITS) as file:
        if schema.TRUTH_TABLE.path not in file:
            raise InputError(path, "has no truth: it is not simulated")
        rows = hdf5.check_table(file, schema.TRUTH_TABLE, path)
        muons = Muons(**hdf5.read_rows(file, schema.TRUTH_TABLE, 0, rows))
        return muons, hdf5.read_text_dataset(file, schema.SCENE, path) or ""


def _read_momenta(file: Any, path: Path) -> MomentumMeasurements | None:
    if schema.MOMENTUM_TABLE.path not in file:
        return None
    rows = hdf5.check_table(file, schema.MOMENTUM_TABLE, path)
    return MomentumMeasurements(**hdf5.read_rows(file, schema.MOMENTUM_TABLE, 0, rows))


def _momenta_of(
    momenta: MomentumMeasurements | None, event_ids: NDArray[Any]
) -> MomentumMeasurements | None:
    return None if momenta is None else momenta.take(np.isin(momenta.event_id, event_ids))


def _checked(hits: Hits, path: Path, first_row: int) -> Hits:
    """Return the hits if their panels exist and their events are adjacent."""
    unknown = np.flatnonzero(hits.panel >= len(hits.detector.panels))
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            path,
            f"/hits/panel row {first_row + row}: panel {hits.panel[row]} is not one of the "
            f"layout's {len(hits.detector.panels)}",
        )
    starts = np.flatnonzero(np.diff(hits.event_id, prepend=hits.event_id[:1] + np.uint64(1)))
    ids, counts = np.unique(hits.event_id[starts], return_counts=True)
    if len(ids) < len(starts):
        raise InputError(
            path, f"the rows of event {ids[counts > 1][0]} are not adjacent", "sort by event_id"
        )
    return hits


def _finite(hits: Hits) -> Hits:
    measured_u, measured_v = np.isfinite(hits.sigma_u), np.isfinite(hits.sigma_v)
    sound = (
        (np.isfinite(hits.u) | ~measured_u)
        & (np.isfinite(hits.v) | ~measured_v)
        & (measured_u | measured_v)
        & ~((hits.sigma_u <= 0) | (hits.sigma_v <= 0))
    )
    dropped = int(len(hits) - np.count_nonzero(sound))
    if not dropped:
        return hits
    return replace(hits.take(sound), run=hits.run.counting(hits_not_finite=dropped))
