"""Every path, type and unit in our HDF5 files, and their versions.

Version history
---------------
1 : first version of all four formats. Since then hit files may have ``/blocks``, checksums that a
    reader may leave aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muscan.io.checksums import Blocks
from muscan.model.events import Columns, Hits, MomentumMeasurements, Muons, Tracks

HITS: Final = "muscan-hits"
TRACKS: Final = "muscan-tracks"
VOLUME: Final = "muscan-volume"
MATERIALS: Final = "muscan-materials"
VERSIONS: Final = {HITS: 1, TRACKS: 1, VOLUME: 1, MATERIALS: 1}

DETECTOR: Final = "/detector"
RUN: Final = "/run"
COUNTS: Final = "/run/counts"
SCENE: Final = "/truth/scene"
#: Attribute of `BLOCK_TABLE`: 1 when the run's end was written, 0 before.
FINISHED: Final = "finished"

VOLUME_VALUES: Final = "/volume"
VOLUME_UNCERTAINTY: Final = "/uncertainty"
VOLUME_MUONS: Final = "/n_muons"
MATERIAL_LABELS: Final = "/material"
MATERIAL_PROBABILITY: Final = "/probability"
MATERIAL_NAMES: Final = "/names"
NEXUS_ENTRY: Final = "/entry"


@dataclass(frozen=True)
class Column:
    """One dataset of a table.

    Attributes
    ----------
    name : str
        Of the dataset.
    dtype, units : str
        Its numpy code and the unit that it is marked with (``"1"`` for a pure number).
    field : str
        The field of the class that holds it in memory.
    component : int, optional
        Which component of that field, where the field is a vector and the dataset is not.
    shape : tuple of int
        Of one row.
    """

    name: str
    dtype: str
    units: str
    field: str
    component: int | None = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A group of equally long datasets, and the class that holds them in memory."""

    path: str
    holder: type[Columns]
    columns: tuple[Column, ...]


def _vector(names: str, units: str, field: str) -> tuple[Column, ...]:
    return tuple(
        Column(name, "f4", units, field, component) for component, name in enumerate(names.split())
    )


HIT_TABLE: Final = Table(
    "/hits",
    Hits,
    (
        Column("event_id", "u8", "1", "event_id"),
        Column("panel", "u2", "1", "panel"),
        Column("u", "f4", "mm", "u"),
        Column("v", "f4", "mm", "v"),
        Column("sigma_u", "f4", "mm", "sigma_u"),
        Column("sigma_v", "f4", "mm", "sigma_v"),
        Column("time", "f8", "ns", "time"),
        Column("amplitude", "f4", "arb", "amplitude"),
    ),
)

BLOCK_TABLE: Final = Table(
    "/blocks",
    Blocks,
    (
        Column("stop", "u8", "1", "stop"),
        Column("crc32", "u4", "1", "crc32"),
        Column("live_time_s", "f8", "s", "live_time"),
    ),
)

TRUTH_TABLE: Final = Table(
    "/truth",
    Muons,
    (
        Column("event_id", "u8", "1", "event_id"),
        Column("momentum_GeV", "f4", "GeV", "momentum"),
        Column("charge", "i1", "e", "charge"),
        *_vector("x y z", "mm", "position"),
        *_vector("dx dy dz", "1", "direction"),
    ),
)

MOMENTUM_TABLE: Final = Table(
    "/muons",
    MomentumMeasurements,
    (
        Column("event_id", "u8", "1", "event_id"),
        Column("momentum_GeV", "f4", "GeV", "momentum"),
        Column("sigma_GeV", "f4", "GeV", "sigma"),
    ),
)

TRACK_TABLE: Final = Table(
    "/tracks",
    Tracks,
    (
        Column("event_id", "u8", "1", "event_id"),
        Column("side", "i1", "1", "side"),
        *_vector("x y z", "mm", "position"),
        *_vector("dx dy dz", "1", "direction"),
        Column("cov", "f4", "mm, rad", "cov", shape=(4, 4)),
        Column("chi2", "f4", "1", "chi2"),
        Column("ndof", "i2", "1", "ndof"),
        Column("n_hits", "u1", "1", "n_hits"),
        Column("momentum_GeV", "f4", "GeV", "momentum"),
        Column("sigma_GeV", "f4", "GeV", "sigma"),
    ),
)
