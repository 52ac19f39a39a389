"""Muons through a box in uniform cargo, made step by step: no kernel and no volume involved."""

import numpy as np

from muscan.model.events import Scatters
from muscan.model.spectrum import scattering_power, sea_level_spectrum
from muscan.units import MUON_MASS_GEV

ABOVE, BELOW = 1300.0, -1300.0


def scatters(
    n, centre, size, density, *, loss=0.0, cargo=0.0, spread=400.0, noise=(0.2, 4e-4), seed=0
):
    """Return scatters of ``n`` muons aimed near a box.

    ``density`` and ``cargo`` in mrad²/cm, ``loss`` of the box at the minimum of ionisation in
    MeV/cm (the cargo takes 2.9 MeV per mrad², as water does). The momentum falls by that over
    β^(8/3), for dE/dx goes as β^(-5/3) below the minimum (PDG); muons that fall below 50 MeV are
    lost. ``noise`` holds the errors
    of a track in the innermost planes, at ±1300 mm: offset [mm] and angle [rad]. Angles are
    Gaussian with Rossi's variance times Highland's factor for the whole thickness; momenta are
    those of the sea-level spectrum.
    """
    rng = np.random.default_rng(seed)
    slopes = np.tan(np.arccos(rng.uniform(0.5, 1.0, n) ** (1 / 3)))
    azimuth = rng.uniform(0, 2 * np.pi, n)
    slope = np.stack([slopes * np.cos(azimuth), slopes * np.sin(azimuth)], axis=1)
    aim = centre[:2] + rng.uniform(-spread, spread, (n, 2))
    cosine = 1 / np.sqrt(1 + (slope**2).sum(axis=1))
    radial = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
    spectrum = sea_level_spectrum()
    uniform = rng.random(n)
    momentum = np.array(
        [float(spectrum.quantile(c, u)) for c, u in zip(cosine, uniform, strict=True)]
    )
    start = aim - slope * (ABOVE - centre[2])
    heights = np.arange(ABOVE - 5, BELOW, -10.0)
    inside, path = np.zeros(n), []
    for height in heights:
        x = start + slope * (ABOVE - height)
        hit = (np.abs(x - centre[:2]) < size[:2] / 2).all(axis=1)
        hit &= abs(height - centre[2]) < size[2] / 2
        local = np.where(hit, density, cargo)
        inside += local / cosine  # steps of 1 cm
        path.append(hit)
    factor = (13.6 / 15) ** 2 * (1 + 0.038 * np.log(np.clip(inside / 25, 1e-3, 100))) ** 2
    position, angle = start.copy(), np.zeros((n, 2))
    alive = np.ones(n, dtype=bool)
    for hit in path:
        local = np.where(hit, density, cargo)
        beta = momentum / np.hypot(momentum, MUON_MASS_GEV)
        momentum = momentum - np.where(hit, loss, 2.9 * cargo) * 1e-3 / cosine / beta ** (8 / 3)
        alive &= momentum > 0.05
        momentum = np.maximum(momentum, 0.05)
        power = scattering_power(momentum) * factor
        kick = np.sqrt(power * local / cosine) * 1e-3
        angle += (kick / cosine**2 * rng.normal(size=n))[:, None] * radial
        angle += (kick / cosine * rng.normal(size=n))[:, None] * radial[:, ::-1] * [1, -1]
        position = position + (slope + angle) * 10.0
    outgoing = slope + angle
    errors = rng.normal(size=(4, n, 2))
    offset, turn = noise
    return _columns(
        start + offset * errors[0],
        slope + turn * errors[1],
        position + offset * errors[2],
        outgoing + turn * errors[3],
        noise,
    ).take(alive)


def _columns(first, slope, last, outgoing, noise):
    n = len(first)
    cov = np.diag(np.square([noise[0], noise[0], noise[1], noise[1]]))
    covs = np.broadcast_to(cov.astype(np.float32), (n, 4, 4)).copy()

    def unit(tangent):
        vector = np.column_stack([tangent, -np.ones(n)])
        return (vector / np.linalg.norm(vector, axis=1, keepdims=True)).astype(np.float32)

    def point(place, height):
        return np.column_stack([place, np.full(n, height)]).astype(np.float32)

    nothing = np.full(n, np.nan, dtype=np.float32)
    return Scatters(
        event_id=np.arange(n, dtype=np.uint64),
        in_position=point(first, ABOVE),
        in_direction=unit(slope),
        in_cov=covs,
        out_position=point(last, BELOW),
        out_direction=unit(outgoing),
        out_cov=covs.copy(),
        momentum=nothing,
        sigma=nothing.copy(),
    )
