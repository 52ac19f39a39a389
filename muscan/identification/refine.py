"""Objects in a volume found and measured on the muons that made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import chdtrc

from muscan.identification.background import SMEARING_METHODS, contrast
from muscan.identification.segment import Region, known_voxels
from muscan.model.region import Candidate, KnownBox, RegionFit, RegionTester
from muscan.model.volume import Volume, VoxelGrid

FloatArray = NDArray[np.float64]

#: Regions larger than this are no compact objects and stay as they are [mm]. For methods that smear
#: along z the height is taken to be the width at most.
LARGEST_MM: Final = 800.0
#: At most this many candidates, the surest, are fitted.
MOST_CANDIDATES: Final = 50
#: Least log likelihood ratio of an object [nats], five standard deviations: chance makes less in
#: every scan, whatever its size.
LEAST_RATIO: Final = 12.5
#: Edge of a voxel of the image that shows the cargo [mm], and at least so many along every edge.
CARGO_VOXEL_MM: Final = 150.0
CARGO_VOXELS: Final = 16
#: Numbers that are fitted at a place: the place itself within its surroundings, width, height and
#: density.
FREEDOM: Final = 6
#: Relative error of λ because the muons' spectrum at the place is not known. With it, and the one
#: for cargo, the errors of ln λ are those that 168 objects under three published spectra have
#: (`benchmarks.bench_identity --first 300`: 0.08 is what 84 of them in air need).
LIKELIHOOD_ERROR: Final = 0.08
#: What stands beside an object with less than this part of its integral is no object of its own.
ECHO_SHARE: Final = 0.15
#: Beside an object is what lies no further than this from its box, across or along [mm].
ECHO_MM: Final = 150.0


def measured_on_muons(
    regions: Sequence[Region],
    volume: Volume,
    tester: RegionTester,
    known: Sequence[KnownBox] = (),
) -> list[Region]:
    """Return the objects that the muons speak for, with place, size, λ and significance.

    Candidates are the boxes of the tester's scan and the compact regions of the volume. They are
    fitted from the surest on, each with those before it in place, so that what one object does to
    the muons is not taken for another.

    Parameters
    ----------
    regions : sequence of Region
        From the volume.
    volume : Volume
    tester : RegionTester
        The muons that the volume was made from.
    known : sequence of KnownBox
        What is known to stand there, and is no object: a container's frame.

    Returns
    -------
    list of Region
        The most significant first. Regions of the volume larger than `LARGEST_MM` stay as they
        are; compact ones are there only if the muons confirm them.
    """
    tests = tester.against(cargo_background(tester, volume.grid))
    frame = tests.locating(known) if known else []
    for member in frame:
        tests = tests.holding(member)
    found, pool = [], list(tests.scan())
    for region in regions:
        candidate = _candidate(region, volume)
        if candidate.size.max() > LARGEST_MM:
            found.append(region)
        else:
            pool.append(candidate)
    pool.sort(key=lambda candidate: -candidate.log_ratio)
    fits: list[RegionFit] = []
    for candidate in pool[:MOST_CANDIDATES]:
        fit = tests.fit_box(candidate.centre, candidate.size, least=LEAST_RATIO)
        if fit is None or any(_same(fit, one) for one in fits):
            continue
        fits.append(fit)
        tests = tests.holding(fit)
    told = [fit for fit in fits if not any(_is_echo(fit, other) for other in (*frame, *fits))]
    found += [_region(fit, volume.grid, tests.places(fit.size)) for fit in told]
    return sorted(found, key=lambda region: -region.significance)


def cargo_background(tester: RegionTester, grid: VoxelGrid) -> FloatArray:
    """Return what the muons say of the cargo without small objects [mrad²/cm], shape of the grid.

    It comes from an image of their own in large voxels, whatever method made the volume: methods
    that put all scattering in one point draw thick goods together in the middle of their height.
    """
    extent = grid.upper - grid.lower
    image = tester.image(min(CARGO_VOXEL_MM, float(extent.min()) / CARGO_VOXELS))
    background = contrast(image, known_voxels(image)).background
    at = [
        (grid.centres(axis) - image.grid.lower[axis]) / image.grid.spacing[axis] - 0.5
        for axis in range(3)
    ]
    places = np.meshgrid(*at, indexing="ij")
    return np.asarray(ndimage.map_coordinates(background, places, order=1, mode="nearest"), float)


def _is_echo(fit: RegionFit, other: RegionFit) -> bool:
    """Tell whether a fit may be what the box of a stronger object beside it leaves over.

    An object is no box of one density, so a box leaves some of it over beside itself.
    """
    beside = np.abs(fit.centre - other.centre) < other.size / 2 + ECHO_MM
    return bool(beside.all()) and fit.integral < ECHO_SHARE * other.integral


def chance_objects(log_ratio: float, places: float) -> float:
    """Return the expected number of objects a scan that chance makes at least as sure.

    By Wilks' theorem twice the log ratio of `FREEDOM` fitted numbers follows χ²; an excess could
    have been at any of the places (the look-elsewhere effect).
    """
    return float(places * chdtrc(FREEDOM, 2 * log_ratio))


def _candidate(region: Region, volume: Volume) -> Candidate:
    """Return a region of the volume as a box to start from, with its significance there."""
    size = region.upper - region.lower
    if volume.method in SMEARING_METHODS:
        size[2] = min(size[2], float(size[:2].mean()))
    corners = np.array([region.centre - size / 2, region.centre + size / 2])
    increase = max(region.scattering_density - region.background, 0.0)
    return Candidate(corners, region.significance**2 / 2, increase)


def _region(fit: RegionFit, grid: VoxelGrid, places: float) -> Region:
    relative = float(np.hypot(fit.relative, LIKELIHOOD_ERROR))
    lower, upper = fit.bounds
    return Region(
        centre=fit.centre,
        lower=lower,
        upper=upper,
        volume_mm3=float(fit.size.prod()),
        scattering_density=fit.density,
        sigma=fit.density * float(np.sqrt(np.expm1(relative**2))),
        background=fit.background,
        excess=max(fit.integral, 0.0),
        excess_sigma=float(np.hypot(fit.integral_sigma, LIKELIHOOD_ERROR * fit.integral)),
        significance=fit.significance,
        n_muons=fit.n_muons,
        voxels=_voxels(lower, upper, grid),
        chance=chance_objects(fit.log_ratio, places),
    )


def _voxels(lower: FloatArray, upper: FloatArray, grid: VoxelGrid) -> NDArray[np.int64]:
    """Return the flat indices of the voxels that a box meets."""
    low = np.floor((lower - grid.lower) / grid.spacing).astype(int)
    high = np.ceil((upper - grid.lower) / grid.spacing).astype(int)
    low, high = np.clip(low, 0, np.array(grid.shape) - 1), np.clip(high, 1, grid.shape)
    index = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
    return np.asarray(np.ravel_multi_index(tuple(index.reshape(-1, 3).T), grid.shape), np.int64)


def _same(fit: RegionFit, other: RegionFit) -> bool:
    """Tell whether the centre of either lies in the other's box."""
    apart = np.abs(fit.centre - other.centre)
    return bool((apart < fit.size / 2).all() or (apart < other.size / 2).all())
