"""Scatters made ready for a likelihood: paths through the grid, what was seen, momenta."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import observation
from muscan.kernels import paths as path_kernel
from muscan.kernels.observation import Observed
from muscan.kernels.paths import Paths
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.track_errors import AIR_DENSITY, PanelScattering
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.arrivals import PLANES_NEEDED, panel_matter
from muscan.reconstruction.common import Lines, kernel_grid

#: Losses [GeV] for which the powers of the momentum classes are tabulated.
LOSSES = np.concatenate([[0.0], np.geomspace(0.005, 8.0, 60)])
#: Nodes and weights of a measured momentum's error (Gauss-Hermite, in units of its sigma).
ERROR_NODES = np.array([-np.sqrt(3.0), 0.0, np.sqrt(3.0)])
ERROR_WEIGHTS = np.array([1.0, 4.0, 1.0]) / 6.0
#: Relative error of a measured momentum beyond which the spectrum tells as much.
MAX_RELATIVE_ERROR = 0.5


@dataclass(frozen=True)
class Muons:
    """Muons that cross a grid, as the likelihood sees them.

    Attributes
    ----------
    paths, observed : kernel tuples
        See `muscan.kernels.paths` and `muscan.kernels.observation`.
    momentum, sigma : ndarray, shape (n,)
        Measured momentum [GeV], NaN where the spectrum stands for it.
    cosine : ndarray, shape (n,)
        Cosine of the zenith angle.
    voxels : int
        Number of voxels of the grid.
    event_id : ndarray, shape (n,) uint64
    panels : tuple of float
        Matter at right angles in the panels above, and in those below as far as a muon has to
        come to be tracked [g/cm² of water].
    """

    paths: Paths
    observed: Observed
    momentum: NDArray[np.float32]
    sigma: NDArray[np.float32]
    cosine: NDArray[np.float32]
    voxels: int
    event_id: NDArray[np.uint64]
    panels: tuple[float, float] = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self.cosine)


def prepare(
    scatters: Scatters | Iterable[Scatters],
    grid: VoxelGrid,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    detector: Detector | None = None,
    workers: int | None = None,
) -> Muons:
    """Trace muons through a grid and reduce them to angles and offsets.

    Parameters
    ----------
    scatters : Scatters or iterable of Scatters
        All at once, or in portions, of which one at a time is held.
    grid : VoxelGrid
    momentum : {"spectrum", "measured"}
        Whether to use measured momenta where there are any.
    detector : Detector, optional
        The layout, from which the scattering in the panels is known; without it that is taken to
        be the same for all momenta.
    workers : int, optional
        Threads.

    Raises
    ------
    InputError
        If no muon crosses the grid, or momenta are asked for and there are none.
    """
    check_momentum(momentum)
    panels = PanelScattering(detector) if detector is not None else None
    portions = [scatters] if isinstance(scatters, Scatters) else scatters
    matter = (0.0, 0.0) if detector is None else _matter_on_the_way(detector)
    parts, measured = [], False
    for portion in portions:
        measured = measured or bool(np.isfinite(portion.momentum).any())
        part = _prepare_portion(portion, grid, momentum == "measured", panels, workers)
        if len(part):
            parts.append(part)
    check_momentum(momentum, measured)
    if not parts:
        raise InputError("tracks", "no muon crosses the grid", "check --bounds")
    return replace(_join(parts), panels=matter)


def check_momentum(momentum: str, measured: bool = True) -> None:
    """Raise `InputError` for a choice that there is not, or that what was measured forbids."""
    if momentum not in ("spectrum", "measured"):
        raise InputError("--momentum", f"no such choice '{momentum}'", "give spectrum or measured")
    if momentum == "measured" and not measured:
        raise InputError("tracks", "no momentum was measured", "use --momentum spectrum")


def _prepare_portion(
    scatters: Scatters,
    grid: VoxelGrid,
    measured: bool,
    panels: PanelScattering | None,
    workers: int | None,
) -> Muons:
    geometry = kernel_grid(grid)
    counts = visits(scatters, grid, workers)
    used = scatters.take(counts > 0)
    n = len(used)
    paths = empty_paths(counts[counts > 0])
    observed = Observed(
        np.empty((n, 4), np.float32), np.empty((n, 6), np.float32), np.empty((n, 3), np.float32)
    )
    shares = lanes.bounds(n)

    def fill(lane: int) -> None:
        rows = slice(*shares[lane])
        part = used.take(rows)
        here = Paths(
            paths.first[rows.start : rows.stop + 1], paths.voxel, paths.length, paths.top[rows]
        )
        seen = Observed(observed.data[rows], observed.noise[rows], observed.fixed[rows])
        reference = np.empty((len(part), 2))
        path_kernel.trace(geometry, *_lines(part), here, reference)
        observation.observe(
            part.in_position, part.in_direction, part.in_cov,
            part.out_position, part.out_direction, part.out_cov,
            _panel_errors(panels, part.in_position, part.in_direction, False),
            _panel_errors(panels, part.out_position, part.out_direction, True),
            1.0, reference, here.top, AIR_DENSITY, seen,
        )  # fmt: skip

    lanes.run(fill, lanes.LANES, workers)
    unknown = np.full(n, np.nan, np.float32)
    return Muons(
        paths=paths,
        observed=observed,
        momentum=used.momentum if measured else unknown,
        sigma=used.sigma if measured else unknown,
        cosine=-used.in_direction[:, 2],
        voxels=int(np.prod(grid.shape)),
        event_id=used.event_id,
    )


def _matter_on_the_way(detector: Detector) -> tuple[float, float]:
    """Return the matter above the cargo, and below it up to the last plane that is needed."""
    group = panel_matter(detector)
    plane = group * len(detector.groups) / len(detector.panels)
    # The plane in which a muon is last seen it need not leave.
    return group, (PLANES_NEEDED - 0.5) * plane


def visits(scatters: Scatters, grid: VoxelGrid, workers: int | None) -> NDArray[np.int64]:
    """Return how many voxels the path of each muon crosses, 0 where it cannot be used."""
    geometry = kernel_grid(grid)
    counts = np.empty(len(scatters), np.int64)
    shares = lanes.bounds(len(scatters))

    def count(lane: int) -> None:
        part = scatters.take(slice(*shares[lane]))
        path_kernel.count_visits(geometry, *_lines(part), counts[slice(*shares[lane])])

    lanes.run(count, lanes.LANES, workers)
    known = np.isfinite(scatters.in_cov[:, 0, 0] + scatters.out_cov[:, 0, 0])
    return np.where(known, counts, 0)


def _join(parts: list[Muons]) -> Muons:
    """Return the muons of all portions, freeing each portion's arrays as they are joined."""
    if len(parts) == 1:
        return parts[0]
    visits = np.cumsum([0, *(len(part.paths.voxel) for part in parts)])
    first = np.concatenate(
        [
            [0],
            *(part.paths.first[1:] + start for part, start in zip(parts, visits[:-1], strict=True)),
        ]
    ).astype(np.int64)
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("momentum", "sigma", "cosine", "event_id")
    }
    observed = Observed(
        *(np.concatenate(values) for values in zip(*(p.observed for p in parts), strict=True))
    )
    top = np.concatenate([part.paths.top for part in parts])
    voxels = parts[0].voxels
    voxel = [part.paths.voxel for part in parts]
    length = [part.paths.length for part in parts]
    parts.clear()
    paths = Paths(first, _concatenate(voxel), _concatenate(length), top)
    return Muons(paths=paths, observed=observed, voxels=voxels, panels=(0.0, 0.0), **columns)


