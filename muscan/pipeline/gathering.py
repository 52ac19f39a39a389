"""What a running scan has gathered: tracks, and the sums of PoCA."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from muscan import io
from muscan.errors import InputError
from muscan.model.events import Hits, Run, Scatters, Tracks, pair_tracks
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.pipeline.common import assumed_flux, summed
from muscan.reconstruction.poca import Sums
from muscan.tracking import find_tracks

#: Muons with both tracks that are kept for the likelihood; of more, every second (fourth, …).
MOST_MUONS: Final = 1_000_000
#: Muons that are summed for PoCA together. Fixed, so that the sums round alike however hits came.
PORTION: Final = 8192


@dataclass(frozen=True)
class Snapshot:
    """What is known at a moment; it stays as it is while more hits are gathered.

    Attributes
    ----------
    volume : Volume
        PoCA of all muons.
    tracks : Tracks
        Of muons with both tracks; every ``stride``-th of them, counted from the first.
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

    What comes out does not depend on how the hits were cut into pieces. The track file appears
    when the ``with`` block succeeds.

    Parameters
    ----------
    output : Path
        Track file.
    voxel : float
        Size of PoCA's voxels [mm].
    flux : str
        Flux model from which the spectrum of unknown momenta follows; empty for the usual one of
        such muons.
    workers : int, optional
        Threads.
    """

    def __init__(self, output: Path, voxel: float, flux: str, workers: int | None) -> None:
        self._output, self._voxel, self._workers = output, voxel, workers
        self._flux = flux
        self._writer: io.TracksWriter | None = None
        self._kept: list[Tracks] = []
        self._kept_muons = 0
        self._stride = 1
        self._rest: Scatters | None = None
        self._run: Run | None = None
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
        known = [tracks.run] if self._run is None else [self._run, tracks.run]
        self._run = replace(summed(known), live_time_s=tracks.run.live_time_s)
        self._rows += len(hits)
        scatters = pair_tracks(tracks)
        if len(scatters):
            self._keep(tracks, np.isin(tracks.event_id, scatters.event_id))
            self._sum(scatters)
            self.muons += len(scatters)

    def _sum(self, scatters: Scatters) -> None:
        waiting = scatters if self._rest is None else Scatters.join([self._rest, scatters])
        whole = len(waiting) - len(waiting) % PORTION
        for first in range(0, whole, PORTION):
            # In this thread: others would wait in a line with the long work of a look.
            self._sums.add(waiting.take(slice(first, first + PORTION)), self._grid, workers=1)
        self._rest = waiting.take(slice(whole, None))

    def _keep(self, tracks: Tracks, paired: np.ndarray) -> None:
        pairs = np.flatnonzero(paired).reshape(-1, 2)[-self.muons % self._stride :: self._stride]
        self._kept.append(tracks.take(pairs.ravel()))
        self._kept_muons += len(pairs)
        while self._kept_muons > MOST_MUONS:
            joined = Tracks.join(self._kept)
            every_second = np.arange(len(joined)).reshape(-1, 2)[::2].ravel()
            self._kept, self._stride = [joined.take(every_second)], 2 * self._stride
            self._kept_muons = len(every_second) // 2

    @property
    def live_time_s(self) -> float:
        """Live time of the hits so far [s]; NaN if unknown."""
        return float("nan") if self._run is None else self._run.live_time_s

    def snapshot(self) -> Snapshot:
        """Return what is known now.

        Raises
        ------
        InputError
            If no muon has both tracks yet.
        """
        if self._run is None or self._rest is None:
            raise InputError("hits", "no muon has both tracks")
        self._kept = [Tracks.join(self._kept)]
        spectrum = sea_level_spectrum(assumed_flux(self._flux, self._run))
        sums = deepcopy(self._sums)
        if len(self._rest):
            sums.add(self._rest, self._grid, workers=1)
        return Snapshot(
            volume=replace(sums.volume(self._grid, spectrum), run=self._run),
            tracks=replace(self._kept[0], run=self._run),
            muons=self.muons,
            rows=self._rows,
            stride=self._stride,
            run=self._run,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.run = self._run or Run()
            self._writer.__exit__(kind, error, trace)
