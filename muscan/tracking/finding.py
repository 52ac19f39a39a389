"""Hits to one incoming and one outgoing straight track an event."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from muscan.errors import InputError
from muscan.kernels.candidates import HitColumns, new_candidates, new_event_hits
from muscan.kernels.line_fit import IntArray
from muscan.kernels.track_finding import (
    COUNT_NAMES,
    Found,
    Planes,
    close_gaps,
    event_starts,
    find_in_events,
)
from muscan.model.detector import Detector
from muscan.model.events import Array, Hits, MomentumMeasurements, Tracks
from muscan.tracking.planes import arrange

#: Events in a chunk of work; fixed, so that results do not depend on the number of workers.
CHUNK_EVENTS = 32768
#: Default limit on χ² per degree of freedom. With two degrees 1 in 400 muons exceeds it, and is
#: then tried as a slower one.
MAX_CHI2_PER_DOF = 6.0


def find_tracks(
    hits: Hits,
    *,
    detector: Detector | None = None,
    max_chi2_per_dof: float = MAX_CHI2_PER_DOF,
    workers: int | None = None,
) -> Tracks:
    """Fit one incoming and one outgoing straight track to the hits of each event.

    In each group of panels every combination of hits, at most one a panel, is fitted by weighted
    least squares with the scattering in the panels and in the air between them as process noise
    (`muscan.kernels.line_fit`). What fails is tried as a slower muon, then with hits left out
    (`muscan.kernels.candidates`). Of several good candidates those of the two groups are chosen
    that go best together. The muon falls, so the group that it met first has the incoming track;
    with more than two groups, the first and the last along the way count. An incoming track
    alone is kept, because the muon may have stopped.

    Parameters
    ----------
    hits : Hits
        Rows of an event adjacent.
    detector : Detector, optional
        A (corrected) layout instead of that of the hits; same panels, same order.
    max_chi2_per_dof : float
        Largest χ² per degree of freedom for a muon of any momentum from 1/27 of the reference
        momentum (3 GeV, the median at sea level) on. A track of two planes with both coordinates
        is exact and always passes.
    workers : int, optional
        Threads; all cores unless given. The result does not depend on it.

    Returns
    -------
    Tracks
        ``position`` is where the track meets the innermost plane of its group (to the correction
        by the fit, about a resolution); ``cov`` holds there, with the scattering in that panel.
        ``cov`` and ``chi2`` are those of a muon of the reference momentum, as a scattering
        density is: the panels' part of ``cov`` goes with 1/p², so that it is too small for slower
        muons, and ``chi2`` is large for them.
        ``run.counts`` tells what became of the ``events``: ``in_and_out`` and ``incoming_only``
        are kept; ``no_incoming_track``, ``too_few_hits``, ``too_many_hits``, ``bad_chi2`` and
        ``unmatched`` (two tracks that cannot be one muon's) are not. Of those kept,
        ``ambiguous`` had two choices nearly as good, ``several_muons`` a second track of other
        hits, ``hits_left_out`` hits on no track, and ``slow_muons`` a track that passes only as
        that of a slower muon.

    Raises
    ------
    InputError
        If an option is not positive, a material is not known, or the detector has not the panels
        of the hits.
    """
    if not max_chi2_per_dof > 0:
        raise InputError("max_chi2_per_dof", f"{max_chi2_per_dof} is not positive")
    if workers is not None and workers < 1:
        raise InputError("--workers", f"{workers} is not a number of threads", "give 1 or more")
    layout = hits.detector if detector is None else detector
    if len(layout.panels) != len(hits.detector.panels):
        raise InputError(
            layout.name,
            f"has {len(layout.panels)} panels, the hits were recorded with "
            f"{len(hits.detector.panels)}",
            "give the same panels in the same order",
        )
    planes = arrange(layout)
    columns = HitColumns(
        *(np.ascontiguousarray(c) for c in (hits.panel, hits.u, hits.v, hits.sigma_u, hits.sigma_v))
    )
    starts = event_starts(np.ascontiguousarray(hits.event_id))
    event_ids = hits.event_id[starts[:-1]]
    measured, sigma = _momenta(event_ids, hits.momenta)
    found, counts = _find(planes, columns, starts, max_chi2_per_dof, workers)
    named = {name: int(count) for name, count in zip(COUNT_NAMES, counts, strict=True)}
    return Tracks(
        event_id=event_ids[found.event],
        **{name: getattr(found, name) for name in Found._fields if name != "event"},
        momentum=measured[found.event],
        sigma=sigma[found.event],
        detector=layout,
        run=hits.run.counting(events=len(event_ids), **named),
    )


def _find(
    planes: Planes,
    hits: HitColumns,
    starts: IntArray,
    max_chi2: float,
    workers: int | None,
) -> tuple[Found, IntArray]:
    """Find the tracks of all events, chunk by chunk on threads."""
    n = len(starts) - 1
    begins = np.arange(0, n, CHUNK_EVENTS, dtype=np.int64)
    out = _empty(2 * n)
    counts = np.zeros((len(begins), len(COUNT_NAMES)), dtype=np.int64)

    def work(chunk: int) -> int:
        begin = int(begins[chunk])
        end = min(begin + CHUNK_EVENTS, n)
        rows: int = find_in_events(
            planes,
            hits,
            starts,
            begin,
            end,
            max_chi2,
            new_event_hits(len(planes.table)),
            new_candidates(len(planes.inward), len(planes.table)),
            out,
            counts[chunk],
        )
        return rows

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        lengths = np.array(list(pool.map(work, range(len(begins)))), dtype=np.int64)
    rows = close_gaps(out, 2 * begins, lengths)
    return Found._make(column[:rows] for column in out), counts.sum(axis=0)


def _empty(rows: int) -> Found:
    return Found(
        event=np.empty(rows, np.int64),
        side=np.empty(rows, np.int8),
        position=np.empty((rows, 3), np.float32),
        direction=np.empty((rows, 3), np.float32),
        cov=np.empty((rows, 4, 4), np.float32),
        chi2=np.empty(rows, np.float32),
        ndof=np.empty(rows, np.int16),
        n_hits=np.empty(rows, np.uint8),
    )


def _momenta(event_ids: Array, momenta: MomentumMeasurements | None) -> tuple[Array, Array]:
    """Return the measured momentum of each event and its standard deviation, NaN where none."""
    measured = np.full(len(event_ids), np.nan, np.float32)
    sigma = measured.copy()
    if momenta is not None and len(momenta):
        order = np.argsort(momenta.event_id, kind="stable")
        known = momenta.event_id[order]
        place = np.minimum(np.searchsorted(known, event_ids), len(known) - 1)
        has = known[place] == event_ids
        measured[has] = momenta.momentum[order[place[has]]]
        sigma[has] = momenta.sigma[order[place[has]]]
    return measured, sigma
