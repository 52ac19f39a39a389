"""Hits that err more or less than they are said to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscan.model.spectrum import sea_level_spectrum
from muscan.reconstruction import reconstruct
from muscan.reconstruction.hit_errors import LEAST_GAIN, NEAR, variance_scale
from muscan.reconstruction.region import MuonTester

SPECTRUM = sea_level_spectrum()


@given(st.floats(-4, 4), st.integers(10, 5000))
def test_scale_is_the_mean_square_of_normal_errors(log_square, n):
    square = np.exp(log_square)
    gain = n / 2 * (square - 1 - log_square)

    found = variance_scale(lambda scale: -n / 2 * (np.log(scale) + square / scale), NEAR)

    if abs(log_square) < 0.98 * NEAR or gain < 0.99 * LEAST_GAIN:
        assert found == 1.0
    elif abs(log_square) > 1.02 * NEAR and gain > 1.01 * LEAST_GAIN:
        assert np.log(found) == pytest.approx(log_square, abs=0.05)


@pytest.mark.parametrize("times", [1.0, 3.0, 0.4])
def test_the_muons_tell_what_the_hits_err(scan, load, grid, times):
    """Said to err so many times what they do."""
    true = scan[0]
    said = replace(true, in_cov=times**2 * true.in_cov, out_cov=times**2 * true.out_cov)

    image = reconstruct(said, grid, "em", spectrum=SPECTRUM)
    tester = MuonTester(said, grid, spectrum=SPECTRUM)
    block = tester.against(np.where(load > 10, 1.0, load)).fit(load > 10)

    assert image.attributes["hit_error_scale"] == pytest.approx(1 / times, rel=0.15)
    assert tester.hit_error_scale == pytest.approx(1 / times, rel=0.15)
    assert np.exp(np.log(image.values[load > 10]).mean()) == pytest.approx(40, rel=0.25)
    assert block.density == pytest.approx(40, rel=0.2)
