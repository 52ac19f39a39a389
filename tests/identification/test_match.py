import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from muscan.errors import InputError
from muscan.identification.match import (
    CATEGORY_PRIOR,
    UNKNOWN_PRIOR,
    candidates,
    posterior,
    range_likelihood,
)
from muscan.model.material import MaterialDatabase


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
