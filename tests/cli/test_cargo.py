"""Commands on loads, from a drawn scene to a checked manifest."""

import json

import pytest

import muscan
from muscan import io
from muscan.cli import main
from muscan.errors import InputError
from muscan.model.draw import threat_names
from muscan.model.scene import load_scene, parse_scene


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    assert run("scenes", "draw", "parcel", "--seed", 2, "-o", folder / "scene.toml") == 0
    scan = (folder / "scene.toml", "--out", folder, "--minutes", 4, "--voxel", 40, "--quiet")
    assert run("scan", *scan, "--cargo", "textile") == 0
    return folder


def manifest(folder, grams):
    path = folder / "manifest.json"
    item = {
        "sequence": 1, "description": "Clothes", "hs_code": "6109",
        "net_mass": {"value": grams, "unit": "g"}, "materials": ["textile"],
    }  # fmt: skip
    path.write_text(json.dumps({"format": "muscan-manifest", "format_version": 1, "goods": [item]}))
    return path


def test_draw_tells_the_truth_of_the_scene(tmp_path, capsys):
    path = tmp_path / "scene.toml"
    assert run("scenes", "draw", "ore", "--seed", 3, "--threat", "--json", "-o", path) == 0
    facts = json.loads(capsys.readouterr().out)
    (threat,) = facts["threats"]
    assert load_scene(path).threats == (threat["name"],)
    assert 18 < threat["mass_kg"] < 55
    assert facts["tare_kg"] == pytest.approx(2211, abs=1)
    assert run("scenes", "check", "ore", path) == 0
    assert "2 threats" in capsys.readouterr().out


def test_a_scan_hides_the_threat_that_a_drawing_does(tmp_path, capsys):
    name = threat_names("parcel")[-1]
    words = ("--seed", 4, "--threat-name", name)
    assert run("scenes", "draw", "parcel", *words, "-o", tmp_path / "scene.toml") == 0
    few = ("--minutes", 0.1, "--voxel", 80, "--quiet")
    assert run("scan", "parcel", *words, *few, "--out", tmp_path / "named") == 0
    _, text = io.read_truth(tmp_path / "named" / "hits.h5")
    assert text == (tmp_path / "scene.toml").read_text()
    assert run("scan", "parcel", "--seed", 4, "--threat", *few, "--out", tmp_path / "any") == 0
    _, text = io.read_truth(tmp_path / "any" / "hits.h5")
    assert len(parse_scene(text, "drawn").threats) >= 1
    capsys.readouterr()
    # What is no template has no threat to hide: nothing is simulated.
    for source in ("blocks", tmp_path / "any" / "hits.h5"):
        assert run("scan", source, "--threat", "--out", tmp_path / "none") == 2
        assert "template" in capsys.readouterr().err
    with pytest.raises(InputError, match="is no template"):
        muscan.scan(load_scene("blocks"), threat=True, output=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_declared_cargo_is_weighed(folder):
    found = json.loads((folder / "alerts.json").read_text())
    assert found["scan"]["cargo"] == "textile"
    mass = found["scan"]["cargo_mass_kg"]
    assert 0 < mass["low"] < mass["value"]
    assert found["total_mass_kg"]["value"] == pytest.approx(mass["value"])


def test_weigh_prints_an_interval(folder, capsys):
    assert run("weigh", folder / "tracks.h5", "--cargo", "textile", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["mass_kg"]["low"] < facts["mass_kg"]["value"] < facts["mass_kg"]["high"]
    assert run("weigh", folder / "tracks.h5") == 0
    out = capsys.readouterr().out
    assert out.startswith("load ")
    assert "no cargo is declared" in out
    assert run("weigh", folder / "tracks.h5", "--cargo", "texitle") == 2
    assert "did you mean 'textile'" in capsys.readouterr().err


def test_a_manifest_is_checked(folder, capsys):
    assert run("weigh", folder / "tracks.h5", "--cargo", "textile", "--json") == 0
    mass = json.loads(capsys.readouterr().out)["mass_kg"]["value"]
    right, wrong = manifest(folder, 1000 * mass / 1.05), "100"
    check = ("manifest", "check", right, "--scan", folder, "--fail-on-alert")
    assert run(*check) == 0
    assert "passed" in capsys.readouterr().out
    manifest(folder, float(wrong))
    assert run(*check, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert found["comparisons"][0]["check"] == "total-mass"
    assert run(*check[:-1]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = sum(line.startswith("MISMATCH  ") for line in lines)
    assert count == len([item for item in found["comparisons"] if not item["agrees"]]) > 0
    assert lines[-1] == ("1 mismatch" if count == 1 else f"{count} mismatches")


def test_a_wrong_manifest_is_one_line(folder, capsys):
    path = manifest(folder, -5)
    assert run("manifest", "check", path, "--scan", folder) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith(f"muscan: error: {path}: goods[1].net_mass.value:")
    assert "\n" not in message
    assert run("manifest", "check", manifest(folder, 5), "--scan", folder / "none") == 2
