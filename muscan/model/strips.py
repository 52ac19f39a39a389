"""Strips: how they turn charge into raw channels, and the rows that they write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from numpy.typing import NDArray
from pydantic import Field

from muscan.model import toml

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

#: The two planes of strips of a panel, in the order of its axes.
AXES: Final = "uv"


class Strips(toml.Spec):
    """The ``[strips]`` table of a technology that is read out by ``pitch``.

    Attributes
    ----------
    charge_spread_mm : tuple of float
        Standard deviation of the cloud of charge (or light) over the strips along u and v [mm];
        0 puts it all on one strip.
    gain_adc : float
        Counts of a signal of amplitude 1, which a muon that crosses upright leaves.
    pedestal_adc : float
        Counts of a strip without signal.
    noise_adc : float
        Standard deviation of a strip's electronic noise [counts].
    threshold_adc : float
        Strips below this many counts above the pedestal are not written.
    largest_adc : float
        Where the converter ends [counts].
    time_jitter_ns : float
        Standard deviation of the time of a strip about that of the hit [ns].
    """

    charge_spread_mm: tuple[NotNegative, NotNegative] = (0.0, 0.0)
    gain_adc: Positive = 400.0
    pedestal_adc: NotNegative = 100.0
    noise_adc: NotNegative = 5.0
    threshold_adc: Positive = 25.0
    largest_adc: Positive = 4095.0
    time_jitter_ns: NotNegative = 0.5


@dataclass(frozen=True)
class StripRows:
    """Raw data of strips, one row a strip, in the order of time.

    Attributes
    ----------
    plane : (n,) int32
        Twice the panel's index, plus 1 for the strips that measure v.
    channel : (n,) int32
        Number of the strip, from 0 at the lowest coordinate.
    adc : (n,) float64
        Counts, pedestal included.
    time : (n,) float64
        Since the start of the run [ns].
    """

    plane: NDArray[Any]
    channel: NDArray[Any]
    adc: NDArray[Any]
    time: NDArray[Any]

    def __len__(self) -> int:
        return len(self.plane)

    def take(self, rows: Any) -> StripRows:
        """Return the rows of an index array, mask or slice."""
        return StripRows(self.plane[rows], self.channel[rows], self.adc[rows], self.time[rows])
