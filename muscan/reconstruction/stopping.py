"""Stopping density: how much matter takes of the muons that do not come out of it.

Blanpied et al., NIM A 784:352 (2015), use both channels: a muon's scattering goes with the
density times Z, its loss of range with the density of electrons alone. Here every incoming muon
that aims at the panels on the other side has a likelihood: to be seen again (it survives, stays
within the panels, does not decay, and is detected) or not. See ``docs/reconstruction.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Tracks
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.track_errors import AIR_DENSITY, momentum_loss
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction.common import coarser_grid, finer, parents
from muscan.reconstruction.lbfgs import Step, minimise
from muscan.reconstruction.prior import smoothness
from muscan.reconstruction.stopping_problem import WATER_LOSS, StoppingFit, StoppingProblem
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Density at which every voxel starts where no scattering is known, and the least that scattering
#: lets expect [g/cm³]: the first 5 g/cm² of a path stop nothing, so what stands there remains.
START = 0.02
#: Least density for which the priors' share in the error counts [g/cm³].
KNOWN_ABOVE = 0.1
#: Width of the prior of ln(density / expected) of a region as large as `REGION_VOXELS`.
REGION_WIDTH, REGION_VOXELS = 1.0, 100
#: Weights of the smoothness prior that are tried, strongest first.
WEIGHTS = (3.0, 1.0, 0.3, 0.1)
#: Rounds in which the acceptance is renewed, and steps in each.
ROUNDS, STEPS = 3, 15
UNITS = "g/cm3"


class StoppingImage:
    """The stopping density of a grid, and tests of regions in it.

    Made on voxels of twice the size: few muons stop, so that smaller ones would tell nothing.

    Parameters
    ----------
    tracks : Tracks or iterable of Tracks
        Incoming tracks, and outgoing ones where there are; all at once, or in portions that
        part no event.
    grid : VoxelGrid
        Where to reconstruct.
    scattering : Volume, optional
        Scattering density on that grid. It says how many muons are bent out of the panels, and
        what to expect: common matter of that scattering. Without it the former is left out.
    spectrum, detector, workers
        As for `muscan.reconstruction.em.em`.
    smoothing : float, optional
        Weight of the prior; by default chosen by the data.
    callback : callable, optional
        Called after each step with its number and the expected gain [nats].
    """

    def __init__(
        self,
        tracks: Tracks | Iterable[Tracks],
        grid: VoxelGrid,
        *,
        scattering: Volume | None = None,
        spectrum: MomentumSpectrum | None = None,
        detector: Detector | None = None,
        workers: int | None = None,
        smoothing: float | None = None,
        callback: Callable[[int, float], object] | None = None,
    ) -> None:
        if smoothing is not None and not smoothing > 0:
            raise InputError("--smoothing", f"{smoothing} is not positive", "leave it out")
        if scattering is not None and scattering.values.shape != grid.shape:
            raise InputError("scattering", f"shape {scattering.values.shape}, not {grid.shape}")
        self.grid, self.coarse = grid, coarser_grid(grid)
        self.problem = StoppingProblem(
            tracks, self.coarse, spectrum=spectrum, detector=detector, workers=workers
        )
        self._scattering = np.full(self.problem.voxels, AIR_DENSITY)
        self._expected = np.full(self.problem.voxels, START)
        if scattering is not None:
            self._learn(np.nan_to_num(scattering.values.ravel().astype(float)) / MM_PER_CM)
        self._callback, self.steps = callback, 0
        self.smoothing, self._logs = self._choose(smoothing)
        self._last = self._descend(self._logs, self.smoothing, ROUNDS)
        self._logs = self._last.point

    @property
    def density(self) -> FloatArray:
        """Stopping density of the larger voxels [g/cm³ of water], flat."""
        return np.asarray(np.exp(self._logs))

    def region(self, mask: NDArray[np.bool_]) -> StoppingFit:
        """Return what the muons say of a region's stopping density, all of it one.

        Parameters
        ----------
        mask : ndarray of bool, shape of the grid
            Voxels of the region; of the larger voxels those count that lie in it by half.
        """
        if mask.shape != self.grid.shape:
            raise InputError("region", f"mask of shape {mask.shape}, not {self.grid.shape}")
        share = self._mean(mask.ravel().astype(float))
        return self.problem.region(share >= 0.5, self.density / MM_PER_CM)

    def channels(self) -> dict[str, NDArray[np.float32]]:
        """Return ``stopping`` and ``stopping_uncertainty`` on the grid [g/cm³ of water]."""
        squares, numbers = self.problem.information(self.density / MM_PER_CM)
        bend = smoothness(self._shaped(self._logs), self.smoothing)[2].ravel() + _ridge()
        # The prior is on the logarithm; of a density near zero it says nothing worth having.
        known = squares / MM_PER_CM**2 + bend / np.maximum(self.density, KNOWN_ABOVE) ** 2
        seen = numbers > 0
        return {
            "stopping": self._fine(np.where(seen, self.density, np.nan)),
            "stopping_uncertainty": self._fine(np.where(seen, 1 / np.sqrt(known), np.inf)),
        }

    def numbers(self) -> NDArray[np.uint32]:
        """Return how many muons that should come out aim through each voxel."""
        counted = self.problem.information(self.density / MM_PER_CM)[1]
        return self._fine(counted.astype(float)).astype(np.uint32)

    def attributes(self) -> dict[str, object]:
        """Return what a volume's attributes should tell of it."""
        return {
            "stopping_smoothing": self.smoothing,
            "stopping_iterations": self.steps,
            "stopping_convergence_nats": float(max(self._last.gain, self._last.promise)),
            "stopping_missed_fraction": 1 - self.problem.efficiency,
            **{f"stopping_{name}": n for name, n in self.problem.expected.counts.items()},
        }

    def _learn(self, density: FloatArray) -> None:
        """Take acceptance and expectation from a scattering density [mrad²/mm]."""
        self._scattering = np.maximum(self._mean(density), AIR_DENSITY)
        water = self._mean(momentum_loss(np.maximum(density - AIR_DENSITY, 0.0))) / WATER_LOSS
        self._expected = np.maximum(water * MM_PER_CM, START)

    def _choose(self, smoothing: float | None) -> tuple[float, FloatArray]:
        """Return the weight under which one half of the muons best predicts the other."""
        logs = np.log(self._expected)
        if smoothing is not None:
            return smoothing, logs
        best, best_value = (WEIGHTS[0], logs), -np.inf
        for weight in WEIGHTS:
            logs = self._descend(logs, weight, 1, parity=0).point
            value, _ = self.problem.likelihood(np.exp(logs) / MM_PER_CM, parity=1)
            if value <= best_value:
                break
            best, best_value = (weight, logs), value
        return best

    def _descend(
        self, logs: FloatArray, weight: float, rounds: int, parity: int | None = None
    ) -> Step:
        shape = self.coarse.shape
        center = np.log(self._expected)

        def objective(x: FloatArray) -> tuple[float, FloatArray]:
            density = np.exp(x) / MM_PER_CM
            value, gradient = self.problem.likelihood(density, parity)
            off = x - center
            cost, slope, _ = smoothness(off.reshape(shape), weight)
            pull = _ridge() * off
            return (
                cost + 0.5 * float(pull @ off) - value,
                slope.ravel() + pull - gradient * density,
            )

        for _ in range(rounds):
            density = np.exp(logs) / MM_PER_CM
            self.problem.renew(density, self._scattering)
            squares, _ = self.problem.information(density)
            bend = smoothness((logs - center).reshape(shape), weight)[2].ravel()
            curvature = squares * density**2 + bend + _ridge()
            for number, step in enumerate(minimise(objective, logs, curvature)):
                self.steps += number > 0
                if self._callback is not None and number:
                    self._callback(self.steps, step.promise)
                if number >= STEPS or max(step.promise, step.gain) < 0.1:
                    break
            logs = step.point
        return step

    def _mean(self, values: FloatArray) -> FloatArray:
        """Return the mean of a field of the grid over each larger voxel."""
        parent = parents(self.grid)
        number = np.bincount(parent, minlength=self.problem.voxels)
        total = np.bincount(parent, values, minlength=self.problem.voxels)
        return np.asarray(total / np.maximum(number, 1))

    def _shaped(self, values: FloatArray) -> FloatArray:
        return np.asarray(values - np.log(self._expected)).reshape(self.coarse.shape)

    def _fine(self, values: FloatArray) -> NDArray[np.float32]:
        shaped = finer(values.reshape(self.coarse.shape), self.grid.shape)
        return np.ascontiguousarray(shaped, dtype=np.float32)


