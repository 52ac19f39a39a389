"""What a running scan has gathered: tracks, and the sums of PoCA."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from muscan import io
from muscan.errors import InputError
from muscan.model.events import Hits, Run, Tracks, pair_tracks
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.pipeline.common import summed
from muscan.reconstruction.poca import Sums
from muscan.tracking import find_tracks

#: Muons with both tracks that are kept for the likelihood; of more, every second (fourth, …).
MOST_MUONS: Final = 1_000_000


@dataclass(frozen=True)
class Snapshot:
    """What is known at a moment.

    Attributes
    ----------
    volume : Volume
        PoCA of all muons.
    tracks : Tracks
        Of muons with both tracks; every ``stride``-th of them.
    muons, rows : int
        Muons with both tracks, and hits, so far.
    stride : int
    run : Run
        With the live time so far.
    """

    volume: Volume
    tracks: Tracks
    muons: int
    rows: int
    stride: int
    run: Run


class Gathering:
    """Tracks hits as they come, writes the tracks, and sums them for PoCA.

    The track file appears when the ``with`` block succeeds.

    Parameters
    ----------
    output : Path
        Track file.
    voxel : float
        Size of PoCA's voxels [mm].
    flux : str
        Flux model from which the spectrum of unknown momenta follows.
    workers : int, optional
        Threads.
    """

    def __init__(self, output: Path, voxel: float, flux: str, workers: int | None) -> None:
        self._output, self._voxel, self._workers = output, voxel, workers
        self._spectrum = sea_level_spectrum(flux)
        self._writer: io.TracksWriter | None = None
        self._kept: list[Tracks] = []
        self._kept_muons = 0
        self._stride = 1
        self._runs: list[Run] = []
        self._rows = 0
        self.muons = 0

    def __enter__(self) -> Self:
        return self

    def add(self, hits: Hits) -> None:
        """Track hits and add them."""
        tracks = find_tracks(hits, workers=self._workers)
        if self._writer is None:
            if tracks.detector is None:
                raise InputError("hits", "have no layout")
            self._grid = VoxelGrid.from_bounds(tracks.detector.bounds, self._voxel)
            self._sums = Sums(self._grid)
            self._writer = io.TracksWriter(self._output, tracks.detector)
            self._writer.__enter__()
        self._writer.append(tracks)
        self._runs.append(tracks.run)
        self._rows += len(hits)
        scatters = pair_tracks(tracks)
        if len(scatters):
            self._sums.add(scatters, self._grid, self._workers)
            self._keep(tracks, np.isin(tracks.event_id, scatters.event_id))
            self.muons += len(scatters)

    def _keep(self, tracks: Tracks, paired: np.ndarray) -> None:
        pairs = np.flatnonzero(paired).reshape(-1, 2)[:: self._stride]
        self._kept.append(tracks.take(pairs.ravel()))
        self._kept_muons += len(pairs)
        if self._kept_muons > MOST_MUONS:
            joined = Tracks.join(self._kept)
            every_second = np.arange(len(joined)).reshape(-1, 2)[::2].ravel()
            self._kept, self._stride = [joined.take(every_second)], 2 * self._stride
            self._kept_muons = len(every_second) // 2

    @property
    def live_time_s(self) -> float:
        """Live time of the hits so far [s]; NaN if unknown."""
        return self._runs[-1].live_time_s if self._runs else float("nan")

    def snapshot(self) -> Snapshot:
        """Return what is known now."""
        run = replace(summed(self._runs), live_time_s=self.live_time_s)
        self._kept = [Tracks.join(self._kept)]
        return Snapshot(
            volume=replace(self._sums.volume(self._grid, self._spectrum), run=run),
            tracks=replace(self._kept[0], run=run),
            muons=self.muons,
            rows=self._rows,
            stride=self._stride,
            run=run,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.run = replace(summed(self._runs), live_time_s=self.live_time_s)
            self._writer.__exit__(kind, error, trace)
