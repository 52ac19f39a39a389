"""The ``v1190`` driver: leading edges of CAEN V1190 TDCs behind strip panels (extra ``root``).

The data are a ROOT tree with one entry a trigger. For every module M of the crate it has a branch
``ModuleM_LE_CHc`` for each channel c: a vector of leading-edge times in TDC counts. Where there
is ``ModuleM_HITS_PER_CHANNEL``, the numbers of edges are checked against it.

Which strip a channel reads is in no data file, so hits need a mapping and a layout
(`muscan.io.drivers.tdc_mapping.V1190Mapping`). Without them the data can still be surveyed
(`muscan.io.drivers.tdc_survey`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io.drivers import Progress, columns
from muscan.io.drivers.rootfile import Tree, open_tree
from muscan.io.drivers.tdc_mapping import DROPPED, Edges, StripPlan, V1190Mapping
from muscan.io.drivers.tdc_survey import Survey
from muscan.model.detector import Detector
from muscan.model.events import Hits, Run

_EDGES: Final = re.compile(r"Module(\d{1,4})_LE_CH(\d{1,5})")
#: Leading-edge times have 19 bits (CAEN V1190 manual). Subtracting the trigger's time wraps edges
#: from just before the window to the top of that range: they are negative times.
COUNTER_RANGE: Final = 1 << 19
WRAPPED_FROM: Final = COUNTER_RANGE - (1 << 12)


def read_v1190(
    files: Sequence[Path],
    *,
    detector: Detector | None = None,
    mapping: Path | None = None,
    progress: Progress | None = None,
) -> V1190Source:
    """Open TDC data; see `muscan.io.drivers.Driver` and this module.

    Parameters
    ----------
    files : sequence of Path
        Consecutive parts of one run.
    detector : Detector, optional
        The layout; needed for hits, not for a survey.
    mapping : Path, optional
        Mapping file; needed for hits, not for a survey.
    progress : callable, optional
        See `muscan.io.drivers.Progress`.

    Raises
    ------
    InputError
        If a file or the mapping is wrong.
    MissingExtraError
        If uproot is not installed.
    """
    return V1190Source(files, detector, mapping, progress)


class V1190Source:
    """TDC data; a `muscan.io.drivers.HitSource` that can be surveyed."""

    def __init__(
        self,
        files: Sequence[Path],
        detector: Detector | None,
        mapping: Path | None,
        progress: Progress | None,
    ) -> None:
        self._files = list(files)
        self._progress = progress
        self._mapping = None if mapping is None else columns.read_mapping(mapping, V1190Mapping)
        self._layout = detector
        self._plan: StripPlan | None = None
        if self._mapping is not None and detector is not None:
            self._plan = StripPlan(self._mapping, detector, mapping or self._files[0])
        self._counts = dict.fromkeys(
            ("triggers", "edges", *DROPPED, "edges_in_hits", "hits", "triggers_without_hits"), 0
        )
        self._survey = Survey(None if self._mapping is None else self._mapping.count_ns)

    @property
    def detector(self) -> Detector:
        """The layout.

        Raises
        ------
        InputError
            If none was given, or no mapping: hits cannot be made then.
        """
        if self._layout is None or self._plan is None:
            lacking = "--mapping" if self._mapping is None else "--detector"
            raise InputError(
                self._files[0],
                f"TDC data tell no strip positions, so hits need {lacking}",
                "see docs/drivers.md; without --output the data are only surveyed",
            )
        return self._layout

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know."""
        notes = list(self._survey.notes)
        if self._mapping is None:
            notes.append(
                "no mapping given, so times are in TDC counts and no hits can be made: name the "
                "panel, the coordinate and the pitch behind each range of channels in a "
                "[[strips]] table (docs/drivers.md)"
            )
        return tuple(notes)

    @property
    def run(self) -> Run:
        """The run; final when all chunks have been read. TDC data tell no live time."""
        name = self._files[0].name.split(".")[0]
        return Run(run_id=name, source="v1190", counts=dict(self._counts))

    def survey(self) -> Mapping[str, Any]:
        """Return occupancy, hot and dead channels and multiplicities of what was read so far.

        Reads all data first where nothing has been read yet.
        """
        if self._survey.triggers == 0:
            for _ in self._edges():
                pass
        return self._survey.facts()

    def chunks(self) -> Iterator[Hits]:
        """Yield the hits: one a cluster of neighbouring strips."""
        detector, plan = self.detector, self._plan
        assert plan is not None
        for first, edges, sources, triggers in self._edges():
            plan.know(sources, self._files[0])
            found = plan.hits(edges, self._counts)
            hits = Hits(
                event_id=(found.entry + first).astype(np.uint64),
                panel=found.panel,
                u=found.u,
                v=found.v,
                sigma_u=found.sigma_u,
                sigma_v=found.sigma_v,
                time=found.time,
                amplitude=np.full(len(found.entry), np.nan, np.float32),
                detector=detector,
            )
            self._counts["hits"] += len(hits)
            self._counts["triggers_without_hits"] += triggers - len(np.unique(found.entry))
            yield hits

    def _edges(self) -> Iterator[tuple[int, Edges, list[tuple[int, int]], int]]:
        """Yield edges some triggers at a time, with the number of triggers in the files before,
        the (module, channel) that their sources mean, and the number of triggers.
        """
        before = 0
        name = None if self._mapping is None else self._mapping.tree
        for number, path in enumerate(self._files):
            with open_tree(path, name) as tree:
                sources = _sources(tree)
                used = [f"Module{m}_LE_CH{c}" for m, c in sources]
                tree.check(used)
                for start, stop in tree.steps(used):
                    edges, multiplicity = _read_edges(tree, used, start, stop)
                    told = _told_multiplicity(tree, sources, start, stop)
                    self._survey.add(sources, multiplicity, edges.source, edges.counts, told)
                    self._counts["triggers"] += stop - start
                    self._counts["edges"] += len(edges.counts)
                    yield before, edges, sources, stop - start
                    if self._progress is not None:
                        self._progress("import", (number + stop / tree.entries) / len(self._files))
                before += tree.entries


