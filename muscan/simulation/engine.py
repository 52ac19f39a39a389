"""The simulation: muons from the sky through a scene into the panels' hits, chunk by chunk."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import engine as kernel
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits, MomentumMeasurements, Muons, Run
from muscan.model.flux import FluxModel, Intensity
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.scene import Scene, load_scene, with_fixed
from muscan.model.strips import StripRows
from muscan.simulation.response import build_response, empty_hits, hits_capacity
from muscan.simulation.source import make_source
from muscan.simulation.strips import build_strips, digitised, empty_signals
from muscan.simulation.world import build_world
from muscan.units import S_PER_MIN

#: Muons drawn in a chunk. Chance is keyed by the chunk, so that workers do not matter.
CHUNK = 65_536
DEFAULT_MINUTES = 5.0
#: The layout of a scene that names none.
DEFAULT_DETECTOR = "container-portal"
#: Names of what `muscan.kernels.engine` counts.
FATES = ("generated", "missed", "left", "stopped", "decayed", "stuck", "untriggered", "kept")

_Chunk = tuple[Hits, Muons, StripRows | None, NDArray[np.int64]]


class Simulation:
    """A simulation that is ready to run; making one checks everything it is given.

    Parameters
    ----------
    scene : str, Path or Scene
        What stands in the detector.
    detector : str, Path or Detector, optional
        The panels; by default the layout that the scene names.
    minutes : float, optional
        Exposure [min]; by default 5. The number of muons is a Poisson draw.
    muons : int, optional
        Instead: the number of muons that enter the box around everything.
    seed : int
        Where chance starts. The same seed gives the same events for any number of workers.
    flux : str, Path, FluxModel or callable
        As in `muscan.model.flux.load_flux`.
    scattering : {"moliere", "highland"}
        Law of multiple scattering.
    momentum_range : tuple of float
        Momenta of the muons [GeV].
    rate_scale : float
        Multiplies the flux, to match a measured rate.
    workers : int, optional
        Threads; by default one a core.
    materials : MaterialDatabase, optional
        By default the shipped one with the user's own.
    momentum_resolution : float, optional
        Relative standard deviation of a measured momentum, Gaussian; by default none is measured.
    trigger : {"incoming", "any"}
        What is recorded, as in `muscan.simulation.response.trigger_groups`.
    raw : bool
        Whether `chunks_with_raw` gives the raw channels of the panels' strips, too. The hits are
        the same with them and without.
    progress : callable, optional
        Called after each chunk with the muons done and the muons in all.

    Attributes
    ----------
    scene : Scene
        With what always stands in the detector.
    detector : Detector
    source : Source
    world : World
    run : Run
        Live time and origin, known before the first muon.
    n_muons : int
        Muons to draw.
    counts : ndarray, shape (8,) int64
        What became of the muons drawn so far, in the order of `FATES`; a simulated truth.
    elsewhere : callable, optional
        Yields the result of `chunk` for every chunk, in order, in place of this process's threads.

    Raises
    ------
    InputError
        If any of these is wrong, naming it.
    """

    def __init__(
        self,
        scene: str | Path | Scene,
        detector: str | Path | Detector | None = None,
        *,
        minutes: float | None = None,
        muons: int | None = None,
        seed: int = 0,
        flux: str | Path | FluxModel | Intensity = "guan2015",
        scattering: str = "moliere",
        momentum_range: tuple[float, float] = (0.1, 10_000.0),
        rate_scale: float = 1.0,
        workers: int | None = None,
        materials: MaterialDatabase | None = None,
        momentum_resolution: float | None = None,
        trigger: str = "incoming",
        raw: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        given = load_scene(scene, max(seed, 0))
        self.detector = load_detector(detector or given.detector or DEFAULT_DETECTOR)
        self.scene = with_fixed(given, self.detector)
        self.workers = workers if workers is not None else (os.cpu_count() or 1)
        if self.workers < 1:
            raise InputError("--workers", f"{workers} is not a number", "give 1 or more")
        if seed < 0:
            raise InputError("--seed", f"{seed} is negative", "give 0 or more")
        if momentum_resolution is not None and not 0 < momentum_resolution < 1:
            problem = f"{momentum_resolution} is not a relative resolution"
            raise InputError("momentum resolution", problem, "give a number between 0 and 1")
        self.momentum_resolution = momentum_resolution
        database = load_materials() if materials is None else materials
        self.world = build_world(self.scene, self.detector, database, scattering)
        self.source = make_source(self.world.bounds, flux, momentum_range, rate_scale=rate_scale)
        self.seed, self.progress = seed, progress
        self.n_muons, live_time = _exposure(minutes, muons, self.source.rate_hz, seed)
        self.run = Run(
            live_time,
            run_id=f"{self.scene.name}-{seed}",
            source="simulated",
            counts={"simulated_muons": self.n_muons},
        )
        self.counts = np.zeros(len(FATES), np.int64)
        self.elsewhere: Callable[[Simulation], Iterator[_Chunk]] | None = None
        self._response = build_response(self.detector, trigger)
        self._strips = build_strips(self.detector) if raw else None
        self._through = self._bodies_above_panels()

    def _bodies_above_panels(self) -> bool:
        """Whether a body may scatter muons into panels that trigger."""
        if self.scene.bounds is None:
            return False
        lowest = np.array([panel.corners()[:, 2].min() for panel in self.detector.panels])
        return bool((lowest[self._response.group >= 0] < self.scene.bounds[1, 2]).any())

    @property
    def live_time_s(self) -> float:
        """Time that the muons stand for [s]."""
        return self.run.live_time_s

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.n_muons // CHUNK)

    def statistics(self) -> dict[str, int]:
        """Return what became of the muons drawn so far, by name."""
        return dict(zip(FATES, self.counts.tolist(), strict=True))

    def chunks(self) -> Iterator[tuple[Hits, Muons]]:
        """Yield the recorded events and their muons, chunk by chunk, in order.

        Events are numbered from 0 over all chunks. The result depends on the seed and the number
        of muons, not on ``workers``; no more than a few chunks are in memory at a time.
        """
        for hits, muons, _ in self.chunks_with_raw():
            yield hits, muons

    def chunks_with_raw(self) -> Iterator[tuple[Hits, Muons, StripRows | None]]:
        """Yield as `chunks` does, with the raw channels of the same events if ``raw`` is set."""
        self.counts[:] = 0
        events = 0
        for done, (hits, muons, raw, counts) in enumerate(self._results(), start=1):
            self.counts += counts
            first = np.uint64(events)
            events += len(muons)
            yield _numbered(hits, first), replace(muons, event_id=muons.event_id + first), raw
            if self.progress is not None:
                self.progress(min(done * CHUNK, self.n_muons), self.n_muons)

    def _results(self) -> Iterator[_Chunk]:
        if self.elsewhere is not None:
            yield from self.elsewhere(self)
            return
        if self.workers == 1:
            yield from map(self.chunk, range(self.n_chunks))
            return
        pending: deque[Future[_Chunk]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for index in range(self.n_chunks):
                    pending.append(pool.submit(self.chunk, index))
                    if len(pending) > 2 * self.workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def chunk(self, index: int) -> _Chunk:
        """Simulate one chunk on its own: hits, muons, raw channels, fates; events from 0."""
        n = min(CHUNK, self.n_muons - index * CHUNK)
        seeds = np.random.SeedSequence(self.seed, spawn_key=(1, index))
        rng = np.random.Generator(np.random.PCG64(seeds))
        capacity = hits_capacity(self._response, n)
        hits = empty_hits(capacity)
        signals = empty_signals(capacity if self._strips is not None else 0)
        muons = kernel.MuonColumns(
            np.empty(n, np.uint64),
            np.empty(n, np.float32),
            np.empty(n, np.int8),
            np.empty((n, 3), np.float32),
            np.empty((n, 3), np.float32),
        )
        counts = np.zeros(len(FATES), np.int64)
        per_muon = self.live_time_s * 1e9 / self.n_muons
        world, start = self.world, index * CHUNK * per_muon
        n_hits, n_events = kernel.simulate_chunk(
            rng, self.source.tables, world.geometry, world.tables, world.per_x0, self._response,
            world.spread, self._through, start, n * per_muon,
            hits, signals, muons, counts,
        )  # fmt: skip
        kept = {name: column[:n_events].copy() for name, column in muons._asdict().items()}
        columns = {name: column[:n_hits].copy() for name, column in hits._asdict().items()}
        momenta = self._measure(rng, kept["event_id"], kept["momentum"])
        found = Hits(**columns, detector=self.detector, run=self.run, momenta=momenta)
        raw = None if self._strips is None else digitised(rng, self._strips, signals)
        return found, Muons(**kept), raw, counts

    def _measure(
        self, rng: np.random.Generator, event_id: NDArray[np.uint64], momentum: NDArray[np.float32]
    ) -> MomentumMeasurements | None:
        """Measure momenta, if the detector can, each with a Gaussian error."""
        if self.momentum_resolution is None:
            return None
        factor = 1 + self.momentum_resolution * rng.standard_normal(len(momentum))
        # A spectrometer does not report a momentum at or below zero.
        measured = (momentum * np.maximum(factor, 0.01)).astype(np.float32)
        sigma = (self.momentum_resolution * measured).astype(np.float32)
        return MomentumMeasurements(event_id, measured, sigma)


def simulate_chunks(
    scene: str | Path | Scene, detector: str | Path | Detector | None = None, **options: Any
) -> Iterator[tuple[Hits, Muons]]:
    """Yield the hits and the true muons of a simulation, chunk by chunk.

    Parameters
    ----------
    scene, detector, **options
        As in `Simulation`.
    """
    return Simulation(scene, detector, **options).chunks()


def _exposure(
    minutes: float | None, muons: int | None, rate_hz: float, seed: int
) -> tuple[int, float]:
    """Return the number of muons and the live time [s]."""
    if minutes is not None and muons is not None:
        raise InputError("--muons", "given together with --minutes", "give one of them")
    if muons is not None:
        if muons < 1:
            raise InputError("--muons", f"{muons} is not a number of muons", "give 1 or more")
        return muons, muons / rate_hz
    wanted = DEFAULT_MINUTES if minutes is None else minutes
    if not (np.isfinite(wanted) and wanted > 0):
        raise InputError("--minutes", f"{wanted} min is not an exposure", "give a positive time")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0,))))
    return max(int(rng.poisson(rate_hz * wanted * S_PER_MIN)), 1), wanted * S_PER_MIN


def _numbered(hits: Hits, first: np.uint64) -> Hits:
    """Return hits whose events are numbered from ``first``."""
    momenta = hits.momenta
    if momenta is not None:
        momenta = replace(momenta, event_id=momenta.event_id + first)
    return replace(hits, event_id=hits.event_id + first, momenta=momenta)
