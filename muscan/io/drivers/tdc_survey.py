"""What TDC data look like: occupancy, hot and dead channels, multiplicities, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Live channels on each side that a channel is compared with.
NEIGHBOURS: Final = 8
#: A channel is hot with more edges than this times the median of its neighbours …
HOT_RATIO: Final = 5.0
#: … and with so many standard deviations more (Poisson).
HOT_DEVIATIONS: Final = 5.0
#: A silent channel among live ones is dead if its neighbours fired in this many triggers: a sound
#: one is silent by chance in 1 of e^10 = 22 000 cases.
DEAD_EXPECTED: Final = 10.0
#: A channel with one edge in this share of the triggers is taken for the trigger itself.
REFERENCE_SHARE: Final = 0.99
#: Bins of the times for the percentiles: 19 bits and the negative ones.
_BIN_COUNTS: Final = 8
_LOWEST: Final = -(1 << 12)
_BINS: Final = ((1 << 19) - _LOWEST) // _BIN_COUNTS
#: Largest number of channels of a trigger that is counted one by one.
_MOST_FIRED: Final = 512


class Survey:
    """Gathers what edges look like, in constant memory.

    Parameters
    ----------
    count_ns : float, optional
        Width of a TDC count [ns]; times are given in counts where it is not known.
    """

    def __init__(self, count_ns: float | None) -> None:
        self._count_ns = count_ns
        self.triggers = 0
        self._edges: dict[tuple[int, int], int] = {}
        self._fired: dict[tuple[int, int], int] = {}
        self._single: dict[tuple[int, int], int] = {}
        self._channels: dict[int, NDArray[np.int64]] = {}
        self._times: dict[int, NDArray[np.int64]] = {}
        self._disagree = 0
        self._beyond = 0

    def add(
        self,
        sources: Sequence[tuple[int, int]],
        multiplicity: NDArray[np.int64],
        source: NDArray[np.int64],
        count: NDArray[np.int64],
        told: NDArray[np.int64] | None,
    ) -> None:
        """Take in some triggers.

        Parameters
        ----------
        sources : sequence of (int, int)
            Module and channel of each column of `multiplicity`.
        multiplicity : (t, s) int64
            Number of edges of each trigger and source.
        source, count : (n,) int64
            Source and time [TDC counts] of each edge.
        told : (t, s) int64, optional
            Number of edges as the file tells it, -1 where it does not.
        """
        self.triggers += len(multiplicity)
        for table, values in (
            (self._edges, multiplicity.sum(axis=0)),
            (self._fired, np.count_nonzero(multiplicity, axis=0)),
            (self._single, np.count_nonzero(multiplicity == 1, axis=0)),
        ):
            for key, value in zip(sources, values.tolist(), strict=True):
                table[key] = table.get(key, 0) + value
        module = np.array([m for m, _ in sources])
        for m in np.unique(module).tolist():
            fired = np.count_nonzero(multiplicity[:, module == m], axis=1)
            known = self._channels.setdefault(m, np.zeros(_MOST_FIRED + 1, np.int64))
            known += np.bincount(np.minimum(fired, _MOST_FIRED), minlength=_MOST_FIRED + 1)
            own = count[module[source] == m]
            inside = own[(own >= _LOWEST) & (own < _LOWEST + _BINS * _BIN_COUNTS)]
            self._beyond += len(own) - len(inside)
            times = self._times.setdefault(m, np.zeros(_BINS, np.int64))
            times += np.bincount((inside - _LOWEST) // _BIN_COUNTS, minlength=_BINS)
        if told is not None:
            wrong = (told >= 0) & (told != multiplicity)
            self._disagree += int(np.count_nonzero(wrong.any(axis=1)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What of it the user should know, one sentence each."""
        notes = []
        if self._disagree:
            notes.append(
                f"{self._disagree} triggers have other numbers of edges than HITS_PER_CHANNEL tells"
            )
        if self._beyond:
            notes.append(f"{self._beyond} edges have times beyond 19 bits")
        for module in sorted(self._channels):
            hot = self.hot(module)
            if hot:
                notes.append(f"module {module}: hot channels {ranges(hot)}; mask them for hits")
        return tuple(notes)

    def channels(self, module: int) -> list[int]:
        """Return the channels of a module."""
        return sorted(c for m, c in self._edges if m == module)

    def hot(self, module: int) -> list[int]:
        """Return the channels with far more edges than their neighbours."""
        found = []
        for channel, edges, around in self._compared(module, self._edges):
            if around is None or edges == 0:
                continue
            limit = HOT_RATIO * around
            if edges > limit + HOT_DEVIATIONS * np.sqrt(limit):
                found.append(channel)
        return found

    def dead(self, module: int) -> list[int]:
        """Return the silent channels between live ones that should have had edges."""
        live = [c for c in self.channels(module) if self._edges[module, c]]
        if not live:
            return []
        return [
            channel
            for channel, fired, around in self._compared(module, self._fired)
            if fired == 0
            and live[0] < channel < live[-1]
            and around is not None
            and around >= DEAD_EXPECTED
        ]

    def _compared(
        self, module: int, counted: Mapping[tuple[int, int], int]
    ) -> list[tuple[int, int, float | None]]:
        """Return each channel, its count, and the median of those of its live neighbours."""
        channels = self.channels(module)
        number = np.array([counted[module, c] for c in channels])
        live = np.flatnonzero(number)
        found: list[tuple[int, int, float | None]] = []
        for place, channel in enumerate(channels):
            at = int(np.searchsorted(live, place))
            after = at + int(at < len(live) and live[at] == place)
            near = np.concatenate([live[max(at - NEIGHBOURS, 0) : at], live[after:][:NEIGHBOURS]])
            around = float(np.median(number[near])) if len(near) else None
            found.append((channel, int(number[place]), around))
        return found

    def facts(self) -> Mapping[str, Any]:
        """Return everything as names, numbers and texts, to be printed or written as JSON."""
        return {
            "triggers": self.triggers,
            "edges": sum(self._edges.values()),
            "triggers that disagree with HITS_PER_CHANNEL": self._disagree,
            "modules": {str(m): self._module(m) for m in sorted(self._channels)},
        }

    def _module(self, module: int) -> dict[str, Any]:
        channels = self.channels(module)
        edges = {c: self._edges[module, c] for c in channels}
        silent = [c for c in channels if edges[c] == 0]
        dead = self.dead(module)
        triggers = max(self.triggers, 1)
        reference = [c for c in channels if self._single[module, c] >= REFERENCE_SHARE * triggers]
        unit = "counts" if self._count_ns is None else "ns"
        return {
            "channels": len(channels),
            "edges": sum(edges.values()),
            "edges a trigger": round(sum(edges.values()) / triggers, 4),
            "live channels": ranges([c for c in channels if edges[c]]) or None,
            "dead channels": ranges(dead) or None,
            "silent channels (not connected, or dead)": ranges([c for c in silent if c not in dead])
            or None,
            "hot channels": ranges(self.hot(module)) or None,
            "trigger channel": ranges(reference) or None,
            "channels fired a trigger": self._multiplicity(module),
            f"times of 5, 50 and 95 % of the edges [{unit}]": self._percentiles(module),
            "edges of each channel, from 0": [edges.get(c, 0) for c in range(channels[-1] + 1)],
        }

    def _multiplicity(self, module: int) -> dict[str, Any]:
        """Return the mean and maximum, and the numbers of triggers by channels fired."""
        counted = self._channels[module]
        total = max(int(counted.sum()), 1)
        most = int(np.flatnonzero(counted)[-1]) if counted.any() else 0
        low = {str(n): int(counted[n]) for n in range(min(most, 9) + 1)}
        beyond = {"10 or more": int(counted[10:].sum())} if most > 9 else {}
        mean = float(np.arange(len(counted)) @ counted) / total
        return {"mean": round(mean, 3), "most": most, "triggers": low | beyond}

    def _percentiles(self, module: int) -> list[float] | None:
        cumulative = np.cumsum(self._times[module])
        if not cumulative[-1]:
            return None
        at = np.searchsorted(cumulative, np.array([0.05, 0.5, 0.95]) * cumulative[-1])
        counts = _LOWEST + (at + 0.5) * _BIN_COUNTS
        return [round(float(t), 1) for t in counts * (self._count_ns or 1.0)]


def ranges(channels: Sequence[int]) -> str:
    """Return sorted channels as text, such as ``"0-3, 7"``."""
    parts: list[str] = []
    begin = last = None
    for channel in [*channels, None]:
        if last is not None and channel == last + 1:
            last = channel
            continue
        if last is not None:
            parts.append(str(begin) if begin == last else f"{begin}-{last}")
        begin = last = channel
    return ", ".join(parts)
