"""A scan that is still running, to try `muscan watch` with: a simulated one at a chosen rate.

    muscan simulate container -o simulated.h5 --minutes 2 --seed 1
    python examples/live_scan.py simulated.h5 live.h5 --speed 2 &
    muscan watch live.h5 --out running --notify stdout

A data acquisition does the same: it opens a `LiveHitsWriter`, and appends whole events to it.
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
    starts = np.flatnonzero(np.diff(hits.event_id, prepend=hits.event_id[0] + 1))
    run = Run(run_id=hits.run.run_id, source=hits.run.source, start_time=hits.run.start_time)
    with io.LiveHitsWriter(target, hits.detector, run, block_rows=block_rows) as writer:
        began, done = time.monotonic(), 0
        while done < len(hits):
            now_s = (time.monotonic() - began) * speed
            event = int(np.searchsorted(hits.time[starts], now_s * 1e9))
            due = int(starts[event]) if event < len(starts) else len(hits)
            writer.append(hits.take(slice(done, due)))
            done = due
            time.sleep(0.05)
        writer.run = hits.run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a finished hit file")
    parser.add_argument("target", type=Path, help="the live hit file to write")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument("--block-rows", type=int, default=4096, help="hits in a block")
    given = parser.parse_args()
    replay(given.source, given.target, given.speed, given.block_rows)
