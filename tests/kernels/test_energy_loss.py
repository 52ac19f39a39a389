"""Energy loss against Bethe's mean, Landau's distribution and the cross section of electrons."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy.integrate import quad

from muscan.kernels.energy_loss import (
    RADIATIVE_CUT,
    draw_electron,
    draw_radiative,
    draw_soft,
    largest_transfer,
)
from muscan.kernels.transport import cross_segment
from muscan.model.material import load_materials
from muscan.simulation.tables import build_tables

ELECTRON, MUON = 0.51099895e-3, 0.1056583755
#: Quantiles of Landau's λ, and its most probable value: K. S. Kölbig and B. Schorr, Comput. Phys.
#: Commun. 31 (1984) 97.
LANDAU = {0.1: -1.09226, 0.25: -0.20462, 0.5: 1.35578, 0.75: 4.4583}
LANDAU_MODE = -0.22278


@njit
def lose_many(rng, tables, p, length, out):
    energy = math.sqrt(p * p + MUON * MUON)
    for i in range(out.size):
        p_out = cross_segment(rng, tables, 0, p, length)[0]
        out[i] = energy - math.sqrt(p_out * p_out + MUON * MUON)


def losses(name, p, length, n, seed=1):
    """Energies lost [GeV], and Landau's ξ [GeV]."""
    material = load_materials()[name]
    tables, out = build_tables([material]), np.empty(n)
    lose_many(np.random.default_rng(seed), tables, p, length, out)
    beta2 = p * p / (p * p + MUON * MUON)
    xi = 0.1535375e-3 * material.z_over_a * material.density_g_cm3 * length / 10 / beta2
    return out, xi, material


@settings(deadline=None)
@given(st.floats(0.02, 1e4))
def test_largest_transfer_is_a_head_on_collision(p):
    # In the centre of mass the electron turns round.
    energy = math.hypot(p, MUON)
    beta = p / (energy + ELECTRON)
    expected = 2 * ELECTRON * beta**2 / (1 - beta**2)
    assert largest_transfer(p, energy) == pytest.approx(expected, rel=1e-6)
    assert largest_transfer(p, energy) < energy - MUON


@pytest.mark.parametrize(("name", "p", "length"), [
    ("water", 0.5, 100), ("iron", 1.0, 20), ("lead", 3.0, 10), ("air", 2.0, 5000),
])  # fmt: skip
def test_mean_loss_is_that_of_the_material(name, p, length):
    lost, _, material = losses(name, p, length, 600_000)
    # The mean loss changes little over these layers; the momentum in the middle stands for it.
    mean = np.mean(lost)
    p_mid = p - 0.5 * mean * math.hypot(p, MUON) / p
    expected = float(material.mass_stopping_power(p_mid)) * material.density_g_cm3 * length * 1e-4
    error = np.std(lost) / math.sqrt(lost.size)
    assert mean == pytest.approx(expected, rel=2e-3, abs=3 * error)


def test_mean_loss_with_radiation():
    # At 200 GeV lead radiates most of what a muon loses, by rare and large losses.
    lost, _, material = losses("lead", 200.0, 20.0, 2_000_000)
    expected = 20 * float(material.mass_stopping_power(200.0)) * material.density_g_cm3 * 1e-4
    ionisation = float(material.mass_stopping_power(200.0, "ionisation"))
    assert expected > 40 * ionisation * material.density_g_cm3 * 1e-4
    error = np.std(lost) / math.sqrt(lost.size)
    assert error < 0.02 * expected
    assert np.mean(lost) == pytest.approx(expected, abs=3 * error)


def test_variance_of_a_thick_layer():
    # Slow muons: the variance is ξ T_max (1 - β²/2). The tail of the few hardest collisions in
    # this layer makes its error 0.6 %.
    p, length = 0.2, 2.0
    lost, xi, _ = losses("water", p, length, 2_000_000)
    energy = math.hypot(p, MUON)
    largest = largest_transfer(p, energy)
    variance = xi * largest * (1 - 0.5 * (p / energy) ** 2)
    assert np.var(lost) == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize(("name", "p", "length"), [("water", 10, 20), ("iron", 10, 5)])
def test_thin_layer_is_landaus(name, p, length):
    lost, xi, material = losses(name, p, length, 200_000)
    assert largest_transfer(p, math.hypot(p, MUON)) > 100 * xi
    bethe, beta_gamma = material.bethe_parameters(), p / MUON
    delta = 2 * math.log(10) * math.log10(beta_gamma) - bethe.cbar
    delta += bethe.a * max(bethe.x1 - math.log10(beta_gamma), 0) ** bethe.k
    beta2 = beta_gamma**2 / (1 + beta_gamma**2)
    excitation = bethe.mean_excitation_eV * 1e-9
    # PDG, eq. 34.12, for the most probable loss.
    mode = math.log(2 * ELECTRON * beta_gamma**2 / excitation) + math.log(xi / excitation)
    mode = xi * (mode + 0.2 - beta2 - delta)
    for part, quantile in LANDAU.items():
        expected = mode + xi * (quantile - LANDAU_MODE)
        assert np.quantile(lost, part) == pytest.approx(expected, abs=0.25 * xi)


def test_knock_on_electrons_follow_the_cross_section(rng):
    p, cut = 1.0, 1e-3
    energy = math.hypot(p, MUON)
    beta2, largest = (p / energy) ** 2, largest_transfer(p, energy)
    n = 100_000
    drawn = np.array([draw_electron(rng, cut, largest, beta2, energy) for _ in range(n)])
    rate = 1 / cut - 1 / largest
    edges = np.geomspace(cut, largest, 6)
    for low, high in itertools.pairwise(edges):
        expected = quad(
            lambda t: (1 - beta2 * t / largest + 0.5 * (t / energy) ** 2) / t**2, low, high
        )[0]
        expected *= n / rate
        counted = np.count_nonzero((drawn >= low) & (drawn < high))
        assert counted == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_radiative_losses_are_hard_ones(rng):
    loss, energy = build_tables([load_materials()["iron"]]).loss, 100.0
    p = math.sqrt(energy**2 - MUON**2)
    drawn = np.array([draw_radiative(rng, loss, 0, p, energy) for _ in range(20_000)])
    assert np.all(drawn >= RADIATIVE_CUT * energy * (1 - 1e-9))
    assert np.all(drawn < energy)
    # Pairs of low energy are most of them, hard photons most of the loss.
    assert np.median(drawn) < 5 * RADIATIVE_CUT * energy
    assert np.sum(drawn[drawn > 0.02 * energy]) > 0.5 * np.sum(drawn)


@pytest.mark.parametrize("mean", [0.5, 2.0, 10.0])
def test_soft_loss_has_its_moments(rng, mean):
    variance, third = 1.0, 0.5
    drawn = np.array([draw_soft(rng, mean, variance, third) for _ in range(100_000)])
    assert np.all(drawn >= 0)
    assert np.mean(drawn) == pytest.approx(mean, abs=0.015)
    assert np.var(drawn) == pytest.approx(variance, rel=0.03)
    if mean > 3:
        assert np.mean((drawn - mean) ** 3) == pytest.approx(third, abs=0.08)
