"""How fast live files are written, followed and watched; run it as a script.

    python benchmarks/bench_live.py [--seconds 60] [--times 100]

The rate to keep up with is 100 times that of cosmic muons in the container portal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import muscan
from muscan import io
from muscan.model.events import Hits, Run
from muscan.pipeline.gathering import Gathering
from muscan.pipeline.looks import Look

SCENE = "container"
BLOCK_ROWS = 65_536


class Clock:
    """Wall time and processor time, which also counts on a machine that others use."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def tell(self, what: str, count: int, unit: str) -> None:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        print(
            f"{what}: {count / wall:,.0f} {unit}/s, {count / cpu:,.0f} a second of one processor",
            flush=True,
        )


class Stream:
    """The hits of a file again and again, each time as later events of their own.

    Attributes
    ----------
    rate : float
        Events a second of live time.
    """

    def __init__(self, source: Path) -> None:
        self._hits = io.read_hits(source)
        ids = self._hits.event_id
        first = np.flatnonzero(np.diff(ids, prepend=ids[:1] + np.uint64(1)))
        self._starts = np.append(first, len(ids))
        self._span = ids.max() + np.uint64(1)
        self.detector, self._live = self._hits.detector, self._hits.run.live_time_s
        self.rate = len(first) / self._live

    def events(self, first: int, last: int) -> Iterator[Hits]:
        """Yield the hits of a range of events."""
        count = len(self._starts) - 1
        while first < last:
            turn, begin = divmod(first, count)
            end = min(begin + last - first, count)
            part = self._hits.take(slice(self._starts[begin], self._starts[end]))
            yield replace(
                part,
                event_id=part.event_id + np.uint64(turn) * self._span,
                time=part.time + turn * self._live * 1e9,
            )
            first += end - begin


def write_live(source: Path, path: Path, events: int, events_per_s: float) -> None:
    """Write at a rate, as a detector that is so many times as busy would."""
    stream = Stream(source)
    run = Run(run_id="busy")
    with io.LiveHitsWriter(path, stream.detector, run, block_rows=BLOCK_ROWS) as out:
        began, done = time.monotonic(), 0
        while done < events:
            due = min(int((time.monotonic() - began) * events_per_s), events)
            for hits in stream.events(done, due):
                out.append(hits)
            done = due
            time.sleep(0.02)
        out.run = replace(run, live_time_s=events / stream.rate)
    wall, cpu = time.monotonic() - began, time.process_time()
    print(f"  the writer took {wall:.1f} s, {cpu:.1f} s of them of one processor", flush=True)


def main(seconds: float, times: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source.h5"
        muscan.simulate(SCENE, minutes=0.5, seed=1, output=source)
        stream = Stream(source)
        target = times * stream.rate
        print(f"{SCENE}: {stream.rate:,.0f} events/s; {times:g} times that: {target:,.0f}")
        write(stream, Path(name))
        follow(Path(name))
        watch(source, Path(name), target, int(seconds * target))


def write(stream: Stream, folder: Path) -> None:
    """Write a million events in small blocks and in large ones, which stay to be followed."""
    parts = list(stream.events(0, 1_000_000))
    for rows in (4096, BLOCK_ROWS):
        clock = Clock()
        with io.LiveHitsWriter(folder / "w.h5", stream.detector, block_rows=rows) as out:
            for part in parts:
                out.append(part)
        clock.tell(f"write, blocks of {rows}", sum(map(len, parts)), "hits")


def follow(folder: Path) -> None:
    """Read, track and sum what is there: what watch does with each hit."""
    for attempt in ("first", "second"):
        gathering = Gathering(folder / "t.h5", 50.0, "guan2015", None)
        clock = Clock()
        with gathering:
            for hits in io.HitsFollower(folder / "w.h5").poll(500_000):
                gathering.add(hits)
        clock.tell(f"follow, track, write tracks and sum PoCA ({attempt})", 1_000_000, "events")


def watch(source: Path, folder: Path, target: float, events: int) -> None:
    """Watch a file that another process writes at that rate."""
    live = folder / "live.h5"
    writer = multiprocessing.get_context("spawn").Process(
        target=write_live, args=(source, live, events, target)
    )
    writer.start()
    while not live.exists():
        time.sleep(0.01)
    clock = Clock()
    pieces: list[float] = []

    def tell(look: Look) -> None:
        when = time.perf_counter() - clock.wall
        print(
            f"  after {when:6.1f} s a look at {look.rows:,} hits, {look.lag_s:.1f} s old; "
            f"{look.behind_hits:,} hits behind, the last of them read after {pieces[-1]:.1f} s",
            flush=True,
        )

    muscan.watch(
        live, output=folder / "out", method="poca", early=False, on_look=tell,
        progress=lambda *_: pieces.append(time.perf_counter() - clock.wall),
    )  # fmt: skip
    clock.tell(f"watch, {events:,} events, looks and the last one included", events, "events")
    writer.join()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"  most memory: {most:,.0f} MB; the file: {live.stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for which the file is written")
    parser.add_argument("--times", type=float, default=100.0, help="the cosmic rate")
    given = parser.parse_args()
    main(given.seconds, given.times)