def _concatenate(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Join arrays, letting go of each once it is copied."""
    joined = np.empty(sum(len(part) for part in parts), parts[0].dtype)
    end = len(joined)
    while parts:
        part = parts.pop()
        joined[end - len(part) : end] = part
        end -= len(part)
    return joined


def merge_voxels(
    muons: Muons, parent: NDArray[np.int32], rows: slice, workers: int | None = None
) -> Muons:
    """Return some muons with their paths through a coarser grid.

    Parameters
    ----------
    muons : Muons
    parent : ndarray, shape (voxels,)
        Voxel of the coarser grid that holds each voxel.
    rows : slice
        The muons, from a start by a step to the last.
    workers : int, optional
        Threads.
    """
    start, stop, step = rows.indices(len(muons))
    shares = lanes.bounds(len(range(start, stop, step)))
    counts = np.empty(shares[-1][1], np.int64)

    def count(lane: int) -> None:
        low, high = shares[lane]
        path_kernel.count_merged(muons.paths, parent, start + low * step, step, counts[low:high])

    lanes.run(count, lanes.LANES, workers)
    paths = empty_paths(counts)
    lanes.run(
        lambda lane: path_kernel.merge(muons.paths, parent, start, step, paths, *shares[lane]),
        lanes.LANES,
        workers,
    )
    return replace(
        muons,
        paths=paths,
        observed=Observed(*(np.ascontiguousarray(values[rows]) for values in muons.observed)),
        momentum=muons.momentum[rows],
        sigma=muons.sigma[rows],
        cosine=muons.cosine[rows],
        voxels=int(parent.max()) + 1,
        event_id=muons.event_id[rows],
    )


def rearrange(muons: Muons, order: NDArray[np.int64], workers: int | None = None) -> Muons:
    """Return the muons in another order, given the row of each."""
    paths = empty_paths(np.diff(muons.paths.first)[order])
    shares = lanes.bounds(len(order))
    lanes.run(
        lambda lane: path_kernel.pick(muons.paths, order, paths, *shares[lane]),
        lanes.LANES,
        workers,
    )
    return replace(
        muons,
        paths=paths,
        observed=Observed(*(values[order] for values in muons.observed)),
        momentum=muons.momentum[order],
        sigma=muons.sigma[order],
        cosine=muons.cosine[order],
        event_id=muons.event_id[order],
    )


def empty_paths(counts: NDArray[np.int64]) -> Paths:
    """Return paths to be filled, given the number of voxels on each."""
    first = np.concatenate([[0], np.cumsum(counts)])
    return Paths(
        first,
        np.empty(first[-1], np.int32),
        np.empty(first[-1], np.float32),
        np.empty(len(counts), np.float32),
    )


def _lines(part: Scatters) -> Lines:
    return part.in_position, part.in_direction, part.out_position, part.out_direction


def _panel_errors(
    panels: PanelScattering | None,
    position: NDArray[np.float32],
    direction: NDArray[np.float32],
    outgoing: bool,
) -> NDArray[np.float32]:
    if panels is None:
        return np.zeros((len(position), 3), np.float32)
    return panels.errors(position, direction, outgoing)
