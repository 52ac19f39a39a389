"""Verbs on the detector itself: align, calibrate, quality."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from muscan import io
from muscan.calibration.alignment import Alignment, find_alignment
from muscan.calibration.facts import alignment_notes, response_notes
from muscan.calibration.quality import (
    Monitor,
    describe_panel,
    first_events,
    order_checks,
    panel_checks,
    rate_checks,
    track_checks,
    untried_check,
)
from muscan.calibration.relayout import with_layout
from muscan.calibration.response import PanelResponse, corrected, measure_responses
from muscan.errors import InputError, MissingExtraError
from muscan.model.acceptance import panel_rates
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits, join_hits
from muscan.model.flux import load_flux
from muscan.model.layout_text import layout_text
from muscan.model.quality import Limits, Quality, load_limits
from muscan.pipeline.common import PathLike, Progress, naming

#: Hits read at most: enough for a per mille of everything, and 0.5 GB in memory.
MOST_HITS = 10_000_000
#: Hits of all pieces, and of one, on which quality tries panels and tracks.
SAMPLE_HITS, PIECE_HITS = 1_500_000, 500_000


@dataclass(frozen=True)
class Calibration:
    """What was measured of a detector's panels.

    Attributes
    ----------
    detector : Detector
        The layout with the measured responses.
    panels : tuple of PanelResponse
        One a panel, in order.
    """

    detector: Detector
    panels: tuple[PanelResponse, ...]


def align(
    hits: PathLike | Hits,
    *,
    detector: PathLike | Detector | None = None,
    reference: Sequence[str] = (),
    max_tracks: int = 50_000,
    output: PathLike | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """Find where the panels are, from straight tracks.

    Parameters
    ----------
    hits : path or Hits
        Of an empty scan, or one with little in it.
    detector : str, Path or Detector, optional
        The layout to start from; the one stored with the hits unless given.
    reference : sequence of str
        Panels to hold where they are. Modes that straight tracks cannot see are held anyway.
    max_tracks : int
        Tracks to use at most.
    output : path, optional
        Corrected layout to write.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Alignment
        With the corrected layout, corrections, their errors, and what was held.

    Raises
    ------
    InputError
        If the hits are unsound, or too few events have a track.
    """
    if output is not None:
        io.spare(Path(output), hits)
    with naming("hits", hits):
        found = find_alignment(
            _some_hits(hits, detector),
            reference=reference,
            max_tracks=max_tracks,
            tell=_step("align", progress),
        )
    notes, by_panel = alignment_notes(found)
    text = layout_text(found.detector, notes=notes, panel_notes=by_panel)
    if output is not None:
        io.write_text(Path(output), text)
    return replace(found, detector=replace(found.detector, text=text))


def calibrate(
    hits: PathLike | Hits,
    *,
    detector: PathLike | Detector | None = None,
    flux: str = "guan2015",
    output: PathLike | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measure the panels' efficiency, resolution, noise, dead and hot channels.

    Parameters
    ----------
    hits : path or Hits
        Of any scan.
    detector : str, Path or Detector, optional
        The (aligned) layout; the one stored with the hits unless given.
    flux : str
        Flux model, for the momenta behind the scattering in the residuals.
    output : path, optional
        Corrected layout to write.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If the hits are unsound, or no panel can be tried by others.
    """
    if output is not None:
        io.spare(Path(output), hits)
    some = _some_hits(hits, detector)
    layout = some.detector
    panels = measure_responses(some, flux=flux, tell=_step("calibrate", progress))
    if not any(panel.probes for panel in panels):
        raise InputError(
            hits if isinstance(hits, (str, Path)) else layout.name,
            "no muon is seen by enough other panels to try one",
            "align first (muscan align), or give the layout of the hits",
        )
    result = corrected(layout, panels)
    notes, by_panel = response_notes(panels)
    text = layout_text(result, notes=notes, panel_notes=by_panel)
    if output is not None:
        io.write_text(Path(output), text)
    return Calibration(replace(result, text=text), panels)


