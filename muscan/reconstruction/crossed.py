"""What muons cross in a background, in bins along their paths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from muscan.kernels import ways as way_kernel
from muscan.model.track_errors import AIR_DENSITY, least_loss
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.ways import TracedMuons


def crossed_bins(
    muons: TracedMuons,
    grid: VoxelGrid,
    background: NDArray[np.float64],
    workers: int | None = None,
) -> NDArray[np.float32]:
    """Return what muons cross in the bins of their paths, shape (n, BINS, 4).

    Parameters
    ----------
    muons : TracedMuons
    grid : VoxelGrid
    background : ndarray, shape of the grid
        Scattering density [mrad²/mm].
    workers : int, optional
        Threads.
    """
    bins = np.empty((len(muons), way_kernel.BINS, 4), np.float32)
    flat = np.ascontiguousarray(background.ravel())
    loss, air_loss = least_loss(flat), float(least_loss(np.array(AIR_DENSITY)))
    shares = lanes.bounds(len(muons))

    def work(lane: int) -> None:
        way_kernel.fill_bins(
            kernel_grid(grid), flat, loss, AIR_DENSITY, air_loss, muons.panel_loss, muons.ways,
            *shares[lane], bins,
        )  # fmt: skip

    lanes.run(work, lanes.LANES, workers)
    return bins
