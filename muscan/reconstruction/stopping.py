"""Stopping density: how much matter takes of the muons that do not come out of it.

Blanpied et al., NIM A 784:352 (2015), use both channels: a muon's scattering goes with the
density times Z, its loss of range with the density of electrons alone. Here every incoming muon
that aims at the panels on the other side has a likelihood: to be seen again (it survives, stays
within the panels, does not decay, and is detected) or not. See ``docs/reconstruction.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Tracks
from muscan.model.material import load_materials
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.survival import stopping_density
from muscan.model.track_errors import AIR_DENSITY, momentum_loss
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction.common import coarser_grid, finer, parents
from muscan.reconstruction.lbfgs import Step, minimise
from muscan.reconstruction.prior import bounded_smoothness as smoothness
from muscan.reconstruction.stopping_problem import WATER_LOSS, StoppingProblem
from muscan.reconstruction.stopping_region import Region, StoppingFit
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Density at which every voxel starts at least [g/cm³], so that muons stop everywhere.
START = 0.02
#: Least density for which the priors' share in the error counts [g/cm³].
KNOWN_ABOVE = 0.1
#: Scattering densities of common matter whose stopping density is looked up [mrad²/mm].
SCATTERING = np.geomspace(AIR_DENSITY, 8.0, 300)
#: Width of the prior of ln(density / expected) of a region as large as `REGION_VOXELS`.
REGION_WIDTH, REGION_VOXELS = 1.0, 100
#: Weights of the smoothness prior that are tried, strongest first.
WEIGHTS = (3.0, 1.0, 0.3, 0.1)
#: Least weight of an image from which what is around a region is found: without its noise.
AROUND = 1.0
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
        what to expect: common matter of that scattering. Without it, air is expected, and what
        stops is taken to scatter as common matter does.
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
        self._scattering: FloatArray | None = None
        self._expected = np.full(self.problem.voxels, air_stopping())
        if scattering is not None:
            self._learn(np.nan_to_num(scattering.values.ravel().astype(float)) / MM_PER_CM)
        self._callback, self.steps = callback, 0
        self._around: FloatArray | None = None
        self.smoothing, self._logs = self._choose(smoothing)
        self._last = self._descend(self._logs, self.smoothing, ROUNDS)
        self._logs = self._last.point
        self.problem.fit_efficiency(self.density / MM_PER_CM)

    @property
    def density(self) -> FloatArray:
        """Stopping density of the larger voxels [g/cm³ of water], flat."""
        return np.asarray(np.exp(self._logs))

    def region(self, mask: NDArray[np.bool_]) -> StoppingFit:
        """Return what the muons say of a region's stopping density, all of it one.

        Parameters
        ----------
        mask : ndarray of bool, shape of the grid
            Voxels of the region, all of one density. What is around is found anew with it, so that
            what the image smears there comes back.
        """
        if self._around is None:
            logs = self._logs
            if self.smoothing < AROUND:
                start = np.log(np.maximum(self._expected, START))
                logs = self._descend(start, AROUND, ROUNDS).point
            self._around = np.exp(logs)
        return Region(self.problem, self.shares(mask), self._around).fit()

    def shares(self, mask: NDArray[np.bool_]) -> FloatArray:
        """Return the share of each larger voxel that a mask on the grid fills, flat."""
        if mask.shape != self.grid.shape:
            raise InputError("region", f"mask of shape {mask.shape}, not {self.grid.shape}")
        return self._mean(mask.ravel().astype(float))

    def channels(self) -> dict[str, NDArray[np.float32]]:
        """Return ``stopping`` and ``stopping_uncertainty`` on the grid [g/cm³ of water]."""
        squares, numbers = self.problem.information(self.density / MM_PER_CM)
        bend = self._prior(self._logs - np.log(self._expected), self.smoothing)[2]
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
        self._expected = np.maximum(water * MM_PER_CM, air_stopping())

    def _choose(self, smoothing: float | None) -> tuple[float, FloatArray]:
        """Return the weight under which one half of the muons best predicts the other."""
        logs = self._choose_low_end(smoothing or WEIGHTS[0])
        if smoothing is not None:
            return smoothing, logs
        best, best_value = (WEIGHTS[0], logs), self._judged(logs)
        for weight in WEIGHTS[1:]:
            logs = self._descend(logs, weight, 1, parity=0).point
            self.problem.fit_efficiency(np.exp(logs) / MM_PER_CM)
            value = self._judged(logs)
            if value <= best_value:
                break
            best, best_value = (weight, logs), value
        return best

    def _choose_low_end(self, weight: float) -> FloatArray:
        """Choose how far down the spectrum goes, by the same halves; return the densities."""
        problem, found = self.problem, []
        start = np.log(np.maximum(self._expected, START))
        for low_end in range(len(problem.spectra)):
            problem.low_end = low_end
            problem.reset_efficiency()
            logs = self._descend(start, weight, 2, parity=0).point
            # Fitted only now: thin matter everywhere could stand for what the panels miss.
            problem.fit_efficiency(np.exp(logs) / MM_PER_CM)
            value = self._judged(logs) + problem.efficiency_prior()
            found.append((value, low_end, problem.efficiency, logs))
        _, problem.low_end, problem.efficiency, logs = max(found, key=lambda each: each[0])
        return logs

    def _judged(self, logs: FloatArray) -> float:
        return self.problem.likelihood(np.exp(logs) / MM_PER_CM, parity=1)[0]

    def _prior(self, off: FloatArray, weight: float) -> tuple[float, FloatArray, FloatArray]:
        """Return cost, slope and curvature of logarithms that are off what is expected.

        Of the steps between neighbours, and of a voxel by itself: as `smoothness`, so that what is
        far from expected is not drawn back.
        """
        cost, slope, bend = smoothness(off.reshape(self.coarse.shape), weight)
        own = 1 / (REGION_WIDTH**2 * REGION_VOXELS)
        root = 1 / np.sqrt(1 + off**2)
        return (
            cost + own * float((1 - root).sum()),
            slope.ravel() + own * off * root**3,
            bend.ravel() + own * root**3,
        )

    def _descend(
        self, logs: FloatArray, weight: float, rounds: int, parity: int | None = None
    ) -> Step:
        center = np.log(self._expected)

        def objective(x: FloatArray) -> tuple[float, FloatArray]:
            density = np.exp(x) / MM_PER_CM
            value, gradient = self.problem.likelihood(density, parity)
            cost, slope, _ = self._prior(x - center, weight)
            return cost - value, slope - gradient * density

        for _ in range(rounds):
            density = np.exp(logs) / MM_PER_CM
            self.problem.renew(density, self._scattering_of(density))
            squares, _ = self.problem.information(density)
            curvature = squares * density**2 + self._prior(logs - center, weight)[2]
            for number, step in enumerate(minimise(objective, logs, curvature)):
                self.steps += number > 0
                if self._callback is not None and number:
                    self._callback(self.steps, step.promise)
                if number >= STEPS or max(step.promise, step.gain) < 0.1:
                    break
            logs = step.point
        return step

    def _scattering_of(self, density: FloatArray) -> FloatArray:
        """Return the scattering density, known or that of common matter [mrad²/mm]."""
        if self._scattering is not None:
            return self._scattering
        common = np.maximum.accumulate(momentum_loss(SCATTERING)) / WATER_LOSS
        return np.asarray(np.interp(density, common, SCATTERING))

    def _mean(self, values: FloatArray) -> FloatArray:
        """Return the mean of a field of the grid over each larger voxel."""
        parent = parents(self.grid)
        number = np.bincount(parent, minlength=self.problem.voxels)
        total = np.bincount(parent, values, minlength=self.problem.voxels)
        return np.asarray(total / np.maximum(number, 1))

    def _fine(self, values: FloatArray) -> NDArray[np.float32]:
        shaped = finer(values.reshape(self.coarse.shape), self.grid.shape)
        return np.ascontiguousarray(shaped, dtype=np.float32)


@cache
def air_stopping() -> float:
    """Return the stopping density of air [g/cm³ of water], the least that is expected anywhere."""
    return stopping_density(load_materials()["air"])


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
