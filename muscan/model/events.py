"""Columns of events: simulated muons, hits, tracks and scatters.

Each class is a set of equally long arrays, one entry a row, never changed after it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from muscan.model.detector import Detector

Array = NDArray[Any]


@dataclass(frozen=True)
class Run:
    """How a set of events came to be.

    Attributes
    ----------
    live_time_s : float
        Time during which muons were recorded [s]; NaN where unknown.
    start_time : str
        ISO 8601, UTC; empty where unknown.
    run_id : str
        Name of the run.
    source : str
        ``"simulated"`` or the name of the driver.
    counts : mapping of str to int
        What was seen and what was dropped, by reason.
    """

    live_time_s: float = float("nan")
    start_time: str = ""
    run_id: str = ""
    source: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def counting(self, **counts: int) -> Run:
        """Return the run with further counts."""
        return replace(self, counts={**self.counts, **counts})


class Columns:
    """Equally long arrays: the fields of a subclass that are arrays."""

    @classmethod
    def column_names(cls) -> tuple[str, ...]:
        """Names of the fields that are declared as ``Array``."""
        return tuple(f.name for f in fields(cls) if f.type == "Array")  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(getattr(self, self.column_names()[0]))

    def columns(self) -> dict[str, Array]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in self.column_names()}

    def take(self, rows: Any) -> Self:
        """Return the rows of an index array, mask or slice."""
        picked = {name: column[rows] for name, column in self.columns().items()}
        return replace(self, **picked)  # type: ignore[type-var]

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Return the rows of all parts, one after the other; the rest is the last part's."""
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in cls.column_names()
        }
        return replace(parts[-1], **joined)  # type: ignore[type-var]


@dataclass(frozen=True)
class Muons(Columns):
    """The truth about simulated muons where they start; nothing after `simulate` may read it.

    Attributes
    ----------
    event_id : (n,) uint64
    momentum : (n,) float32, [GeV]
    charge : (n,) int8
    position : (n, 3) float32, [mm]
    direction : (n, 3) float32, unit vectors of motion
    """

    event_id: Array
    momentum: Array
    charge: Array
    position: Array
    direction: Array


@dataclass(frozen=True)
class MomentumMeasurements(Columns):
    """Measured momenta of some events.

    Attributes
    ----------
    event_id : (n,) uint64
    momentum : (n,) float32, [GeV]
    sigma : (n,) float32, standard deviation [GeV]
    """

    event_id: Array
    momentum: Array
    sigma: Array


@dataclass(frozen=True)
class Hits(Columns):
    """Hits in panels, those of an event adjacent.

    Attributes
    ----------
    event_id : (n,) uint64
    panel : (n,) uint16, index into the detector's panels
    u, v : (n,) float32, position along the panel's axes from its centre [mm]; NaN if not measured
    sigma_u, sigma_v : (n,) float32, standard deviations [mm]; inf if not measured
    time : (n,) float64, since the start of the run [ns]
    amplitude : (n,) float32, arbitrary unit
    detector : Detector
    run : Run
    momenta : MomentumMeasurements or None
    """

    event_id: Array
    panel: Array
    u: Array
    v: Array
    sigma_u: Array
    sigma_v: Array
    time: Array
    amplitude: Array
    detector: Detector
    run: Run = field(default_factory=Run)
    momenta: MomentumMeasurements | None = None


def join_hits(parts: list[Hits]) -> Hits:
    """Return the hits and momenta of all parts, one after the other; the rest is the last's."""
    momenta = [part.momenta for part in parts if part.momenta is not None]
    return replace(
        Hits.join(parts), momenta=MomentumMeasurements.join(momenta) if momenta else None
    )


@dataclass(frozen=True)
class Tracks(Columns):
    """Straight tracks, at most one in and one out an event, those of an event adjacent.

    Attributes
    ----------
    event_id : (n,) uint64
    side : (n,) int8, 0 incoming, 1 outgoing
    position : (n, 3) float32, where the track meets its innermost plane [mm]
    direction : (n, 3) float32, unit vector of motion, never upward
    cov : (n, 4, 4) float32
        Covariance of (offset along e1, offset along e2, angle along e1, angle along e2)
        [mm, rad] at ``position``; e1 and e2 are the x and y axes carried by the smallest rotation
        that takes straight down to ``direction`` (`muscan.kernels.frame.transverse_axes`).
    chi2 : (n,) float32
    ndof : (n,) int16
    n_hits : (n,) uint8
    momentum, sigma : (n,) float32, measured momentum and its standard deviation [GeV], or NaN
    detector : Detector or None
    run : Run
    """

    event_id: Array
    side: Array
    position: Array
    direction: Array
    cov: Array
    chi2: Array
    ndof: Array
    n_hits: Array
    momentum: Array
    sigma: Array
    detector: Detector | None = None
    run: Run = field(default_factory=Run)


@dataclass(frozen=True)
class Scatters(Columns):
    """Muons with an incoming and an outgoing track: what reconstruction works on.

    Attributes
    ----------
    event_id : (n,) uint64
    in_position, out_position : (n, 3) float32, a point of each track [mm]
    in_direction, out_direction : (n, 3) float32, unit vectors of motion
    in_cov, out_cov : (n, 4, 4) float32, as in `Tracks`
    momentum, sigma : (n,) float32, measured momentum [GeV], or NaN
    """

    event_id: Array
    in_position: Array
    in_direction: Array
    in_cov: Array
    out_position: Array
    out_direction: Array
    out_cov: Array
    momentum: Array
    sigma: Array


def pair_tracks(tracks: Tracks) -> Scatters:
    """Return the events that have both an incoming and an outgoing track.

    Parameters
    ----------
    tracks : Tracks
        Rows of an event adjacent, the incoming one first.
    """
    first = np.flatnonzero(
        (tracks.event_id[:-1] == tracks.event_id[1:])
        & (tracks.side[:-1] == 0)
        & (tracks.side[1:] == 1)
    )
    second = first + 1
    return Scatters(
        event_id=tracks.event_id[first],
        in_position=tracks.position[first],
        in_direction=tracks.direction[first],
        in_cov=tracks.cov[first],
        out_position=tracks.position[second],
        out_direction=tracks.direction[second],
        out_cov=tracks.cov[second],
        momentum=tracks.momentum[first],
        sigma=tracks.sigma[first],
    )
