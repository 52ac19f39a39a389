"""The columns of a load: muons drawn from the model itself, and a slow twin of the density."""

from dataclasses import replace

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.identification.load import (
    LARGEST_ANGLE,
    LoadScattering,
    Surroundings,
    load_scattering,
)
from muscan.identification.weight import (
    Response,
    declared_materials,
    load_mass,
    mean_loss,
    mean_power,
    response_of,
)
from muscan.model.events import Scatters
from muscan.model.material import load_materials
from muscan.model.spectrum import scattering_power, sea_level_spectrum
from muscan.model.track_errors import highland_factor, momentum_loss

DATABASE = load_materials()
INSIDE = np.array([[-900.0, -600.0, -1000.0], [900.0, 600.0, 1000.0]])


def muons(column, n=40_000, seed=1):
    """Draw vertical muons with angles after Highland, momenta by inverting the spectrum."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(INSIDE[0, :2], INSIDE[1, :2], (n, 2))
    spectrum = sea_level_spectrum()
    momentum = spectrum.quantile(1.0, rng.random(n))
    loss = column * mean_loss([DATABASE["water"]])
    kept = momentum > loss + 0.05
    place, momentum = place[kept], momentum[kept]
    power = np.sqrt(scattering_power(momentum) * scattering_power(momentum - loss))
    # The air over 2 m has 0.16 mrad² (X0 = 304 m).
    total = column + 0.16
    sigma = np.sqrt(power * highland_factor(np.array(total / 25.0)) * total + 1.0)
    angle = 1e-3 * rng.normal(0.0, sigma, (2, len(sigma))).T
    out = np.concatenate([angle, -np.ones((len(angle), 1))], axis=1)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    down = np.tile([0.0, 0.0, -1.0], (len(out), 1))
    top = np.concatenate([place, np.full((len(out), 1), 1200.0)], axis=1)
    low = np.concatenate([place, np.full((len(out), 1), -1200.0)], axis=1)
    cov = np.zeros((len(out), 4, 4), np.float32)
    cov[:, [2, 3], [2, 3]] = 0.5e-6
    nothing = np.full(len(out), np.nan, np.float32)
    return Scatters(
        event_id=np.arange(len(out), dtype=np.uint64),
        in_position=top.astype(np.float32), in_direction=down.astype(np.float32), in_cov=cov,
        out_position=low.astype(np.float32), out_direction=out.astype(np.float32), out_cov=cov,
        momentum=nothing, sigma=nothing,
    )  # fmt: skip


@pytest.mark.parametrize("column", [5.0, 60.0, 170.0])
def test_columns_of_an_even_load_are_found(column):
    found = load_scattering(
        muons(column), None, Surroundings(INSIDE), mean_loss([DATABASE["water"]])
    )
    total, sigma = found.total()
    true = column * 180.0 * 120.0 / 1000.0  # cm² and cm³ to litre
    # σ(ln λ) = 2.18 / √N for one column (PHYSICS: information limit); angles alone say less.
    assert 2.18 / np.sqrt(40_000) < sigma / total < 4 * 2.18 / np.sqrt(40_000)
    assert total == pytest.approx(true, abs=3 * sigma + 0.03 * true)
    pulls = (found.column - total / (180 * 120 / 1000)) / found.sigma
    assert 0.5 < pulls.std() < 1.6


def test_known_matter_is_not_load():
    around = Surroundings(INSIDE, wall_mm=2.5, wall_density=14.1, floor_column=0.0)
    bare = load_scattering(muons(40.0), None, Surroundings(INSIDE), 0.001)
    within = load_scattering(muons(40.0), None, around, 0.001)
    # Vertical muons cross the roof and the bottom: 2 · 0.25 cm · 14.1 mrad²/cm.
    less = bare.column.mean() - within.column.mean()
    assert less == pytest.approx(2 * 0.25 * 14.1, rel=0.05)


def test_a_rectangle_takes_its_share_of_the_cells():
    columns = LoadScattering(
        np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((2, 2)), np.ones((2, 2), int),
        np.array([100.0, 100.0]), np.array([0.0, 0.0]),
    )  # fmt: skip
    # A cell is 10 cm wide: 100 cm², so 1 mrad² over it is 0.1 mrad²/cm · litre.
    assert columns.total()[0] == pytest.approx(1.0)
    assert columns.total(np.array([0.0, 0.0]), np.array([50.0, 200.0]))[0] == pytest.approx(0.15)
    assert columns.total()[1] == pytest.approx(0.2)


def test_mass_follows_from_power_and_response():
    columns = LoadScattering(
        np.array([[100.0]]), np.array([[1.0]]), np.array([[9]]), np.array([1000.0, 1000.0]),
        np.zeros(2),
    )  # fmt: skip
    water = [DATABASE["water"]]
    mass = load_mass(columns, mean_power(water), Response(ratio=0.9, spread=0.02, measured=True))
    # 100 mrad² over 1 m² are 1000 mrad²/cm litre.
    assert mass.value == pytest.approx(
        1000.0 / 0.9 / DATABASE["water"].mass_scattering_power, rel=1e-5
    )
    assert (mass.high - mass.value) / mass.value == pytest.approx(np.hypot(0.01, 0.02), rel=0.05)
    dense = replace(columns, column=5 * columns.column)
    assert load_mass(dense, mean_power(water), Response()).high is None


def test_declared_cargo_is_a_material_or_a_category():
    assert [m.name for m in declared_materials(DATABASE, "cement")] == ["cement"]
    food = declared_materials(DATABASE, "food")
    assert len(food) > 20
    power, spread = mean_power(food)
    assert 0.55 < power < 0.75
    assert 0.01 < spread < 0.2
    with pytest.raises(InputError, match="did you mean 'cement'"):
        declared_materials(DATABASE, "cemnt")


def test_an_unknown_scanner_has_a_wide_spread():
    unknown = response_of("no such scanner", [DATABASE["cement"]])
    assert not unknown.measured
    assert unknown.ratio == 1.0
    assert unknown.spread > 0.05


def test_loss_goes_with_stopping_over_scattering():
    # For water the same as that of common matter of its scattering density.
    water = DATABASE["water"].scattering_density
    expected = float(momentum_loss(np.array(water / 10.0))) / (water / 10.0)
    assert mean_loss([DATABASE["water"]]) == pytest.approx(expected, rel=0.02)
    assert mean_loss([DATABASE["lead"]]) < 0.2 * mean_loss([DATABASE["water"]])


def test_no_muons_are_said():
    few = muons(10.0, n=20)
    with pytest.raises(InputError, match="muons go through the load"):
        load_scattering(few, None, Surroundings(INSIDE), 0.003)


def test_the_largest_angle_keeps_the_estimate():
    # Of a heavy load many angles are beyond the limit; the density is normalised to the rest.
    heavy = muons(400.0, n=60_000)
    angles = 1e3 * np.abs(heavy.out_direction[:, 0] / heavy.out_direction[:, 2])
    assert (angles > LARGEST_ANGLE).mean() > 0.02
    found = load_scattering(heavy, None, Surroundings(INSIDE), mean_loss([DATABASE["water"]]))
    total, sigma = found.total()
    assert total == pytest.approx(400.0 * 21.6, abs=3 * sigma + 0.03 * total)
