"""Scattering against its cross section, integrated and sampled without any of the short cuts."""

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit
from scipy.integrate import quad

from muscan.kernels.lookup import locate, octaves
from muscan.kernels.scattering import HARD_COLLISIONS, choose_cut, scatter_hard
from muscan.kernels.transport import cross_segment
from muscan.model.material import load_materials
from muscan.simulation.tables import build_tables

ALPHA_HBARC = 1.43996448e-16  # GeV cm
ALPHA, ELECTRON, MUON, HBARC = 1 / 137.035999, 0.51099895e-3, 0.1056583755, 0.1973269804
AVOGADRO = 6.02214076e23


class Aluminium:
    """The cross section of aluminium at β = 1, written out from the literature once more."""

    z, a, density = 13, 26.9815385, 2.699
    k = 4 * math.pi * AVOGADRO * density / a * ALPHA_HBARC**2 / 10 * z  # of the electrons [GeV²/mm]
    radius = 1.27 * a**0.27 / HBARC

    @classmethod
    def screening(cls):
        x = (ALPHA * cls.z) ** 2
        coulomb = x * sum(1 / (n * (n * n + x)) for n in range(1, 2000))
        thomas_fermi = (ALPHA * ELECTRON * cls.z ** (1 / 3) / 0.88534) ** 2
        return thomas_fermi * 1.13 * math.exp(2 * coulomb) * (1 + math.exp(-0.169))

    @classmethod
    def density_of_q2(cls, q2):
        """dN / dq² / dx on nuclei and electrons together [1 / GeV² / mm]."""
        coherent = (1 + q2 * cls.radius**2 / 12) ** -4
        single = (1 - coherent) / cls.z * (1 + q2 / 0.71) ** -4
        return cls.k * (cls.z * (coherent + single) + 1) / (q2 + cls.screening()) ** 2


@pytest.fixture(scope="module")
def aluminium():
    return build_tables([load_materials()["aluminium"].with_density(Aluminium.density)])


@lru_cache
def lead_tables():
    return build_tables([load_materials()["lead"]])


@njit
def cross_many(rng, tables, p, length, out):
    for i in range(out.shape[1]):
        piece = cross_segment(rng, tables, 0, p, length)
        ux, uy, uz, x, y = piece[1:6]
        out[0, i], out[1, i], out[2, i], out[3, i] = ux / uz, uy / uz, x, y


@njit
def collide_many(rng, tables, q2_plus, p, q2_electron, out):
    for i in range(out.size):
        x, y = scatter_hard(rng, tables, 0, q2_plus, p, q2_electron)
        out[i] = math.sqrt(x * x + y * y)


def crossed(tables, p, length, n, seed=1):
    out = np.empty((4, n))
    cross_many(np.random.default_rng(seed), tables, p, length, out)
    return out


@settings(deadline=None)
@given(st.floats(1e-12, 1e12))
def test_octaves_is_nearly_a_logarithm(x):
    assert octaves(2.0 * x) == pytest.approx(octaves(x) + 1, abs=1e-9)
    # log2(1 + t) - t is at most 0.0861 on [0, 1] and never negative.
    assert -1e-9 <= math.log2(x) - octaves(x) < 0.0861


