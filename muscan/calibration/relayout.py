"""Hits as of a corrected layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Hits


def with_layout(hits: Hits, detector: Detector) -> Hits:
    """Return hits with another layout: same panels, same order, other poses and resolutions.

    The standard deviation of each hit grows or shrinks as its panel's, so that hits with errors
    of their own keep what distinguishes them.

    Raises
    ------
    InputError
        If the detector has not the panels of the hits.
    """
    before = hits.detector
    if len(detector.panels) != len(before.panels):
        raise InputError(
            detector.name,
            f"has {len(detector.panels)} panels, the hits were recorded with {len(before.panels)}",
            "give the same panels in the same order",
        )
    old, new = before.sigmas, detector.sigmas
    both = np.isfinite(old) & np.isfinite(new)
    factor = np.where(both, np.where(both, new, 1.0) / np.where(both, old, 1.0), 1.0)
    if (factor == 1.0).all():
        return replace(hits, detector=detector)
    scale = factor.astype(np.float32)[hits.panel]
    return replace(
        hits,
        sigma_u=hits.sigma_u * scale[:, 0],
        sigma_v=hits.sigma_v * scale[:, 1],
        detector=detector,
    )
