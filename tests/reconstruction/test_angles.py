"""The law of the angles against Geant4, against drawn collisions, and in its limits."""

import numpy as np
import pytest
from scipy.stats import norm

from muscan.model.track_errors import highland_factor
from muscan.reconstruction import angles
from muscan.reconstruction.momenta import along_path

#: Half widths of |θ| [mrad] that hold 68.27 and 95 % of mu- behind a slab: Geant4 11.4.0
#: (Wentzel-VI and single scattering), 50 000 muons each. Radiation lengths, water of the same loss
#: [g/cm²], momentum [GeV].
SLABS = (
    ("water", 10 / 36.08, 10.0, 3.0, 2.233, 4.698),
    ("water", 10 / 36.08, 10.0, 10.0, 0.667, 1.396),
    ("aluminium", 10 / 8.90, 22.6, 3.0, 4.828, 10.04),
    ("aluminium", 10 / 8.90, 22.6, 10.0, 1.445, 2.993),
    ("iron", 10 / 1.757, 60.4, 1.0, 36.71, 74.88),
    ("iron", 10 / 1.757, 60.4, 10.0, 3.452, 7.049),
    ("lead", 1 / 0.561, 7.17, 1.0, 20.07, 41.12),
    ("lead", 10 / 0.561, 71.7, 3.0, 22.41, 44.58),
    ("lead", 10 / 0.561, 71.7, 10.0, 6.584, 13.06),
)


@pytest.mark.parametrize("name, thickness, water, momentum, inner, outer", SLABS)
def test_widths_behind_slabs_are_geant4s(name, thickness, water, momentum, inner, outer):
    power, _ = along_path(np.array([momentum]), 0.0, np.array([water]))
    core = 25.0 * power * thickness * highland_factor(np.array(thickness))
    sigma = np.sqrt(core * angles.variances(thickness, water / thickness))
    theta = np.linspace(0, 10 * sigma[0], 20_001)
    inside = angles.shares() @ (2 * norm.cdf(theta / sigma[:, None]) - 1)
    found = np.interp([0.6827, 0.95], inside, theta)
    # Geant4's soft collisions have no form factor, which makes thick lead 4 % wider.
    assert found == pytest.approx([inner, outer], rel=0.06 if thickness > 10 else 0.03)


@pytest.mark.parametrize("kappa", [0.02, 0.3])
def test_sum_of_drawn_collisions_has_the_same_law(kappa):
    # Variances v from v_max/500 on, as many as ξ/v² (1 - v/v_max); the many small ones, which
    # have a normal sum of hardly any width, are left out with their mean.
    rng = np.random.default_rng(3)
    draws, smallest = 40_000, 0.002
    total = np.zeros(draws)
    for n in range(draws):
        number = rng.poisson(kappa * (1 / smallest - 1))
        v = 1 / (1 + rng.random(number) * (1 / smallest - 1))
        total[n] = v[rng.random(number) < 1 - v].sum()
    nodes = 0.5 * (angles.SHARE_EDGES[1:] + angles.SHARE_EDGES[:-1])[1:-2]
    mean = kappa * (np.log(1 / smallest) - 1 + smallest)
    drawn = (np.quantile(total, nodes) - mean) / kappa
    place = int(np.argmin(np.abs(np.log(angles.KAPPAS / kappa))))
    low = place if angles.KAPPAS[place] < kappa else place - 1
    part = np.log(kappa / angles.KAPPAS[low]) / np.log(angles.KAPPAS[1] / angles.KAPPAS[0])
    table = angles._vavilov()
    law = ((1 - part) * table[low] + part * table[low + 1])[1:-2]
    assert law == pytest.approx(drawn, abs=0.04 * np.ptp(drawn))


def test_thin_matter_has_rutherfords_tail_and_thick_matter_none():
    thin, thick = angles.variances(0.1, 36.1), angles.variances(60.0, 3.67)
    assert thick[-1] / thick[0] < 1.6
    # Collisions beyond a variance v are ξ (1/v - 1/v_max - ln(v_max/v)/v_max) in number: nearly
    # 1/v. In a plane at 0.1 radiation lengths of water ξ is 1.07 MeV², v_max 8500 MeV².
    beyond = 1 - 0.5 * (angles.SHARE_EDGES[1:] + angles.SHARE_EDGES[:-1])[-4:-1]
    highland = 225 * 0.1 * highland_factor(np.array(0.1))
    v = (thin * highland)[-4:-1]
    number = 1.07 * (1 / v - 1 / 8500 - np.log(8500 / v) / 8500)
    assert beyond == pytest.approx(number, rel=0.35)


def test_shares_are_all_of_it_and_variances_ascend():
    assert angles.shares().sum() == pytest.approx(1.0)
    for thickness in (1e-4, 0.01, 1.0, 100.0, 1e4):
        for water in (1.0, 10.0, 36.0, 100.0):
            found = angles.variances(thickness, water)
            assert (np.diff(found) > 0).all()
            assert (found > 0.1).all()
            assert abs(angles.shares() @ np.log(found)) < 0.5
