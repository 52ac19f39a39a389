"""The sky that is assumed of muons whose momenta are unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import muscan
from muscan.model.detector import load_detector
from muscan.model.events import Run
from muscan.pipeline import ahead
from muscan.pipeline.common import assumed_flux


@pytest.mark.parametrize(
    ("flux", "source", "expected"),
    [
        ("", "simulated", "guan2015"),
        ("", "csv", "ecomug"),
        ("", "", "ecomug"),
        ("reyna2006", "csv", "reyna2006"),
        ("reyna2006", "simulated", "reyna2006"),
    ],
)
def test_the_sky_is_that_given_or_the_usual_one(flux, source, expected):
    assert assumed_flux(flux, Run(source=source)) == expected


def test_volumes_follow_the_sky_of_the_run():
    tracks = muscan.track(ahead.lines(load_detector(ahead.LAYOUT)))
    simulated = replace(tracks, run=replace(tracks.run, source="simulated"))

    def values(data, **options):
        return muscan.reconstruct(data, voxel=400.0, **options).values

    assert np.array_equal(values(tracks), values(tracks, flux="ecomug"), equal_nan=True)
    assert np.array_equal(values(simulated), values(tracks, flux="guan2015"), equal_nan=True)
    # A harder spectrum scatters less, so the same angles mean more.
    ratio = np.nansum(values(simulated)) / np.nansum(values(tracks))
    assert 1.05 < ratio < 2.0


def test_a_weight_follows_the_sky_of_the_run(tmp_path):
    hits = muscan.simulate("container", minutes=0.2, seed=1)
    simulated = muscan.track(hits)
    recorded = replace(simulated, run=replace(simulated.run, source="csv"))

    def kilograms(tracks, **options):
        return muscan.weigh(tracks, container="20ft", **options).mass_kg.value

    assert kilograms(simulated) == kilograms(recorded, flux="guan2015")
    assert kilograms(recorded) == kilograms(simulated, flux="ecomug")
    # A softer spectrum scatters more, so less matter explains the same angles.
    assert 0.7 < kilograms(recorded) / kilograms(simulated) < 0.98
