import numpy as np
import pytest

from muscan.model.flux import load_flux
from muscan.model.spectrum import (
    MomentumSpectrum,
    class_weights,
    scattering_power,
    sea_level_spectrum,
)


def test_power_at_the_reference_is_one():
    assert scattering_power(np.array([3.0])) == pytest.approx(1.0, rel=2e-3)
    assert scattering_power(np.array([1.0])) == pytest.approx(9 * (1 + 0.10566**2), rel=1e-4)


def test_quantiles_and_probabilities_are_inverse():
    spectrum = sea_level_spectrum()
    for probability in (0.05, 0.5, 0.95):
        momentum = spectrum.quantile(0.8, np.array([probability]))[0]
        assert spectrum.probability(0.8, momentum) == pytest.approx(probability, abs=2e-3)


def test_median_above_half_a_gev_of_the_vertical_flux():
    spectrum = sea_level_spectrum()
    p = np.geomspace(0.5, 1000, 20001)
    weight = load_flux("guan2015").intensity(p, np.ones_like(p)) * np.gradient(p)
    median = np.interp(0.5, np.cumsum(weight) / weight.sum(), p)
    below = spectrum.probability(1.0, 0.5)
    assert spectrum.quantile(1.0, np.array([(1 + below) / 2]))[0] == pytest.approx(median, rel=0.01)


def test_classes_keep_the_mean_of_the_inverse_momentum():
    spectrum = sea_level_spectrum()
    p = spectrum.quantile(0.9, (np.arange(20000) + 0.5) / 20000)
    exact = np.sqrt(scattering_power(p)).mean()
    assert (class_weights() * np.sqrt(spectrum.powers(0.9, 0.0))).sum() == pytest.approx(
        exact, rel=0.05
    )


def test_loss_hardens_what_comes_out():
    spectrum = sea_level_spectrum()
    free, lossy = spectrum.powers(0.9, 0.0), spectrum.powers(0.9, 1.0)
    assert (np.diff(free) < 0).all()
    assert (class_weights() * np.log(lossy)).sum() < (class_weights() * np.log(free)).sum()


def test_beam_of_one_momentum():
    beam = MomentumSpectrum.single(4.0)
    assert beam.powers(1.0, 0.0) == pytest.approx(
        np.full(len(class_weights()), scattering_power(np.array([4.0]))[0])
    )
