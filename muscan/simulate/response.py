"""The panels' response, as the arrays that the kernel reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError, nearest
from muscan.kernels.response import HitColumns, Response
from muscan.model.detector import Detector

TRIGGERS = ("incoming", "any")


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
    top = np.array([panel.corners()[:, 2].max() for panel in detector.panels])
    group = detector.group_index
    incoming = np.array([top[group == g].max() > detector.bounds[0, 2] for g in group])
    # A detector below everything, as of a volcano, triggers on what it has.
    return np.where(incoming | ~incoming.any(), group, -1).astype(np.int32)


def build_response(detector: Detector, trigger: str = "incoming") -> Response:
    """Return how a detector's panels respond, and when it triggers (`trigger_groups`).

    Noise is a Poisson process of each panel's rate within the detector's gate about a muon.
    """
    technologies = [panel.technology for panel in detector.panels]
    noise = np.array(
        [
            technology.noise_hz_per_m2 * panel.area_m2 * detector.gate_ns * 1e-9
            for technology, panel in zip(technologies, detector.panels, strict=True)
        ]
    )
    total = float(noise.sum())
    cumulative = np.cumsum(noise) / total if total > 0 else np.ones(len(noise))
    cumulative[-1] = 1.0
    return Response(
        half=detector.half_sizes,
        sigma=detector.sigmas,
        efficiency=np.array([technology.efficiency for technology in technologies]),
        time_sigma=np.array([technology.time_resolution_ns for technology in technologies]),
        noise_cdf=cumulative,
        no_noise=float(np.exp(-total)),
        gate=detector.gate_ns,
        group=trigger_groups(detector, trigger),
    )


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