def quality(
    hits: PathLike | Hits,
    *,
    detector: PathLike | Detector | None = None,
    flux: str = "guan2015",
    limits: PathLike | Limits | None = None,
    output: PathLike | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Judge whether a scan's data are sound.

    Rates, order and gaps are those of all hits; efficiencies, residuals, noise and χ² those of
    the first `SAMPLE_HITS` or so, taken from the beginning of each piece that is read.

    Parameters
    ----------
    hits : path or Hits
        Of any scan.
    detector : str, Path or Detector, optional
        The (aligned, calibrated) layout; the one stored with the hits unless given.
    flux : str
        Flux model, for the rates to expect.
    limits : path or Limits, optional
        A TOML file with other limits than the usual ones.
    output : path, optional
        Folder for ``quality.json``, and ``quality.html`` where the extra ``report`` is installed.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Quality
        With the verdict and its reasons.

    Raises
    ------
    InputError
        If the hits cannot be read, or the layout, the flux or the limits are wrong.
    """
    from muscan.tracking import find_tracks

    bounds = limits if isinstance(limits, Limits) else load_limits(_path(limits))
    model = load_flux(flux)
    tell = _step("quality", progress)
    monitor, sample = _watch(hits, detector)
    layout = monitor.detector
    responses = measure_responses(sample, detector=layout, flux=flux, resolution=False, tell=tell)
    tracks = find_tracks(sample)
    over = tracks.ndof > 0
    chi2 = (tracks.chi2[over] / tracks.ndof[over]).astype(float)
    live = sample.run.live_time_s
    checks = order_checks(monitor, live, bounds)
    wanted = np.full(len(layout.panels), np.nan)
    if np.isfinite(live) and live > 0:
        more, wanted = rate_checks(monitor, panel_rates(layout, model), live, bounds)
        checks += more
    for panel, found in zip(layout.panels, responses, strict=True):
        checks += panel_checks(panel, found, bounds)
    checks += untried_check(layout, responses, monitor.events, bounds)
    checks += track_checks(chi2, tracks.run.counts, bounds)
    result = Quality(
        checks=tuple(checks),
        panels=tuple(
            describe_panel(monitor, index, found, live, float(wanted[index]))
            for index, found in enumerate(responses)
        ),
        facts=_facts(monitor, sample, flux),
        seconds=monitor.seconds,
        interval_s=1.0,
        chi2=chi2,
    )
    if output is not None:
        _write_quality(result, Path(output))
    return result


def _watch(hits: PathLike | Hits, detector: PathLike | Detector | None) -> tuple[Monitor, Hits]:
    """Return what was counted of all hits, and a sample of them."""
    monitor: Monitor | None = None
    parts: list[Hits] = []
    for piece in _pieces(hits, detector):
        if monitor is None:
            monitor = Monitor(piece.detector)
        monitor.add(piece)
        room = SAMPLE_HITS - sum(map(len, parts))
        if room > 0:
            parts.append(first_events(piece, min(room, PIECE_HITS)))
    if monitor is None:
        raise InputError("hits", "there are none")
    return monitor, parts[0] if len(parts) == 1 else join_hits(parts)


def _facts(monitor: Monitor, sample: Hits, flux: str) -> dict[str, object]:
    live = sample.run.live_time_s
    gaps = monitor.longest_gaps
    return {
        "detector": monitor.detector.name,
        "run": sample.run.run_id,
        "source": sample.run.source,
        "start": sample.run.start_time,
        "live_time_s": live if np.isfinite(live) else None,
        "events": monitor.events,
        "hits": int(monitor.hits.sum()),
        "hits_sampled": len(sample),
        "longest_gap_s": float(f"{gaps.max() * 1e-9:.4g}") if len(gaps) else None,
        "flux": flux,
    }


def _write_quality(result: Quality, folder: Path) -> None:
    text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    with io.result_folder(folder), suppress(MissingExtraError):
        io.write_text(folder / "quality.json", text + "\n")
        from muscan.reporting.quality import render_quality

        io.write_text(folder / "quality.html", render_quality(result))


def _path(limits: PathLike | None) -> Path | None:
    return None if limits is None else Path(limits)


def _pieces(hits: PathLike | Hits, detector: PathLike | Detector | None) -> Iterator[Hits]:
    """Yield the hits piece by piece, with another layout where one is given."""
    layout = None if detector is None else load_detector(detector)
    for piece in [hits] if isinstance(hits, Hits) else io.iter_hits(Path(hits)):
        yield piece if layout is None else with_layout(piece, layout)


def _some_hits(hits: PathLike | Hits, detector: PathLike | Detector | None) -> Hits:
    """Return the hits, of a long file its first `MOST_HITS` or so."""
    parts: list[Hits] = []
    for part in _pieces(hits, detector):
        parts.append(part)
        if sum(map(len, parts)) >= MOST_HITS:
            break
    return parts[0] if len(parts) == 1 else join_hits(parts)


def _step(name: str, progress: Progress | None) -> Callable[[float], None] | None:
    if progress is None:
        return None
    return lambda fraction: progress(name, fraction)
