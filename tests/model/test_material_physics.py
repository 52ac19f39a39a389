"""Radiation lengths and stopping powers against published values, closed forms and a twin."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from muscan.errors import InputError
from muscan.model.composition import element, radiation_length
from muscan.model.material import Material, check_materials, load_materials
from muscan.model.radiative import losses
from muscan.units import MUON_MASS_GEV

DATABASE = load_materials()


def momentum(kinetic_GeV):
    energy = np.asarray(kinetic_GeV, dtype=float) + MUON_MASS_GEV
    return np.sqrt(energy**2 - MUON_MASS_GEV**2)


# Mass radiation lengths [g/cm²]: PDG, Atomic and nuclear properties of materials (2024).
PDG_ELEMENTS = {
    "H": 63.04, "He": 94.32, "Li": 82.78, "Be": 65.19, "C": 42.70, "N": 37.99, "O": 34.24,
    "Ne": 28.93, "Al": 24.01, "Si": 21.82, "Ar": 19.55, "Ti": 16.16, "Fe": 13.84, "Cu": 12.86,
    "Ge": 12.25, "Sn": 8.82, "Xe": 8.48, "W": 6.76, "Pt": 6.54, "Au": 6.46, "Pb": 6.37, "U": 6.00,
}  # fmt: skip
PDG_MATERIALS = {
    "air": 36.62, "water": 36.08, "carbon-dioxide": 36.20, "polyethylene": 44.77,
    "polystyrene": 43.79, "plastic-scintillator": 43.90, "acrylic": 40.55, "ptfe": 34.84,
    "polyimide": 40.58, "nylon": 41.92, "paraffin": 44.85, "concrete": 26.57, "silica": 27.05,
    "borosilicate-glass": 28.17, "lead-glass": 7.87, "sodium-iodide": 9.49, "bgo": 7.97,
    "polyethylene-terephthalate": 39.95, "uranium-dioxide": 6.65,
}  # fmt: skip


@pytest.mark.parametrize("symbol, published", PDG_ELEMENTS.items())
def test_radiation_lengths_of_elements(symbol, published):
    assert element(symbol).radiation_length_g_cm2 == pytest.approx(published, rel=2e-3)


@pytest.mark.parametrize("name, published", PDG_MATERIALS.items())
def test_radiation_lengths_of_compounds(name, published):
    assert DATABASE[name].radiation_length_g_cm2 == pytest.approx(published, rel=3e-3)


@pytest.mark.parametrize(
    "name, x0_cm, scattering_density",
    [("water", 36.08, 0.69), ("concrete", 11.55, 2.16), ("aluminium", 8.90, 2.81),
     ("iron", 1.757, 14.2), ("copper", 1.436, 17.4), ("lead", 0.561, 44.5),
     ("tungsten", 0.350, 71.4), ("uranium", 0.317, 79.0)],
)  # fmt: skip
def test_scattering_densities(name, x0_cm, scattering_density):
    material = DATABASE[name]
    assert material.radiation_length_mm == pytest.approx(10 * x0_cm, rel=2e-3)
    assert material.scattering_density == pytest.approx(scattering_density, rel=6e-3)
    assert material.scattering_density == pytest.approx(25 / (material.radiation_length_mm / 10))


def test_organics_nearly_coincide_per_mass():
    # Drugs and fruit differ by their bulk density only.
    values = {
        name: DATABASE[name].radiation_length_g_cm2
        for name in ("cocaine-hydrochloride", "cocaine-base", "bananas")
    }
    assert values == pytest.approx(
        {"cocaine-hydrochloride": 36.9, "cocaine-base": 41.2, "bananas": 36.7}, rel=5e-3
    )


# dE/dx [MeV cm²/g] of muons of 1, 3 and 10 GeV kinetic energy, computed by another program.
STOPPING = {
    "paraffin": (2.192, 2.385, 2.590),
    "water": (2.107, 2.297, 2.507),
    "concrete": (1.838, 2.019, 2.216),
    "aluminium": (1.750, 1.922, 2.115),
    "iron": (1.577, 1.765, 1.974),
    "copper": (1.530, 1.714, 1.926),
    "lead": (1.272, 1.456, 1.691),
    "tungsten": (1.278, 1.458, 1.686),
    "uranium": (1.225, 1.404, 1.636),
}


@pytest.mark.parametrize("name, published", STOPPING.items())
def test_stopping_powers(name, published):
    computed = DATABASE[name].mass_stopping_power(momentum([1.0, 3.0, 10.0]))
    assert computed == pytest.approx(np.array(published), rel=5e-3)


@pytest.mark.parametrize(
    "name, published",
    [("water", 1.992), ("aluminium", 1.615), ("iron", 1.451), ("copper", 1.403), ("lead", 1.122),
     ("uranium", 1.081), ("air", 1.815), ("polyethylene", 2.079), ("concrete", 1.711),
     ("tungsten", 1.145), ("gold", 1.134), ("silica", 1.699), ("polystyrene", 1.936),
     ("lead-glass", 1.255), ("hydrogen", 4.103)],
)  # fmt: skip
def test_minimum_ionisation(name, published):
    # PDG (2024), "minimum ionization" of each material.
    grid = np.geomspace(0.1, 3.0, 400)
    loss = DATABASE[name].mass_stopping_power(grid, "ionisation").min()
    assert loss == pytest.approx(published, rel=8e-3)


@pytest.mark.parametrize(
    "name, published_GeV, tolerance",
    [("water", 1032, 0.03), ("aluminium", 612, 0.03), ("iron", 347, 0.03), ("copper", 317, 0.03),
     ("tungsten", 150, 0.08), ("lead", 141, 0.08), ("uranium", 128, 0.08)],
)  # fmt: skip
def test_muon_critical_energy(name, published_GeV, tolerance):
    # Where radiation takes as much as ionisation: PDG (2024).
    material = DATABASE[name]

    def difference(p):
        parts = [float(material.mass_stopping_power(p, k)) for k in ("ionisation", "radiative")]
        return parts[0] - parts[1]

    assert brentq(difference, 20, 3000) == pytest.approx(published_GeV, rel=tolerance)


def bethe_by_hand(name, p_GeV):
    """The formula of Groom et al. (2001), one number at a time, in MeV."""
    b = DATABASE[name].bethe_parameters()
    mass, electron = 105.6583755, 0.51099895
    energy = math.sqrt((1e3 * p_GeV) ** 2 + mass**2)
    beta_gamma, gamma = 1e3 * p_GeV / mass, energy / mass
    beta2 = (beta_gamma / gamma) ** 2
    w_max = (
        2 * electron * beta_gamma**2 / (1 + 2 * gamma * electron / mass + (electron / mass) ** 2)
    )
    x = math.log10(beta_gamma)
    if x >= b.x1:
        delta = 4.605170186 * x - b.cbar
    elif x >= b.x0:
        delta = 4.605170186 * x - b.cbar + b.a * (b.x1 - x) ** b.k
    else:
        delta = b.delta0 * 10 ** (2 * (x - b.x0))
    argument = 2 * electron * beta_gamma**2 * w_max / (b.mean_excitation_eV * 1e-6) ** 2
    spin = (w_max / energy) ** 2 / 8
    bethe = (0.5 * math.log(argument) - beta2 - delta / 2 + spin) / beta2
    # Bremsstrahlung of the struck electrons; an expression for high energies.
    log_w = max(math.log(2 * w_max / electron), 0)
    struck = (math.log(2 * gamma) - log_w / 3) * log_w**2 / (4 * math.pi * 137.035999)
    return 0.307075 * b.z_over_a * (bethe + struck)


@pytest.mark.parametrize("name", ["water", "air", "iron", "lead", "cocaine-brick", "steel"])
def test_ionisation_is_the_bethe_formula(name):
    grid = [0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0]
    by_hand = [bethe_by_hand(name, p) for p in grid]
    assert DATABASE[name].mass_stopping_power(grid, "ionisation") == pytest.approx(
        np.array(by_hand), rel=1e-5
    )


@given(st.sampled_from(DATABASE.names))
def test_density_effect_reaches_the_fermi_plateau(name):
    # δ -> 2 ln(ħω_p βγ / I) - 1 (Sternheimer): the plasma energy takes the place of I.
    b = DATABASE[name].bethe_parameters()
    beta_gamma = 10 ** (b.x1 + 1)
    delta = 2 * math.log(10) * math.log10(beta_gamma) - b.cbar
    expected = 2 * math.log(b.plasma_energy_eV * beta_gamma / b.mean_excitation_eV) - 1
    assert delta == pytest.approx(expected, rel=1e-9)


def test_a_shape_taken_over_is_as_good_as_a_tabulated_one():
    grid = np.geomspace(0.2, 100, 30)
    for name, like in [("concrete", "silica"), ("blood", "water"), ("lead-glass", "lead-oxide")]:
        own = DATABASE[name]
        taken = replace(own, tabulated_density_effect=DATABASE[like].known_density_effect)
        assert taken.mass_stopping_power(grid) == pytest.approx(
            own.mass_stopping_power(grid), rel=7e-3
        )


@pytest.mark.parametrize("name", ["water", "iron", "lead", "concrete", "carbon-dioxide"])
def test_the_general_prescription_is_good_to_three_per_cent(name):
    own = DATABASE[name]
    # Two constituents make it a compound, without parameters of its own.
    bare = Material(
        name="bare",
        density_g_cm3=own.density_g_cm3,
        composition=dict(own.composition) | ({"Fe": 0.99, "Co": 0.01} if name == "iron" else {}),
        state=own.state,
        excitation_eV=own.mean_excitation_eV,
    )
    grid = np.geomspace(0.2, 100, 30)
    assert bare.mass_stopping_power(grid, "ionisation") == pytest.approx(
        own.mass_stopping_power(grid, "ionisation"), rel=0.03
    )


def test_radiation_grows_as_energy_and_as_charge_squared():
    iron, lead = DATABASE["iron"], DATABASE["lead"]
    one, ten = iron.mass_stopping_power([1e3, 1e4], "radiative")
    assert 10 < ten / one < 12
    ratio = lead.mass_stopping_power(1e3, "radiative") / iron.mass_stopping_power(1e3, "radiative")
    assert float(ratio) == pytest.approx((82**2 / 207.2) / (26**2 / 55.845), rel=0.15)


def test_each_radiative_process_has_its_share():
    # b [1e-6 cm²/g] in iron at 1 TeV: bremsstrahlung 2.9, pairs 4.2, photonuclear 0.4, the
    # proportions of Groom, Mokhov and Striganov (2001).
    parts = np.array(losses(26, 55.845, 1000.0)) / 1000 * 1e3
    assert parts == pytest.approx(np.array([2.9, 4.2, 0.4]), rel=0.1)


def test_parts_add_up_and_shapes_are_kept():
    p = np.geomspace(0.01, 100, 12).reshape(3, 4)
    steel = DATABASE["steel"]
    total = steel.mass_stopping_power(p)
    parts = [steel.mass_stopping_power(p, part) for part in ("ionisation", "radiative")]
    assert total.shape == (3, 4)
    assert total == pytest.approx(parts[0] + parts[1])
    assert steel.mass_stopping_power(3.0).shape == ()
    with pytest.raises(InputError, match="no such part 'all'"):
        steel.mass_stopping_power(p, "all")


@given(st.sampled_from(DATABASE.names), st.floats(0.001, 1e4))
def test_loss_is_positive_and_finite(name, p):
    loss = float(DATABASE[name].mass_stopping_power(p))
    assert 0.5 < loss < 1e6


@given(st.sampled_from(DATABASE.names), st.floats(1e-4, 25))
def test_scattering_density_goes_with_density(name, density):
    material = DATABASE[name]
    packed = material.with_density(density)
    assert packed.scattering_density == pytest.approx(material.mass_scattering_power * density)
    assert packed.density_range_g_cm3 == (density, density)
    assert packed.scattering_density * packed.radiation_length_mm == pytest.approx(250)


def test_packing_keeps_the_mass_stopping_power_and_compressing_a_gas_does_not():
    p = momentum([1.0, 10.0])
    steel, air = DATABASE["steel"], DATABASE["air"]
    assert steel.with_density(0.6).mass_stopping_power(p) == pytest.approx(
        steel.mass_stopping_power(p)
    )
    assert (air.with_density(0.12).mass_stopping_power(p) < 0.99 * air.mass_stopping_power(p)).all()
    assert steel.with_density(0.6).with_density(7.85).bethe_parameters() == pytest.approx(
        steel.bethe_parameters()
    )


@pytest.mark.parametrize("density", [0.0, -1.0, math.nan, math.inf])
def test_a_density_that_is_none_is_refused(density):
    with pytest.raises(InputError, match="density"):
        DATABASE["steel"].with_density(density)


def test_fractions_must_sum_to_one():
    with pytest.raises(InputError, match=r"sum to 0\.9"):
        Material("half", 1.0, {"H": 0.1, "O": 0.8})


fractions = st.lists(st.floats(0.01, 1), min_size=2, max_size=5)


@given(fractions, st.permutations(["water", "iron", "lead", "ptfe", "tnt"]))
def test_mixture_rule(weights, names):
    parts = dict(zip(names, np.array(weights) / sum(weights), strict=False))
    mixed: dict[str, float] = {}
    for name, weight in parts.items():
        for symbol, fraction in DATABASE[name].composition.items():
            mixed[symbol] = mixed.get(symbol, 0.0) + weight * fraction
    lengths = {name: DATABASE[name].radiation_length_g_cm2 for name in parts}
    x0 = radiation_length(mixed)
    assert 1 / x0 == pytest.approx(sum(w / lengths[name] for name, w in parts.items()))
    assert min(lengths.values()) * (1 - 1e-9) <= x0 <= max(lengths.values()) * (1 + 1e-9)


SPLIT = """
[[material]]
name = "whole"
mixture = {{ "steel" = {steel}, "water" = {water}, "wood" = {wood} }}
density_g_cm3 = 1.0
state = "packed"
category = "consumer"
source = "a test"

