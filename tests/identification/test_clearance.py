"""Room for an object: the sums against a slow twin, and the errors that are promised."""

from __future__ import annotations

import numpy as np
import pytest

from muscan.identification.clearance import (
    LARGEST_ANGLE,
    OBJECT_DENSITY,
    _table,
    clearance,
)
from muscan.kernels import clearance as kernel
from muscan.kernels.traversal import Grid
from muscan.model.events import Scatters
from muscan.model.spectrum import class_weights, sea_level_spectrum
from muscan.model.track_errors import OUTLIER_ANGLE, OUTLIER_FRACTION
from muscan.model.volume import Volume, VoxelGrid
from muscan.units import RAD2_PER_MM

NOISE = 1e-6  # variance of an angle's projection [rad²]


def density(theta2, x, power, noise=NOISE):
    """The mixture as its formula says, without a table."""
    weight, limit = class_weights(), (LARGEST_ANGLE * 1e-3) ** 2
    variance = noise + power * x
    kept = ((1 - np.exp(-limit / 2 / variance)) * weight).sum()
    core = (np.exp(-theta2 / 2 / variance) / variance * weight).sum() / kept
    far = (OUTLIER_ANGLE * 1e-3) ** 2
    return np.log(
        (1 - OUTLIER_FRACTION) * core + OUTLIER_FRACTION * np.exp(-theta2 / 2 / far) / far
    )


def scatters_of(points, directions, outgoing):
    """Muons with a kink where they meet z = 0, panels at ±1000 mm."""
    n = len(points)
    position = np.column_stack([points, np.zeros(n)])
    cov = np.tile(np.diag([1e-4, 1e-4, NOISE / 2, NOISE / 2]), (n, 1, 1)).astype("f4")
    nothing = np.full(n, np.nan, "f4")
    return Scatters(
        event_id=np.arange(n, dtype="u8"),
        in_position=(position - 1000 / np.abs(directions[:, 2:]) * directions).astype("f4"),
        in_direction=directions.astype("f4"),
        in_cov=cov,
        out_position=(position + 1000 / np.abs(outgoing[:, 2:]) * outgoing).astype("f4"),
        out_direction=outgoing.astype("f4"),
        out_cov=cov,
        momentum=nothing,
        sigma=nothing,
    )


def unit(x, y):
    found = np.column_stack([x, y, -np.ones(len(x))])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_table_is_the_mixture(rng):
    power = sea_level_spectrum("guan2015").powers(0.9, 0.0)
    table, first_u, step_u, first_x, step_x = _table("guan2015", 0.9, NOISE)
    for _ in range(200):
        theta2, x = np.exp(rng.uniform(np.log(1e-8), np.log(0.06))), 10 ** rng.uniform(-8, -2.5)
        out = np.empty(1)
        data = np.array([[theta2, NOISE, x, 0, 0, 0]])
        kernel.log_densities(data, 1.0, table, first_u, step_u, first_x, step_x, out)
        exact = density(theta2, x, power) + np.log(NOISE)
        assert out[0] == pytest.approx(exact, abs=0.02)


def test_sums_over_cells_are_those_of_a_slow_twin(rng):
    n = 60
    tilt = rng.normal(0, 0.2, (n, 2))
    kink = rng.normal(0, 0.02, (n, 2))
    muons = scatters_of(rng.uniform(-150, 150, (n, 2)), unit(*tilt.T), unit(*(tilt + kink).T))
    grid = Grid(-200.0, -200.0, -200.0, 100.0, 100.0, 100.0, 4, 4, 4)
    cargo = np.full(64, 2.0 * RAD2_PER_MM)
    data = np.empty((n, 6))
    kernel.observe(
        grid, muons.in_position, muons.in_direction, muons.in_cov,
        muons.out_position, muons.out_direction, muons.out_cov, cargo, 0.25, data,
    )  # fmt: skip
    cosine = (muons.in_direction * muons.out_direction).sum(1).astype(float)
    np.testing.assert_allclose(data[:, 0], 2 * (1 - cosine), rtol=2e-2, atol=1e-6)
    np.testing.assert_allclose(data[:, 1], NOISE, rtol=1e-5)
    table = _table("guan2015", 0.95, NOISE)
    ratio, counts = np.zeros(64), np.zeros(64, np.int64)
    start, end = muons.in_position.astype(float), muons.out_position.astype(float)
    added = 44.5 * RAD2_PER_MM
    kernel.add_ratios(grid, start, end, data, 0.5, added, *table, ratio, counts)
    power = sea_level_spectrum("guan2015").powers(0.95, 0.0)
    slow, seen = np.zeros(64), np.zeros(64, np.int64)
    for row in range(n):
        lengths = np.zeros(64)
        for a, b in ((start[row], data[row, 3:]), (data[row, 3:], end[row])):
            steps = np.linspace(0, 1, 40_001)
            middle = a + (steps[:-1, None] + 0.5 / 40_000) * (b - a)
            cell = np.floor((middle + 200) / 100).astype(int)
            inside = ((cell >= 0) & (cell < 4)).all(axis=1)
            flat = (cell[:, 0] * 4 + cell[:, 1]) * 4 + cell[:, 2]
            np.add.at(lengths, flat[inside], np.linalg.norm(b - a) / 40_000)
        x = 0.5 * lengths.sum() * 2.0 * RAD2_PER_MM
        without = density(data[row, 0], x, power)
        for cell in np.flatnonzero(lengths > 0.5):
            seen[cell] += 1
            slow[cell] += density(data[row, 0], x + added * lengths[cell], power) - without
    np.testing.assert_allclose(ratio, slow, atol=0.05 * np.sqrt(n))
    assert np.abs(counts - seen).max() <= 1


