"""Statistical reconstruction: the most probable volume given every muon's scattering.

The family of Schultz et al., IEEE TIP 16:1985 (2007), and Wang et al., IEEE TNS 56:2480 (2009),
with three differences: the unknown momentum is summed over, not replaced by one value; an
outlier component takes decays and large single scatters; and a quasi-Newton method on the
logarithm of the density takes the place of EM steps. See ``docs/reconstruction.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction.common import finer
from muscan.reconstruction.elsewhere import deal_problem
from muscan.reconstruction.fixed import FixedMatter
from muscan.reconstruction.hit_errors import MOST_MUONS, likeliest_scale, variance_scale
from muscan.reconstruction.lbfgs import MEMORY, History, Step
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import prepare
from muscan.reconstruction.prior import Prior
from muscan.reconstruction.problem import Problem
from muscan.reconstruction.team import Team
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]
Callback = Callable[[int, float], object]

#: Density at which every voxel starts [mrad²/mm], thin enough for slow muons to pass.
START = 0.01
#: Steps after which the losses and thicknesses, which depend on the volume, are renewed.
RENEWAL = 12
#: Steps on voxels of twice the size, from which the first weight starts.
COARSE_STEPS = 24
#: The prior's weight on them over that on the grid itself: what is smooth then costs the same,
#: for the steps between neighbours are twice as large and there are an eighth of them.
COARSE_SCALE = 2.0
#: Weights of the prior that are tried, strongest first.
WEIGHTS = (2.0, 1.2, 0.7, 0.4, 0.25, 0.15, 0.08)
#: Weights in a row that predict worse than the best one, after which no weaker one is tried.
WORSE = 2
#: Muons that choose the weight: half of them fit, the other half judge, in so many folds.
WEIGHT_MUONS = 200_000
FOLDS = 10
#: Most steps for each weight that is tried, and the density to which voxels are lifted before
#: [mrad²/mm]. A body that a strong weight takes for air leaves no gradient in the logarithms to
#: come back by; and one that has not come back yet makes weaker weights look better.
WEIGHT_STEPS = 20
LIFTED = 1e-3


def begin(problem: Problem, smoothing: float | None = None) -> tuple[float, FloatArray]:
    """Return the prior's weight under which some muons predict others well, and the first image.

    It is made with one weight after the other, each from the one before, from strong to weak:
    what is smooth settles first, and details appear as the weight lets them. The prior is on the
    volume itself; over this image it is then that of the rest (`Prior`).

    Parameters
    ----------
    problem : Problem
    smoothing : float, optional
        The weight, if it is not to be chosen; the image comes about in the same way.

    Returns
    -------
    weight : float
        ``smoothing`` or one of `WEIGHTS`.
    logs : ndarray, shape (voxels,)
        Logarithms of the densities that half of at most `WEIGHT_MUONS` muons give with it.
    """
    stride = max(2, 2 * len(problem.muons) // WEIGHT_MUONS)
    fitted = problem.some(0, stride)
    if smoothing is not None:
        weights = (*(weight for weight in WEIGHTS if weight > smoothing), smoothing)
        logs = _coarse(fitted, weights[0])
        for weight in weights:
            logs = _advance(fitted, logs, weight, WEIGHT_STEPS)
        return smoothing, logs
    judged = problem.some(stride // 2, stride)
    logs = _coarse(fitted, WEIGHTS[0])
    tried: list[FloatArray] = []
    values: list[list[float]] = []
    for weight in WEIGHTS:
        logs = _advance(fitted, logs, weight, WEIGHT_STEPS)
        density = problem.densities(logs)
        tried.append(logs)
        told, _ = judged.each(density, judged.mixture(density))
        values.append([float(told[fold::FOLDS].sum()) for fold in range(FOLDS)])
        if len(values) - 1 - np.sum(values, axis=1).argmax() == WORSE:
            break
    chosen = strongest(np.array(values))
    return WEIGHTS[chosen], tried[chosen]


def strongest(values: FloatArray) -> int:
    """Return the strongest prior that predicts no worse than the best one by a standard error.

    Breiman et al., Classification and Regression Trees (1984), § 3.4.3: of what predicts as well,
    the simplest.

    Parameters
    ----------
    values : ndarray, shape (priors, folds)
        Log likelihoods of folds of muons given each image, that of the strongest prior first.
    """
    less = values - values[values.sum(axis=1).argmax()]
    error = less.std(axis=1, ddof=1) * np.sqrt(values.shape[1])
    return int(np.argmax(less.sum(axis=1) >= -error))


def _of_errors(problem: Problem, logs: FloatArray) -> Callable[[float], float]:
    """Return the log likelihood of some muons given a volume and a factor on the hits' variance."""
    some = problem.some(0, 1 + len(problem.muons) // MOST_MUONS)
    density = some.densities(logs)
    mixture = some.mixture(density)
    return lambda scale: float(some.each(density, mixture, scale)[0].sum())


def _coarse(problem: Problem, weight: float) -> FloatArray:
    """Return the image in voxels of twice the size, cut up into those of the grid."""
    coarse = problem.coarser()
    logs = np.full(coarse.muons.voxels, np.log(START))
    logs = _advance(coarse, logs, COARSE_SCALE * weight, COARSE_STEPS)
    fine = finer(logs.reshape(coarse.grid.shape), problem.grid.shape)
    return np.ascontiguousarray(fine).ravel()


def _advance(problem: Problem, logs: FloatArray, weight: float, limit: int) -> FloatArray:
    """Return the point after some steps, or where less than 1 nat is to be gained."""
    lifted = np.maximum(logs, np.log(LIFTED))
    prior = Prior(weight, problem.grid.shape)
    for number, step in enumerate(problem.steps(lifted, prior)):
        if number >= limit or step.promise < 1.0:
            break
    return step.point


def em(
    scatters: Scatters | Iterable[Scatters],
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
    fixed: FixedMatter | None = None,
    team: Team | None = None,
) -> Volume:
    """Reconstruct the most probable scattering density.

    Parameters
    ----------
    scatters : Scatters or iterable of Scatters
        Muons with both tracks, all at once or in portions of which one at a time is held.
    grid : VoxelGrid
        Where to reconstruct; what scatters should lie inside.
    spectrum : MomentumSpectrum, optional
        By default the sea-level one, `muscan.model.spectrum.sea_level_spectrum`.
    momentum : {"spectrum", "measured"}
        Whether measured momenta are used where there are any.
    callback : callable, optional
        Called after each step with its number and the gain [nats], the larger of the last one
        and the next that a quadratic model expects; returning True ends the reconstruction.
    workers : int, optional
        Threads, by default one a processor; the result does not depend on it.
    detector : Detector, optional
        The layout. Without it the scattering in the panels counts as if it were the same for all
        momenta, which biases the density low.
    smoothing : float, optional
        Weight of the prior; by default chosen by the data (`begin`).
    iterations : int
        At most so many steps.
    tolerance : float
        Stop once the last gain and the expected further one are below this [nats per 100 000
        muons, and for fewer muons nats].
    fixed : FixedMatter, optional
        Matter that is known to stand there (`muscan.reconstruction.fixed.rasterise`): every voxel
        has at least its density, and the prior is on what exceeds it.
    team : Team, optional
        Workers elsewhere that keep the muons and do the sums over them.

    Returns
    -------
    Volume
        Scattering density [mrad²/cm], NaN where no muon went. The channel ``resolution`` is the
        share of the data, as opposed to the prior, in what is known of a voxel; ``fixed``, where
        given, the known part of the density [mrad²/cm].

    Raises
    ------
    InputError
        If no muon crosses the grid, or an option is wrong.
    """
    if iterations < 1 or not tolerance > 0:
        raise InputError("em", "iterations and tolerance must be positive", "leave them out")
    if smoothing is not None and not smoothing > 0:
        raise InputError("--smoothing", f"{smoothing} is not positive", "leave it out")
    known = None if fixed is None else fixed.scattering.ravel() / MM_PER_CM + AIR_DENSITY
    if team is not None:
        problem: Problem = deal_problem(
            team, scatters, grid, spectrum, momentum, detector, workers, known
        )
    else:
        muons = prepare(scatters, grid, momentum, detector, workers)
        problem = Problem(muons, MomentumModel(muons, spectrum), grid, workers, known)
    wanted = smoothing
    smoothing, start = begin(problem, wanted)
    scale = variance_scale(_of_errors(problem, start))
    if scale != 1.0:
        problem = problem.erring(scale)
        smoothing, start = begin(problem, wanted)
    # The muons that choose the weight are few enough for caches as they come.
    problem = problem.by_place()
    tolerance *= max(1.0, len(problem.muons) / 1e5)
    prior = Prior(smoothing, grid.shape, image=np.exp(start))
    last, gains, ended = _maximise(problem, start, prior, iterations, tolerance, callback)
    if scale != 1.0 and ended:
        # What the first image blurs looked like errors of the hits.
        more = likeliest_scale(_of_errors(problem, last.point))
        scale, problem = scale * more, problem.erring(more)
        last, gains, ended = _maximise(problem, last.point, prior, iterations, tolerance, callback)
    volume = _volume(
        problem,
        last.point,
        prior,
        {
            "iterations": len(gains),
            "converged": bool(ended),
            "convergence_nats": float(max(last.promise, last.gain)),
            "remaining_nats": remaining(gains),
            "objective_nats": float(last.value),
            "smoothing": float(smoothing),
            "n_scatters": len(problem.muons),
            "momentum": momentum,
            "hit_error_scale": float(np.sqrt(scale)),
        },
    )
    if fixed is None:
        return volume
    return replace(
        volume,
        channels={**volume.channels, "fixed": fixed.scattering.astype(np.float32)},
        channel_units={"fixed": volume.units},
        attributes={**volume.attributes, "fixed": fixed.name},
    )


def remaining(gains: Sequence[float], window: int = 4) -> float:
    """Return what further steps would gain in all if the gains go on falling as they do [nats].

    As a geometric series through the sums of the last two windows; NaN of too few gains.
    """
    if len(gains) < 2 * window:
        return float("nan")
    before, latest = sum(gains[-2 * window : -window]), sum(gains[-window:])
    ratio = min(latest / max(before, 1e-300), 0.95)
    return float(latest * ratio / (1 - ratio))


def _maximise(
    problem: Problem,
    logs: FloatArray,
    prior: Prior,
    iterations: int,
    tolerance: float,
    callback: Callback | None,
) -> tuple[Step, list[float], bool]:
    """Return the last step, the gains of all steps and whether they converged."""
    gains: list[float] = []
    # Renewed losses change the objective little: what was learnt of its curvature still holds.
    history: History = deque(maxlen=MEMORY)
    for limit in (RENEWAL, iterations):
        for number, step in enumerate(problem.steps(logs, prior, history)):
            logs = step.point
            if number == 0:
                continue
            gains.append(step.gain)
            left = max(step.promise, step.gain)
            if callback is not None and callback(len(gains), left) is True:
                return step, gains, False
            if left < tolerance or number >= limit or len(gains) >= iterations:
                break
        if len(gains) >= iterations:
            break
    return step, gains, max(step.promise, step.gain) < tolerance


def _volume(
    problem: Problem, logs: FloatArray, prior: Prior, attributes: dict[str, object]
) -> Volume:
    shape = problem.grid.shape
    density = problem.densities(logs)
    mixture = problem.mixture(density)
    squares, numbers = problem.information(density, mixture)
    # What is not fixed is what is estimated.
    matter = np.exp(logs)
    data = squares * np.square(matter)
    bend = prior.curvature(matter)
    seen = numbers > 0
    with np.errstate(divide="ignore"):
        sigma = np.where(seen, matter / np.sqrt(data + bend), np.inf)
    _, outliers = problem.each(density, mixture)
    attributes = {
        **attributes,
        "n_outliers": int((outliers > 0.5).sum()),
        # The last bits of a kernel depend on what numba had at hand to inline when it compiled.
        "outlier_fraction": round(float(outliers.mean()), 9),
    }
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