@settings(deadline=None)
@given(st.integers(0, 159), st.floats(0, 0.999))
def test_locate_finds_its_way_back(row, part):
    nodes = [2.0 ** (k // 4 - 14) * (1 + k % 4 / 4) for k in (row, row + 1)]
    i, f = locate(nodes[0] + part * (nodes[1] - nodes[0]), -14, 4, 161)
    assert i + f == pytest.approx(row + part, abs=1e-6)


def test_locate_stays_on_the_grid():
    assert locate(1e-9, -14, 4, 161) == (0, 0.0)
    i, f = locate(1e30, -14, 4, 161)
    assert i == 159
    assert f == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("xi", [0.1, 3.0, 100.0])
def test_soft_moments_are_the_integrals(aluminium, xi):
    cut = choose_cut(aluminium.scattering, 0, xi)
    limit = math.log(cut.q2_plus - Aluminium.screening())

    def moment(power):
        def integrand(t):
            return math.exp((power + 1) * t) * Aluminium.density_of_q2(math.exp(t))

        return quad(integrand, -35, limit, epsrel=1e-8, limit=200)[0]

    assert cut.variance == pytest.approx(0.5 * moment(1), rel=3e-3)
    excess = 0.375 * moment(2) / ((0.5 * moment(1)) ** 2 * xi)
    assert cut.spread == pytest.approx(math.sqrt(excess / 3), rel=2e-2)
    assert cut.rate * xi == pytest.approx(HARD_COLLISIONS, rel=1e-6)
    # µ⁺ and µ⁻ in equal parts: no second Born term, and 1 − s² on nuclei, s = q/2p.
    nuclei = Aluminium.z / (Aluminium.z + 1)
    assert cut.born == 0
    assert cut.spin == pytest.approx(0.5 * moment(2) / 4 * nuclei, rel=2e-2)


def test_soft_part_has_the_second_born_term():
    """Of the soft collisions, too, µ⁻ on lead have 1 + b s − (1 + b) s² as many, b = π α Z."""
    tables = build_tables([load_materials()["lead"]], charge=-1)
    cut = choose_cut(tables.scattering, 0, 30.0)
    total, _, smallest, born = tables.scattering.rutherford[0]
    assert born == pytest.approx(math.pi * ALPHA * 82, rel=1e-3)
    q2 = np.exp(np.linspace(-30, math.log(cut.q2_plus - smallest), 200_001))
    # The kernel's own table of what lead's nuclei have over a bare charge, at its nodes.
    nodes = 2.0 ** (-40 + np.arange(185) // 4) * (1 + np.arange(185) % 4 / 4)
    nuclei = np.interp(q2, nodes, tables.scattering.hard[0, :, 0])
    density = total * nuclei / (q2 + smallest) ** 2
    by_s, by_s2 = (np.trapezoid(density * q2 * (np.sqrt(q2) / 2) ** k, q2) for k in (1, 2))
    for p in (0.3, 1.0, 3.0):
        expected = 0.5 * (born * by_s / p - (1 + born) * by_s2 / p**2)
        assert (cut.born - cut.spin / p) / p == pytest.approx(expected, rel=0.01)


def test_thin_matter_has_no_soft_collisions(aluminium):
    # Fewer collisions than the cut aims at: each is drawn on its own.
    q2_a = Aluminium.screening()
    xi = 0.2 * q2_a / (Aluminium.k * (Aluminium.z + 1))
    cut = choose_cut(aluminium.scattering, 0, xi)
    assert cut.q2_plus == pytest.approx(q2_a, rel=1e-4)
    assert cut.rate * xi == pytest.approx(0.2, rel=1e-4)
    assert cut.variance < 1e-4 * choose_cut(aluminium.scattering, 0, 100.0).variance


def test_hard_collisions_follow_the_cross_section(aluminium, rng):
    p, n = 3.0, 400_000
    q2_plus = 1e-5
    angles = np.empty(n)
    collide_many(rng, aluminium.scattering, q2_plus, p, 1e30, angles)
    q = 2 * p * np.sin(0.5 * angles)
    rate = Aluminium.k * (Aluminium.z + 1) / q2_plus  # of draws, most of them accepted
    for low, high in [(4e-3, 1e-2), (1e-2, 3e-2), (3e-2, 0.1), (0.1, 0.3)]:

        def integrand(t):
            q2 = math.exp(t)
            return q2 * Aluminium.density_of_q2(q2) * (1 - q2 / (4 * p * p))

        expected = n * quad(integrand, 2 * math.log(low), 2 * math.log(high))[0] / rate
        counted = np.count_nonzero((q >= low) & (q < high))
        assert counted == pytest.approx(expected, rel=5e-3, abs=4 * math.sqrt(expected))


def test_electrons_do_not_deflect_beyond_their_kinematic_limit(aluminium):
    draws = [np.empty(200_000) for _ in range(2)]
    for angles, limit in zip(draws, (1e30, 0.0), strict=True):
        rng = np.random.default_rng(2)
        collide_many(rng, aluminium.scattering, 1e-6, 3.0, limit, angles)
    kept = [np.count_nonzero(angles) for angles in draws]
    # Nuclei and electrons scatter as Z² to Z.
    assert kept[1] / kept[0] == pytest.approx(13 / 14, rel=4e-3)


def test_second_born_term_prefers_negative_muons():
    lead, p = load_materials()["lead"], 1.0
    tails = {}
    for charge in (-1, 0, 1):
        angles = np.empty(1_000_000)
        tables = build_tables([lead], charge=charge).scattering
        collide_many(np.random.default_rng(3), tables, 1e-3, p, 0.0, angles)
        headroom = 1 + max(-charge * math.pi * ALPHA * 82 / 4, 0)
        tails[charge] = np.count_nonzero((angles > 0.05) & (angles < 0.07)) * headroom
    s = math.sin(0.03)
    born = math.pi * ALPHA * 82 * s * (1 - s)
    assert tails[-1] / tails[0] == pytest.approx(1 + born, abs=0.012)
    assert tails[1] / tails[0] == pytest.approx(1 - born, abs=0.012)


def every_collision(rng, length, p, n):
    """Projected angles with each single collision drawn: no cut, no Gaussian, no tables."""
    q2_a = Aluminium.screening()
    # Few enough collisions have a form factor or an electron's limit to thin out a bare law.
    mean = Aluminium.k * (Aluminium.z + 1) / q2_a * length
    counts = rng.poisson(mean, n)
    owner = np.repeat(np.arange(n), counts)
    u = 1 - rng.random(owner.size)
    q2 = q2_a / u - q2_a
    on_electron = rng.random(owner.size) < 1 / (Aluminium.z + 1)
    largest = 2 * ELECTRON * p**2 * 2 * ELECTRON / (MUON**2 + 2 * ELECTRON * p)
    coherent = (1 + q2 * Aluminium.radius**2 / 12) ** -4
    keep = rng.random(owner.size) < coherent + (1 - coherent) / Aluminium.z
    keep = np.where(on_electron, q2 < largest * math.exp(-0.5), keep) & (q2 < 4 * p * p)
    phi = rng.uniform(0, 2 * math.pi, owner.size)
    q = np.sqrt(q2) * keep / p
    theta_x = np.bincount(owner, q * np.cos(phi), n)
    theta_y = np.bincount(owner, q * np.sin(phi), n)
    return np.concatenate([theta_x, theta_y])


@pytest.mark.parametrize("length", [0.01, 0.04])
def test_mixed_simulation_agrees_with_every_single_collision(aluminium, rng, length):
    # 14 and 55 collisions on average: a Gaussian for the soft ones is hard pressed there.
    p, n = 3.0, 40_000
    single = np.abs(every_collision(rng, length, p, n))
    mixed = np.abs(crossed(aluminium, p, length, 400_000)[:2])
    for quantile, tolerance in [(0.3, 0.02), (0.6827, 0.015), (0.95, 0.02), (0.99, 0.05)]:
        expected = np.quantile(single, quantile)
        assert np.quantile(mixed, quantile) == pytest.approx(expected, rel=tolerance)


def test_angle_and_displacement_are_correlated(aluminium):
    # Of a thin homogeneous layer the variances are σ², σ² L²/3 and the correlation √3/2.
    length = 10.0
    x, _, dx, _ = crossed(aluminium, 10.0, length, 200_000)
    core = np.abs(x) < np.quantile(np.abs(x), 0.9)
    slope = np.mean(x[core] * dx[core]) / np.mean(x[core] ** 2)
    assert slope == pytest.approx(length / 2, rel=5e-3)
    width = np.quantile(np.abs([x, dx - 0.5 * length * x]), 0.6827, axis=1)
    assert width[1] / width[0] == pytest.approx(length / math.sqrt(12), rel=0.02)


def test_highland_is_the_formula():
    iron = load_materials()["iron"]
    tables, p, length = build_tables([iron], "highland"), 3.0, 20.0
    x, y, dx, _ = crossed(tables, p, length, 200_000)
    beta2 = p * p / (p * p + MUON**2)
    thickness = length / iron.radiation_length_mm
    # The muon loses 1.1 % over the layer; the momentum in the middle stands for it.
    p_mid = p - 0.5 * length * 0.1 * iron.mass_stopping_power(p) * iron.density_g_cm3 * 1e-3
    theta0 = 0.0136 / (p_mid * math.sqrt(beta2)) * math.sqrt(thickness)
    theta0 *= 1 + 0.038 * math.log(thickness / beta2)
    assert np.std(np.concatenate([x, y])) == pytest.approx(theta0, rel=6e-3)
    assert np.std(dx) == pytest.approx(theta0 * length / math.sqrt(3), rel=8e-3)
    assert np.corrcoef(x, dx)[0, 1] == pytest.approx(math.sqrt(3) / 2, abs=3e-3)
    assert np.mean(x**4) / np.mean(x**2) ** 2 == pytest.approx(3, abs=0.08)


@settings(deadline=None)
@example(6947.0, 5e-324, 1)
@given(st.floats(0.02, 1e4), st.floats(0, 1e5), st.integers(0, 2**32 - 1))
def test_any_piece_gives_a_muon_or_a_stop(p, length, seed):
    tables = lead_tables()
    p_out, ux, uy, uz, dx, dy, travelled = cross_segment(
        np.random.default_rng(seed), tables, 0, p, length
    )
    assert np.all(np.isfinite([p_out, dx, dy, travelled]))
    assert ux * ux + uy * uy + uz * uz == pytest.approx(1, abs=1e-6)
    assert 0 <= p_out <= p * (1 + 1e-12)
    assert 0 <= travelled <= length
    assert travelled == length or p_out == 0 or uz < 0.3
