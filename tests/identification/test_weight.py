import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from muscan.identification.match import (
    MODEL_SPREAD,
    candidates,
    object_posterior,
    posterior,
)
from muscan.identification.segment import known_voxels
from muscan.identification.weight import mixture_interval, object_mass, total_mass


def test_one_component_gives_its_own_quantiles():
    interval = mixture_interval(np.array([50.0]), np.array([4.0]), np.array([1.0]))
    assert interval.value == pytest.approx(50.0, abs=1e-3)
    assert (interval.low, interval.high) == pytest.approx((46.0, 54.0), abs=1e-3)


@given(
    st.lists(
        st.tuples(st.floats(1, 100), st.floats(0.1, 30), st.floats(0.05, 1)),
        min_size=1,
        max_size=6,
    )
)
def test_mixture_interval_holds_68_percent(parts):
    values, sigmas, weights = np.array(parts).T
    weights = weights / weights.sum()
    interval = mixture_interval(values, sigmas, weights)
    for limit, share in ((interval.value, 0.5), (interval.low, 0.1587), (interval.high, 0.8413)):
        around = limit * (1 + np.array([-1e-5, 1e-5]))  # files keep six digits
        below, above = norm.cdf(around[:, None], values, sigmas) @ weights
        assert limit == 0 or below - 1e-4 <= share <= above + 1e-4


def test_mass_of_a_known_material_is_integral_over_power(materials):
    kinds = candidates(materials)
    lead = kinds.names.index("lead")
    certain = np.eye(len(kinds))[lead]
    litre, density = 1000.0, 44.5
    interval = object_mass(kinds, certain, density * litre, 0.1 * density * litre, density, 0.0)
    assert interval.value == pytest.approx(density * litre / kinds.power[lead] / 1000, rel=1e-3)
    assert interval.value == pytest.approx(11.35, rel=0.02)
    assert (interval.high - interval.low) / 2 == pytest.approx(0.104 * interval.value, rel=0.02)


def test_what_the_object_displaced_is_added(materials):
    kinds = candidates(materials)
    water = np.eye(len(kinds))[kinds.names.index("water")]
    true_integral, background = 0.693 * 1e5, 0.28
    excess = true_integral * (0.693 - background) / 0.693
    interval = object_mass(kinds, water, excess, 0.05 * excess, 0.693, background)
    assert interval.value == pytest.approx(100.0, rel=0.01)


def test_what_lambda_and_integral_have_in_common_is_put_right(materials):
    """Lead seen 1.3 times too dense, and 1.3 times as much of it, by a wrong spectrum."""
    kinds = candidates(materials)
    lead = np.eye(len(kinds))[kinds.names.index("lead")]
    density = 1.3 * 43.9
    integral = density * 1000.0
    values = lead, integral, 0.15 * integral, density, 0.0
    left = object_mass(kinds, *values, relative=0.15)
    right = object_mass(kinds, *values, relative=0.15, common=0.15)
    assert left.value == pytest.approx(1.3 * 11.2, rel=0.03)
    assert right.value == pytest.approx(11.2, rel=0.03)
    assert right.high - right.low < 0.5 * (left.high - left.low)


def test_mass_interval_covers_68_percent_of_what_the_errors_make(materials):
    kinds = candidates(materials)
    lead = kinds.names.index("lead")
    certain = np.eye(len(kinds))[lead]
    middle = (kinds.low[lead] + kinds.high[lead]) / 2
    # What errs in the integral errs in λ as well; of the shape only λ knows.
    litre, common, shape, statistical = 1000.0, 0.15, 0.1, 0.08
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(600, 3)) * (common, shape, statistical)
    inside = 0
    for shared, own, chance in draws:
        density = middle * np.exp(shared + chance + own)
        integral = middle * litre * np.exp(shared + chance)
        interval = object_mass(
            kinds, certain, integral, integral * np.hypot(common, statistical), density, 0.0,
            relative=float(np.linalg.norm([common, shape, statistical])), common=common,
        )  # fmt: skip
        inside += interval.low <= middle * litre / kinds.power[lead] / 1000 <= interval.high
    assert inside / len(draws) == pytest.approx(0.68, abs=0.07)  # with MODEL_SPREAD on top


def test_unknown_material_widens_the_interval(materials):
    kinds = candidates(materials)
    lead = np.eye(len(kinds))[kinds.names.index("lead")]
    unknown = np.eye(len(kinds))[0]
    narrow = object_mass(kinds, lead, 1e4, 500.0, 28.0, 0.0)
    wide = object_mass(kinds, unknown, 1e4, 500.0, 28.0, 0.0)
    assert wide.high / wide.low > 3 * narrow.high / narrow.low
    assert wide.low < 1e4 / 4.2 / 1000 * 2
    assert wide.high > 1e4 / 2.0 / 1000


@pytest.mark.parametrize("name, density", [("water", 1.0), ("steel", 7.87), ("fruit", 0.4)])
def test_total_mass_of_a_block(materials, make_volume, name, density):
    values = np.zeros((20, 20, 20))
    values[5:15, 5:15, 5:15] = materials[name].mass_scattering_power * density
    volume = make_volume(values, sigma=0.01, noise=0.01)
    interval = total_mass(candidates(materials), volume, known_voxels(volume))
    truth = density * 0.5**3 * 1000
    assert interval.low <= truth <= interval.high
    assert interval.value == pytest.approx(truth, rel=0.15)


def test_total_mass_of_nothing_contains_nothing(materials, make_volume):
    volume = make_volume(np.zeros((20, 20, 20)), sigma=0.05, noise=0.05)
    interval = total_mass(candidates(materials), volume, known_voxels(volume))
    assert interval.low == 0
    assert interval.value < 5.0


def test_statistical_errors_add_in_squares(materials, make_volume):
    """Two equal halves: the relative error of the sum shrinks by √2 when only noise counts."""
    kinds = candidates(materials, {"water": 1e6})
    power = materials["water"].mass_scattering_power

    def relative(shape):
        volume = make_volume(np.full(shape, power), sigma=20.0)
        interval = total_mass(kinds, volume, known_voxels(volume))
        return (interval.high - interval.value) / interval.value

    assert relative((8, 4, 4)) == pytest.approx(relative((4, 4, 4)) / np.sqrt(2), rel=0.05)
    assert posterior(kinds, np.array([power]), np.array([0.1])).max() > 0.9


def test_intervals_hold_materials_that_are_as_common_as_the_prior_has_them(materials):
    """Materials and densities drawn from the prior, λ and integral with errors in common."""
    kinds = candidates(materials)
    rng = np.random.default_rng(1)
    common, total = 0.12, 0.16
    shares = np.where(kinds.high > 0.5, kinds.prior, 0.0)
    shares[0] = 0.0  # unknown matter has no mass to compare with
    inside = []
    for kind in rng.choice(len(kinds), 1500, p=shares / shares.sum()):
        density = np.exp(rng.uniform(*np.log([max(kinds.low[kind], 1e-6), kinds.high[kind]])))
        both, shape, model = rng.normal(0, [common, np.sqrt(total**2 - common**2), MODEL_SPREAD])
        measured = density * np.exp(both + shape + model)
        integral = 8000.0 * density * np.exp(both + model)
        probability = object_posterior(kinds, measured, total)
        mass = object_mass(
            kinds, probability, integral, common * integral, measured, 0.0,
            relative=total, common=common,
        )  # fmt: skip
        assert mass.high is not None
        inside.append(mass.low <= 8.0 * density / kinds.power[kind] <= mass.high)
    assert np.mean(inside) == pytest.approx(0.68, abs=0.08)
