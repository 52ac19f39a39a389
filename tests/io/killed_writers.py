"""Run as a script: start writers of live hit files, kill each after a random time.

Prints one line of JSON a writer: what it had been told was written when it was killed. The
writers are forked, so that fifty of them take seconds.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from muscan import io
from muscan.model.detector import parse_detector
from muscan.model.events import Hits, Run

BLOCK_ROWS = 128


def hits_of(detector, first: int, events: int) -> Hits:
    """Events that follow from their numbers alone, four hits each."""
    ids = np.repeat(np.arange(first, first + events, dtype="u8"), 4)
    place = np.tile(np.arange(4, dtype="u2"), events)
    phase = ids.astype(float) * 0.7 + place
    ones = np.ones(len(ids), "f4")
    return Hits(
        event_id=ids,
        panel=place,
        u=(300 * np.sin(phase)).astype("f4"),
        v=(300 * np.cos(phase)).astype("f4"),
        sigma_u=ones,
        sigma_v=ones,
        time=ids * 1e6,
        amplitude=(phase % 7).astype("f4"),
        detector=detector,
    )


def write_for_ever(path: Path, detector, told: int) -> None:
    with io.LiveHitsWriter(path, detector, Run(run_id="killed"), block_rows=BLOCK_ROWS) as writer:
        first = 0
        while True:
            writer.append(hits_of(detector, first, 25))
            first += 25
            os.write(told, writer.rows.to_bytes(8, "little"))


def kill_one(path: Path, detector, wait_s: float, from_the_start: bool) -> int:
    """Return how many rows a writer had been told were written when it was killed.

    The wait begins with the writer, or when it has appended for the first time.
    """
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write_for_ever(path, detector, mouth)
        finally:
            os._exit(1)
    os.close(mouth)
    heard = b"" if from_the_start else os.read(ear, 8)
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(ear, 1 << 16):
        heard += part
    os.close(ear)
    return int.from_bytes(heard[-8:], "little")


if __name__ == "__main__":
    folder, layout, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    found = parse_detector(layout.read_text(), str(layout))
    chance = random.Random(20261122)
    for number in range(count):
        target = folder / f"{number}.h5"
        rows = kill_one(target, found, chance.uniform(0.0, 0.1), number % 5 == 0)
        print(json.dumps({"path": str(target), "rows": rows}), flush=True)
