"""Maximum likelihood by expectation maximisation as published: one momentum, normal angles.

Schultz et al., IEEE TIP 16:1985 (2007), with the mean as update rule. For comparison with `em`,
which knows the spectrum of momenta and the tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels.em import Mixture
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum, scattering_power, sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import prepare
from muscan.reconstruction.problem import Problem
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Density at which every voxel starts [mrad²/mm].
START = 0.01
#: Least density, that of less than air [mrad²/mm].
LEAST = 1e-5


def mlem(
    scatters: Scatters | Iterable[Scatters],
    grid: VoxelGrid,
    *,
    spectrum: MomentumSpectrum | None = None,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    callback: Callable[[int, float], object] | None = None,
    workers: int | None = None,
    detector: Detector | None = None,
    iterations: int = 60,
) -> Volume:
    """Reconstruct scattering density with all momenta taken to be the spectrum's median.

    Each step is λ ← λ + λ²/2 · s̄ with s̄ the mean over the muons through a voxel of the derivative
    of their log likelihood, which is what the expected squares of the hidden scattering in the
    voxel come to. Muons beyond twelve standard deviations count as if they told nothing.

    Parameters
    ----------
    scatters, grid, spectrum, workers, detector
        As for `muscan.reconstruction.em.em`.
    momentum : {"spectrum"}
        As published, one momentum stands for all.
    callback : callable, optional
        Called after each step with its number and its gain [nats]; returning True ends the run.
    iterations : int
        Steps.

    Returns
    -------
    Volume
        Scattering density [mrad²/cm], NaN where no muon went.

    Raises
    ------
    InputError
        If no muon crosses the grid, or an option is wrong.
    """
    if momentum != "spectrum":
        raise InputError("--momentum", f"mlem cannot use '{momentum}' momenta", "use --method em")
    if iterations < 1:
        raise InputError("mlem", "iterations must be positive", "leave it out")
    muons = prepare(scatters, grid, momentum, detector, workers)
    law = spectrum or sea_level_spectrum()
    problem = Problem(muons, MomentumModel(muons, law), grid, workers)
    median = float(law.quantile(float(muons.cosine.mean()), np.array([0.5]))[0])
    mixture = _one_momentum(median, len(muons), len(muons.paths.voxel))
    density = np.full(muons.voxels, START)
    squares, numbers = problem.information(density, mixture)
    seen = numbers > 0
    value, gain, done = -np.inf, np.inf, 0
    for done in range(1, iterations + 1):
        before, (value, slope) = value, problem.likelihood(density, mixture)
        gain = value - before
        change = 0.5 * np.square(density) * slope / np.maximum(numbers, 1)
        density = np.maximum(density + change, LEAST)
        if callback is not None and callback(done, float(gain)) is True:
            break
    squares, _ = problem.information(density, mixture)
    with np.errstate(divide="ignore"):
        sigma = np.where(squares > 0, 1 / np.sqrt(squares), np.inf)
    return Volume(
        values=_shaped(np.where(seen, density, np.nan), grid),
        grid=grid,
        method="mlem",
        uncertainty=_shaped(np.where(seen, sigma, np.inf), grid),
        n_muons=numbers.reshape(grid.shape).astype(np.uint32),
        attributes={
            "iterations": done,
            "convergence_nats": float(gain),
            "momentum_GeV": median,
            "n_scatters": len(muons),
        },
    )


def _one_momentum(momentum: float, n: int, visits: int) -> Mixture:
    """Return the mixture of one class, without outliers and without loss."""
    power = np.array([[float(scattering_power(np.array(momentum)))]])
    none = np.zeros((1, 1))
    return Mixture(
        power, np.ones((1, 1)), none, none,
        np.zeros(n, np.int32), np.zeros(n, np.float32),
        np.full(visits, 127, np.uint8), 0.0, 1.0,
    )  # fmt: skip


def _shaped(values: FloatArray, grid: VoxelGrid) -> NDArray[np.float32]:
    return np.asarray((values * MM_PER_CM).reshape(grid.shape), dtype=np.float32)
