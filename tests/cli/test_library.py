"""`muscan materials` and `muscan scenes`: what is shipped, as tables and as data; wrong names."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import muscan
from muscan.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Return exit status, output and errors of a command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    output = capsys.readouterr()
    return int(stopped.value.code or 0), output.out, output.err


def test_a_category_as_a_table_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    status, table, _ = run(capsys, "materials", "list", "--category", "explosive")
    assert status == 0
    status, data, _ = run(capsys, "materials", "list", "--category", "explosive", "--json")
    entries = json.loads(data)
    assert f"{len(entries)} materials" in table
    assert {entry["category"] for entry in entries} == {"explosive"}
    assert all(entry["name"] in table for entry in entries)


def test_a_category_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, error = run(capsys, "materials", "list", "--category", "explosve")
    assert status == 2
    assert error == (
        "muscan: error: --category: no category 'explosve'; did you mean 'explosive'?\n"
    )


def test_a_material_in_words_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    lead = muscan.load_materials()["lead"]
    _, words, _ = run(capsys, "materials", "show", "lead")
    _, data, _ = run(capsys, "materials", "show", "lead", "--json")
    facts = json.loads(data)
    assert facts["name"] == "lead"
    assert f"{lead.density_g_cm3:.4g}" in words
    assert lead.density_g_cm3 in facts.values()


def test_scenes_and_templates_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, table, _ = run(capsys, "scenes", "list")
    _, data, _ = run(capsys, "scenes", "list", "--json")
    names = json.loads(data)
    assert {"container", "blocks", "fruit"} <= names.keys()
    assert all(name in table and about in table for name, about in names.items())
    _, text, _ = run(capsys, "scenes", "show", "blocks")
    _, facts, _ = run(capsys, "scenes", "show", "blocks", "--json")
    bodies = tomllib.loads(text)["body"]
    assert json.loads(facts)["bodies"] == [body["name"] for body in bodies]
    assert len(bodies) == 5


def test_a_drawn_scene_is_a_scene_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "drawn.toml"
    assert run(capsys, "scenes", "draw", "fruit", "--seed", 3, "--threat", "-o", path)[0] == 0
    scene = muscan.load_scene(path)
    assert scene.threats
    assert scene.text == muscan.draw_scene("fruit", 3, threat=True).text
    status, words, _ = run(capsys, "scenes", "check", path)
    assert status == 0
    assert "no fault found" in words


def test_a_faulty_scene_is_refused_by_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('name = "bad"\n[[body]]\nname = "b"\nmaterial = "lead"\nsise_mm = [1, 1, 1]\n')
    status, _, error = run(capsys, "scenes", "check", path)
    assert status == 2
    assert "line 5, body[1].sise_mm: unknown key; did you mean 'size_mm'?" in error


def test_materials_of_ones_own_are_checked_and_added(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The folder of the user who runs the tests, and what it has, stay out of this.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[material]]\nname = "my-explosive"\ncategory = "explosive"\nformula = "C7H5N3O6"\n'
        'state = "solid"\ndensity_g_cm3 = 1.5\ndensity_range_g_cm3 = [1.4, 1.6]\n'
        'source = "made for this test"\n'
    )
    status, words, error = run(capsys, "materials", "check", path)
    assert (status, error) == (0, "")
    assert "1 materials, no fault found" in words
    assert run(capsys, "materials", "show", "my-explosive")[0] == 2
    status, words, error = run(capsys, "materials", "add", path)
    assert (status, error) == (0, "")
    assert str(tmp_path) in words
    assert "1.5" in run(capsys, "materials", "show", "my-explosive")[1]
    status, _, error = run(capsys, "materials", "check", tmp_path / "none.toml")
    assert status == 2
    assert "none.toml" in error


def test_a_report_of_what_is_no_scan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, error = run(capsys, "report", tmp_path)
    assert status == 2
    assert "has no alerts.json; make it by 'muscan scan'" in error
