"""The law of angles behind a thickness of goods."""

import numpy as np
import pytest

from muscan.model.material import load_materials
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.survival import csda_range
from muscan.simulation.angle_law import angle_law


def test_as_many_muons_come_out_as_have_the_range():
    water = load_materials()["water"]
    spectrum = sea_level_spectrum()
    law = angle_law(water, spectrum, muons=2000, seed=1)
    place = int(np.argmin(np.abs(law.thickness - 100.0)))
    depth = law.thickness[place] / water.scattering_density
    momenta = np.geomspace(0.1, 2.0, 400)
    least = float(np.interp(depth, csda_range(water, momenta), momenta))
    expected = 1 - spectrum.probability(1.0, least)
    assert law.survival[-1, place] == pytest.approx(expected, abs=0.015)
    assert law.open_survival == pytest.approx(1.0)
    assert law.weight.sum(axis=2) == pytest.approx(1.0)
