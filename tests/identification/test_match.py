import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from muscan.errors import InputError
from muscan.identification.match import (
    CATEGORY_PRIOR,
    MODEL_SPREAD,
    STOPPING_SPREAD,
    UNKNOWN_PRIOR,
    Stopping,
    candidates,
    inseparable,
    object_posterior,
    posterior,
    range_likelihood,
    stopping_powers,
)
from muscan.model.material import MaterialDatabase
from muscan.model.survival import stopping_density


def best(kinds, density, sigma):
    probability = posterior(kinds, np.array([density]), np.array([sigma]))[0]
    return kinds.names[int(probability.argmax())], float(probability.max())


@given(st.floats(-2, 20), st.floats(0.01, 5), st.floats(0.1, 15), st.floats(0.001, 3))
def test_range_likelihood_is_the_mean_of_the_gaussian(measured, sigma, low, width):
    by_formula = range_likelihood(measured, sigma, low, low + width)
    points = [min(max(measured, low), low + width)]
    integral, _ = quad(
        lambda value: norm.pdf(measured, value, sigma), low, low + width, points=points
    )
    assert by_formula == pytest.approx(integral / width, rel=1e-6, abs=1e-12)


@given(st.floats(-5, 150), st.floats(0.001, 30))
def test_posterior_is_a_distribution(materials, density, sigma):
    probability = posterior(candidates(materials), np.array([density]), np.array([sigma]))[0]
    assert probability.sum() == pytest.approx(1.0)
    assert (probability >= 0).all()


@pytest.mark.parametrize(
    "density, name",
    [
        (79.0, "uranium"),
        (44.5, "lead"),
        (14.2, "steel"),
        (2.81, "aluminium"),
        (0.28, "fruit"),
        (0.001, "air"),
    ],
)
def test_what_lies_apart_is_recognised(materials, density, name):
    assert best(candidates(materials), density, 0.01 * density)[0] == name


@pytest.mark.parametrize("density", [0.1, 5.0, 28.0, 115.0])
def test_nothing_fits_is_unknown(materials, density):
    name, probability = best(candidates(materials), density, 0.01 * density)
    assert name == "unknown"
    assert probability > 0.9


def test_measurement_beyond_everything_is_unknown_not_nan(materials):
    assert best(candidates(materials), 1e4, 1e-3) == ("unknown", 1.0)


def test_what_cannot_be_told_apart_shares_the_probability(materials):
    kinds = candidates(materials)
    probability = posterior(kinds, np.array([0.70]), np.array([0.05]))[0]
    share = dict(zip(kinds.names, probability, strict=True))
    assert share["water"] > 0.3
    assert share["juice"] > 0.1


def test_a_poor_measurement_tells_little_more_than_the_prior(materials):
    kinds = candidates(materials)
    probability = posterior(kinds, np.array([1.0]), np.array([1e4]))[0]
    assert probability == pytest.approx(kinds.prior, abs=1e-3)


def test_a_category_does_not_gain_by_more_entries(materials):
    twins = list(materials)
    twins += [type(m)(**{**vars_of(m), "name": "twin"}) for m in twins if m.name == "lead"]
    kinds, more = candidates(materials), candidates(MaterialDatabase(twins))

    def shielding(k):
        return sum(p for p, c in zip(k.prior, k.categories, strict=True) if c.startswith("radio"))

    assert shielding(more) == pytest.approx(shielding(kinds))


def vars_of(material):
    return {
        key: getattr(material, key)
        for key in ("density_g_cm3", "composition", "density_range_g_cm3", "category", "state")
    }


def test_default_priors_are_shares_of_the_categories(materials):
    kinds = candidates(materials)
    prior = dict(zip(kinds.names, kinds.prior, strict=True))
    assert kinds.prior.sum() == pytest.approx(1.0)
    assert prior["lead"] == pytest.approx(prior["tungsten"])
    assert prior["lead"] / prior["uranium"] == pytest.approx(
        CATEGORY_PRIOR["radioactive-shielding"] / 2 / CATEGORY_PRIOR["special-nuclear"]
    )
    assert prior["water"] / prior["juice"] == pytest.approx(2.0)  # "food" has two entries
    goods = 1 - prior["unknown"] - prior["air"]
    assert prior["unknown"] / goods == pytest.approx(UNKNOWN_PRIOR)


