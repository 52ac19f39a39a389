"""How fast live files are written, followed and watched; run it as a script.

    python benchmarks/bench_live.py [--seconds 10]

The rate to keep up with is 100 times that of cosmic muons in the container portal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np

import muscan
from muscan import io
from muscan.model.events import Hits, Run
from muscan.pipeline.gathering import Gathering

SCENE = "container"


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


def repeated(hits: Hits, times: int) -> Hits:
    """The same hits again and again, as events of their own, later."""
    span = hits.event_id.max() + np.uint64(1)
    parts = [
        hits.take(slice(None)).__class__(
            **{
                **hits.columns(),
                "event_id": hits.event_id + np.uint64(number) * span,
                "time": hits.time + number * hits.run.live_time_s * 1e9,
            },
            detector=hits.detector,
            run=hits.run,
        )
        for number in range(times)
    ]
    return Hits.join(parts)


def write_live(hits: Hits, path: Path, block_rows: int, events_per_s: float) -> None:
    """Write at a rate, as a detector that is 100 times as busy would."""
    starts = np.flatnonzero(np.diff(hits.event_id, prepend=hits.event_id[0] + np.uint64(1)))
    with io.LiveHitsWriter(path, hits.detector, Run(run_id="busy"), block_rows=block_rows) as out:
        began, done = time.monotonic(), 0
        while done < len(hits):
            event = int((time.monotonic() - began) * events_per_s)
            due = int(starts[event]) if event < len(starts) else len(hits)
            out.append(hits.take(slice(done, due)))
            done = due
            time.sleep(0.02)
        out.run = hits.run


def main(seconds: float) -> None:
    hits = muscan.simulate(SCENE, minutes=0.25, seed=1)
    rate = len(np.unique(hits.event_id)) / hits.run.live_time_s
    target = 100 * rate
    print(f"{SCENE}: {rate:.0f} events/s, {len(hits) / hits.run.live_time_s:.0f} hits/s")
    many = repeated(hits, max(int(seconds * 100 / hits.run.live_time_s), 1))
    events = len(np.unique(many.event_id))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"to keep up with: {target:,.0f} events/s")
        for rows in (4096, 65536):
            clock = Clock()
            with io.LiveHitsWriter(folder / "w.h5", many.detector, block_rows=rows) as out:
                out.append(many)
            clock.tell(f"write, blocks of {rows}", len(many), "hits")
        follow(folder, events)
        watch(folder, many, target, events)


def follow(folder: Path, events: int) -> None:
    """Read, track and sum what is there: what watch does with each hit."""
    for attempt in ("first", "second"):
        gathering = Gathering(folder / "t.h5", 50.0, "guan2015", None)
        clock = Clock()
        with gathering:
            for hits in io.HitsFollower(folder / "w.h5").poll(500_000):
                gathering.add(hits)
        clock.tell(f"follow, track, write tracks and sum PoCA ({attempt})", events, "events")


def watch(folder: Path, many: Hits, target: float, events: int) -> None:
    """Watch a file that another process writes at 100 times the cosmic rate."""
    lag: list[tuple[float, int]] = []
    writer = multiprocessing.get_context("spawn").Process(
        target=write_live, args=(many, folder / "live.h5", 65536, target)
    )
    writer.start()
    while not (folder / "live.h5").exists():
        time.sleep(0.01)
    clock = Clock()
    last = muscan.watch(
        folder / "live.h5",
        output=folder / "out",
        method="poca",
        early=False,
        on_look=lambda look: lag.append((time.perf_counter() - clock.wall, look.rows)),
    )
    clock.tell(
        f"watch, {events / target:.1f} s at 100 times the rate, looks included", events, "events"
    )
    writer.join()
    for when, rows in lag:
        print(f"  look after {when:6.1f} s at {rows} of {last.rows} hits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="at 100 times the rate")
    main(parser.parse_args().seconds)
