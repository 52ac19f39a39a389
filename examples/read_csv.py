"""Someone's CSV file: one row an event, lengths in cm, columns of their own names.

The file is made here from a simulated scan, so that the example runs as it stands.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import muscan

COLUMNS = """
length_unit = "cm"
event_id = "trigger"
"""


def write_theirs(folder: Path, minutes: float) -> tuple[Path, Path]:
    """Write a CSV file as another program might, and the mapping file that explains it."""
    hits = muscan.simulate("blocks", minutes=minutes, seed=3)
    planes = len(hits.detector.panels)
    events, row = np.unique(hits.event_id, return_inverse=True)
    table = np.full((len(events), 2 * planes), np.nan)
    table[row, 2 * hits.panel] = hits.u / 10
    table[row, 2 * hits.panel + 1] = hits.v / 10
    header = "trigger," + ",".join(f"x{n},y{n}" for n in range(planes))
    data, mapping = folder / "theirs.csv", folder / "mapping.toml"
    np.savetxt(data, np.column_stack([events, table]), "%.6g", ",", header=header, comments="")
    panels = [f'[[panel]]\npanel = {n}\nx = "x{n}"\ny = "y{n}"\n' for n in range(planes)]
    mapping.write_text(COLUMNS + "".join(panels))
    return data, mapping


def main(minutes: float = 1.0) -> int:
    """Import the file, reconstruct, and return the number of muons with both tracks."""
    with tempfile.TemporaryDirectory() as folder:
        data, mapping = write_theirs(Path(folder), minutes)
        hits = muscan.import_hits(
            data, mapping=mapping, detector="blocks-lab", live_time=60 * minutes
        )
    tracks = muscan.track(hits)
    volume = muscan.reconstruct(tracks, voxel=50)
    both = int(tracks.run.counts["in_and_out"])
    print(f"{both} muons with both tracks; the most in a voxel: {int(volume.n_muons.max())}")
    return both


if __name__ == "__main__":
    main()
