"""muograph's part of the comparison; `benchmarks.bench_peers` runs it in muograph's environment.

    python peer_muograph.py HITS.csv OUT.npz --voxel 20 20 20 --methods poca bca --repeats 2

It knows nothing of muscan. Parameters are those of muograph 0.1.22's own tests; momenta are not
used, and all muons of the file are. ``OUT.npz`` gets a volume a method, and the times as JSON on
the last line of the output.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from muograph.hits.hits import Hits
from muograph.reconstruction.asr import ASR, ASRParams
from muograph.reconstruction.binned_clustered import BCA, BCAParams
from muograph.reconstruction.poca import POCA, POCAParams
from muograph.tracking.tracking import Tracking, TrackingMST
from muograph.volume.volume import Volume

CENTRE_MM, SIZE_MM = (0.0, 0.0, -1200.0), (1000.0, 600.0, 600.0)
DEGREE = math.pi / 180


def read(path: str) -> tuple[Hits, Hits]:
    sides = []
    for planes in ((0, 1, 2), (3, 4, 5)):
        hits = Hits(plane_labels=planes, data=path, input_unit="mm")
        _ = hits.reco_hits, hits.E  # both are made when first used
        sides.append(hits)
    return sides[0], sides[1]


def track(sides: tuple[Hits, Hits]) -> TrackingMST:
    above, below = (
        Tracking(label=label, hits=hits)
        for label, hits in zip(("above", "below"), sides, strict=True)
    )
    tracks = TrackingMST(trackings=(above, below))
    _ = tracks.dtheta
    return tracks


def poca(tracks: TrackingMST, volume: Volume) -> dict[str, torch.Tensor]:
    made = POCA(tracking=tracks, voi=volume)
    made.params = POCAParams()
    return {"poca": made.xyz_voxel_pred, "poca, vertices": made.n_poca_per_vox}


def bca(tracks: TrackingMST, volume: Volume) -> dict[str, torch.Tensor]:
    made = BCA(tracking=tracks, voi=volume)
    made.params = BCAParams(
        n_max_per_vox=20,
        n_min_per_vox=3,
        score_method=partial(torch.quantile, q=0.5),
        metric_method=partial(torch.log),
        p_range=(0, 1_000_000),
        dtheta_range=(0.05 * DEGREE, 20 * DEGREE),
    )
    return {"bca": made.xyz_voxel_pred}


def asr(tracks: TrackingMST, volume: Volume) -> dict[str, torch.Tensor]:
    made = ASR(tracking=tracks, voi=volume)
    made.params = ASRParams(
        score_method=partial(np.quantile, q=0.8),
        p_range=(0.0, 1e7),
        dtheta_range=(0.1 * DEGREE, 10 * DEGREE),
        use_p=False,
    )
    return {"asr": made.xyz_voxel_pred}


METHODS: dict[str, Callable[[TrackingMST, Volume], dict[str, torch.Tensor]]] = {
    "poca": poca,
    "bca": bca,
    "asr": asr,
}


def best(work: Callable[[], Any], repeats: int) -> tuple[Any, dict[str, float]]:
    """Return what work gives, and the least wall and processor time [s] of some repeats."""
    wall, cpu = math.inf, math.inf
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        result = work()
        wall = min(wall, time.perf_counter() - start[0])
        cpu = min(cpu, time.process_time() - start[1])
    return result, {"wall_s": wall, "cpu_s": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hits")
    parser.add_argument("output")
    parser.add_argument("--voxel", type=float, nargs=3, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, required=True)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    times: dict[str, dict[str, float]] = {}
    sides, times["read"] = best(lambda: read(options.hits), 2)
    tracks, times["track"] = best(lambda: track(sides), 2)
    volumes: dict[str, np.ndarray] = {}
    for name in options.methods:
        # A fresh volume each time: it keeps its voxels' edges, which are part of the work.
        made, times[name] = best(
            lambda name=name: METHODS[name](
                tracks, Volume(CENTRE_MM, SIZE_MM, tuple(options.voxel))
            ),
            options.repeats,
        )
        volumes.update({key: value.detach().cpu().numpy() for key, value in made.items()})
    np.savez(options.output, **volumes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print()
    print(json.dumps({"times": times, "muons": tracks.n_mu, "peak_mb": peak,
                      "torch": torch.__version__}))  # fmt: skip


if __name__ == "__main__":
    main()
