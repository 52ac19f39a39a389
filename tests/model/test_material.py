"""The database: names, layers, version, and that the shipped entries are complete."""

import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscan.errors import InputError
from muscan.model import material_files
from muscan.model.material import MaterialDatabase, check_materials, load_materials
from muscan.resources import shipped_folder

DATABASE = load_materials()
MUST_HAVE = (
    "air water paraffin concrete aluminium iron steel stainless-steel copper brass lead tungsten "
    "uranium plutonium plastic-scintillator polyethylene wood paper cardboard fruit bananas "
    "cocaine-hydrochloride cocaine-base cocaine-brick heroin cannabis tnt rdx petn glass ceramic "
    "ammonium-nitrate rubber textiles cotton gypsum gold silver nickel zinc tin titanium magnesium "
    "mercury bismuth thorium depleted-uranium uranium-dioxide"
)


def entry(name="pulp", composition='formula = "C6H10O5"', density=1.0, **more):
    lines = ["[[material]]", f'name = "{name}"', composition, f"density_g_cm3 = {density}"]
    lines += [f"{key} = {value!r}" for key, value in ({"category": "food"} | more).items()]
    return "\n".join([*lines, 'source = "a test"', ""])


@pytest.fixture
def write(tmp_path):
    def write(*entries, name="mine.toml"):
        path = tmp_path / name
        path.write_text("\n".join(entries), encoding="utf-8")
        return path

    return write


def test_shipped_database_is_large_and_has_the_common_names():
    assert len(DATABASE) >= 150
    assert [name for name in MUST_HAVE.split() if name not in DATABASE.names] == []
    assert "vacuum" not in DATABASE


@pytest.mark.parametrize("material", DATABASE, ids=lambda m: m.name)
def test_every_shipped_entry_is_complete(material):
    low, high = material.density_range_g_cm3
    assert low <= material.density_g_cm3 <= high
    assert len(material.source) > 8
    assert material.category in material_files.CATEGORIES
    assert sum(material.composition.values()) == pytest.approx(1, abs=1e-12)
    # Nothing is denser or a better scatterer than osmium and iridium, or lighter than hydrogen.
    assert 5e-3 / 100 < high < 23
    assert 5.7 < material.radiation_length_g_cm2 < 95
    assert material.known_density_effect is not None
    if material.state != "gas" and material.matter_density_g_cm3:
        assert high <= 1.02 * material.matter_density_g_cm3


def test_categories_are_documented_and_used():
    readme = (shipped_folder("materials") / "README.md").read_text(encoding="utf-8")
    used = {material.category for material in DATABASE}
    assert used == set(material_files.CATEGORIES)
    assert [category for category in used if f"`{category}`" not in readme] == []
    files = shipped_folder("materials").glob("*.toml")
    shipped = sum(file.read_text(encoding="utf-8").count("[[material]]") for file in files)
    assert f"{shipped} materials" in readme


def test_names_are_found_by_alias_case_and_spacing():
    for name in ("aluminum", "Aluminium", "ALUMINUM"):
        assert DATABASE[name] is DATABASE["aluminium"]
    assert DATABASE["Stainless Steel"] is DATABASE["stainless_steel"]
    assert DATABASE.get("unobtainium") is None
    assert DATABASE.get("unobtainium", 7) == 7
    assert "HEU" in DATABASE
    assert 3 not in DATABASE


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match=r"urnium: no such material.*did you mean 'uranium'"):
        DATABASE["urnium"]


def test_iteration_gives_materials_in_order_of_name():
    names = [material.name for material in DATABASE]
    assert names == sorted(names) == list(DATABASE.names)


def test_user_layer_replaces_a_material_and_the_mixtures_made_of_it(write):
    path = write(entry("water", 'formula = "H2SO4"', 1.8))
    layered = load_materials([path])
    assert layered["water"].density_g_cm3 == 1.8
    assert "S" in layered["beer"].composition
    assert "S" not in DATABASE["beer"].composition
    assert len(layered) == len(DATABASE)
    assert layered.version != DATABASE.version


