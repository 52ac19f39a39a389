"""A likelihood whose muons are kept by a team's workers: the same sums, lane by lane."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels.em import Mixture
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.volume import VoxelGrid
from muscan.reconstruction.common import coarser_grid, parents
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import check_momentum, prepare, visits
from muscan.reconstruction.problem import Problem, coarser_field, lane_rows
from muscan.reconstruction.team import Team, grouped

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Counted:
    """How many muons and voxels there are, where the muons are elsewhere."""

    n: int
    voxels: int

    def __len__(self) -> int:
        return self.n


@dataclass(frozen=True)
class Kept:
    """What a worker keeps: the muons of neighbouring lanes.

    Attributes
    ----------
    problem : Problem
        Of those muons.
    first : int
        Number of the first of them among all.
    """

    problem: Problem
    first: int

    def __sizeof__(self) -> int:
        """Return about the memory it takes [bytes], so that no scheduler moves it lightly."""
        paths = self.problem.muons.paths
        return int(sum(column.nbytes for column in paths))


@dataclass(frozen=True)
class Ready:
    """Muons that a worker keeps, and their momentum classes given a volume."""

    problem: Problem
    mixture: Mixture

    def __sizeof__(self) -> int:
        """Return about the memory it takes [bytes]: as of `Kept`, whose muons these are."""
        return int(self.mixture.done.nbytes)


@dataclass(frozen=True)
class DealtProblem(Problem):
    """A `Problem` of which the team's workers do the sums.

    Attributes
    ----------
    team : Team
    held : object
        The team's handle on what it keeps: `Kept`, one a group of lanes.
    """

    team: Team = field(kw_only=True)
    held: Any = field(kw_only=True)

    def mixture(self, density: FloatArray) -> Any:
        """Return the team's handle on `Ready`: each worker makes the classes of its muons."""
        return self.team.derive(_ready, self.held, density)

    def each(
        self, density: FloatArray, mixture: Any, scale: float = 1.0
    ) -> tuple[FloatArray, FloatArray]:
        """Return as `Problem.each`, to the last bit."""
        parts = self.team.results(_each, mixture, density.astype(np.float32), scale)
        logs, outliers = (np.concatenate(column) for column in zip(*parts, strict=True))
        return logs, outliers

    def likelihood(self, density: FloatArray, mixture: Any) -> tuple[float, FloatArray]:
        """Return as `Problem.likelihood`, to the last bit."""
        return self.asked(density, mixture)()

    def asked(self, density: FloatArray, mixture: Any) -> Callable[[], tuple[float, FloatArray]]:
        """Return as `Problem.asked`."""
        total: Callable[[], tuple[float, FloatArray]]
        total = self.team.totalling(_likelihood, mixture, density.astype(np.float32))
        return total

    def information(
        self, density: FloatArray, mixture: Any
    ) -> tuple[FloatArray, NDArray[np.uint32]]:
        """Return as `Problem.information`, to the last bit."""
        squares, numbers = self.team.total(_information, mixture, density.astype(np.float32))
        return squares, numbers

    def erring(self, scale: float) -> DealtProblem:
        """Return as `Problem.erring`."""
        return replace(self, held=self.team.derive(_erring, self.held, scale))

    def by_place(self) -> DealtProblem:
        """Return as `Problem.by_place`; each worker orders its own muons."""
        return replace(self, held=self.team.derive(_by_place, self.held))

    def coarser(self, start: int = 0, step: int = 1) -> DealtProblem:
        """Return as `Problem.coarser`; each worker joins the voxels of its own muons' paths."""
        grid, parent = coarser_grid(self.grid), parents(self.grid)
        n = len(range(start, len(self.muons), step))
        return replace(
            self,
            muons=Counted(n, int(np.prod(grid.shape))),  # type: ignore[arg-type]
            grid=grid,
            known=coarser_field(self.known, parent),
            held=self.team.derive(_coarser, self.held, start, step),
        )

    def some(self, start: int, step: int) -> DealtProblem:
        """Return as `Problem.some`; each worker picks from its own muons."""
        n = len(range(start, len(self.muons), step))
        return replace(
            self,
            muons=Counted(n, self.muons.voxels),  # type: ignore[arg-type]
            held=self.team.derive(_some, self.held, start, step),
        )