def test_given_priors_replace_the_default_ones(materials):
    kinds = candidates(materials, {"food": 50.0, "water": 0.0})
    assert best(kinds, 0.7, 0.05)[0] == "juice"


def test_gases_are_air(materials):
    kinds = candidates(materials)
    assert "dry-air" not in kinds.names
    assert kinds.names[:2] == ("unknown", "air")


@pytest.mark.parametrize("prior", [{"leed": 1.0}, {"lead": -1.0}, {"lead": float("nan")}])
def test_wrong_priors_are_refused(materials, prior):
    with pytest.raises(InputError):
        candidates(materials, prior)


def test_stopping_powers_are_those_of_the_ranges(materials):
    kinds = candidates(materials)
    power = dict(zip(kinds.names, stopping_powers(kinds, materials), strict=True))
    assert power["water"] == pytest.approx(1.0, rel=0.02)  # of another mean excitation energy
    for name in ("lead", "uranium", "aluminium"):
        expected = stopping_density(materials[name]) / materials[name].density_g_cm3
        assert power[name] == pytest.approx(expected)
    assert np.isnan(power["unknown"])


def test_both_channels_are_integrated_over_one_bulk_density(materials):
    """The posterior odds of two entries against a slow integral over ln density."""
    kinds = candidates(materials)
    power = stopping_powers(kinds, materials)
    density, relative, stopping = 0.6, 0.15, Stopping(0.8, 0.2, power)

    def evidence(name):
        k = kinds.names.index(name)
        low, high = np.log(kinds.low[k]), np.log(kinds.high[k])

        def integrand(x):
            expected = np.exp(x) / kinds.power[k] * power[k]
            sigma = np.hypot(stopping.sigma, STOPPING_SPREAD * expected)
            first = norm.pdf(np.log(density), x, np.hypot(relative, MODEL_SPREAD))
            return first * norm.pdf(stopping.value, expected, sigma)

        return quad(integrand, low, high)[0] / (high - low) * kinds.prior[k]

    probability = object_posterior(kinds, density, relative, stopping)
    share = dict(zip(kinds.names, probability, strict=True))
    for name in ("fruit", "juice"):
        expected = evidence(name) / evidence("water")
        assert share[name] / share["water"] == pytest.approx(expected, rel=0.02)
    assert probability.sum() == pytest.approx(1.0)
    assert share["air"] == 0.0


def test_a_stopping_density_that_does_not_fit_speaks_against_a_material(materials):
    kinds = candidates(materials)
    power = stopping_powers(kinds, materials)
    index = kinds.names.index("water")
    without, fits, not_at_all = (
        object_posterior(kinds, 0.69, 0.1, stopping)[index]
        for stopping in (None, Stopping(1.0, 0.1, power), Stopping(4.0, 0.1, power))
    )
    assert fits > without > not_at_all
    assert not_at_all < 0.01


@pytest.mark.parametrize(
    "density, relative, members, others",
    [
        (44.5, 0.02, {"lead"}, {"uranium", "steel"}),
        (60.0, 0.6, {"lead", "uranium", "tungsten"}, {"water", "fruit"}),
        (0.70, 0.10, {"water", "juice"}, {"aluminium", "lead"}),
    ],
)
def test_what_lambda_does_not_tell_apart(materials, density, relative, members, others):
    kinds = candidates(materials)
    probability = object_posterior(kinds, density, relative)
    found = inseparable(kinds, probability, density, relative)
    names = {kinds.names[index] for index in found}
    assert members <= names
    assert not others & names
    assert not {"unknown", "air"} & names
    assert found[0] == probability.argmax()
    assert (np.diff(probability[found]) <= 0).all()


def test_unknown_is_a_group_of_its_own(materials):
    kinds = candidates(materials)
    probability = object_posterior(kinds, 5.0, 0.02)
    assert list(inseparable(kinds, probability, 5.0, 0.02)) == [0]