def test_a_later_file_wins(write):
    first = write(entry("pulp", density=1.0), name="a.toml")
    second = write(entry("pulp", density=2.0), name="b.toml")
    assert load_materials([first, second])["pulp"].density_g_cm3 == 2.0
    assert load_materials([second, first])["pulp"].density_g_cm3 == 1.0


def test_version_is_of_the_content_not_of_files_and_order(write):
    one = write(entry("a"), entry("b", density=2.0), name="one.toml")
    other = write(entry("b", density=2.0), entry("a"), name="another.toml")
    parts = [write(entry("b", density=2.0), name="x.toml"), write(entry("a"), name="w.toml")]
    version = load_materials([one]).version
    assert re.fullmatch(r"[0-9a-f]{12}", version)
    assert load_materials([other]).version == version
    assert load_materials(parts).version == version
    assert MaterialDatabase(reversed(list(load_materials([one])))).version == version


@pytest.mark.parametrize(
    "changed",
    [
        entry(density=1.01),
        entry(category="chemical"),
        entry(hs_chapter="12"),
        entry(composition='formula = "C6H10O6"'),
        entry(density_range_g_cm3=[0.9, 1.1]),
    ],
)
def test_version_changes_with_what_matters(write, changed):
    assert (
        load_materials([write(changed, name="b.toml")]).version
        != load_materials([write(entry(), name="a.toml")]).version
    )


def test_check_returns_only_the_entries_of_the_file(write):
    path = write(entry("pulp"), entry("wet-pulp", 'mixture = { "pulp" = 0.5, "water" = 0.5 }'))
    found = check_materials(path)
    assert found.names == ("pulp", "wet-pulp")
    assert found["wet-pulp"].composition["H"] == pytest.approx(
        (found["pulp"].composition["H"] + DATABASE["water"].composition["H"]) / 2
    )


def test_materials_are_hashable_and_survive_pickling():
    iron = DATABASE["iron"]
    copy = pickle.loads(pickle.dumps(iron))
    assert copy == iron
    assert hash(copy) == hash(iron)
    assert len({iron, copy, iron.with_density(1.0)}) == 2
    with pytest.raises(TypeError):
        iron.composition["Fe"] = 0.5


def test_elements_are_in_order_of_z():
    z, a, fraction = DATABASE["concrete"].elements()
    assert list(z) == sorted(z)
    assert fraction.sum() == pytest.approx(1)
    assert (fraction * z / a).sum() == pytest.approx(DATABASE["concrete"].z_over_a)


@given(st.sampled_from(DATABASE.names))
def test_a_name_finds_itself(name):
    assert DATABASE[name].name == name
    assert DATABASE[name.upper().replace("-", " ")].name == name


def test_the_user_folder_lies_over_the_shipped_one(write, tmp_path, monkeypatch):
    # platformdirs reads this on Linux; elsewhere the folder is elsewhere and the test says so.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    from muscan.model.material import add_materials
    from muscan.resources import user_folder

    if not user_folder("materials").is_relative_to(tmp_path):
        pytest.skip("the user's data folder does not follow XDG_DATA_HOME here")
    path = write(entry("pulp"))
    target = add_materials(path)
    assert target == tmp_path / "data" / "muscan" / "materials" / "mine.toml"
    assert "pulp" in load_materials()
    with pytest.raises(InputError, match="is there already"):
        add_materials(path)
    Path(target).unlink()
    assert "pulp" not in load_materials()


@pytest.mark.parametrize(("name", "density"), [
    ("G4_WATER", 1.0), ("G4_Al", 2.699), ("G4_Fe", 7.874), ("G4_Pb", 11.35), ("G4_U", 18.95),
    ("G4_W", 19.3), ("G4_CONCRETE", 2.3), ("G4_POLYETHYLENE", 0.94), ("G4_AIR", 0.00120479),
    ("g4_stainless-steel", 8.0),
])  # fmt: skip
def test_names_of_geant4_are_understood(name, density):
    assert load_materials()[name].density_g_cm3 == pytest.approx(density, rel=0.005)