def deal_problem(
    team: Team,
    scatters: Scatters | Iterable[Scatters],
    grid: VoxelGrid,
    spectrum: MomentumSpectrum | None,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    detector: Detector | None = None,
    workers: int | None = None,
    known: FloatArray | None = None,
) -> DealtProblem:
    """Deal muons to a team, and return the likelihood of a volume given all of them.

    Parameters
    ----------
    team : Team
    scatters, grid, spectrum, momentum, detector, workers
        As for `muscan.reconstruction.em.em`; ``workers`` are threads here, which pick the muons
        that cross the grid.
    known
        As of `Problem`.

    Raises
    ------
    InputError
        If no muon crosses the grid, or momenta are asked for and there are none.
    """
    every = scatters if isinstance(scatters, Scatters) else Scatters.join(list(scatters))
    check_momentum(momentum, bool(np.isfinite(every.momentum).any()))
    used = every.take(visits(every, grid, workers) > 0)
    if len(used) == 0:
        raise InputError("tracks", "no muon crosses the grid", "check --bounds")
    voxels = int(np.prod(grid.shape))
    given = (grid, momentum, detector, spectrum)
    portions = [
        (used.take(slice(group[0][0], group[-1][1])), group, *given)
        for group in grouped(lane_rows(len(used), voxels), team)
    ]
    return DealtProblem(
        muons=Counted(len(used), voxels),  # type: ignore[arg-type]
        momenta=None,  # type: ignore[arg-type]
        grid=grid,
        known=known,
        team=team,
        held=team.hold(_keep, portions),
    )


def _keep(
    scatters: Scatters,
    rows: tuple[tuple[int, int], ...],
    grid: VoxelGrid,
    momentum: Literal["spectrum", "measured"],
    detector: Detector | None,
    spectrum: MomentumSpectrum | None,
) -> Kept:
    """Trace the muons of a group of lanes."""
    first = rows[0][0]
    muons = prepare(scatters, grid, momentum, detector, 1)
    momenta = MomentumModel(muons, spectrum)
    shares = tuple((a - first, b - first) for a, b in rows)
    return Kept(Problem(muons, momenta, grid, 1, None, shares), first)


def _ready(kept: Kept, density: FloatArray) -> Ready:
    return Ready(kept.problem, kept.problem.mixture(density))


def _each(ready: Ready, density: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
    return ready.problem.each(density, ready.mixture, scale)


def _likelihood(ready: Ready, density: FloatArray) -> tuple[float, FloatArray]:
    return ready.problem.likelihood(density, ready.mixture)


def _information(ready: Ready, density: FloatArray) -> tuple[FloatArray, NDArray[np.uint32]]:
    return ready.problem.information(density, ready.mixture)


def _erring(kept: Kept, scale: float) -> Kept:
    return Kept(kept.problem.erring(scale), kept.first)


def _by_place(kept: Kept) -> Kept:
    return Kept(kept.problem.by_place(), kept.first)


def _coarser(kept: Kept, start: int, step: int) -> Kept:
    """Return muons start, start + step, … of all, as far as they are kept here."""
    here, before = _rows(kept, start, step)
    return Kept(kept.problem.coarser(here, step), before)


def _some(kept: Kept, start: int, step: int) -> Kept:
    """Return muons start, start + step, … of all, as far as they are kept here."""
    here, before = _rows(kept, start, step)
    return Kept(kept.problem.some(here, step), before)


def _rows(kept: Kept, start: int, step: int) -> tuple[int, int]:
    """Return which muon kept here is the first of start, start + step, …; how many are before."""
    before = len(range(start, kept.first, step))
    return start + before * step - kept.first, before
