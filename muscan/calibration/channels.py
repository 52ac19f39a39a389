"""Channels that are dead or hot, by their number of hits against their neighbours'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.special import pdtr, pdtrc

from muscan.calibration.clean import FloatArray
from muscan.model.detector import Detector
from muscan.model.events import Hits
from muscan.model.layout import DeadChannels

#: Neighbours whose median is what a channel should have.
NEIGHBOURS = 15
#: A channel below this part of its neighbours is dead, one above this many times theirs is hot …
DEAD_BELOW, HOT_ABOVE = 0.05, 2.0
#: … if chance alone does so less often than this.
CHANCE = 1e-6


@dataclass(frozen=True)
class Channels:
    """Channels of a panel along u and along v.

    Attributes
    ----------
    counts : tuple of two (c,) float64
        Hits of each channel; empty where there are none.
    dead, hot : tuple of two tuples of int
        Their numbers. Channels that are too little lit to tell keep what the layout says.
    """

    counts: tuple[FloatArray, FloatArray]
    dead: DeadChannels
    hot: DeadChannels


def count_channels(hits: Hits, detector: Detector, panel: int) -> Channels:
    """Count the hits of a panel's channels and find those that are dead or hot.

    Parameters
    ----------
    hits : Hits
    detector : Detector
    panel : int
        Index of the panel.
    """
    own = detector.panels[panel]
    counts: list[FloatArray] = []
    dead: list[tuple[int, ...]] = []
    hot: list[tuple[int, ...]] = []
    rows = hits.panel == panel
    for axis, name in enumerate("uv"):
        pitch = own.technology.pitch_mm
        if pitch is None or name not in own.technology.measures:
            counts.append(np.zeros(0))
            dead.append(own.dead_channels[axis])
            hot.append(())
            continue
        n = round(own.size[axis] / pitch[axis])
        place = getattr(hits, name)[rows].astype(float) + own.size[axis] / 2
        # A hit at a channel's centre is half a channel from both edges: rounding is no matter.
        channel = np.floor(place / pitch[axis]).astype(np.int64)
        count = np.bincount(channel[(channel >= 0) & (channel < n)], minlength=n).astype(float)
        expected = median_filter(count, size=min(NEIGHBOURS, n), mode="reflect")
        few = pdtr(count, np.maximum(expected, 1e-12)) < CHANCE
        # Where the neighbours are dark, the panel's mean is what a channel should have. (Of no hits
        # at all `pdtrc` gives NaN, which is not few.)
        usual = np.maximum(expected, count.mean())
        many = pdtrc(count - 1, np.maximum(usual, 1e-12)) < CHANCE
        # Too little light to tell: what the layout says stands, if nothing was seen.
        dark = (np.exp(-expected) >= CHANCE) & (count == 0)
        said = np.zeros(n, bool)
        said[list(own.dead_channels[axis])] = True
        is_dead = (few & (count < DEAD_BELOW * expected)) | (dark & said)
        counts.append(count)
        dead.append(tuple(np.flatnonzero(is_dead).tolist()))
        hot.append(tuple(np.flatnonzero(many & (count > HOT_ABOVE * usual)).tolist()))
    return Channels((counts[0], counts[1]), (dead[0], dead[1]), (hot[0], hot[1]))
