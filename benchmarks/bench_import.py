"""How fast recorded data become hits and tracks: one command, fixed seeds, one table.

    python -m benchmarks.bench_import [--quick] [--million N]

``read`` is the driver alone, ``import`` also writes the hit file. ``wall`` is by the clock and
needs an idle machine; ``core`` is for a second of one core's own time, which a busy machine does
not change. ``--million N`` sends N million hits from a ROOT file through import and tracking
instead, and tells the memory that this took.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from muscan import pipeline
from muscan.io.drivers import open_source
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits
from muscan.tracking import find_tracks

LAYOUT = "blocks-lab"
RESOLUTION_MM = 0.3
ROUNDS = 3
#: Millions a second that are asked for; tracking with two cores.
WANTED = {"csv import": 1.0, "root import": 3.0, "track": 2.0, "track, 5 % noise hits": 0.3}


def events(detector: Detector, first: int, n: int, noise: float = 0.0) -> Hits:
    """Straight muons with a small kink through all six planes; the seed is ``first``."""
    rng = np.random.default_rng(first)
    z = detector.centres[:, 2]
    below = np.minimum(z, 0.0)
    at = rng.uniform(-900, 900, (n, 1, 2))
    slope, kink = rng.normal(0, 0.2, (n, 1, 2)), rng.normal(0, 0.005, (n, 1, 2))
    place = at + slope * (z[:, None]) + kink * below[:, None]
    place += rng.normal(0, RESOLUTION_MM, place.shape)
    event = np.repeat(np.arange(first, first + n, dtype=np.uint64), len(z))
    panel = np.tile(np.arange(len(z), dtype=np.uint16), n)
    u, v = place.reshape(-1, 2).T
    if noise:
        extra = np.flatnonzero(rng.random(len(event)) < noise)
        order = np.argsort(np.concatenate([event, event[extra]]), kind="stable")
        event, panel = (np.concatenate([c, c[extra]])[order] for c in (event, panel))
        u, v = (np.concatenate([c, rng.uniform(-2000, 2000, len(extra))])[order] for c in (u, v))
    sigma = np.full(len(event), RESOLUTION_MM, np.float32)
    return Hits(
        event, panel, u.astype(np.float32), v.astype(np.float32), sigma, sigma,
        event * 1e6, np.full(len(event), np.nan, np.float32), detector,
    )  # fmt: skip


def columns(hits: Hits) -> dict[str, np.ndarray]:
    centre = hits.detector.centres[hits.panel]
    return {
        "event_id": hits.event_id,
        "panel": hits.panel.astype(np.int32),
        "x_mm": (hits.u + centre[:, 0]).astype(np.float32),
        "y_mm": (hits.v + centre[:, 1]).astype(np.float32),
        "z_mm": centre[:, 2].astype(np.float32),
        "time_ns": hits.time,
    }


def write_root(path: Path, parts: Iterator[Hits]) -> None:
    import uproot

    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        tree = None
        for hits in parts:
            data = columns(hits)
            tree = tree or file.mktree("hits", {k: c.dtype for k, c in data.items()})
            tree.extend(data)


def write_root_jagged(path: Path, hits: Hits) -> None:
    import awkward
    import uproot

    counts = np.diff(np.flatnonzero(np.diff(hits.event_id, prepend=-1, append=-1)))
    flat = columns(hits)
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        jagged = [name for name in flat if name != "event_id"]
        types = {name: f"var * {flat[name].dtype}" for name in jagged}
        tree = file.mktree("hits", {"event_id": "uint64", **types})
        ids = np.unique(flat["event_id"])
        arrays = {name: awkward.unflatten(flat[name], counts) for name in jagged}
        for start in range(0, len(counts), 50_000):
            part = slice(start, start + 50_000)
            tree.extend({"event_id": ids[part], **{k: a[part] for k, a in arrays.items()}})


def write_csv(path: Path, hits: Hits) -> None:
    data = columns(hits)
    formats = ["%d", "%d", "%.3f", "%.3f", "%.1f", "%.1f"]
    table = np.column_stack(list(data.values()))
    np.savetxt(path, table, fmt=formats, delimiter=",", header=",".join(data), comments="")


def measure(name: str, n: int, unit: str, work: Callable[[], object]) -> None:
    """Print the best of a few rounds, after one that compiles."""
    work()
    walls, cores = [], []
    for _ in range(ROUNDS):
        wall, core = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    wall, core = min(walls), min(cores)
    wanted = WANTED.get(name)
    aim = f"   wanted {wanted:g}" if wanted else ""
    print(
        f"{name:24s} {n / wall / 1e6:7.2f} wall {n / core / 1e6:7.2f} core  million {unit}/s{aim}"
    )


def speeds(folder: Path, n: int) -> None:
    detector = load_detector(LAYOUT)
    hits = events(detector, 0, n)
    files = {name: folder / f"{name}.data" for name in ("csv", "root", "root jagged")}
    write_csv(files["csv"], hits)
    pieces = range(0, len(hits), 600_000)
    write_root(files["root"], (hits.take(slice(i, i + 600_000)) for i in pieces))
    write_root_jagged(files["root jagged"], hits)
    for name, path in files.items():
        driver = name.split()[0]

        def read(driver: str = driver, path: Path = path) -> None:
            for _ in open_source(driver, [path], detector=detector).chunks():
                pass

        def whole(driver: str = driver, path: Path = path) -> None:
            pipeline.import_hits(path, driver=driver, detector=detector, output=folder / "o.h5")

        measure(f"{name} read", len(hits), "hits", read)
        measure(f"{name} import", len(hits), "hits", whole)
    measure("track", n, "events", lambda: find_tracks(hits))
    noisy = events(detector, 0, n, noise=0.05)
    measure("track, 5 % noise hits", n, "events", lambda: find_tracks(noisy))


def many(folder: Path, million: float) -> None:
    """Send many hits through import and tracking, and tell time and memory of each step."""
    detector = load_detector(LAYOUT)
    total, step = int(million * 1e6 / 6), 200_000
    data, hits, tracks = (folder / name for name in ("many.root", "hits.h5", "tracks.h5"))
    steps: dict[str, Callable[[], object]] = {
        "write the ROOT file": lambda: write_root(
            data, (events(detector, i, min(step, total - i)) for i in range(0, total, step))
        ),
        "import": lambda: pipeline.import_hits(data, driver="root", detector=detector, output=hits),
        "track": lambda: pipeline.track(hits, output=tracks),
    }
    for name, work in steps.items():
        begin = time.perf_counter()
        work()
        spent = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:24s} {6 * total / spent / 1e6:7.2f} million hits/s, {spent:6.1f} s, "
              f"most memory so far {peak:5.0f} MB", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the events")
    parser.add_argument(
        "--million", type=float, help="hits to import and track, in constant memory"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if options.million:
            many(Path(folder), options.million)
        else:
            speeds(Path(folder), 100_000 if options.quick else 500_000)


if __name__ == "__main__":
    main()
