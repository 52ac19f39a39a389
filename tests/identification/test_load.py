"""The blocks of a load: muons drawn from a law, and slow twins of the density and the sums."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

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
from muscan.kernels import load as kernel
from muscan.model.angle_law import AngleLaw
from muscan.model.events import Tracks
from muscan.model.material import load_materials
from muscan.model.track_errors import momentum_loss

DATABASE = load_materials()
INSIDE = np.array([[-900.0, -600.0, -1000.0], [900.0, 600.0, 1000.0]])
AIR_MRAD2 = 2400.0 * 25.0 / 3.039e4 / 10.0


def toy_law():
    """Return a law whose spectrum hardens with the thickness, as that of real muons does."""
    thickness = np.geomspace(0.1, 3000.0, 60)
    power = np.array([0.05, 0.5, 5.0])
    slow = 0.2 * np.exp(-thickness / 300.0)
    weight = np.stack([0.4 + 0 * slow, 0.6 - slow, slow], axis=1)
    survival = np.exp(-thickness / 1500.0)
    return AngleLaw(
        np.array([0.5, 1.0]), thickness, power, np.array([weight, weight]),
        np.array([survival, survival]), np.ones(2),
    )  # fmt: skip


def muons(column, n=40_000, seed=1, seen=1.0, wide=1.0):
    """Draw vertical muons with angles and survival after the toy law, scattered halfway."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(wide * INSIDE[0, :2], wide * INSIDE[1, :2], (n, 2))
    inside = (np.abs(place) < INSIDE[1, :2]).all(axis=1)
    law = toy_law()
    total = np.where(inside, column, 0.0) + AIR_MRAD2
    part = [np.interp(np.log(total), np.log(law.thickness), w) for w in law.weight[0].T]
    kind = (rng.random(n)[:, None] > np.cumsum(np.stack(part, axis=1), axis=1)).sum(axis=1)
    sigma = np.sqrt(law.power[np.minimum(kind, 2)] * total + 1.0)
    angle = 1e-3 * rng.normal(0.0, sigma, (2, n)).T
    survives = np.interp(np.log(total), np.log(law.thickness), law.survival[0])
    out = rng.random(n) < np.where(inside, survives, 1.0) * seen
    direction = np.concatenate([angle, -np.ones((n, 1))], axis=1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    top = np.concatenate([place, np.full((n, 1), 1200.0)], axis=1)
    low = np.concatenate([place + 1200.0 * angle, np.full((n, 1), -1200.0)], axis=1)
    down = np.tile([0.0, 0.0, -1.0], (n, 1))
    event = np.arange(n, dtype=np.uint64)
    rows = np.concatenate([np.stack([event, event], axis=1)[out].ravel(), event[~out]])
    side = np.concatenate([np.tile([0, 1], out.sum()), np.zeros((~out).sum(), int)])
    point = np.where(side[:, None] == 0, top[rows], low[rows]).astype(np.float32)
    way = np.where(side[:, None] == 0, down[rows], direction[rows]).astype(np.float32)
    cov = np.zeros((len(rows), 4, 4), np.float32)
    cov[:, [2, 3], [2, 3]] = 0.5e-6
    nothing = np.full(len(rows), np.nan, np.float32)
    return Tracks(
        event_id=rows, side=side.astype(np.int8), position=point, direction=way, cov=cov,
        chi2=nothing, ndof=side, n_hits=side, momentum=nothing, sigma=nothing,
    )  # fmt: skip


@pytest.mark.parametrize("column", [20.0, 170.0, 800.0])
def test_the_sum_of_an_even_load_is_found(column):
    found = load_scattering(muons(column), Surroundings.nothing(INSIDE), toy_law())
    total, sigma = found.total()
    true = column * 180.0 * 120.0 / 1000.0  # cm² and cm³ to litre
    assert total == pytest.approx(true, abs=3 * sigma)
    # One number from n muons: at best 1/√n for a variance of two angles, here somewhat more.
    assert 1 / np.sqrt(40_000) < sigma / true < 6 / np.sqrt(40_000)


def test_pulls_of_the_sum_are_normal():
    pulls = []
    for seed in range(6):
        tracks = muons(60.0, n=25_000, seed=seed)
        total, sigma = load_scattering(tracks, Surroundings.nothing(INSIDE), toy_law()).total()
        pulls.append((total - 60.0 * 21.6) / sigma)
    assert abs(np.mean(pulls)) < 1.2
    assert 0.5 < np.std(pulls) < 1.6


def test_what_the_panels_miss_is_measured_past_the_load():
    tracks = muons(60.0, n=60_000, seen=0.97, wide=1.5)
    found = load_scattering(tracks, Surroundings.nothing(INSIDE), toy_law())
    total, sigma = found.total()
    assert found.seen == pytest.approx(0.97, abs=0.004)
    assert total == pytest.approx(60.0 * 21.6, abs=3 * sigma)


def test_known_matter_is_not_load():
    roof = np.array([[-900.0, -600.0, 1000.0]])
    over = roof + np.array([1800.0, 1200.0, 10.0])
    around = Surroundings(INSIDE, roof, over, np.array([20.0]))
    bare = load_scattering(muons(60.0), Surroundings.nothing(INSIDE), toy_law())
    within = load_scattering(muons(60.0), around, toy_law())
    # 1 cm of 20 mrad²/cm on each way.
    assert bare.column.mean() - within.column.mean() == pytest.approx(20.0, abs=1.5)


def test_workers_do_not_change_the_result():
    tracks = muons(60.0, n=5_000)
    one, two = (
        load_scattering(tracks, Surroundings.nothing(INSIDE), toy_law(), workers=workers)
        for workers in (1, 2)
    )
    assert (one.density == two.density).all()


@pytest.mark.parametrize("angle", [0.0, 12.0, 140.0])
def test_density_and_slope_are_those_of_the_mixture(angle):
    table = toy_law()
    law = kernel.Law(
        float(np.log(table.thickness[0])), float(np.log(table.thickness[1] / table.thickness[0])),
        table.power, table.weight, table.survival, 0.98, LARGEST_ANGLE,
    )  # fmt: skip
    total, noise = 250.0, 1.5

    def slow(thickness, lost):
        logs = np.log(table.thickness)
        parts = [np.interp(np.log(thickness), logs, w) for w in table.weight[1].T]
        weight = np.array(parts)
        out = 0.98 * np.interp(np.log(thickness), logs, table.survival[1])
        variance = noise + table.power * thickness
        if lost:
            within = erf(LARGEST_ANGLE / np.sqrt(2 * variance)) ** 2
            return np.log(1 - out * float(weight @ within))
        shape = np.exp(-(angle**2) / variance) / variance
        single = np.exp(-(angle**2) / kernel.WIDE) / kernel.WIDE
        return np.log(
            out * ((1 - kernel.OUTLIER) * float(weight @ shape) + kernel.OUTLIER * single)
        )

    for lost in (False, True):
        square = -1.0 if lost else angle**2
        value, slope = kernel.log_density(law, 1, total, square, square, noise, noise)
        # Far smaller variances than the window's are taken as wholly inside it.
        assert value == pytest.approx(slow(total, lost), rel=1e-4)
        step = 0.01
        by_difference = (slow(total + step, lost) - slow(total - step, lost)) / (2 * step)
        assert slope == pytest.approx(by_difference, rel=2e-3, abs=1e-7)


def test_boxes_add_up_along_a_bent_way():
    point = np.array([[[0.0, 0.0, 100.0], [0.0, 0.0, 0.0], [100.0, 0.0, -100.0]]])
    low = np.array([[-10.0, -10.0, -200.0], [-5.0, -5.0, 50.0]])
    high = np.array([[10.0, 10.0, 200.0], [5.0, 5.0, 60.0]])
    sums = np.zeros(1)
    kernel.box_sums(point, low, high, np.array([1.0, -1.0]), sums)
    assert sums[0] == pytest.approx(100.0 + 10.0 * np.sqrt(2) - 10.0, rel=1e-6)


def test_a_box_takes_its_share_of_the_blocks():
    density = np.array([[[1.0, 0.0], [2.0, 0.0]], [[3.0, 0.0], [4.0, 4.0]]]) / 100.0
    blocks = LoadScattering(
        density, np.ones((2, 2)), np.ones((2, 2, 2), int), np.full(3, 100.0), np.zeros(3)
    )
    # 10 cm wide: 100 cm², so that 1 mrad² over a column is 0.1 mrad²/cm · litre.
    assert blocks.column == pytest.approx(np.array([[1.0, 2.0], [3.0, 8.0]]))
    assert blocks.total()[0] == pytest.approx(1.4)
    assert blocks.total(np.zeros(2), np.array([50.0, 200.0]))[0] == pytest.approx(0.15)
    assert blocks.total(np.zeros(3), np.array([200.0, 200.0, 100.0]))[0] == pytest.approx(1.0)
    assert blocks.total()[1] == pytest.approx(0.2)


def test_mass_follows_from_power_and_response():
    blocks = LoadScattering(
        np.full((1, 1, 1), 0.1), np.array([[1.0]]), np.full((1, 1, 1), 9), np.full(3, 1000.0),
        np.zeros(3),
    )  # fmt: skip
    water = [DATABASE["water"]]
    mass = load_mass(blocks, mean_power(water), Response(ratio=0.9, spread=0.02, measured=True))
    # 100 mrad² over 1 m² are 1000 mrad²/cm litre.
    assert mass.value == pytest.approx(
        1000.0 / 0.9 / DATABASE["water"].mass_scattering_power, rel=1e-5
    )
    assert (mass.high - mass.value) / mass.value == pytest.approx(np.hypot(0.01, 0.02), rel=0.05)
    dense = replace(blocks, density=5 * blocks.density)
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
    with pytest.raises(InputError, match="muons go through the load"):
        load_scattering(muons(10.0, n=20), Surroundings.nothing(INSIDE), toy_law())
