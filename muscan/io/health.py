"""The state of a hit file at a glance: whole blocks, rates, gaps, panels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from muscan.io import hdf5, schema, tables
from muscan.io.checksums import first_changed
from muscan.io.hit_reader import Extent, extent_of
from muscan.model.events import Array, Hits

#: Hits read at a time.
_ROWS: Final = 2_000_000
#: Stretches of time of which the rate is told.
_STRETCHES: Final = 10


@dataclass
class _Tally:
    """What is counted in one pass over the hits."""

    events: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)
    per_panel: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    times: list[Array] = field(default_factory=list)
    last_event: int | None = None

    def add(self, hits: Hits) -> None:
        starts = np.flatnonzero(np.diff(hits.event_id, prepend=hits.event_id[0]))
        if self.last_event != int(hits.event_id[0]):
            starts = np.concatenate([[0], starts])
        self.last_event = int(hits.event_id[-1])
        self.events += len(starts)
        self.times.append(hits.time[starts])
        counts = np.bincount(hits.panel, minlength=len(self.per_panel)).astype(np.int64)
        counts[: len(self.per_panel)] += self.per_panel
        self.per_panel = counts


def health(file: h5py.File, path: Path) -> dict[str, Any]:
    """Return facts about an open hit file, in the order to show them.

    Raises
    ------
    InputError
        If its tables are unsound.
    """
    extent = extent_of(file, path)
    detector = hdf5.read_detector(file, path)
    tally = _tally(file, path, extent)
    names = [] if detector is None else [panel.name for panel in detector.panels]
    panels = {
        (names[number] if number < len(names) else f"unknown panel {number}"): int(count)
        for number, count in enumerate(tally.per_panel)
    }
    return {
        "state": "finished" if extent.finished else "being written, or its writer was killed",
        "blocks": _blocks(extent, tally),
        "events": tally.events,
        "hits": extent.rows,
        "hits per panel": {**dict.fromkeys(names, 0), **panels},
        **_rates(tally),
    }


def _tally(file: h5py.File, path: Path, extent: Extent) -> _Tally:
    tally = _Tally()
    for start, stop, blocks in extent.groups(0, _ROWS):
        columns: dict[str, Any] = tables.read_rows(file, schema.HIT_TABLE, start, stop)
        hits = Hits(**columns, detector=None)  # type: ignore[arg-type]
        tally.add(hits)
        if blocks is None or first_changed(hits, schema.HIT_TABLE, start, blocks) is None:
            continue
        begin = start
        for number, end in enumerate(blocks.stop.astype(np.int64)):
            block, part = blocks.take(slice(number, number + 1)), slice(begin - start, end - start)
            if first_changed(hits.take(part), schema.HIT_TABLE, begin, block) is not None:
                tally.damaged.append((begin, int(end) - 1))
            begin = int(end)
    return tally


def _blocks(extent: Extent, tally: _Tally) -> str:
    if extent.blocks is None:
        return "without checksums"
    count = len(extent.blocks)
    if not tally.damaged:
        return f"{count}, all match their checksums"
    first, last = tally.damaged[0]
    return (
        f"{count}, of which {len(tally.damaged)} do NOT match their checksums "
        f"(the first: hits {first} to {last}); get the others by 'muscan recover'"
    )


def _rates(tally: _Tally) -> dict[str, Any]:
    """Return the rate over time and the longest gap, as far as hits have times."""
    times = np.concatenate([np.zeros(0), *tally.times]) * 1e-9
    times = np.sort(times[np.isfinite(times)])
    if len(times) < 2 or times[-1] <= times[0]:
        return {"rate [events/s]": None}
    counts, edges = np.histogram(times, _STRETCHES)
    gaps = np.diff(times)
    longest = int(np.argmax(gaps))
    return {
        "rate [events/s]": float(f"{(len(times) - 1) / (times[-1] - times[0]):.5g}"),
        f"in {_STRETCHES} stretches of {edges[1] - edges[0]:.4g} s": [
            float(f"{count / (edges[1] - edges[0]):.4g}") for count in counts
        ],
        "longest gap [s]": float(f"{gaps[longest]:.4g}"),
        "after [s]": float(f"{times[longest]:.6g}"),
    }
