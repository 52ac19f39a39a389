"""Which muons decayed on their way, scattered once by a large angle, or were paired wrongly."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import MomentumSpectrum
from muscan.model.track_errors import AIR_DENSITY
from muscan.model.volume import Volume
from muscan.reconstruction.momenta import MomentumModel
from muscan.reconstruction.muons import prepare
from muscan.reconstruction.problem import Problem
from muscan.units import MM_PER_CM


def outlier_probabilities(
    scatters: Scatters,
    volume: Volume,
    *,
    spectrum: MomentumSpectrum | None = None,
    momentum: Literal["spectrum", "measured"] = "spectrum",
    detector: Detector | None = None,
    workers: int | None = None,
) -> NDArray[np.float64]:
    """Return the probability that each muon is an outlier, given a volume.

    That is the share which the outlier component has in the muon's likelihood under `em`'s
    mixture; a few in a thousand muons have more than one half.

    Parameters
    ----------
    scatters : Scatters
        Muons with both tracks.
    volume : Volume
        Scattering density; NaN counts as air.
    spectrum, momentum, detector, workers
        As for `muscan.reconstruction.em.em`.

    Returns
    -------
    ndarray, shape (n,)
        NaN for muons that do not cross the volume.

    Raises
    ------
    InputError
        If no muon crosses the volume, or an option is wrong.
    """
    muons = prepare(scatters, volume.grid, momentum, detector, workers)
    problem = Problem(muons, MomentumModel(muons, spectrum), volume.grid, workers)
    density = np.nan_to_num(volume.values.ravel().astype(float)) / MM_PER_CM
    density = np.maximum(density, AIR_DENSITY)
    _, found = problem.each(density, problem.mixture(density))
    result = np.full(len(scatters), np.nan)
    result[np.isin(scatters.event_id, muons.event_id)] = found
    return result
