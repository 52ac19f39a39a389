"""A wrong entry is refused in one line that names the file, the line and the remedy."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscan.errors import InputError
from muscan.model.composition import formula_fractions, periodic_table
from muscan.model.material import check_materials, load_materials

GOOD = """\
[[material]]
name = "pulp"
formula = "C6H10O5"
density_g_cm3 = 1.0
category = "food"
source = "a test"
"""


def fault(tmp_path, text, load=check_materials):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_the_good_entry_is_good(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert check_materials(path)["pulp"].density_range_g_cm3 == (1.0, 1.0)


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("density_g_cm3 = 1.0", "density_g_cm3 = -1.0", r"line 4, material\[1\].density_g_cm3: "),
        ("density_g_cm3 = 1.0", "density_g_cm3 = nan", r"line 4.*finite"),
        ('"food"', '"food"\nhs_chaptr = "08"', r"line 6.*unknown key; did you mean 'hs_chapter'"),
        ("density_g_cm3 = 1.0\n", "", r"line 1.*density_g_cm3: missing"),
        ('"C6H10O5"', '"C6Hx"', r"line 3.*no such element 'Hx'"),
        ('"C6H10O5"', '"C6(H10"', r"line 3.*leaves a bracket open"),
        ('"C6H10O5"', '"c6h10"', r"line 3.*cannot be read at 'c6h10'"),
        ('formula = "C6H10O5"', "elements = { H = 0.5, C = 0.4 }", r"line 3.*sum to 0.9, not 1"),
        ('formula = "C6H10O5"', "elements = { H = 0.5, Qq = 0.5 }", r"line 3.*no such element"),
        ('formula = "C6H10O5"', "elements = { H = 1.5, C = -0.5 }", r"line 3.*greater than 0"),
        ('formula = "C6H10O5"', 'mixture = { "water" = 1.2 }', r"line 3.*sum to 1.2, not 1"),
        ('formula = "C6H10O5"', 'mixture = { "watr" = 1.0 }', r"line 1: .*did you mean 'water'"),
        ('formula = "C6H10O5"', 'mixture = { "pulp" = 1.0 }', r"line 1: .*itself: pulp -> pulp"),
        ('formula = "C6H10O5"\n', "", r"line 1.*exactly one of formula, elements and mixture"),
        ('source = "a test"\n', "", r"line 1.*source: missing"),
        ('"food"', '"fod"', r"line 5.*no such category; did you mean 'food'"),
        ('"food"', '"food"\nhs_chapter = "8"', r"line 6.*hs_chapter"),
        ('"food"', '"food"\nstate = "plasma"', r"line 6.*'solid', 'liquid'"),
        ('"food"', '"food"\ndensity_range_g_cm3 = [2.0, 3.0]', r"must hold density_g_cm3 1"),
        ('"pulp"', '"Wet Pulp"', r"line 2.*name"),
        ("[[material]]", "[material]", r"line 1.*list"),
    ],
)
def test_faults_name_line_and_key(tmp_path, old, new, expected):
    assert re.search(expected, fault(tmp_path, GOOD.replace(old, new)))


def test_the_line_is_that_of_the_faulty_entry(tmp_path):
    text = GOOD + GOOD.replace("pulp", "other") + GOOD.replace("pulp", "third").replace("1.0", "0")
    assert fault(tmp_path, text).startswith("line 16, material[3].density_g_cm3")


@pytest.mark.parametrize("load", [check_materials, lambda path: load_materials([path])])
def test_duplicates_name_both_lines(tmp_path, load):
    message = fault(tmp_path, GOOD + "\n" + GOOD, load)
    assert message.startswith("line 8: the name 'pulp' is taken by 'pulp' (line 1)")


def test_an_alias_cannot_be_anothers_name(tmp_path):
    other = GOOD.replace('"pulp"', '"other"\naliases = ["Pulp"]')
    assert "'Pulp' is taken by 'pulp' (line 1)" in fault(tmp_path, GOOD + other)


def test_a_loop_of_mixtures_is_named(tmp_path):
    a = GOOD.replace('formula = "C6H10O5"', 'mixture = { "other" = 1.0 }')
    b = GOOD.replace("pulp", "other").replace('formula = "C6H10O5"', 'mixture = { "pulp" = 1.0 }')
    assert "pulp -> other -> pulp" in fault(tmp_path, a + b)


@pytest.mark.parametrize(
    "text, expected",
    [("", "material: missing"), ("material = 3", "list"), ("[[", "not valid TOML")],
)
def test_files_that_hold_no_materials(tmp_path, text, expected):
    assert expected in fault(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        check_materials(tmp_path / "none.toml")


def test_formulae_by_hand():
    water = formula_fractions("H2O")
    assert water["H"] == pytest.approx(2 * 1.008 / (2 * 1.008 + 15.999))
    gypsum = formula_fractions("CaSO4·2H2O")
    assert gypsum["H"] == pytest.approx(4 * 1.008 / (40.078 + 32.06 + 6 * 15.999 + 4 * 1.008))
    assert formula_fractions("Ca3(PO4)2") == pytest.approx(formula_fractions("Ca3P2O8"))
    assert formula_fractions("C0.5H") == pytest.approx(formula_fractions("CH2"))


@given(
    st.dictionaries(
        st.sampled_from(sorted(periodic_table())), st.integers(1, 30), min_size=1, max_size=6
    )
)
def test_formula_is_counts_times_masses(counts):
    fractions = formula_fractions("".join(f"{symbol}{n}" for symbol, n in counts.items()))
    masses = {s: n * periodic_table()[s].atomic_mass for s, n in counts.items()}
    assert fractions == pytest.approx({s: m / sum(masses.values()) for s, m in masses.items()})


def test_the_periodic_table_is_whole():
    table = periodic_table()
    assert [atom.z for atom in table.values()] == list(range(1, 99))
    light = [atom for atom in table.values() if atom.z > 1]
    assert all(0.38 < atom.z / atom.atomic_mass < 0.51 for atom in light)
    # Thomas–Fermi: I is about 10 eV times Z.
    assert all(8 < atom.excitation_eV / atom.z < 22 for atom in table.values())
