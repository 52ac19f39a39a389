"""What a scan costs, and what processes and a Dask cluster gain or lose: one command, one table.

    python -m benchmarks.bench_scale [--quick] [--minutes 5] [--scans 6] [--only simulate,em]

Run it on a machine that does nothing else: it measures wall time. ``--quick`` is for trying it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

import muscan
from muscan.model.events import Scatters, Tracks, pair_tracks
from muscan.model.volume import VoxelGrid
from muscan.pipeline.distributed import connect
from muscan.reconstruction.muons import prepare
from muscan.studies import study

if TYPE_CHECKING:
    from distributed import Client

Row = tuple[str, str]


def timed(
    work: Callable[[], Any], times: int = 2, cpu: Callable[[], float] = time.process_time
) -> tuple[float, float]:
    """Return the shortest of a few wall times and of as many processor times [s]."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter(), cpu()
        work()
        seconds.append((time.perf_counter() - start[0], cpu() - start[1]))
    wall, used = zip(*seconds, strict=True)
    return min(wall), min(used)


def on_clusters(name: str, work: Callable[..., Any], counts: tuple[int, ...]) -> list[Row]:
    """Compare one thread with clusters of processes of one thread each.

    Processor time, of the client and its workers together, tells of the overhead also where the
    machine is busy.
    """
    work(workers=1)
    alone, alone_cpu = timed(lambda: work(workers=1))
    rows = [(f"{name}, one thread [s]", f"{alone:.2f}")]
    first = alone
    for count in counts:
        with connect(f"local:{count}") as client:

            def cpu(client: Client = client) -> float:
                there = client.run(time.process_time)
                return time.process_time() + sum(there.values())

            work(client=client)  # the workers load what is compiled
            seconds, used = timed(lambda client=client: work(client=client), cpu=cpu)
        extra = used / alone_cpu - 1
        if count == counts[0]:
            first = seconds
            told = f"{seconds / alone - 1:+.0%} wall, {extra:+.0%} processor time"
            rows.append((f"{name}, cluster of one over one thread", told))
        else:
            told = f"{first / seconds:.2f} × as fast, {extra:+.0%} processor time"
            rows.append((f"{name}, cluster of {count}", told))
    return rows


def simulation(minutes: float, counts: tuple[int, ...]) -> list[Row]:
    def work(**options: Any) -> None:
        muscan.simulate("container", minutes=minutes, seed=1, **options)

    rows = on_clusters(f"simulate container, {minutes:g} min", work, counts)
    hits = muscan.simulate("container", minutes=minutes, seed=1)
    muons = hits.run.counts["simulated_muons"]
    seconds, _ = timed(lambda: work(workers=1))
    stored = sum(column.nbytes for column in hits.columns().values())
    return [
        *rows,
        ("simulate container [thousand muons/s a core]", f"{muons / seconds / 1e3:.0f}"),
        ("hits in memory [bytes a simulated muon]", f"{stored / muons:.0f}"),
    ]


def reconstruction(tracks: Tracks, method: str, voxel: float, counts: tuple[int, ...]) -> list[Row]:
    def work(**options: Any) -> None:
        muscan.reconstruct(tracks, method=method, voxel=voxel, **options)

    n = len(pair_tracks(tracks))
    return on_clusters(f"{method}, {n} muons, {voxel:g} mm voxels", work, counts)


