"""Muons that follow the reconstruction's own model: for what a model's statistics must give.

Straight muons with momenta from a spectrum cross a volume; angle and offset between their tracks
are drawn from the normal distribution that the volume and the tracks' errors make of them. For
physics there is `muscan.simulation`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from muscan.kernels import paths as kernel
from muscan.kernels.frame import transverse_axes
from muscan.model.events import Scatters
from muscan.model.spectrum import EXIT_MOMENTUM_GEV, MomentumSpectrum, scattering_power
from muscan.model.track_errors import highland_factor, momentum_loss
from muscan.model.volume import VoxelGrid
from muscan.reconstruction.angles import shares, variances
from muscan.reconstruction.momenta import GEV_PER_WATER, along_path, cutoff
from muscan.reconstruction.muons import prepare
from muscan.units import MM_PER_CM, SCATTERING_DENSITY_X0_MRAD2

SIGMA_OFFSET_MM, SIGMA_ANGLE = 0.2, 0.5e-3


def straight(n, width, height, tilt, rng, sigma=1.0):
    """Return muons that do not scatter, from z = height to -height, with errors on both tracks."""
    slope = rng.normal(0, tilt, (n, 2))
    direction = np.concatenate([slope, -np.ones((n, 1))], axis=1)
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    middle = np.concatenate([rng.uniform(-0.5, 0.5, (n, 2)) * width, np.zeros((n, 1))], axis=1)
    above = middle + direction * (height / direction[:, 2:])
    below = middle - direction * (height / direction[:, 2:])
    cov = np.diag([SIGMA_OFFSET_MM**2] * 2 + [SIGMA_ANGLE**2] * 2) * sigma**2
    covs = np.broadcast_to(cov, (n, 4, 4)).astype(np.float32)
    unknown = np.full(n, np.nan, np.float32)
    directions = direction.astype(np.float32)
    return Scatters(
        event_id=np.arange(n, dtype=np.uint64),
        in_position=above.astype(np.float32),
        in_direction=directions,
        in_cov=covs,
        out_position=below.astype(np.float32),
        out_direction=directions,
        out_cov=covs,
        momentum=unknown,
        sigma=unknown,
    )


def scatter(
    muons: Scatters, density, grid: VoxelGrid, spectrum: MomentumSpectrum, rng, moliere=False
):
    """Return the muons that cross a grid, scattered by densities [mrad²/cm], and their momenta.

    With ``moliere`` the angles have the shape that `em` takes them to have, and are larger where
    the muon has become slower; else they are normal, of one momentum all along the path.
    """
    prepared = prepare(muons, grid, workers=1)
    if len(prepared) != len(muons):
        raise ValueError("every muon must cross the grid")
    flat = density.ravel() / MM_PER_CM
    sums = np.array([kernel.project(prepared.paths, flat, n) for n in range(len(muons))])
    thickness = sums[:, 0] / SCATTERING_DENSITY_X0_MRAD2
    loss = np.empty(len(muons))
    kernel.line_integrals(prepared.paths, momentum_loss(flat), 0, len(muons), loss)
    if moliere:
        water = loss / GEV_PER_WATER
        momentum = _arriving(spectrum, prepared.cosine, [cutoff(x) for x in water], rng)
        power, slope = along_path(momentum, 0.0, water)
        power *= _spread(thickness, water, rng)
        sums += slope[:, None] * _later(prepared.paths, flat, loss)
    else:
        momentum = _arriving(spectrum, prepared.cosine, loss + EXIT_MOMENTUM_GEV, rng)
        power = np.sqrt(scattering_power(momentum) * scattering_power(momentum - loss))
    sums += prepared.observed.fixed
    sums *= highland_factor(thickness)[:, None]
    reference = np.abs(muons.in_position[:, 2] / muons.in_direction[:, 2])
    angles, offsets = np.empty((2, len(muons), 2))
    for plane in range(2):
        aa, ab, bb = (
            prepared.observed.noise[:, 3 * plane + k] + power * sums[:, k] for k in range(3)
        )
        first, second = rng.normal(size=(2, len(muons)))
        angles[:, plane] = np.sqrt(aa) * first
        offsets[:, plane] = ab / np.sqrt(aa) * first + np.sqrt(bb - ab**2 / aa) * second
    axes = np.array([transverse_axes(*map(float, u)) for u in muons.in_direction])
    e1, e2 = axes[:, :3], axes[:, 3:]
    u = muons.in_direction.astype(float)
    turned = u + 1e-3 * (angles[:, :1] * e1 + angles[:, 1:] * e2)
    start = muons.in_position + reference[:, None] * u
    start += 1e-3 * (offsets[:, :1] * e1 + offsets[:, 1:] * e2)
    down = (muons.out_position[:, 2] - start[:, 2]) / turned[:, 2]
    out = start + down[:, None] * turned
    turned /= np.linalg.norm(turned, axis=1)[:, None]
    scattered = replace(
        muons, out_position=out.astype(np.float32), out_direction=turned.astype(np.float32)
    )
    return scattered, momentum


def _later(paths, flat, loss):
    """Return the elements of S, every place weighted by the share of the loss so far, less 1/2."""
    rate = momentum_loss(flat)
    done = np.empty(len(paths.voxel), np.uint8)
    kernel.loss_shares(paths, rate, loss, 0, len(loss), done)
    length = paths.length.astype(float)
    before = np.cumsum(length) - length
    muon = np.repeat(np.arange(len(loss)), np.diff(paths.first))
    middle = paths.top[muon] - (before - before[paths.first[muon]]) - length / 2
    weight = (done / 255 - 0.5) * flat[paths.voxel] * length
    moments = (weight, weight * middle, weight * (middle**2 + length**2 / 12))
    return np.stack([np.bincount(muon, part, len(loss)) for part in moments], axis=1)


def _arriving(spectrum, cosine, least, rng):
    """Return momenta above a least one each."""
    momentum = np.empty(len(least))
    for n in range(len(least)):
        stopped = spectrum.probability(cosine[n], least[n])
        momentum[n] = spectrum.quantile(cosine[n], stopped + (1 - stopped) * rng.random())
    return momentum


def _spread(thickness, water, rng):
    """Return variances of the angle over Highland's, by chance, for muons behind some matter."""
    drawn = np.empty(len(thickness))
    for n in range(len(thickness)):
        drawn[n] = rng.choice(variances(thickness[n], water[n] / thickness[n]), p=shares())
    return drawn
