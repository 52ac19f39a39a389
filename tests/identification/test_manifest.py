"""Declared goods against a made-up scan of known content."""

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.identification.manifest import check_goods, goods_materials
from muscan.model.alerts import (
    Alert,
    AlertReport,
    Alternative,
    Interval,
    MaterialGuess,
    ScanInfo,
)
from muscan.model.manifest import Manifest
from muscan.model.material import load_materials
from muscan.model.volume import Volume, VoxelGrid

DATABASE = load_materials()
GRID = VoxelGrid.from_bounds([[-2000, -1000, -1000], [2000, 1000, 1000]], 100.0)
#: Cement on the left, from the floor to the middle: 2 × 2 × 1 m³ at 1.4 g/cm³.
LEFT = {"min": [-2, -1, -1], "max": [0, 1, 1], "unit": "m"}
RIGHT = {"min": [0, -1, -1], "max": [2, 1, 1], "unit": "m"}


def volume():
    values = np.zeros(GRID.shape, np.float32)
    values[:20, :, :10] = DATABASE["cement"].scattering_density
    return Volume(values, GRID, "em", np.full_like(values, 0.1), np.full(GRID.shape, 100, "u4"))


def weigh(power, rectangle):
    """Weigh what `volume` shows, 3 % wide, as the columns would."""
    seen = volume()
    litres = GRID.voxel_volume_mm3 / 1e6
    inside = np.ones(GRID.shape, bool)
    if rectangle is not None:
        for axis in range(2):
            centres = GRID.centres(axis)
            along = (centres > rectangle[0][axis]) & (centres < rectangle[1][axis])
            inside &= along.reshape([-1 if i == axis else 1 for i in range(3)])
    mass = float(seen.values[inside].sum()) * litres / power[0]
    return Interval(value=mass, low=0.97 * mass, high=1.03 * mass)


def goods(**changes):
    return {
        "sequence": 1, "description": "Portland cement", "hs_code": "2523.29",
        "net_mass": {"value": 5.5, "unit": "t"}, "gross_mass": {"value": 5.6, "unit": "t"},
        "materials": ["cement"], **changes,
    }  # fmt: skip


def report(*alerts):
    whole = Interval(value=5600, low=5400, high=5800)
    info = ScanInfo(run_id="r", live_time_s=60, n_muons=9, method="em", materials_version="v")
    return AlertReport(scan=info, alerts=list(alerts), total_mass_kg=whole)


def alert(name, category, *others, at=(-1000.0, 0.0, -500.0)):
    return Alert(
        id="a", severity="high", position_mm=at, extent_mm=(at, at), volume_l=1.0,
        scattering_density=Interval(value=79, low=70, high=90),
        material=MaterialGuess(
            name=name, category=category, probability=0.7,
            alternatives=[Alternative(name=other, probability=0.2) for other in others],
        ),
        mass_kg=Interval(value=19, low=15, high=24), significance=7.0, false_alarm_rate=1e-3,
        n_muons=50, reason="",
    )  # fmt: skip


def check(*items, alerts=(), **options):
    manifest = Manifest(format="muscan-manifest", format_version=1, goods=items)
    return check_goods(manifest, report(*alerts), volume(), DATABASE, weigh, **options)


def test_a_true_manifest_passes():
    found = check(goods(zone=LEFT))
    assert found.passed
    assert {item.check for item in found.comparisons} == {"total-mass", "zone-mass", "density"}
    assert all(item.significance < 1 for item in found.comparisons)
    assert found.materials_version == DATABASE.version


@pytest.mark.parametrize("tonnes, less", [(4.5, False), (7.0, True)])
def test_a_wrong_mass_is_a_mismatch_with_its_significance(tonnes, less):
    mass = {"value": tonnes, "unit": "t"}
    found = check(goods(net_mass=mass, gross_mass=mass))
    assert not found.passed
    (item,) = found.mismatches
    assert item.check == "total-mass"
    assert item.significance == pytest.approx(abs(5600 - 1e3 * tonnes) / (0.03 * 5600), rel=0.01)
    assert ("less" in item.text) == less


def test_packing_that_is_not_declared_widens_the_comparison():
    plain = goods()
    del plain["gross_mass"]
    (item,) = check(plain).comparisons
    # 5500 kg net are 5775 ± 165 kg with packing, against 5600 ± 168 kg.
    assert item.significance == pytest.approx(175 / np.hypot(165, 168), rel=0.02)


def test_goods_in_the_wrong_place_are_a_mismatch():
    found = check(goods(zone=RIGHT))
    zone = next(item for item in found.mismatches if item.check == "zone-mass")
    assert zone.found.value == 0
    assert zone.sequence == 1


def test_goods_of_another_density_are_a_mismatch():
    light = goods(
        description="Clothing", hs_code="6109", materials=["textiles"], zone=LEFT,
    )  # fmt: skip
    found = check(light)
    density = next(item for item in found.mismatches if item.check == "density")
    assert density.found.value == pytest.approx(DATABASE["cement"].scattering_density, rel=0.02)
    assert density.significance > 5


def test_an_object_that_does_not_belong_is_a_mismatch():
    found = check(goods(), alerts=[alert("uranium", "special-nuclear", "plutonium")])
    (item,) = found.mismatches
    assert item.check == "object"
    assert item.significance == 7.0
    assert item.chance == pytest.approx(1e-3)
    assert "uranium" in item.text


def test_an_object_that_may_be_of_the_goods_belongs():
    assert check(goods(), alerts=[alert("steel", "structural", "cement")]).passed
    uranium = goods(materials=["uranium", "cement"])
    found = check(uranium, alerts=[alert("uranium", "special-nuclear")])
    assert all(item.agrees for item in found.comparisons if item.check == "object")


def test_an_object_is_held_against_the_goods_of_its_own_zone():
    items = (
        goods(zone=LEFT),
        goods(sequence=2, description="Steel", hs_code="7208", materials=["steel"], zone=RIGHT,
              net_mass={"value": 1, "unit": "kg"}, gross_mass={"value": 1, "unit": "kg"}),
    )  # fmt: skip
    steel = alert("steel", "structural")
    found = check(*items, alerts=[steel])
    assert [item.sequence for item in found.mismatches if item.check == "object"] == [1]
    right = steel.model_copy(update={"position_mm": (1000.0, 0.0, 0.0)})
    found = check(*items, alerts=[right])
    assert not [item for item in found.mismatches if item.check == "object"]


def test_the_limit_is_the_users():
    mass = {"value": 5.2, "unit": "t"}
    assert check(goods(net_mass=mass, gross_mass=mass)).passed
    assert not check(goods(net_mass=mass, gross_mass=mass), limit=2.0).passed


def test_materials_follow_from_the_chapter():
    chapter = Manifest(
        format="muscan-manifest", format_version=1, goods=[{**goods(), "materials": []}]
    ).goods[0]
    names = {material.name for material in goods_materials(chapter, DATABASE)}
    assert {"cement", "sand", "gypsum"} <= names
    assert "uranium" not in names
    with pytest.raises(InputError, match="goods line 1"):
        check(goods(materials=["cemnt"]))


def test_what_cannot_be_checked_is_said():
    found = check(goods(materials=[], hs_code="97"))
    assert any("chapter 97" in warning for warning in found.warnings)
