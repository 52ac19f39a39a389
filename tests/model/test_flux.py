"""Flux models against published integrals and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscan.errors import InputError
from muscan.model import flux


# Integrals of the published formulae, made independently with a fine rectangular grid.
@pytest.mark.parametrize(
    "name, plane_100MeV, plane_1GeV, vertical_1GeV, mean, median",
    [
        ("guan2015", 132, 100, 60, 7.1, 3.1),
        ("reyna2006", 138, 118, 70, 6.7, 3.2),
        ("ecomug", 127, 93, 59, 6.0, 2.6),
    ],
)
def test_integrals(name, plane_100MeV, plane_1GeV, vertical_1GeV, mean, median):
    model = flux.load_flux(name)
    assert model.plane_rate(0.1) == pytest.approx(plane_100MeV, rel=0.02)
    assert model.plane_rate(1.0) == pytest.approx(plane_1GeV, rel=0.02)
    assert model.vertical_intensity(1.0) == pytest.approx(vertical_1GeV, rel=0.02)
    # The spectrum through a horizontal plane, by the midpoint rule.
    p, c = np.geomspace(0.5, 1e4, 4001), (np.arange(100) + 0.5) / 100
    per_log_p = (model.intensity(p[:, None], c) @ c) * p
    assert np.average(p, weights=per_log_p) == pytest.approx(mean, rel=0.02)
    below = np.cumsum(per_log_p) / per_log_p.sum()
    assert np.interp(0.5, below, p) == pytest.approx(median, rel=0.02)


def test_points_of_the_formulae():
    """Values worked out by hand from the published formulae."""
    # EcoMug at 1 GeV: 1600 · 3.68^-3.175 · cos^2.856.
    assert flux.load_flux("ecomug").intensity(1.0, 0.5) == pytest.approx(
        1600 * 3.68**-3.175 * 0.5**2.856
    )
    # Reyna at ζ = 1 GeV: 0.00253 cm⁻² s⁻¹ sr⁻¹ GeV⁻¹ times cos³θ.
    assert flux.load_flux("reyna2006").intensity(2.0, 0.5) == pytest.approx(25.3 / 8)
    # Gaisser at 1 TeV, straight down: 0.14·E^-2.7·(1/(1+9.565) + 0.054/(1+1.294)).
    expected = 1400 * 1000**-2.7 * (1 / (1 + 1100 / 115) + 0.054 / (1 + 1100 / 850))
    assert flux.load_flux("gaisser").intensity(1000.0, 1.0) == pytest.approx(expected, rel=1e-4)


def test_guan_meets_gaisser_at_high_energy_near_the_vertical():
    p = np.array([1e3, 3e3, 1e4])
    guan = flux.load_flux("guan2015").intensity(p, 1.0)
    assert guan == pytest.approx(flux.load_flux("gaisser").intensity(p, 1.0), rel=0.02)


def test_cosine_squared_flux_has_closed_integrals():
    model = flux.FluxModel("cos2", lambda p, c: c**2 / p**2)
    momenta = 1 / 0.5 - 1 / 50  # ∫ p⁻² dp
    assert model.plane_rate(0.5, 50) == pytest.approx(np.pi / 2 * momenta, rel=1e-6)
    assert model.vertical_intensity(0.5, 50) == pytest.approx(momenta, rel=1e-6)
    # 2 ∫ c² √(1 − c²) dc = π/8
    assert model.wall_rate(0.5, 50) == pytest.approx(np.pi / 8 * momenta, rel=1e-4)


@given(p=st.floats(0.05, 1e4), c=st.floats(1e-3, 1))
@pytest.mark.parametrize("name", sorted(flux.MODELS))
def test_intensities_are_finite_and_never_grow_towards_the_horizon_at_low_momentum(name, p, c):
    model = flux.load_flux(name)
    value = model.intensity(p, c)
    assert np.isfinite(value)
    assert value >= 0
    if p < 5 and name != "gaisser":
        assert value <= model.intensity(p, 1.0) * (1 + 1e-9)


def test_no_muons_from_below():
    assert flux.load_flux("guan2015").intensity(3.0, [-0.5, 0.0]).tolist() == [0.0, 0.0]


def test_a_table_of_a_model_is_that_model(tmp_path):
    model = flux.load_flux("guan2015")
    p, c = np.geomspace(0.05, 1e4, 200), np.linspace(0.01, 1, 60)
    path = tmp_path / "flux.csv"
    rows = [(a, b, model.intensity(a, b)) for a in p for b in c]
    np.savetxt(path, rows, delimiter=",", header="momentum_GeV,cos_zenith,intensity")
    table = flux.load_flux(path)
    assert table.plane_rate(0.1) == pytest.approx(model.plane_rate(0.1), rel=2e-3)
    assert flux.load_flux(str(path)).wall_rate(1.0) == pytest.approx(model.wall_rate(1.0), rel=5e-3)


def test_a_table_ends_at_its_last_momentum():
    table = flux.from_table([1.0, 2.0], [0.5, 1.0], [[1.0, 1.0], [1.0, 1.0]])
    assert table.intensity([0.99, 1.0, 2.0, 2.01], 1.0).tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "content, problem",
    [
        ("p,c,i\n1,0.5,1\n1,1,2\n2,0.5,1\n", "3 rows do not fill"),
        ("p,c,i\n1,0.5,1\n1,1,2\n2,0.5,1\n2,1,-3\n", "nothing in it be negative"),
        ("p,c,i\n1,0.5,1\n1,1,2\n2,0.5,1\n2,1,nan\n", "nothing in it be negative"),
        ("p,c\n1,0.5\n", "3 columns"),
        ("p,c,i\n1,x,3\n", "not a table of numbers"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, content, problem):
    path = tmp_path / "wrong.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=problem):
        flux.load_flux(path)


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'guan2015'"):
        flux.load_flux("guan2005")


def test_missing_table_is_named():
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read"):
        flux.load_flux("nowhere.csv")


@pytest.mark.parametrize("low, high", [(1.0, 0.5), (1.0, 1.0), (0.0, 1.0), (1.0, 2e4)])
def test_wrong_momentum_ranges_are_refused(low, high):
    with pytest.raises(InputError, match="momentum range"):
        flux.load_flux("guan2015").plane_rate(low, high)


def test_a_function_that_gives_nonsense_is_refused():
    with pytest.raises(InputError, match="finite"):
        flux.load_flux(lambda p, c: np.log(c - 0.5 + 0j).real * np.nan).plane_rate()


def test_names_are_those_of_the_models():
    assert set(flux.MODELS) <= set(flux.names())
    assert all(flux.load_flux(name).name == name for name in flux.names())
