"""A scan that is still running, to try `muscan watch` with: a simulated one at a chosen rate.

    muscan simulate container -o simulated.h5 --minutes 2 --seed 1
    python examples/live_scan.py simulated.h5 live.h5 --speed 10 &
    muscan watch live.h5 --out running --notify stdout

The first line of your own data acquisition would be `LiveHitsWriter(...)`, the second
`writer.append(hits)` whenever there are some.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from muscan import io
from muscan.model.events import Run


def replay(source: Path, target: Path, speed: float, block_rows: int) -> None:
    """Write the hits of a file to another as they came, ``speed`` times as fast."""
    hits = io.read_hits(source)
    order = np.argsort(hits.event_id, kind="stable")
    starts = np.flatnonzero(np.diff(hits.event_id[order], prepend=hits.event_id[order[0]] + 1))
    seconds = np.linspace(0, hits.run.live_time_s, len(starts), endpoint=False)
    began = time.monotonic()
    run = Run(run_id=hits.run.run_id, source=hits.run.source, start_time=hits.run.start_time)
    with io.LiveHitsWriter(target, hits.detector, run, block_rows=block_rows) as writer:
        done = 0
        while done < len(starts):
            now = (time.monotonic() - began) * speed
            due = int(np.searchsorted(seconds, now))
            if due > done:
                stop = starts[due] if due < len(starts) else len(hits)
                rows = order[starts[done] : stop]
                writer.append(hits.take(rows), live_time_s=float(min(now, seconds[-1])))
                done = due
            time.sleep(0.05)
        writer.run = hits.run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument("--block-rows", type=int, default=io.live.BLOCK_ROWS)
    given = parser.parse_args()
    replay(given.source, given.target, given.speed, given.block_rows)
