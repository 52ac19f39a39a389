"""Regions of a volume measured again on the muons that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from muscan.identification.background import DENSEST, SMEARING_METHODS, Contrast
from muscan.identification.boxes import BoxFit, fit_box
from muscan.identification.likelihood import local_muons
from muscan.identification.segment import Region, with_margin
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.volume import Volume

FloatArray = NDArray[np.float64]

#: Regions wider than this in any direction are no compact objects and stay as they are [mm].
LARGEST_MM: Final = 800.0
#: At most this many regions, those with the most excess, are measured again.
MOST_REGIONS: Final = 10
#: Width of the filter on the cargo around an object [mm]: voxels are noisy, paths are long.
CARGO_FILTER_MM: Final = 60.0
#: Relative error of λ because the muons' spectrum at the place is not known (two published ones,
#: `guan2015` and `ecomug`, give values that differ by 15 to 25 %) and their loss along the path is
#: taken as even.
LIKELIHOOD_ERROR: Final = 0.15
#: Relative error of λ where the method does not tell at which height the cargo scatters, which is
#: then put down to the object or taken from it.
SMEARED_CARGO_ERROR: Final = 0.35


def measured_on_muons(
    regions: Sequence[Region],
    volume: Volume,
    above: Contrast,
    scatters: Scatters,
    detector: Detector | None = None,
    flux: str = "guan2015",
) -> list[Region]:
    """Return regions with place, size, λ and significance from the muons' likelihood.

    Parameters
    ----------
    regions : sequence of Region
        From the volume, the most significant first.
    volume : Volume
    above : Contrast
        Of that volume.
    scatters : Scatters
        The muons that the volume was made from.
    detector : Detector, optional
        Their layout.
    flux : str
        Name of the flux model whose spectrum the muons have.

    Returns
    -------
    list of Region
        The most significant first. Regions that turn out to be one object are one; large ones
        stay as the volume shows them. Small ones beyond the first `MOST_REGIONS` are left out,
        and so are those for which the muons do not speak.
    """
    found: list[Region] = []
    other = SMEARED_CARGO_ERROR if volume.method in SMEARING_METHODS else 0.0
    compact = [r for r in regions if (r.upper - r.lower).max() <= LARGEST_MM]
    found += [r for r in regions if (r.upper - r.lower).max() > LARGEST_MM]
    for region in sorted(compact, key=lambda region: -region.excess)[:MOST_REGIONS]:
        fit = _fit(region, volume, above, scatters, detector, flux)
        if fit is not None:
            found.append(_with_fit(region, fit, other))
    found.sort(key=lambda region: -region.significance)
    kept: list[Region] = []
    for region in found:
        if not any(_same(region, other) for other in kept):
            kept.append(region)
    return kept


def _fit(
    region: Region,
    volume: Volume,
    above: Contrast,
    scatters: Scatters,
    detector: Detector | None,
    flux: str,
) -> BoxFit | None:
    cargo = np.clip(above.values, 0.0, DENSEST)
    near = with_margin(region.voxels, volume.grid)
    cargo.ravel()[near] = np.minimum(cargo.ravel()[near], above.background.ravel()[near])
    cargo = ndimage.gaussian_filter(cargo, CARGO_FILTER_MM / volume.grid.spacing, mode="nearest")
    muons = local_muons(
        scatters, volume.grid, cargo, region.lower, region.upper, detector=detector, flux=flux
    )
    size = region.upper - region.lower
    size[2] = min(size[2], float(size[:2].mean())) if volume.method in SMEARING_METHODS else size[2]
    smeared = volume.method in SMEARING_METHODS
    background = max(region.background, 0.0)
    return fit_box(muons, region.centre, size, background, free_cargo=smeared)


def _with_fit(region: Region, fit: BoxFit, cargo_error: float) -> Region:
    systematic = float(np.hypot(LIKELIHOOD_ERROR, cargo_error * fit.cargo_share))
    relative = float(np.hypot(fit.relative, systematic))
    return replace(
        region,
        centre=fit.centre,
        lower=fit.centre - fit.size / 2,
        upper=fit.centre + fit.size / 2,
        volume_mm3=fit.volume_mm3,
        scattering_density=fit.density,
        sigma=fit.density * float(np.sqrt(np.expm1(relative**2))),
        excess=max(fit.integral, 0.0),
        excess_sigma=float(np.hypot(fit.integral_sigma, systematic * fit.integral)),
        significance=fit.significance,
        n_muons=fit.n_muons,
    )


def _same(region: Region, other: Region) -> bool:
    """Tell whether the centre of either lies in the other's box."""
    return bool(
        ((region.centre > other.lower) & (region.centre < other.upper)).all()
        or ((other.centre > region.lower) & (other.centre < region.upper)).all()
    )
