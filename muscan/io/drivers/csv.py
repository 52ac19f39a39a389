"""The ``csv`` driver: tables of hits in global coordinates, plain or compressed with gzip.

Long form, one row a hit: ``event_id,panel,x_mm,y_mm,z_mm`` and optionally ``time_ns``,
``sigma_x_mm,sigma_y_mm``, ``amplitude``, ``momentum_GeV``, ``sigma_momentum_GeV``. Wide form, one
row an event: through a mapping file (`muscan.io.drivers.columns.MappingSpec`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from muscan.io.drivers import Progress, columns
from muscan.io.drivers.source import TableSource
from muscan.io.drivers.text import TextReader
from muscan.model.detector import Detector


def read_csv(
    files: Sequence[Path],
    *,
    detector: Detector | None = None,
    mapping: Path | None = None,
    progress: Progress | None = None,
) -> TableSource:
    """Open tables of hits; see `muscan.io.drivers.Driver` and this module.

    Parameters
    ----------
    files : sequence of Path
        Consecutive parts of one run. Where the event ids of a part start anew, they are shifted
        to follow those of the part before.
    detector : Detector, optional
        The layout. Without one, a horizontal panel is inferred for each name in ``panel``.
    mapping : Path, optional
        Mapping file, for tables with other columns.
    progress : callable, optional
        See `muscan.io.drivers.Progress`.

    Raises
    ------
    InputError
        If a file or the mapping is wrong; the message names the line.
    """
    spec = None if mapping is None else columns.read_mapping(mapping)
    return TableSource("csv", files, lambda: TextReader(spec), detector, progress)
