"""A scan of all boxes of a few sizes for what scatters more than the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from muscan.kernels.lattice import LEVELS, PART, Lattice, lattice_ratios
from muscan.model.region import Candidate
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.ways import TracedMuons
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Edges of the cubes that a scan tries [mm].
SIZES: Final = (100.0, 200.0, 400.0)
#: Distance of their middles, as parts of an edge across and along z, and the least along z [mm].
#: Where along its path a muon scattered shows better the more muons there are: of a 400 mm cube
#: seen by 80 nats half are left 50 mm above it, and none 100 mm.
PITCH: Final = 0.25
LEAST_PITCH_MM: Final = 50.0
#: The largest of the densities above the background's that it tries for 100 mm [mrad²/cm], and
#: how fast it falls with the edge: more muons cross more of a larger box, so that less of an
#: increase is seen. For 100 mm aluminium to uranium are tried, for 400 mm goods in goods to
#: loosely packed iron.
LARGEST_INCREASE: Final = 70.0
FALL: Final = 1.5
#: Least log likelihood ratio of a candidate [nats], and most candidates of a scan.
THRESHOLD: Final = 8.0
MOST_CANDIDATES: Final = 60
#: Of more muons than this, a scan for cubes of 100 mm uses every second, third, …: a minute of a
#: container shows what is worth a fit, and the fit has them all. For larger cubes in fewer layers
#: it uses more in proportion. A candidate then needs so large a log ratio of the muons used.
SCAN_MUONS: Final = 150_000
THRESHOLD_OF_PART: Final = 6.0
#: A scan takes muons that are this near halfway one after the other [mm].
SCAN_PATCH: Final = 250.0


def scan(
    muons: TracedMuons,
    bins: NDArray[np.float32],
    base: FloatArray,
    grid: VoxelGrid,
    threshold: float = THRESHOLD,
    sizes: Sequence[float] = SIZES,
    workers: int | None = None,
) -> list[Candidate]:
    """Return boxes that scatter more than the background, the surest first.

    Of the cubes of each size on a lattice the local maxima count, and of overlapping ones only the
    surest. Of many muons a part is used, and the log ratio of all is estimated from it.

    Parameters
    ----------
    muons : TracedMuons
    bins : ndarray, shape (n, BINS, 4)
        What they cross in the background, see `muscan.reconstruction.crossed`.
    base : ndarray, shape (n,)
        Their log densities in it.
    grid : VoxelGrid
        Its extent is scanned.
    threshold : float
        Least log likelihood ratio [nats].
    sizes : sequence of float
        Edges of the cubes [mm].
    workers : int, optional
        Threads.
    """
    found: list[Candidate] = []
    for size in sizes:
        pitch = float(size) * np.full(3, PITCH)
        pitch[2] = max(pitch[2], LEAST_PITCH_MM)
        step = 1 + int(len(base) / (SCAN_MUONS * pitch[2] / LEAST_PITCH_MM))
        least = threshold if step == 1 else max(threshold, step * THRESHOLD_OF_PART)
        found += _cubes(muons, bins, base, grid, float(size), pitch, step, least, workers)
    found.sort(key=lambda candidate: -candidate.log_ratio)
    kept: list[Candidate] = []
    for candidate in found:
        if not any(_overlap(candidate.bounds, other.bounds) for other in kept):
            kept.append(candidate)
            if len(kept) == MOST_CANDIDATES:
                break
    return kept


def _cubes(
    muons: TracedMuons,
    bins: NDArray[np.float32],
    base: FloatArray,
    grid: VoxelGrid,
    size: float,
    pitch: FloatArray,
    step: int,
    least: float,
    workers: int | None,
) -> list[Candidate]:
    """Return the local maxima over the cubes of one size, of every so many muons."""
    largest = LARGEST_INCREASE * (SIZES[0] / size) ** FALL
    increases = min(largest, LARGEST_INCREASE) * PART ** np.arange(LEVELS)[::-1]
    extent = grid.upper - grid.lower
    shape = np.maximum(np.floor((extent - size) / pitch + 1e-9), 0).astype(np.int64) + 1
    cubes = Lattice(grid.lower + size / 2, pitch, shape, size / 2)
    rows = _by_patches(muons, grid, step)
    count = lanes.lane_count(8 * int(shape.prod()) * len(increases))
    shares = lanes.bounds(len(rows), count)
    sums = [np.zeros((shape[2], shape[0], shape[1], len(increases))) for _ in range(count)]

    def work(lane: int) -> None:
        lattice_ratios(
            muons.ways, bins, muons.momenta, base, cubes, increases / MM_PER_CM,
            rows[slice(*shares[lane])], sums[lane],
        )  # fmt: skip

    lanes.run(work, count, workers)
    ratios = np.moveaxis(step * sum(sums[1:], sums[0]), 0, 2)
    best = ratios.max(axis=3)
    peaks = (best >= least) & (best == ndimage.maximum_filter(best, size=3))
    middles = cubes.first + np.argwhere(peaks) * pitch
    half = np.full(3, size / 2)
    return [
        Candidate(np.array([middle - half, middle + half]), float(ratio), float(increase))
        for middle, ratio, increase in zip(
            middles, best[peaks], increases[ratios[peaks].argmax(axis=1)], strict=True
        )
    ]


def _by_patches(muons: TracedMuons, grid: VoxelGrid, step: int) -> NDArray[np.int64]:
    """Return every so manyth muon, such that those that follow each other are near each other."""
    rows = np.concatenate([np.arange(*share, step) for share in lanes.bounds(len(muons))])
    halfway = muons.ways.point[rows][:, ::2, :2].mean(axis=1)
    patch = np.floor((halfway - grid.lower[:2]) / SCAN_PATCH)
    return rows[np.lexsort((patch[:, 1], patch[:, 0]))]


def _overlap(a: FloatArray, b: FloatArray) -> bool:
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > 0).all())
