"""From TDC channels to strips and hits: the mapping of the ``v1190`` driver."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from muscan.errors import InputError
from muscan.io.drivers.columns import Name
from muscan.model import toml
from muscan.model.detector import Detector

#: Edges that make no hit, by reason.
DROPPED: Final = (
    "edges_of_trigger",
    "edges_untriggered",
    "edges_without_strip",
    "edges_masked",
    "edges_outside_window",
)
_RANGE: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def parse_channels(text: str) -> list[int]:
    """Return the channels of a list such as ``"32-63, 96, 127-124"``, in that order.

    Raises
    ------
    ValueError
        If it is no such list.
    """
    channels: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"'{part[:40]}' is no channel nor range such as 32-63")
        first, last = int(match[1]), int(match[2] or match[1])
        step = 1 if last >= first else -1
        channels += range(first, last + step, step)
    return channels


Channel = Annotated[int, Field(ge=0)]


class TriggerSpec(toml.Spec):
    """``[trigger]`` of a mapping: the channel that records the trigger itself."""

    module: Channel
    channel: Channel


class StripsSpec(toml.Spec):
    """One ``[[strips]]`` of a mapping: the channels behind a panel's strips.

    Attributes
    ----------
    panel : str or int
        A panel of the layout, which measures `axis` alone.
    axis : {"u", "v"}
        The coordinate across the strips.
    module : int
        Number of the TDC.
    channels : str
        Channels in the order of the strips, such as ``"32-63, 96-127"``; ``"63-32"`` counts down.
    first_mm : float
        Centre of the first strip along `axis`, from the panel's centre [mm].
    pitch_mm : float
        From one strip to the next [mm]; negative towards lower coordinates.
    window_ns : tuple of float, optional
        Edges are kept whose time lies in it [ns], from the trigger if there is a ``[trigger]``,
        else as the TDC counts.
    masked : str
        Channels to leave out, such as hot ones.
    """

    panel: Name | Channel
    axis: Literal["u", "v"] = "u"
    module: Channel
    channels: Name
    first_mm: float
    pitch_mm: float
    window_ns: tuple[float, float] | None = None
    masked: str = ""

    @model_validator(mode="after")
    def _sound(self) -> StripsSpec:
        if self.pitch_mm == 0:
            raise ValueError("pitch_mm must not be 0")
        if self.window_ns is not None and not self.window_ns[0] < self.window_ns[1]:
            raise ValueError("window_ns must be the earliest and the latest time")
        strips = parse_channels(self.channels)
        parse_channels(self.masked)
        if len(set(strips)) < len(strips):
            raise ValueError("channels: one stands twice")
        return self


class V1190Mapping(toml.Spec):
    """A mapping of the ``v1190`` driver.

    Attributes
    ----------
    tree : str, optional
        Name of the tree; the only one unless given.
    count_ns : float
        Width of a TDC count [ns]: 0.1, 0.2 or 0.8 by the modules' setting.
    trigger : TriggerSpec, optional
    strips : tuple of StripsSpec
    """

    tree: Name | None = None
    count_ns: Annotated[float, Field(gt=0)] = 0.1
    trigger: TriggerSpec | None = None
    strips: Annotated[tuple[StripsSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _once(self) -> V1190Mapping:
        seen: set[tuple[int, int]] = set()
        for spec in self.strips:
            for channel in parse_channels(spec.channels):
                if (spec.module, channel) in seen:
                    raise ValueError(f"module {spec.module} channel {channel} has two strips")
                seen.add((spec.module, channel))
        return self


class Edges(NamedTuple):
    """Leading edges of some triggers, in the order of entry, module and channel.

    Attributes
    ----------
    entry : (n,) int64, entry of the file
    source : (n,) int64, index into the list of (module, channel)
    counts : (n,) int64, time [TDC counts]; negative just before the window
    """

    entry: NDArray[np.int64]
    source: NDArray[np.int64]
    counts: NDArray[np.int64]


class StripHits(NamedTuple):
    """Hits of strips; the columns are those of `muscan.model.events.Hits`."""

    entry: NDArray[np.int64]
    panel: NDArray[np.uint16]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    sigma_u: NDArray[np.float32]
    sigma_v: NDArray[np.float32]
    time: NDArray[np.float64]


class StripPlan:
    """What to make of each channel's edges.

    Parameters
    ----------
    mapping : V1190Mapping
    detector : Detector
    source : Path
        The mapping's file, for errors.
    """

    def __init__(self, mapping: V1190Mapping, detector: Detector, source: Path) -> None:
        self._mapping = mapping
        self._panel = []
        for spec in mapping.strips:
            index = detector.panel_index(spec.panel)
            measured = detector.panels[index].technology.measures
            if measured != spec.axis:
                raise InputError(
                    source,
                    f"panel '{spec.panel}' measures {measured}, its strips {spec.axis}",
                    "describe strips of two directions as two panels, one for each",
                )
            self._panel.append(index)
        self._sources: list[tuple[int, int]] = []

    def know(self, sources: list[tuple[int, int]], path: Path) -> None:
        """Arrange the mapping by the sources of a file."""
        if sources == self._sources:
            return
        self._sources = sources
        number = {source: i for i, source in enumerate(sources)}
        self._strip = np.full(len(sources), -1, np.int64)
        self._plane = np.full(len(sources), -1, np.int64)
        self._masked = np.zeros(len(sources), bool)
        for plane, spec in enumerate(self._mapping.strips):
            for strip, channel in enumerate(parse_channels(spec.channels)):
                if (spec.module, channel) not in number:
                    problem = f"has no module {spec.module} channel {channel}"
                    raise InputError(path, problem, "correct the mapping")
                self._strip[number[spec.module, channel]] = strip
                self._plane[number[spec.module, channel]] = plane
            for channel in parse_channels(spec.masked):
                if (spec.module, channel) in number:
                    self._masked[number[spec.module, channel]] = True
        trigger = self._mapping.trigger
        self._trigger = -1
        if trigger is not None:
            if (trigger.module, trigger.channel) not in number:
                problem = f"has no module {trigger.module} channel {trigger.channel}"
                raise InputError(path, problem, "correct [trigger] in the mapping")
            self._trigger = number[trigger.module, trigger.channel]

    def hits(self, edges: Edges, counts: dict[str, int]) -> StripHits:
        """Return the hits of edges; what is dropped is counted."""
        entry, source, time = edges.entry, edges.source, edges.counts * self._mapping.count_ns
        if self._trigger >= 0:
            own = source == self._trigger
            at, first = np.unique(entry[own], return_index=True)
            zero = time[own][first]
            place = np.minimum(np.searchsorted(at, entry), max(len(at) - 1, 0))
            known = at[place] == entry if len(at) else np.zeros(len(entry), bool)
            counts["edges_untriggered"] += int(np.count_nonzero(~known))
            entry, source, time = entry[known], source[known], time[known] - zero[place[known]]
            other = source != self._trigger
            counts["edges_of_trigger"] += int(np.count_nonzero(~other))
            entry, source, time = entry[other], source[other], time[other]
        strips = self._mapping.strips
        low, high = (
            np.array(
                [(-np.inf, np.inf)[i] if s.window_ns is None else s.window_ns[i] for s in strips]
            )
            for i in range(2)
        )
        plane = self._plane[source]
        fate = np.where(plane < 0, 1, 0)
        fate[self._masked[source]] = 2
        outside = (time < low[plane]) | (time > high[plane])
        fate[(fate == 0) & outside] = 3
        for code, name in (
            (1, "edges_without_strip"),
            (2, "edges_masked"),
            (3, "edges_outside_window"),
        ):
            counts[name] += int(np.count_nonzero(fate == code))
        kept = fate == 0
        counts["edges_in_hits"] += int(np.count_nonzero(kept))
        return self._clusters(entry[kept], plane[kept], self._strip[source[kept]], time[kept])

    def _clusters(
        self,
        entry: NDArray[np.int64],
        plane: NDArray[np.int64],
        strip: NDArray[np.int64],
        time: NDArray[np.float64],
    ) -> StripHits:
        """Return a hit for each run of neighbouring strips: its middle, its earliest time.

        The muon crossed one of the n strips, so the standard deviation is n pitch / √12 at most.
        """
        order = np.lexsort((strip, plane, entry))
        entry, plane, strip, time = entry[order], plane[order], strip[order], time[order]
        apart = (np.diff(entry) != 0) | (np.diff(plane) != 0) | (np.diff(strip) > 1)
        starts = np.flatnonzero(np.concatenate([[True], apart])[: len(entry)])
        lasts = np.append(starts[1:], len(entry))[: len(starts)] - 1
        earliest = np.minimum.reduceat(time, starts) if len(starts) else time
        specs = self._mapping.strips
        first_mm = np.array([s.first_mm for s in specs])
        pitch = np.array([s.pitch_mm for s in specs])
        along_u = np.array([s.axis == "u" for s in specs])
        which = plane[starts]
        middle = (strip[starts] + strip[lasts]) / 2
        position = (first_mm[which] + pitch[which] * middle).astype(np.float32)
        width = (strip[lasts] - strip[starts] + 1) * np.abs(pitch[which])
        sigma = (width / np.sqrt(12)).astype(np.float32)
        is_u = along_u[which]
        nan, inf = np.float32(np.nan), np.float32(np.inf)
        return StripHits(
            entry=entry[starts],
            panel=np.array(self._panel, dtype=np.uint16)[which],
            u=np.where(is_u, position, nan),
            v=np.where(is_u, nan, position),
            sigma_u=np.where(is_u, sigma, inf),
            sigma_v=np.where(is_u, inf, sigma),
            time=earliest,
        )
