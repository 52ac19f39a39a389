"""The muons of a load's likelihood: which are used, their angles and errors."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from muscan.model.detector import Detector
from muscan.model.events import Scatters, Tracks, pair_tracks
from muscan.model.track_errors import PanelScattering

FloatArray = NDArray[np.float64]

#: Angles above this count as not seen [mrad]; as far as this a muon meets the panels.
LARGEST_ANGLE: Final = 150.0
#: Of more muons than this, every second (third, …) is used.
MOST_MUONS: Final = 2_000_000
#: With fewer muons past the load, the share that the panels miss is taken as `MISSED`.
LEAST_OPEN: Final = 3000
MISSED: Final = (0.003, 0.002)


def aiming(tracks: Tracks, inside: FloatArray, least_cosine: float) -> tuple[Scatters, FloatArray]:
    """Return the muons that aim at the panels below, and their angles.

    Those that were not seen again, or at a larger angle than `LARGEST_ANGLE`, go on straight;
    their angles, shape (n, 2) [mrad], are NaN.
    """
    pairs = pair_tracks(tracks)
    incoming = tracks.take(np.flatnonzero(tracks.side == 0))
    lost = incoming.take(np.flatnonzero(~np.isin(incoming.event_id, pairs.event_id)))
    down = np.minimum(lost.direction[:, 2:], -0.05)
    bottom = lost.position + (inside[0, 2] - 1.0 - lost.position[:, 2:]) / down * lost.direction
    unseen = Scatters(
        event_id=lost.event_id,
        in_position=lost.position, in_direction=lost.direction, in_cov=lost.cov,
        out_position=bottom.astype(np.float32), out_direction=lost.direction, out_cov=lost.cov,
        momentum=lost.momentum, sigma=lost.sigma,
    )  # fmt: skip
    angles = np.concatenate([_angles(pairs), np.full((len(unseen), 2), np.nan)])
    angles[~(np.abs(angles) < LARGEST_ANGLE).all(axis=1)] = np.nan
    muons = Scatters(
        **{name: np.concatenate([getattr(pairs, name), getattr(unseen, name)])
           for name in ("event_id", "in_position", "in_direction", "in_cov", "out_position",
                        "out_direction", "out_cov", "momentum", "sigma")}
    )  # fmt: skip
    usable = np.isfinite(muons.in_cov[:, 0, 0]) & np.isfinite(muons.out_cov[:, 0, 0])
    usable &= -muons.in_direction[:, 2] > least_cosine
    usable &= _meets_panels(muons, tracks.detector, inside)
    chosen = np.flatnonzero(usable)
    chosen = chosen[:: 1 + len(chosen) // MOST_MUONS]
    return muons.take(chosen), angles[chosen]


def through_middle(muons: Scatters, inside: FloatArray) -> int:
    """Return how many ways in, taken on straight, go through the middle of the space."""
    way = muons.in_direction.astype(float)
    along = (inside[:, 2].mean() - muons.in_position[:, 2]) / way[:, 2]
    place = muons.in_position[:, :2] + along[:, None] * way[:, :2]
    within = (place > inside[0, :2]) & (place < inside[1, :2])
    return int(np.count_nonzero(within.all(axis=1)))


def _meets_panels(
    muons: Scatters, detector: Detector | None, inside: FloatArray
) -> NDArray[np.bool_]:
    """Tell which muons' ways in, taken on straight, keep their distance from the edges below."""
    usable = np.ones(len(muons), bool)
    if detector is None:
        return usable
    place, way = muons.in_position.astype(float), muons.in_direction.astype(float)
    for panel in detector.panels:
        if panel.centre[2] >= inside[0, 2] or abs(panel.normal[2]) < 0.9:
            continue
        along = (panel.centre[2] - place[:, 2]) / way[:, 2]
        point = place + along[:, None] * way - panel.centre
        margin = 1e-3 * LARGEST_ANGLE * (inside[1, 2] - panel.centre[2])
        for axis, width in ((panel.u, panel.size[0]), (panel.v, panel.size[1])):
            usable &= np.abs(point @ axis) < max(width / 2 - margin, width / 4)
    return usable


def _angles(scatters: Scatters) -> FloatArray:
    """Return the projected angles in two planes across the incoming track, (n, 2) [mrad]."""
    u, w = scatters.in_direction.astype(float), scatters.out_direction.astype(float)
    bend = 1 / (1 - u[:, 2])
    first = np.stack([1 - bend * u[:, 0] ** 2, -bend * u[:, 0] * u[:, 1], u[:, 0]], axis=1)
    second = np.stack([-bend * u[:, 0] * u[:, 1], 1 - bend * u[:, 1] ** 2, u[:, 1]], axis=1)
    straight = (u * w).sum(1)
    return 1e3 * np.stack([(axis * w).sum(1) / straight for axis in (first, second)], axis=1)


def errors(scatters: Scatters, detector: Detector | None) -> tuple[FloatArray, FloatArray]:
    """Return the variance of the angles (n, 2) [mrad²] and the panels' thickness (n,) [mrad²].

    The latter is that of the panels' matter which turns the angle that is measured.
    """
    planes = [scatters.in_cov[:, k, k].astype(float) + scatters.out_cov[:, k, k] for k in (2, 3)]
    noise = 1e6 * np.stack(planes, axis=1)
    if detector is None:
        return noise, np.zeros(len(noise))
    panels = PanelScattering(detector)
    above = panels.errors(scatters.in_position, scatters.in_direction, outgoing=False)
    below = panels.errors(scatters.out_position, scatters.out_direction, outgoing=True)
    fixed = 1e6 * (above[:, 0].astype(float) + below[:, 0].astype(float))
    return np.maximum(noise - fixed[:, None], 0.1 * noise), fixed


def seen_share(angles: FloatArray, survival: FloatArray) -> tuple[float, float]:
    """Return the share of muons past the load that the panels see again, and its error."""
    if len(angles) < LEAST_OPEN:
        return 1 - MISSED[0], MISSED[1]
    expected = float(survival.sum())
    share = float(np.count_nonzero(np.isfinite(angles[:, 0]))) / expected
    share = min(share, 1 - 1 / expected)
    return share, float(np.sqrt(max(1 - share, 1 / expected) / expected))