def _ridge() -> float:
    """Return each voxel's share in the prior of a region of `REGION_VOXELS`."""
    return 1 / (REGION_WIDTH**2 * REGION_VOXELS)


def stopping(
    tracks: Tracks | Iterable[Tracks],
    grid: VoxelGrid,
    *,
    spectrum: MomentumSpectrum | None = None,
    detector: Detector | None = None,
    workers: int | None = None,
    smoothing: float | None = None,
    callback: Callable[[int, float], object] | None = None,
) -> Volume:
    """Reconstruct stopping density alone.

    Parameters
    ----------
    tracks, grid, spectrum, detector, workers, smoothing, callback
        See `StoppingImage`.

    Returns
    -------
    Volume
        Stopping density [g/cm³ of water], NaN where no muon aims; ``n_muons`` counts those that
        should come out.

    Raises
    ------
    InputError
        If there is no layout, no muon aims through the grid, or an option is wrong.
    """
    image = StoppingImage(
        tracks, grid, spectrum=spectrum, detector=detector, workers=workers,
        smoothing=smoothing, callback=callback,
    )  # fmt: skip
    channels = image.channels()
    return Volume(
        values=channels["stopping"],
        grid=grid,
        method="stopping",
        uncertainty=channels["stopping_uncertainty"],
        n_muons=image.numbers(),
        quantity="stopping_density",
        units=UNITS,
        attributes=image.attributes(),
    )


def with_stopping(
    volume: Volume,
    tracks: Tracks | Iterable[Tracks],
    *,
    spectrum: MomentumSpectrum | None = None,
    detector: Detector | None = None,
    workers: int | None = None,
    callback: Callable[[int, float], object] | None = None,
) -> Volume:
    """Return a volume of scattering density with the channels of stopping density.

    Parameters
    ----------
    volume : Volume
        Scattering density; it guides the stopping density, see `StoppingImage`.
    tracks, spectrum, detector, workers, callback
        See `StoppingImage`.
    """
    image = StoppingImage(
        tracks, volume.grid, scattering=volume, spectrum=spectrum, detector=detector,
        workers=workers, callback=callback,
    )  # fmt: skip
    channels = image.channels()
    return replace(
        volume,
        channels={**volume.channels, **channels},
        channel_units={**volume.channel_units, **dict.fromkeys(channels, UNITS)},
        attributes={**volume.attributes, **image.attributes()},
    )
