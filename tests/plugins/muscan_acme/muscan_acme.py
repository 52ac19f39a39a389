"""Driver for the recorders of Acme: ``muscan import RUN.acme --driver acme --detector LAYOUT``.

A file is a sequence of records of 16 bytes, those of an event adjacent.
"""

import numpy as np

from muscan.errors import InputError
from muscan.model.events import Hits, Run

RECORD = np.dtype(
    [("event", "<u4"), ("panel", "<u2"), ("quality", "<u2"), ("u", "<f4"), ("v", "<f4")]
)
BLOCK = 100_000


def read_acme(files, *, detector=None, mapping=None, progress=None):
    """Open Acme's files; the parameters are those of `muscan.io.drivers.Driver`."""
    if detector is None:
        raise InputError(files[0], "positions are relative to the panels", "give a --detector")
    return AcmeSource(files, detector)


class AcmeSource:
    """Hits of one run, block by block."""

    notes = ()

    def __init__(self, files, detector):
        self.files, self.detector = files, detector
        self.counts = {"records": 0, "hits_bad_quality": 0}

    @property
    def run(self):
        """What the file tells of the run; the counts grow while it is read."""
        return Run(run_id=self.files[0].stem, source="acme", counts=self.counts)

    def chunks(self):
        """Yield the hits; an event that a block cuts waits for the next block."""
        waiting = np.zeros(0, RECORD)
        for path in self.files:
            if path.stat().st_size % RECORD.itemsize:
                raise InputError(path, "ends within a record", "copy it again")
            with path.open("rb") as file:
                while len(block := np.fromfile(file, RECORD, BLOCK)):
                    self.counts["records"] += len(block)
                    rows = np.concatenate([waiting, block])
                    whole = rows["event"] != rows["event"][-1]
                    waiting = rows[~whole]
                    yield self._hits(rows[whole], path)
        yield self._hits(waiting, self.files[-1])

    def _hits(self, rows, path):
        good = rows["quality"] == 0
        self.counts["hits_bad_quality"] += int(np.count_nonzero(~good))
        rows = rows[good]
        if (rows["panel"] >= len(self.detector.panels)).any():
            raise InputError(path, f"panel {rows['panel'].max()}, which the layout has not")
        sigma = self.detector.sigmas[rows["panel"]].astype(np.float32)
        return Hits(
            event_id=rows["event"].astype(np.uint64),
            panel=rows["panel"],
            u=rows["u"],
            v=rows["v"],
            sigma_u=sigma[:, 0],
            sigma_v=sigma[:, 1],
            time=np.full(len(rows), np.nan),
            amplitude=np.full(len(rows), np.nan, np.float32),
            detector=self.detector,
        )