[[material]]
name = "half"
mixture = {{ "steel" = {steel_half}, "water" = {water_half} }}
density_g_cm3 = 1.0
state = "packed"
category = "consumer"
source = "a test"

[[material]]
name = "split"
mixture = {{ "half" = {half}, "wood" = {wood} }}
density_g_cm3 = 1.0
state = "packed"
category = "consumer"
source = "a test"
"""


@pytest.mark.parametrize("steel, water", [(0.5, 0.3), (0.1, 0.1), (0.05, 0.85)])
def test_mixing_in_two_steps_is_mixing_in_one(tmp_path, steel, water):
    half = steel + water
    path = tmp_path / "split.toml"
    path.write_text(
        SPLIT.format(
            steel=steel, water=water, wood=1 - half, half=half,
            steel_half=steel / half, water_half=water / half,
        ),
        encoding="utf-8",
    )  # fmt: skip
    found = check_materials(path)
    whole, split = found["whole"], found["split"]
    assert dict(split.composition) == pytest.approx(dict(whole.composition))
    assert split.radiation_length_g_cm2 == pytest.approx(whole.radiation_length_g_cm2)
    assert split.mean_excitation_eV == pytest.approx(whole.mean_excitation_eV)
    assert split.matter_density_g_cm3 == pytest.approx(whole.matter_density_g_cm3)
    # Volumes add: the pieces of the whole at their own densities.
    volumes = steel / 7.85 + water / 1.0 + (1 - half) / 1.5
    assert whole.matter_density_g_cm3 == pytest.approx(1 / volumes)


def test_mean_excitation_by_braggs_rule():
    # ICRU-37 values of constituents: H 19.2, C 81, O 106 in condensed, 70 and 97 in gaseous matter.
    sugar = Material("s", 1.5, {"H": 0.0648, "C": 0.4211, "O": 0.5141})
    z_a = {"H": 1 / 1.008, "C": 6 / 12.011, "O": 8 / 15.999}
    weight = {s: w * z_a[s] for s, w in sugar.composition.items()}
    for state, energies in [("solid", (19.2, 81, 106)), ("gas", (19.2, 70, 97))]:
        logs = sum(w * math.log(i) for w, i in zip(weight.values(), energies, strict=True))
        assert replace(sugar, state=state).mean_excitation_eV == pytest.approx(
            math.exp(logs / sum(weight.values()))
        )
    # Tabulated (Seltzer and Berger 1984): 77.5 eV.
    assert sugar.mean_excitation_eV == pytest.approx(
        DATABASE["sucrose"].mean_excitation_eV, rel=0.01
    )