def _sources(tree: Tree) -> list[tuple[int, int]]:
    """Return the modules and channels that a tree has edges of."""
    found = sorted({(int(m[1]), int(m[2])) for name in tree.names if (m := _EDGES.fullmatch(name))})
    found = [(m, c) for m, c in found if f"Module{m}_LE_CH{c}" in tree.names]
    if not found:
        raise InputError(
            tree.path,
            "the tree has no branch such as Module2_LE_CH0",
            "this driver reads leading edges of V1190 modules; for other trees there is 'root'",
        )
    return found


def _read_edges(
    tree: Tree, names: Sequence[str], start: int, stop: int
) -> tuple[Edges, NDArray[np.int64]]:
    """Return the edges of entries, and how many each entry has of each source (e, s)."""
    multiplicity = np.zeros((stop - start, len(names)), np.int64)
    values = []
    for number, name in enumerate(names):
        branch = tree.read(name, start, stop)
        multiplicity[:, number] = 1 if branch.counts is None else branch.counts
        values.append(branch.values.astype(np.int64))
    entry = np.concatenate(
        [np.repeat(np.arange(start, stop), multiplicity[:, i]) for i in range(len(names))]
    )
    source = np.repeat(np.arange(len(names)), multiplicity.sum(axis=0))
    count = np.concatenate(values)
    count[(count >= WRAPPED_FROM) & (count < COUNTER_RANGE)] -= COUNTER_RANGE
    order = np.argsort(entry, kind="stable")
    return Edges(entry[order], source[order], count[order]), multiplicity


def _told_multiplicity(
    tree: Tree, sources: Sequence[tuple[int, int]], start: int, stop: int
) -> NDArray[np.int64] | None:
    """Return the numbers of edges as the file tells them (e, s); -1 where it does not."""
    told = np.full((stop - start, len(sources)), -1, np.int64)
    known = False
    for module in {m for m, _ in sources}:
        name = f"Module{module}_HITS_PER_CHANNEL"
        if name not in tree.names:
            continue
        tree.check([name])
        branch = tree.read(name, start, stop)
        if branch.counts is None or not len(branch.counts) or np.ptp(branch.counts) > 0:
            continue
        table = branch.values.reshape(stop - start, -1)
        for column, (m, c) in enumerate(sources):
            if m == module and c < table.shape[1]:
                told[:, column] = table[:, c]
                known = True
    return told if known else None
