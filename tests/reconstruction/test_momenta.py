"""Momentum classes: how muons slow down, which get through, and what was measured."""

from dataclasses import replace

import numpy as np
import pytest

from muscan.model.material import load_materials
from muscan.model.spectrum import (
    MomentumSpectrum,
    class_weights,
    scattering_power,
    sea_level_spectrum,
)
from muscan.model.survival import csda_range
from muscan.model.volume import VoxelGrid
from muscan.reconstruction.angles import shares, variances
from muscan.reconstruction.momenta import (
    COSINES,
    GEV_PER_WATER,
    LOSSES,
    MOMENTUM_STEP,
    THICKNESSES,
    ClassTable,
    MomentumModel,
    along_path,
    cutoff,
    slowed,
)
from muscan.reconstruction.muons import prepare
from muscan.reconstruction.problem import Problem

SPECTRUM = sea_level_spectrum()
GRID = VoxelGrid.from_bounds([[-400, -400, -300], [400, 400, 300]], 100)


def test_muons_slow_down_by_their_range():
    water = load_materials()["water"]
    start = np.array([0.5, 1.0, 3.0, 20.0])
    end = slowed(start, 100.0)
    gone = csda_range(water, start) - csda_range(water, end)
    assert gone == pytest.approx(np.full(4, 100.0), rel=1e-3)
    # In metres of water the mean loss of 3 GeV muons is 2.3 MeV cm²/g.
    assert start[2] - end[2] == pytest.approx(100 * GEV_PER_WATER, rel=0.03)
    # Far above the critical energy the loss goes with the momentum.
    assert slowed(np.array([900.0]), 100.0)[0] / 900 == pytest.approx(
        slowed(np.array([90.0]), 100.0)[0] / 90
    )


def test_what_gets_through_has_the_range():
    water = load_materials()["water"]
    for crossed in (1.0, 130.0, 1000.0):
        assert csda_range(water, cutoff(crossed)) == pytest.approx(crossed, abs=1.5)
        assert slowed(np.array([1.2 * cutoff(crossed)]), crossed)[0] > 0.05


def test_power_along_a_path():
    # Against small steps of the path.
    places = (np.arange(4000) + 0.5) / 4000
    for start, crossed in ((3.0, 50.0), (1.0, 150.0), (0.6, 130.0)):
        power = scattering_power(slowed(np.array([start]), 5.0 + places * crossed))
        mean, slope = along_path(np.array([start]), 5.0, np.array([crossed]))
        assert mean[0] == pytest.approx(power.mean(), rel=0.01)
        expected = 12 * (power * (places - 0.5)).mean() / power.mean()
        assert slope[0] == pytest.approx(expected, rel=0.02)


def test_classes_are_those_of_drawn_muons():
    # Muons of the spectrum that come through 130 g/cm² and the panels, by brute force.
    rng = np.random.default_rng(1)
    cosine, loss, thickness = 16, int(np.argmin(np.abs(LOSSES - 0.3))), 23
    table = ClassTable(SPECTRUM, before=3.0, after=1.5)
    c, water = COSINES[cosine], LOSSES[loss] / GEV_PER_WATER
    p = SPECTRUM.quantile(float(c), rng.random(400_000))
    p = p[p > cutoff((3.0 + 1.5) / c + water)]
    power, _ = along_path(p, 3.0 / c, np.full(len(p), water))
    spread = variances(THICKNESSES[thickness], (water + 4.5 / c) / THICKNESSES[thickness])
    products = np.sort(np.log(power * rng.choice(spread, p=shares(), size=len(p))))[::-1]
    edges = np.rint(np.cumsum(class_weights())[:-1] * len(p)).astype(int)
    drawn = [part.mean() for part in np.split(products, edges)]
    found, slope, gain = table.row(cosine, loss, thickness)
    assert np.log(found) == pytest.approx(drawn, abs=0.06)
    assert ((slope >= 0) & (slope <= 1.9)).all()
    # The slowest lose most.
    assert slope[0] > 3 * slope[-1]
    # Behind more matter those that get through are faster, which makes up for what they lose.
    more, _, _ = table.row(cosine, loss + 1, thickness)
    step = LOSSES[loss + 1] - LOSSES[loss]
    assert gain == pytest.approx(np.log(more / found) / step, abs=0.3)


def test_measured_momenta_stand_for_themselves():
    table = ClassTable(SPECTRUM)
    momentum = round(np.log(5.0) / MOMENTUM_STEP)
    found, _, _ = table.measured(momentum, 0, 18, 0, 20)
    spectral, _, _ = table.row(18, 0, 20)
    expected = float(scattering_power(np.array(5.0)))
    assert np.exp(class_weights() @ np.log(found)) == pytest.approx(expected, rel=0.2)
    assert np.ptp(np.log(found)) < 0.6 * np.ptp(np.log(spectral))
    # Faster than the spectrum goes, or too slow to come out: still a number.
    for p in (5000.0, 0.06):
        row = table.measured(round(np.log(p) / MOMENTUM_STEP), 2, 18, 30, 20)
        assert all(np.isfinite(column).all() for column in row)


@pytest.mark.parametrize("momentum", ["spectrum", "measured"])
def test_level_of_a_uniform_load(toy, momentum):
    """One density for all voxels, found from muons of the model itself."""
    rng = np.random.default_rng(2)
    load = np.full(GRID.shape, 3.0)
    muons = toy.straight(3000, 600, 450, 0.2, rng)
    scatters, p = toy.scatter(muons, load, GRID, SPECTRUM, rng, moliere=True)
    if momentum == "measured":
        scatters = replace(
            scatters, momentum=p.astype(np.float32), sigma=(0.02 * p).astype(np.float32)
        )
    prepared = prepare(scatters, GRID, momentum)
    problem = Problem(prepared, MomentumModel(prepared, SPECTRUM), GRID)
    scales = np.linspace(0.85, 1.15, 5)
    values = []
    for scale in scales:
        density = np.full(prepared.voxels, 0.3 * scale)
        values.append(problem.likelihood(density, problem.mixture(density))[0])
    a, b, _ = np.polyfit(scales, values, 2)
    sigma = np.sqrt(-0.5 / a)
    assert -0.5 * b / a == pytest.approx(1.0, abs=0.02 + 3 * sigma)
    assert sigma < (0.03 if momentum == "measured" else 0.07)


def test_a_beam_has_one_momentum():
    found, _, _ = ClassTable(MomentumSpectrum.single(10.0)).row(18, 0, 29)
    # All that is left is the spread of the angles, which is small in thick matter.
    assert np.ptp(np.log(found)) < 1.5
