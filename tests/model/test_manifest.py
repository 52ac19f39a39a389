import json
from pathlib import Path

import pytest

from muscan.errors import InputError
from muscan.model.alerts import as_text
from muscan.model.manifest import Manifest, manifest_schema, read_manifest

ITEM = {
    "sequence": 1,
    "description": "Bananas, fresh",
    "hs_code": "0803.90",
    "packages": {"count": 540, "kind": "carton"},
    "net_mass": {"value": 9.72, "unit": "t"},
    "zone": {"min": [-3, -1.2, -1.3], "max": [3, 1.2, 1.3], "unit": "m"},
}


def write(tmp_path, *items, **more):
    path = tmp_path / "manifest.json"
    data = {"format": "muscan-manifest", "format_version": 1, "goods": list(items), **more}
    path.write_text(json.dumps(data))
    return path


def test_units_are_understood(tmp_path):
    (item,) = read_manifest(write(tmp_path, ITEM)).goods
    assert item.net_mass.kg == pytest.approx(9720)
    assert item.chapter == "08"
    assert item.zone.bounds_mm == ((-3000, -1200, -1300), (3000, 1200, 1300))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"net_mass": {"value": -5, "unit": "kg"}}, "greater than 0"),
        ({"net_mass": {"value": 5, "unit": "stone"}}, "net_mass.unit"),
        ({"net_mass": {"value": 5}}, "net_mass.unit: missing"),
        ({"hs_code": "77"}, "no chapter 77"),
        ({"hs_code": "080"}, "2, 4, 6, 8 or 10 digits"),
        ({"netmass": 5}, "did you mean 'net_mass'"),
        ({"gross_mass": {"value": 1, "unit": "t"}}, "gross mass is less"),
        ({"zone": {"min": [0, 0, 0], "max": [0, 1, 1]}}, "min is not below max"),
    ],
)
def test_wrong_goods_lines_are_refused_in_one_line(tmp_path, change, said):
    path = write(tmp_path, {**ITEM, **change})
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}: goods[1]")
    assert "\n" not in str(caught.value)


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="stands twice"):
        read_manifest(write(tmp_path, ITEM, ITEM))
    with pytest.raises(InputError):
        read_manifest(write(tmp_path))
    with pytest.raises(InputError):
        read_manifest(write(tmp_path, ITEM, format="muscan-alerts"))
    path = tmp_path / "broken.json"
    path.write_text('{"format": ')
    with pytest.raises(InputError, match="line 1, column"):
        read_manifest(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "nothing.json")


def test_the_schema_in_the_documentation_is_the_models():
    path = Path(__file__).parents[2] / "docs" / "formats" / "manifest.schema.json"
    assert path.read_text(encoding="utf-8") == as_text(manifest_schema())


def test_the_schema_takes_what_the_reader_takes(tmp_path):
    import jsonschema

    data = json.loads(write(tmp_path, ITEM).read_text())
    jsonschema.validate(data, manifest_schema())
    assert Manifest.model_validate(data).goods[0].sequence == 1
    data["goods"][0]["net_mass"]["unit"] = "stone"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, manifest_schema())
