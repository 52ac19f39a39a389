"""The scattering of a whole load, from what became of every muon that aims through it.

A volume is of little use for the weight of a load: what a method cannot resolve it loses or
smears, and muons that stop or scatter out of the panels are missing from it. Here the load is a
map of blocks, and the likelihood is that of everything that may become of a muon with a known way
in: it is seen again behind the load, at an angle in two planes, or it is not. Both follow from
the thickness ∫ λ dl on its way by the law of angles and survival of the declared goods
(`muscan.model.angle_law`). The most likely blocks' sum is the scattering of the load; offsets are
not used, for the sum does not ask where in a column the matter stands.

Angles above `LARGEST_ANGLE` count as not seen, and only muons whose way in, taken on straight,
keeps so far from the edges of the panels below that with a smaller angle they meet them. The
share of muons that the panels miss is measured on the muons that go past the load.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize

from muscan.errors import InputError
from muscan.identification.load_muons import (
    LARGEST_ANGLE,
    aiming,
    errors,
    seen_share,
    through_middle,
)
from muscan.kernels import load as kernel
from muscan.kernels import paths as path_kernel
from muscan.kernels.load import Law, Seen
from muscan.kernels.paths import Paths
from muscan.kernels.traversal import Grid
from muscan.kernels.ways import Ways, bends
from muscan.model.angle_law import AngleLaw
from muscan.model.events import Scatters, Tracks
from muscan.model.track_errors import AIR_DENSITY
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]
Result = TypeVar("Result")

#: Least edge of a block [mm]; blocks are so large that there are this many muons for each: with
#: fewer, what they make of chance adds to the sum.
BLOCK_MM: Final = 200.0
MUONS_A_BLOCK: Final = 140
#: Scattering densities between which a block's is sought [mrad²/mm].
LIMITS: Final = (1e-5, 10.0)
#: With fewer muons than this there is no weight.
LEAST_MUONS: Final = 1000
#: Angles above which a vertex tells where a muon was scattered [mrad].
STRONG: Final = 20.0
#: Least density of the first guess over the mean: what is wrongly empty there can come back.
FAINTEST: Final = 0.03
#: Steps of the search at most; it ends when one gains less than this, over the log likelihood.
STEPS: Final = 30
GAIN: Final = 1e-9
#: Steps of the conjugate gradients for the error.
ERROR_STEPS: Final = 25
_LANES: Final = 8


@dataclass(frozen=True)
class Surroundings:
    """Known matter around a load.

    Attributes
    ----------
    inside : ndarray, shape (2, 3)
        Lowest and highest corner of the space that the load can take [mm].
    low, high : ndarray, shape (b, 3)
        Corners of boxes of known matter [mm].
    density : ndarray, shape (b,)
        Their scattering density [mrad²/cm]; negative for a hollow in another box.
    """

    inside: FloatArray
    low: FloatArray
    high: FloatArray
    density: FloatArray

    @classmethod
    def nothing(cls, inside: FloatArray) -> Surroundings:
        """Return a space with nothing known around it."""
        return cls(inside, np.empty((0, 3)), np.empty((0, 3)), np.empty(0))


@dataclass(frozen=True)
class LoadScattering:
    """The blocks of a load.

    Attributes
    ----------
    density : ndarray, shape (nx, ny, nz)
        Scattering density [mrad²/mm].
    sigma : ndarray, shape (nx, ny)
        Standard deviation of each column ∫ λ dz, as its part of that of the sum [mrad²].
    n_muons : ndarray of int, shape (nx, ny, nz)
    block_mm, lower : ndarray, shape (3,)
        Size of a block, and the lowest corner of all [mm].
    seen : float
        Share of muons that the panels see again, of those that come out.
    """

    density: FloatArray
    sigma: FloatArray
    n_muons: NDArray[np.int64]
    block_mm: FloatArray
    lower: FloatArray
    seen: float = 1.0

    @property
    def column(self) -> FloatArray:
        """∫ λ dz, shape (nx, ny) [mrad²]."""
        return np.asarray(self.density.sum(axis=2) * self.block_mm[2])

    def total(self, low: FloatArray | None = None, high: FloatArray | None = None) -> FloatArray:
        """Return ∫ λ dV and its standard deviation, of the whole or of a box.

        Parameters
        ----------
        low, high : ndarray, shape (2,) or (3,), optional
            Corners [mm]; blocks count by the share of them that is inside, whole columns where
            only two coordinates are given.

        Returns
        -------
        ndarray, shape (2,), [mrad²/cm · litre]
        """
        shares = [np.ones(n) for n in self.density.shape]
        if low is not None and high is not None:
            for i in range(len(low)):
                edges = self.lower[i] + self.block_mm[i] * np.arange(self.density.shape[i] + 1)
                part = np.minimum(edges[1:], high[i]) - np.maximum(edges[:-1], low[i])
                shares[i] = np.clip(part, 0, None) / self.block_mm[i]
        columns = (self.density * shares[2]).sum(axis=2) * self.block_mm[2]
        litres = np.outer(shares[0], shares[1]) * self.block_mm[:2].prod() * MM_PER_CM / 1e6
        part = np.divide(columns, self.column, out=np.zeros_like(columns), where=self.column > 0)
        error = float(np.sqrt(np.square(litres * part * self.sigma).sum()))
        return np.array([float((litres * columns).sum()), error])


def load_scattering(
    tracks: Tracks,
    around: Surroundings,
    law: AngleLaw,
    workers: int | None = None,
) -> LoadScattering:
    """Fit the blocks of a load to the muons.

    Parameters
    ----------
    tracks : Tracks
        With their layout, if muons near the panels' edges are to be left out.
    around : Surroundings
        Where the load stands, and in what.
    law : AngleLaw
        Of the goods.
    workers : int, optional
        Threads; they do not change the result.

    Raises
    ------
    InputError
        If too few muons go through the load.
    """
    return _Fit(tracks, around, law, workers).result()


class _Fit:
    """Muons that aim through the load, and the search for its blocks."""

    def __init__(
        self, tracks: Tracks, around: Surroundings, law: AngleLaw, workers: int | None
    ) -> None:
        self.workers = workers
        extent = around.inside[1] - around.inside[0]
        muons, angles = aiming(tracks, around.inside, float(law.cosine[0]))
        edge = (extent.prod() * MUONS_A_BLOCK / max(through_middle(muons, around.inside), 1)) ** (
            1 / 3
        )
        blocks = np.maximum(np.rint(extent / max(edge, BLOCK_MM)), 1)
        self.shape = int(blocks[0]), int(blocks[1]), int(blocks[2])
        self.size, self.lower = extent / self.shape, around.inside[0]
        rows = law.rows(-muons.in_direction[:, 2])
        paths = self._paths(muons)
        known = self._known(muons, around)
        through = np.diff(paths.first) > 0
        past = ~through & (known <= 0)
        self.seen, self.seen_sigma = seen_share(angles[past], law.open_survival[rows[past]])
        if np.count_nonzero(through) < LEAST_MUONS:
            problem = f"{np.count_nonzero(through)} muons go through the load"
            raise InputError("tracks", problem, "scan longer")
        noise, panels = errors(muons, tracks.detector)
        length = np.linalg.norm(muons.out_position - muons.in_position, axis=1)
        known += AIR_DENSITY * length + panels
        first = np.concatenate([[0], np.cumsum(np.diff(paths.first)[through])])
        square = np.where(np.isfinite(angles), np.square(angles), -1.0)
        self.muons = Seen(
            rows[through],
            square[through].astype(np.float32),
            noise[through].astype(np.float32),
            known[through].astype(np.float32),
            first,
            paths.voxel,
            paths.length,
        )
        step = np.log(law.thickness[1] / law.thickness[0])
        self.law = Law(
            float(np.log(law.thickness[0])), float(step), law.power, law.weight, law.survival,
            self.seen, LARGEST_ANGLE,
        )  # fmt: skip
        self.slopes = np.empty(np.count_nonzero(through), np.float32)
        self.guess = self._vertices(muons, angles, paths)

    def result(self) -> LoadScattering:
        """Return the most likely blocks, and the error of their sum."""
        density, variance = self._search()
        counts = np.bincount(self.muons.voxel, minlength=len(density))
        shape = self.shape
        per_column = density.reshape(shape).sum(axis=2) * self.size[2]
        # What is known of the sum: each column's part of its variance goes with its content.
        weight = np.maximum(per_column, 1e-3 * per_column.max())
        sigma = np.sqrt(variance * weight / weight.sum()) / (self.size[0] * self.size[1])
        return LoadScattering(
            density.reshape(shape), sigma, counts.reshape(shape), self.size, self.lower, self.seen
        )

    def _paths(self, muons: Scatters) -> Paths:
        low, step = (tuple(float(x) for x in corner) for corner in (self.lower, self.size))
        grid = Grid(low[0], low[1], low[2], step[0], step[1], step[2], *self.shape)

        def lines(rows: slice) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
            """Return where muons enter and leave, and their directions."""
            return (
                muons.in_position[rows], muons.in_direction[rows],
                muons.out_position[rows], muons.out_direction[rows],
            )  # fmt: skip

        counts = np.empty(len(muons), np.int64)
        shares = _shares(len(muons))
        _run(
            lambda rows: path_kernel.count_visits(grid, *lines(rows), counts[rows]),
            [slice(*share) for share in shares],
            self.workers,
        )
        first = np.concatenate([[0], np.cumsum(counts)])
        paths = Paths(
            first,
            np.empty(first[-1], np.int32),
            np.empty(first[-1], np.float32),
            np.empty(len(muons), np.float32),
        )

        def trace(rows: slice) -> None:
            here = Paths(
                first[rows.start : rows.stop + 1], paths.voxel, paths.length, paths.top[rows]
            )
            room = np.empty((rows.stop - rows.start, 2))
            path_kernel.trace(grid, *lines(rows), here, room)

        _run(trace, [slice(*share) for share in shares], self.workers)
        return paths

    def _vertices(self, muons: Scatters, angles: FloatArray, paths: Paths) -> FloatArray:
        """Return where the load is at first guess: ln of its density over the mean, by block.

        The sum of the squared angles whose vertices lie in a block, over the ways through it.
        """
        point = _bends(muons)[:, 1]
        place = np.floor((point - self.lower) / self.size).astype(np.int64)
        square = np.square(angles).sum(axis=1)
        sure = (square > STRONG**2) & ((place >= 0) & (place < self.shape)).all(axis=1)
        index = np.ravel_multi_index(tuple(place[sure].T), self.shape)
        size = math.prod(self.shape)
        strength = np.bincount(index, square[sure], size)
        ways = np.bincount(paths.voxel, paths.length, size)
        density = ndimage.gaussian_filter(
            (strength / np.maximum(ways, 1.0)).reshape(self.shape), 0.7
        ).ravel()
        if density.mean() <= 0:
            return np.zeros(size)
        return np.asarray(np.log(np.maximum(density / density.mean(), FAINTEST)))

    def _known(self, muons: Scatters, around: Surroundings) -> FloatArray:
        """Return the thickness of the boxes around the load on each way [mrad²]."""
        point = _bends(muons)
        sums = np.zeros(len(muons))
        density = around.density / MM_PER_CM
        _run(
            lambda rows: kernel.box_sums(point[rows], around.low, around.high, density, sums[rows]),
            [slice(*share) for share in _shares(len(muons))],
            self.workers,
        )
        return sums

    def _scores(self, density: FloatArray, law: Law | None = None) -> tuple[float, FloatArray]:
        """Return the log likelihood and its gradient; keep the muons' slopes."""
        used = law or self.law

        def work(share: tuple[int, int]) -> tuple[float, FloatArray]:
            gradient = np.zeros(len(density))
            value = kernel.scores(used, self.muons, density, *share, gradient, self.slopes)
            return value, gradient

        found = _run(work, _shares(len(self.slopes)), self.workers)
        return sum(value for value, _ in found), np.sum([slope for _, slope in found], axis=0)

    def _search(self) -> tuple[FloatArray, float]:
        """Return the blocks' most likely densities, and the variance of the sum [mrad² mm²]."""
        size = math.prod(self.shape)
        low, high = np.log(LIMITS)

        def even(log: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self._scores(np.full(size, np.exp(log[0])))
            return -value, -np.array([gradient.sum() * np.exp(log[0])])

        start = minimize(even, np.array([np.log(0.03)]), jac=True, bounds=[(low, high)]).x[0]

        def cost(logs: FloatArray) -> tuple[float, FloatArray]:
            density = np.exp(logs)
            value, gradient = self._scores(density)
            return -value, -gradient * density

        found = minimize(
            cost, np.clip(start + self.guess, low, high), jac=True, method="L-BFGS-B",
            bounds=[(low, high)] * size,
            options={"maxiter": STEPS, "ftol": GAIN, "maxcor": 20},
        )  # fmt: skip
        density = np.exp(found.x)
        return density, self._variance(density)

    def _variance(self, density: FloatArray) -> float:
        """Return the variance of the sum of all blocks times their volume [mrad² mm²]²."""
        volume = np.full(len(density), float(self.size.prod()))
        _, gradient = self._scores(density)
        slopes = self.slopes.copy()
        # What no muon tells is known to about the mean density.
        ridge = 1 / np.square(density.mean())

        def product(vector: FloatArray) -> FloatArray:
            def work(share: tuple[int, int]) -> FloatArray:
                sums = np.zeros(len(vector))
                kernel.information(self.muons, slopes, vector, *share, sums)
                return sums

            parts = _run(work, _shares(len(slopes)), self.workers)
            return np.asarray(np.sum(parts, axis=0) + ridge * vector)

        answer = _conjugate(product, volume)
        # The share that the panels miss is known to some error: how far that moves the sum.
        moved = self.law._replace(seen=self.seen - self.seen_sigma)
        shift = float(answer @ (self._scores(density, moved)[1] - gradient))
        return float(volume @ answer) + shift**2


def _bends(muons: Scatters) -> FloatArray:
    """Return start, bend and end of each way, shape (n, 3, 3) [mm]."""
    point, empty = np.empty((len(muons), 3, 3)), np.empty((0, 6), np.float32)
    ways = Ways(point, np.empty((len(muons), 2)), empty, empty, empty, empty)
    bends(muons.in_position, muons.in_direction, muons.out_position, muons.out_direction, ways)
    return point


def _conjugate(product: Callable[[FloatArray], FloatArray], right: FloatArray) -> FloatArray:
    """Solve for a vector of which the product is known, by conjugate gradients."""
    answer, rest = np.zeros_like(right), right.copy()
    way, square = rest.copy(), float(rest @ rest)
    for _ in range(ERROR_STEPS):
        image = product(way)
        length = square / float(way @ image)
        answer += length * way
        rest -= length * image
        new = float(rest @ rest)
        way = rest + new / square * way
        square = new
    return answer


def _shares(rows: int) -> list[tuple[int, int]]:
    """Return fixed shares of the muons, so that sums do not depend on the number of threads."""
    return [(rows * lane // _LANES, rows * (lane + 1) // _LANES) for lane in range(_LANES)]


def _run(work: Callable[..., Result], shares: list, workers: int | None) -> list[Result]:  # type: ignore[type-arg]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(work, shares))