def growth(tracks: Tracks, quick: bool) -> list[Row]:
    """Processor time of a reconstruction against muons and voxels: slopes on logarithmic axes."""
    rows: list[Row] = []
    shares = (0.1, 0.3, 1.0)
    voxels = (200.0, 100.0, 50.0) if quick else (100.0, 50.0, 30.0)
    for method in ("poca", "em"):
        events = np.unique(tracks.event_id)
        seconds = []
        for share in shares:
            part = tracks.take(tracks.event_id <= events[int(share * len(events)) - 1])
            seconds.append(timed(lambda p=part, m=method: muscan.reconstruct(p, method=m), 1)[1])
        rows.append((f"{method}: time grows with muons to the", f"{_slope(shares, seconds):.2f}"))
        seconds = [
            timed(lambda v=v, m=method: muscan.reconstruct(tracks, method=m, voxel=v), 1)[1]
            for v in voxels
        ]
        numbers = [1 / v**3 for v in voxels]
        rows.append((f"{method}: time grows with voxels to the", f"{_slope(numbers, seconds):.2f}"))
    grid = VoxelGrid.from_bounds(tracks.detector.bounds, 50)  # type: ignore[union-attr]
    scatters: Scatters = pair_tracks(tracks)
    kept = prepare(scatters, grid, "spectrum", tracks.detector)
    held = sum(a.nbytes for a in (*kept.paths, *kept.observed))
    sent = sum(column.nbytes for column in scatters.columns().values())
    return [
        *rows,
        ("scatters sent to a cluster [bytes a muon]", f"{sent / len(scatters):.0f}"),
        ("em, 50 mm voxels, kept by workers [bytes a muon]", f"{held / len(kept):.0f}"),
    ]


def _slope(x: Any, y: Any) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def scans(number: int, exposures: list[float], counts: tuple[int, ...]) -> list[Row]:
    """A study of whole scans, on clusters and by processes."""
    rows: list[Row] = []
    first = 0.0
    for count in (*counts, -counts[-1]):
        cluster = connect(f"local:{count}") if count > 0 else nullcontext()
        with TemporaryDirectory() as folder, cluster as client:
            options: dict[str, Any] = {"scenes": ["uniform-0.6"], "exposures": exposures}
            warm = {**options, "scans": max(abs(count), 1), "seed": 99}
            study("calibrate", output=Path(folder) / "w", client=client, **warm)
            start = time.perf_counter()
            made = study(
                "calibrate",
                output=Path(folder) / "s",
                scans=number,
                workers=-count if count < 0 else None,
                client=client,
                **options,
            )
            seconds = time.perf_counter() - start
        what = f"cluster of {count}" if count > 0 else f"{-count} processes"
        first = first or seconds
        rows.append((f"{number} scans, {what} [s]", f"{seconds:.1f} ({first / seconds:.2f} ×)"))
        rows.append((f"processor time of a scan, {what} [s]", f"{made.seconds_per_scan:.1f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="half a minute of muons, two scans")
    parser.add_argument("--minutes", type=float, default=5.0, help="exposure of the large scan")
    parser.add_argument("--scans", type=int, default=6, help="scans of the small campaign")
    parser.add_argument("--only", default="", metavar="NAME,…",
                        help="of simulate, poca, em, growth, scans")  # fmt: skip
    options = parser.parse_args()
    minutes, number = (0.5, 2) if options.quick else (options.minutes, options.scans)
    counts = tuple(n for n in (1, 2, 4, 8) if n <= (os.cpu_count() or 1))
    jobs: dict[str, Callable[[Tracks], list[Row]]] = {
        "simulate": lambda _: simulation(minutes, counts),
        "poca": lambda tracks: reconstruction(tracks, "poca", 20.0, counts),
        "em": lambda tracks: reconstruction(tracks, "em", 50.0, counts),
        "growth": lambda tracks: growth(tracks, options.quick),
        "scans": lambda _: scans(number, [20.0] if options.quick else [30.0, 60.0], counts),
    }
    names = [name for name in options.only.split(",") if name] or list(jobs)
    for name in names:
        if name not in jobs:
            parser.error(f"nothing is called '{name}': there are {', '.join(jobs)}")
    tracks = muscan.track(muscan.simulate("container", minutes=minutes, seed=1))
    if set(names) & {"em", "growth", "scans"}:
        muscan.reconstruct(tracks, method="em", voxel=200)  # compiles
    print(f"| on {os.cpu_count()} cores | value |\n|---|---|")
    for name in names:
        for figure, value in jobs[name](tracks):
            print(f"| {figure} | {value} |", flush=True)


if __name__ == "__main__":
    main()
