"""The panels' response, as the arrays that the kernel reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError, nearest
from muscan.kernels.engine import MAX_CROSSINGS
from muscan.kernels.response import HitColumns, Response
from muscan.model.acceptance import incoming_groups
from muscan.model.detector import Detector, Technology

TRIGGERS = ("incoming", "any")
#: Noise hits in a gate beyond which a layout is taken for wrong; exp(−n) must not vanish either.
MOST_NOISE = 100.0


def trigger_groups(detector: Detector, trigger: str) -> NDArray[np.int32]:
    """Return the group for which each panel counts in the trigger, or −1.

    Parameters
    ----------
    trigger : {"incoming", "any"}
        An event is recorded if two panels are hit that are of one group through which muons come
        in, which no group is that stands wholly below the inspected space; or any two panels.

    Raises
    ------
    InputError
        If there is no such trigger.
    """
    if trigger not in TRIGGERS:
        raise InputError("trigger", f"no such trigger '{trigger}'", nearest(trigger, TRIGGERS))
    if trigger == "any":
        return np.zeros(len(detector.panels), np.int32)
    group = detector.group_index
    return np.where(incoming_groups(detector)[group], group, -1).astype(np.int32)


def build_response(detector: Detector, trigger: str = "incoming") -> Response:
    """Return how a detector's panels respond, and when it triggers (`trigger_groups`).

    Noise is a Poisson process of each panel's rate within the detector's gate about a muon.

    Raises
    ------
    InputError
        If there is no such trigger, or more noise than `MOST_NOISE` hits in a gate.
    """
    technologies = [panel.technology for panel in detector.panels]
    noise = np.array(
        [
            technology.noise_hz_per_m2 * panel.area_m2 * detector.gate_ns * 1e-9
            for technology, panel in zip(technologies, detector.panels, strict=True)
        ]
    )
    total = float(noise.sum())
    if total > MOST_NOISE:
        problem = f"{total:.0f} noise hits in each gate of {detector.gate_ns:g} ns"
        raise InputError(detector.name, problem, "lower noise_hz_per_m2 or gate_ns")
    pitch = np.array([technology.pitch_mm or (0.0, 0.0) for technology in technologies])
    by_channel = np.array([[technology.readout == "pitch"] for technology in technologies])
    dead, channel = _dead_channels(detector, pitch)
    cells, efficiency = _efficiencies(technologies)
    cumulative = np.cumsum(noise) / total if total > 0 else np.ones(len(noise))
    cumulative[-1] = 1.0
    return Response(
        half=detector.half_sizes,
        sigma=detector.sigmas,
        smear=np.array([technology.resolution_mm for technology in technologies]),
        pitch=np.where(by_channel, pitch, 0.0),
        channel=channel,
        dead=dead,
        cells=cells,
        efficiency=efficiency,
        extra=np.array([technology.extra_hits for technology in technologies]),
        extra_distance=np.array([technology.extra_hit_distance_mm for technology in technologies]),
        time_sigma=np.array([technology.time_resolution_ns for technology in technologies]),
        noise_cdf=cumulative,
        no_noise=float(np.exp(-total)),
        gate=detector.gate_ns,
        group=trigger_groups(detector, trigger),
    )


def _dead_channels(
    detector: Detector, pitch: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which channels are dead, by panel, axis and number, and the width of a channel."""
    numbers = [panel.dead_channels for panel in detector.panels]
    highest = max((n for axes in numbers for axis in axes for n in axis), default=-1)
    dead = np.zeros((len(numbers), 2, highest + 1), np.bool_)
    for i, axes in enumerate(numbers):
        for axis, channels in enumerate(axes):
            dead[i, axis, list(channels)] = True
    return dead, np.where(dead.any(axis=2), pitch, np.inf)


def _efficiencies(
    technologies: Sequence[Technology],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cells of each panel along u and v, and the efficiency by cell, filled up."""
    maps = [
        technology.efficiency * np.array(technology.efficiency_map or ((1.0,),))
        for technology in technologies
    ]
    cells = np.array([single.shape for single in maps], dtype=float)
    filled = np.ones((len(maps), *cells.max(axis=0).astype(int)))
    for one, single in zip(filled, maps, strict=True):
        one[: single.shape[0], : single.shape[1]] = single
    return cells, filled


def hits_capacity(response: Response, n_muons: int) -> int:
    """Return how many hits that many muons can give: mean, and room for chance.

    A muon that crosses every panel is the most there is on average; noise and extra hits vary.
    """
    crossings = min(len(response.half), MAX_CROSSINGS)
    noise = -np.log(response.no_noise)
    per_muon = crossings / (1 - float(response.extra.max())) + noise + 4
    return int(n_muons * per_muon) + 1000


def empty_hits(capacity: int) -> HitColumns:
    """Return columns for that many hits; memory is taken only where they are filled."""
    return HitColumns(
        event_id=np.empty(capacity, np.uint64),
        panel=np.empty(capacity, np.uint16),
        u=np.empty(capacity, np.float32),
        v=np.empty(capacity, np.float32),
        sigma_u=np.empty(capacity, np.float32),
        sigma_v=np.empty(capacity, np.float32),
        time=np.empty(capacity, np.float64),
        amplitude=np.empty(capacity, np.float32),
    )
