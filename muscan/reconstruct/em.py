"""Statistical reconstruction: the most probable volume given every muon's scattering.

The family of Schultz et al., IEEE TIP 16:1985 (2007), and Wang et al., IEEE TNS 56:2480 (2009),
with three differences: the unknown momentum is summed over, not replaced by one value; an
outlier component takes decays and large single scatters; and a quasi-Newton method on the
logarithm of the density takes the place of EM steps. See ``docs/reconstruction.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import em as kernel
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruct import lanes
from muscan.reconstruct.lbfgs import Step, minimise
from muscan.reconstruct.muons import AIR_DENSITY, MomentumModel, Muons, prepare
from muscan.reconstruct.prior import smoothness
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]
Callback = Callable[[int, float], object]

#: Density at which every voxel starts [mrad²/mm], thin enough for slow muons to pass.
START = 0.01
#: Steps between renewals of the losses and thicknesses, which depend on the volume.
STAGES = (15, 30)
#: Weights of the prior that are tried, strongest first.
WEIGHTS = (2.0, 1.0, 0.5, 0.2, 0.1)
#: Muons that choose the weight: half of them fit, the other half judge.
WEIGHT_MUONS = 200_000
#: Steps for each weight that is tried.
WEIGHT_STEPS = 12


@dataclass(frozen=True)
class Problem:
    """Muons, their momenta and a grid: the likelihood of a volume.

    Attributes
    ----------
    muons : Muons
    momenta : MomentumModel
    grid : VoxelGrid
    workers : int or None
    """

    muons: Muons
    momenta: MomentumModel
    grid: VoxelGrid
    workers: int | None = None

    def likelihood(
        self,
        density: FloatArray,
        mixture: kernel.Mixture,
        rows: slice = slice(None),
    ) -> tuple[float, FloatArray]:
        """Return the log likelihood of some muons and its gradient in the densities [mrad²/mm]."""
        first, last, step = rows.indices(len(self.muons))
        count = lanes.lane_count(8 * self.muons.voxels)
        shares = lanes.bounds(len(range(first, last, step)), count)
        gradients = [np.zeros(self.muons.voxels) for _ in range(count)]

        def work(lane: int) -> float:
            low, high = (first + step * row for row in shares[lane])
            return float(
                kernel.likelihood(
                    self.muons.paths,
                    self.muons.observed,
                    mixture,
                    density,
                    low,
                    min(high, last),
                    step,
                    gradients[lane],
                )
            )

        values = lanes.run(work, count, self.workers)
        return sum(values), sum(gradients, np.zeros(self.muons.voxels))

    def information(
        self, density: FloatArray, mixture: kernel.Mixture
    ) -> tuple[FloatArray, NDArray[np.uint32]]:
        """Return the information on each density [(mrad²/mm)⁻²] and the muons in each voxel."""
        count = lanes.lane_count(12 * self.muons.voxels)
        shares = lanes.bounds(len(self.muons), count)
        squares = [np.zeros(self.muons.voxels) for _ in range(count)]
        numbers = [np.zeros(self.muons.voxels, np.uint32) for _ in range(count)]

        def work(lane: int) -> None:
            kernel.information(
                self.muons.paths,
                self.muons.observed,
                mixture,
                density,
                *shares[lane],
                squares[lane],
                numbers[lane],
            )

        lanes.run(work, count, self.workers)
        return (
            sum(squares, np.zeros(self.muons.voxels)),
            sum(numbers, np.zeros(self.muons.voxels, np.uint32)),
        )

    def steps(self, start: FloatArray, weight: float, rows: slice = slice(None)) -> Iterator[Step]:
        """Yield the steps of a minimisation over the logarithms of the densities.

        The objective is minus the log likelihood plus the prior, in nats; losses and thicknesses
        are those of the start.
        """
        mixture = self.momenta.mixture(densities(start), self.workers)
        matter = np.exp(start)
        squares, _ = self.information(densities(start), mixture)
        shape = self.grid.shape
        bend = smoothness(start.reshape(shape), weight)[2].ravel()

        def objective(logs: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self.likelihood(densities(logs), mixture, rows)
            cost, slope, _ = smoothness(logs.reshape(shape), weight)
            return cost - value, slope.ravel() - gradient * np.exp(logs)

        # Voxels that tell nothing yet may move once others have; hence the floor.
        yield from minimise(objective, start, squares * matter**2 + bend + 1e-3)


def densities(logs: FloatArray) -> FloatArray:
    """Return densities [mrad²/mm] from the logarithms of what exceeds air."""
    return np.exp(logs) + AIR_DENSITY


def choose_weight(problem: Problem) -> tuple[float, FloatArray]:
    """Return the prior's weight under which one half of the muons best predicts the other.

    With it the logarithms of the densities that the one half gives, to start from.
    """
    last = min(len(problem.muons), WEIGHT_MUONS)
    logs = np.full(problem.muons.voxels, np.log(START))
    best, best_value = (WEIGHTS[0], logs), -np.inf
    for weight in WEIGHTS:
        # The first weight starts from nothing, the others from the one before.
        for _ in range(2 if weight == WEIGHTS[0] else 1):
            for number, step in enumerate(problem.steps(logs, weight, slice(0, last, 2))):
                logs = step.point
                if number >= WEIGHT_STEPS or step.promise < 1.0:
                    break
        mixture = problem.momenta.mixture(densities(logs), problem.workers)
        value, _ = problem.likelihood(densities(logs), mixture, slice(1, last, 2))
        if value <= best_value:
            break
        best, best_value = (weight, logs), value
    return best


def em(
    scatters: Scatters,
    grid: VoxelGrid,
    *,
    spectrum: MomentumSpectrum | None = None,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    callback: Callback | None = None,
    workers: int | None = None,
    detector: Detector | None = None,
    smoothing: float | None = None,
    iterations: int = 100,
    tolerance: float = 1.0,
) -> Volume:
    """Reconstruct the most probable scattering density.

    Parameters
    ----------
    scatters : Scatters
        Muons with both tracks.
    grid : VoxelGrid
        Where to reconstruct; what scatters should lie inside.
    spectrum : MomentumSpectrum, optional
        By default the sea-level one, `muscan.model.spectrum.sea_level_spectrum`.
    momentum : {"spectrum", "measured"}
        Whether measured momenta are used where there are any.
    callback : callable, optional
        Called after each step with its number and the gain [nats] that a quadratic model still
        expects; returning True ends the reconstruction.
    workers : int, optional
        Threads, by default one a processor; the result does not depend on it.
    detector : Detector, optional
        The layout. Without it the scattering in the panels counts as if it were the same for all
        momenta, which biases the density low.
    smoothing : float, optional
        Weight of the prior; by default chosen by the data (`choose_weight`).
    iterations : int
        At most so many steps.
    tolerance : float
        Stop once the expected further gain is below this [nats].

    Returns
    -------
    Volume
        Scattering density [mrad²/cm], NaN where no muon went. The channel ``resolution`` is the
        share of the data, as opposed to the prior, in what is known of a voxel.

    Raises
    ------
    InputError
        If no muon crosses the grid, or an option is wrong.
    """
    if iterations < 1 or not tolerance > 0:
        raise InputError("em", "iterations and tolerance must be positive", "leave them out")
    if smoothing is not None and not smoothing > 0:
        raise InputError("--smoothing", f"{smoothing} is not positive", "leave it out")
    muons = prepare(scatters, grid, momentum, detector, workers)
    problem = Problem(muons, MomentumModel(muons, spectrum), grid, workers)
    if smoothing is None:
        weight, start = choose_weight(problem)
    else:
        weight, start = smoothing, np.full(muons.voxels, np.log(START))
    last, done, ended = _maximise(problem, start, weight, iterations, tolerance, callback)
    return _volume(
        problem,
        last.point,
        weight,
        {
            "iterations": done,
            "converged": bool(ended),
            "convergence_nats": float(last.promise),
            "objective_nats": float(last.value),
            "smoothing": float(weight),
            "n_scatters": len(muons),
            "momentum": momentum,
        },
    )


def _maximise(
    problem: Problem,
    logs: FloatArray,
    weight: float,
    iterations: int,
    tolerance: float,
    callback: Callback | None,
) -> tuple[Step, int, bool]:
    """Return the last step, the number of steps and whether they converged."""
    done = 0
    for stage in range(len(STAGES) + 1):
        limit = STAGES[stage] if stage < len(STAGES) else iterations
        for number, step in enumerate(problem.steps(logs, weight)):
            logs = step.point
            if number == 0:
                continue
            done += 1
            if callback is not None and callback(done, step.promise) is True:
                return step, done, False
            if step.promise < tolerance or number >= limit or done >= iterations:
                break
        if done >= iterations:
            break
    return step, done, step.promise < tolerance


def _volume(
    problem: Problem, logs: FloatArray, weight: float, attributes: dict[str, object]
) -> Volume:
    shape = problem.grid.shape
    density = densities(logs)
    squares, numbers = problem.information(
        density, problem.momenta.mixture(density, problem.workers)
    )
    data = squares * density**2
    bend = smoothness(logs.reshape(shape), weight)[2].ravel()
    seen = numbers > 0
    with np.errstate(divide="ignore"):
        sigma = np.where(seen, density / np.sqrt(data + bend), np.inf)
    share = np.where(seen, data / np.maximum(data + bend, 1e-30), 0.0)
    return Volume(
        values=np.where(seen, density * MM_PER_CM, np.nan).reshape(shape).astype(np.float32),
        grid=problem.grid,
        method="em",
        uncertainty=(sigma * MM_PER_CM).reshape(shape).astype(np.float32),
        n_muons=numbers.reshape(shape).astype(np.uint32),
        channels={"resolution": share.reshape(shape).astype(np.float32)},
        attributes=attributes,
    )
