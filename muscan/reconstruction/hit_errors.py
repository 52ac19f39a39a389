"""Whether hits err as much as they are said to, told by the muons that went through the cargo.

Scattering falls with a muon's momentum, and hits err the same for all. So the likelihood of a scan
tells both apart, by the fast muons, and far better than it tells what is in the cargo. It has to be
known: of hits that err less than stated, muons seem faster than they are, and matter denser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from muscan.kernels import region as kernel
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import lanes
from muscan.reconstruction.crossed import crossed_bins
from muscan.reconstruction.ways import TracedMuons, thinned

#: Least change of the logarithm of the variance that counts, in a volume that these muons made …
NEAR: Final = 0.3
#: … and in a background of any origin. Those of `poca` seem to have a variance of 1.4 to 1.7 times
#: the stated one: what they put in the wrong place looks like errors of the hits.
NEAR_IN_BACKGROUND: Final = 1.0
#: Gain by the best factor for which it is no longer 1 [nats].
LEAST_GAIN: Final = 50.0
#: Logarithms of the factors on the variance that are tried.
LIMITS: Final = (-7.0, 5.0)
#: Of more muons, every second (third, …) is asked.
MOST_MUONS: Final = 30_000


def variance_scale(likelihood: Callable[[float], float], near: float = NEAR) -> float:
    """Return the factor on the variance of all hits that muons tell, 1 where it is as stated.

    Parameters
    ----------
    likelihood : callable
        Log likelihood of some muons given the factor.
    near : float
        Least change of the factor's logarithm that counts.
    """
    stated = likelihood(1.0)
    if max(likelihood(float(np.exp(x))) for x in (-near, near)) < stated:
        return 1.0
    scale = likeliest_scale(likelihood)
    counts = abs(np.log(scale)) > near and likelihood(scale) - stated > LEAST_GAIN
    return scale if counts else 1.0


def likeliest_scale(likelihood: Callable[[float], float]) -> float:
    """Return the factor on the variance of all hits that makes some muons likeliest.

    Parameters
    ----------
    likelihood
        As for `variance_scale`.
    """
    found = minimize_scalar(
        lambda x: -likelihood(float(np.exp(x))),
        bounds=LIMITS, method="bounded", options={"xatol": 0.02},
    )  # fmt: skip
    return float(np.exp(found.x))


def erring(muons: TracedMuons, scale: float) -> TracedMuons:
    """Return muons of hits of so many times the stated variance."""
    noise = muons.ways.noise * np.float32(scale)
    return replace(muons, ways=muons.ways._replace(noise=noise))


def traced_variance_scale(
    muons: TracedMuons,
    grid: VoxelGrid,
    background: NDArray[np.float64],
    workers: int | None = None,
) -> float:
    """Return `variance_scale` given a volume.

    Parameters
    ----------
    muons : TracedMuons
    grid : VoxelGrid
    background : ndarray, shape of the grid
        Scattering density [mrad²/mm].
    workers : int, optional
        Threads.
    """
    some = thinned(muons, MOST_MUONS)
    bins = crossed_bins(some, grid, background, workers)
    values = np.empty(len(some))
    shares = lanes.bounds(len(some))

    def likelihood(scale: float) -> float:
        ways = erring(some, scale).ways
        lanes.run(
            lambda lane: kernel.base_densities(
                ways, bins, some.momenta, np.arange(*shares[lane]), values
            ),
            lanes.LANES,
            workers,
        )
        return float(values.sum())

    return variance_scale(likelihood, NEAR_IN_BACKGROUND)