def simulated(rng, n, thickness_mm, object_density, cargo_x):
    """Vertical muons through the middle cell, scattered as the model says."""
    spectrum = sea_level_spectrum("guan2015")
    power = rng.choice(spectrum.powers(1.0, 0.0), n, p=class_weights())
    x = cargo_x + object_density * RAD2_PER_MM * thickness_mm
    kink = rng.normal(size=(n, 2)) * np.sqrt(NOISE + power * x)[:, None]
    down = np.tile([0.0, 0.0, -1.0], (n, 1))
    return scatters_of(rng.uniform(-99, 99, (n, 2)), down, unit(*kink.T))


ONE_CELL = Grid(-100.0, -100.0, -100.0, 200.0, 200.0, 200.0, 1, 1, 1)


def final_ratio(muons, cells=ONE_CELL, steps=40):
    """The log likelihood ratio of the one cell after each portion of the muons."""
    table, found, ratio = _table("guan2015", 1.0, NOISE), [], np.zeros(1)
    counts = np.zeros(1, np.int64)
    for part in np.array_split(np.arange(len(muons)), steps):
        some = muons.take(part)
        data = np.empty((len(part), 6))
        kernel.observe(
            cells, some.in_position, some.in_direction, some.in_cov, some.out_position,
            some.out_direction, some.out_cov, np.array([1.0 * RAD2_PER_MM]), 0.25, data,
        )  # fmt: skip
        # The cargo is what was simulated, not what is in one cell.
        data[:, 2] = 2e-5
        kernel.add_ratios(
            cells, some.in_position.astype(float), some.out_position.astype(float), data, 1.0,
            OBJECT_DENSITY * RAD2_PER_MM, *table, ratio, counts,
        )  # fmt: skip
        found.append(ratio[0])
    return np.array(found)


@pytest.mark.parametrize("object_density", [OBJECT_DENSITY, 79.0])
def test_an_object_is_missed_at_any_of_many_looks_no_more_often_than_promised(rng, object_density):
    miss, scans = 0.1, 300
    lowest = [
        final_ratio(simulated(rng, 40, 200.0, object_density, 2e-5)).min() for _ in range(scans)
    ]
    missed = np.mean(np.array(lowest) <= np.log(miss))
    # 3 binomial standard deviations of the promise.
    assert missed <= miss + 3 * np.sqrt(miss * (1 - miss) / scans)


def test_a_place_without_an_object_is_cleared_by_a_few_muons(rng):
    cleared = [
        final_ratio(simulated(rng, 40, 200.0, 0.0, 2e-5))[-1] < np.log(0.05) for _ in range(50)
    ]
    assert np.mean(cleared) > 0.9


def test_a_load_is_clear_only_without_the_object(rng):
    n = 20_000
    grid = VoxelGrid.from_bounds(np.array([[-400.0] * 3, [400.0] * 3]), 100.0)
    air = np.full(grid.shape, 0.01, "f4")
    volume = Volume(
        air, grid, "poca", uncertainty=np.full(grid.shape, 0.1, "f4"),
        n_muons=np.full(grid.shape, 100, "u4"),
    )  # fmt: skip
    place, tilt = rng.uniform(-500, 500, (n, 2)), rng.normal(0, 0.3, (n, 2))
    power = rng.choice(sea_level_spectrum("guan2015").powers(0.95, 0.0), n, p=class_weights())

    def found(lead):
        inside = (np.abs(place - 100) < 100).all(axis=1) & lead
        x = np.where(inside, OBJECT_DENSITY * RAD2_PER_MM * 200, 0.0)
        kink = rng.normal(size=(n, 2)) * np.sqrt(NOISE + power * x)[:, None]
        muons = scatters_of(place, unit(*tilt.T), unit(*(tilt + kink).T))
        return clearance(volume, muons, size_mm=200.0, miss=0.01)

    nothing, lead = found(False), found(True)
    assert nothing.clear
    assert nothing.cells == 512
    assert nothing.unseen_cells == 0
    assert not lead.clear
    assert 0 < lead.open_cells < 100
    assert lead.highest > 10
    few = clearance(volume, scatters_of(place[:5], unit(*tilt[:5].T), unit(*tilt[:5].T)),
                    size_mm=200.0, miss=0.01)  # fmt: skip
    assert few.unseen_cells > 400
    assert not few.clear
