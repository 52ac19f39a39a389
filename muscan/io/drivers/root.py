"""The ``root`` driver: branches of a tree as hits in global coordinates (extra ``root``).

A mapping file (`RootMapping`) tells which branch is what. Three forms are read:

* long and flat: an entry is a hit, ``[columns]`` names flat branches;
* long and jagged: an entry is an event, the branches of ``[columns]`` hold one value a hit;
* wide: an entry is an event, each ``[[panel]]`` names the branches of its hits, flat or jagged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from muscan.errors import InputError
from muscan.io.drivers import Progress, columns
from muscan.io.drivers.columns import EVENT, FIELDS, PANEL, MappingSpec, Name
from muscan.io.drivers.rootfile import Branch, Tree, open_tree
from muscan.io.drivers.rows import MAX_LABELS, Rows, make_rows
from muscan.io.drivers.source import TableSource
from muscan.model.detector import Detector

#: Panel numbers that lie within this are looked up in a table.
_SPAN = 1 << 16


class RootMapping(MappingSpec):
    """A mapping of the ``root`` driver; what stands where a column's name does is a branch's.

    Attributes
    ----------
    tree : str, optional
        Name of the tree, ``folder/name`` where it is in a folder; the only one unless given.
    missing : float, optional
        A number that stands for no measurement, such as -9999.
    panels : dict of str to str
        Name of the panel that a number in the panel's branch means; else it is that number.
    """

    tree: Name | None = None
    missing: float | None = None
    panels: dict[str, Name] = Field(default_factory=dict)


def read_root(
    files: Sequence[Path],
    *,
    detector: Detector | None = None,
    mapping: Path | None = None,
    progress: Progress | None = None,
) -> TableSource:
    """Open trees of hits; see `muscan.io.drivers.Driver` and this module.

    Parameters
    ----------
    files : sequence of Path
        Consecutive parts of one run. Where the event ids of a part start anew, they are shifted
        to follow those of the part before.
    detector : Detector, optional
        The layout. Without one, a horizontal panel is inferred for each number in ``panel``.
    mapping : Path, optional
        Mapping file; without one the branches are called as the columns of the ``csv`` driver.
    progress : callable, optional
        See `muscan.io.drivers.Progress`.

    Raises
    ------
    InputError
        If a file or the mapping is wrong; the message names the branch or the entry.
    MissingExtraError
        If uproot is not installed.
    """
    spec = None if mapping is None else columns.read_mapping(mapping, RootMapping)
    return TableSource("root", files, lambda: RootReader(spec), detector, progress)


class RootReader:
    """Reads trees; a `muscan.io.drivers.rows.TableReader`."""

    unit = "entry"

    def __init__(self, mapping: RootMapping | None = None) -> None:
        self._mapping = mapping
        self._scale = columns.scale_of(mapping)
        self._missing = None if mapping is None else mapping.missing
        self._label_of: dict[int, int] = {}
        self.labels: list[str] = []
        self.ignored: tuple[str, ...] = ()

    def read(self, path: Path, advance: Callable[[float], None] | None = None) -> Iterator[Rows]:
        """Yield the rows of a file, some entries at a time.

        Raises
        ------
        InputError
            If the file is wrong; the message names the branch or the entry.
        """
        with open_tree(path, None if self._mapping is None else self._mapping.tree) as tree:
            if self._mapping is None or self._mapping.columns:
                rows_of, used = self._long(tree, path)
            else:
                rows_of, used = self._wide(tree, self._mapping)
            self.ignored = tuple(
                name for name in tree.names if not any(u.partition("[")[0] == name for u in used)
            )
            for start, stop in tree.steps(used):
                yield rows_of({name: tree.read(name, start, stop) for name in used}, start, stop)
                if advance is not None:
                    advance(stop / tree.entries)

    def _long(self, tree: Tree, path: Path) -> tuple[_Convert, list[str]]:
        """Return how to make rows of entries that hold a panel's number with each hit."""
        given = {} if self._mapping is None else self._mapping.columns
        (usual,) = columns.long_form(self._mapping)
        fields = {f: c for f, c in usual.items() if f in given or tree.has(c)}
        panel = given.get(PANEL, PANEL)
        event: str | None = given.get(EVENT, EVENT)
        if not {"x", "y", "z"} & fields.keys():
            tree.check([usual["x"]])
        tree.check([panel, *fields.values()])
        jagged = any(not tree.is_flat(c) for c in (panel, *fields.values()))
        if jagged and EVENT not in given and not tree.has(EVENT):
            event = None
        if event is not None:
            tree.check([event])
            if not tree.is_flat(event):
                raise InputError(path, f"branch '{event}' has several values an entry")
        used = list(dict.fromkeys([panel, *fields.values(), *([event] if event else [])]))

        def rows_of(found: Mapping[str, Branch], start: int, stop: int) -> Rows:
            counts = _common_counts(found, start, path)
            entry = np.arange(start, stop, dtype=np.int64)
            if event is None:
                ids = entry.astype(np.uint64)
            else:
                ids = _whole(found[event].values, event, entry, path).astype(np.uint64)
            if counts is not None:
                ids, line = np.repeat(ids, counts), np.repeat(entry, counts)
            else:
                line = entry
            spread = {name: _spread(branch, counts) for name, branch in found.items()}
            label = self._labels(_whole(spread[panel], panel, line, path), line, path)
            numbers = {f: self._number(spread[c], f) for f, c in fields.items()}
            return make_rows(ids, line, label, **numbers)

        return rows_of, used

    def _wide(self, tree: Tree, mapping: RootMapping) -> tuple[_Convert, list[str]]:
        """Return how to make rows of entries that hold the hits of each panel."""
        hits = columns.wide_form(mapping)
        event = mapping.event_id
        used = list(dict.fromkeys(c for hit in hits for c in hit.values()))
        used += [event] if event is not None and event not in used else []
        tree.check(used)
        path = tree.path
        if event is not None and not tree.is_flat(event):
            raise InputError(path, f"branch '{event}' has several values an entry")
        for number, spec in enumerate(mapping.panel):
            if str(spec.panel) not in self.labels:
                self.labels.append(str(spec.panel))
            self._label_of[-1 - number] = self.labels.index(str(spec.panel))

        def rows_of(found: Mapping[str, Branch], start: int, stop: int) -> Rows:
            entry = np.arange(start, stop, dtype=np.int64)
            ids = entry.astype(np.uint64)
            if event is not None:
                ids = _whole(found[event].values, event, entry, path).astype(np.uint64)
            parts = []
            for number, hit in enumerate(hits):
                own = {c: found[c] for c in hit.values()}
                counts = _common_counts(own, start, path)
                line = entry if counts is None else np.repeat(entry, counts)
                numbers = {f: self._number(_spread(own[c], counts), f) for f, c in hit.items()}
                label = np.full(len(line), self._label_of[-1 - number], np.int64)
                rows = make_rows(ids[line - start], line, label, **numbers)
                # A panel that was not crossed has no number; z alone may be a constant.
                place = [numbers[f] for f in ("x", "y") if f in numbers] or [numbers["z"]]
                parts.append(rows.take(np.isfinite(place).any(axis=0)))
            rows = Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
            return rows.take(np.argsort(rows.line, kind="stable"))

        return rows_of, used

    def _number(self, values: NDArray[Any], field: str) -> NDArray[np.float64]:
        """Return values in native units, NaN where there is no measurement."""
        numbers = values.astype(np.float64)
        if self._missing is not None:
            numbers[numbers == self._missing] = np.nan
        factor = self._scale[list(FIELDS).index(field)]
        if factor != 1:
            numbers *= factor
        return numbers

    def _labels(
        self, numbers: NDArray[np.int64], line: NDArray[np.int64], path: Path
    ) -> NDArray[np.int64]:
        """Return the label of each panel number, new ones included."""
        if not len(numbers):
            return np.zeros(0, np.int64)
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < _SPAN:
            shifted = (numbers - low).astype(np.int64)
            values = np.flatnonzero(np.bincount(shifted)) + low
            table = np.zeros(high - low + 1, np.int64)
            table[values - low] = self._known(values, path)
            return table[shifted]
        values, which = np.unique(numbers, return_inverse=True)
        return self._known(values, path)[which]

    def _known(self, values: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
        names = {} if self._mapping is None else self._mapping.panels
        for value in values.tolist():
            if value not in self._label_of:
                label = names.get(str(value), str(value))
                if label not in self.labels:
                    if len(self.labels) >= MAX_LABELS:
                        raise InputError(path, f"more than {MAX_LABELS} panels")
                    self.labels.append(label)
                self._label_of[value] = self.labels.index(label)
        return np.array([self._label_of[value] for value in values.tolist()], dtype=np.int64)


_Convert = Callable[[Mapping[str, Branch], int, int], Rows]


def _common_counts(found: Mapping[str, Branch], start: int, path: Path) -> NDArray[np.int64] | None:
    """Return how many hits each entry has, None where every branch is flat."""
    known: tuple[str, NDArray[np.int64]] | None = None
    for name, branch in found.items():
        counts = branch.counts
        if counts is None:
            continue
        if known is None:
            known = name, counts
        elif not np.array_equal(known[1], counts):
            i = int(np.argmax(known[1] != counts))
            raise InputError(
                path,
                f"entry {start + i}: branch '{known[0]}' has {known[1][i]} values, "
                f"'{name}' has {counts[i]}",
                "map branches of the same hits",
            )
    return None if known is None else known[1]


def _spread(branch: Branch, counts: NDArray[np.int64] | None) -> NDArray[Any]:
    """Return a branch's value for each hit; that of a flat one counts for all of its entry."""
    if counts is None or branch.counts is not None:
        return branch.values
    return np.repeat(branch.values, counts)


def _whole(values: NDArray[Any], name: str, line: NDArray[np.int64], path: Path) -> NDArray[Any]:
    """Return values as integers from 0 on; event ids beyond 2^63 stay unsigned."""
    if values.dtype.kind == "u":
        return values.astype(np.uint64) if values.dtype.itemsize == 8 else values.astype(np.int64)
    bad = values < 0
    if values.dtype.kind == "f":
        bad |= ~(values < 2**53) | (values != np.floor(values))
    if bad.any():
        at = int(np.argmax(bad))
        problem = f"entry {line[at]}: {name} {values[at]} is not a whole number from 0 on"
        raise InputError(path, problem)
    return values.astype(np.int64)
