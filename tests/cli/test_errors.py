"""Wrong input on the command line: one clear line, exit status 2, nothing half-written."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muscan import io
from muscan.cli import main
from muscan.model.volume import Volume, VoxelGrid


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder; returns its status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def assert_refused(result: tuple[int, str, str], *messages: str) -> None:
    status, _, err = result
    assert status == 2, err
    assert err.startswith("muscan: error: ")
    assert err.count("\n") == 1
    for message in messages:
        assert message in err


SCENE = """
name = "one box"
detector = "blocks-lab"
[[body]]
name = "box"
shape = "box"
material = "{material}"
centre_mm = [0, 0, {z}]
size_mm = [{size}, 200, 200]
{more}
"""


def scene_file(folder: Path, **changes: object) -> Path:
    values = {"material": "iron", "z": 0, "size": 200, "more": ""} | changes
    path = folder / "scene.toml"
    path.write_text(SCENE.format(**values))
    return path


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"material": "irn"}, ["irn", "did you mean 'iron'?"]),
        ({"size": -200}, ["size_mm", "greater than 0"]),
        ({"more": "colour = 'red'"}, ["colour", "unknown key"]),
        ({"more": "material = 'lead'"}, ["not valid TOML"]),
        ({"z": 5000}, ["box"]),
        ({"z": 1600}, ["box"]),
    ],
)
def test_wrong_scenes(run, tmp_path, changes, messages):
    path = scene_file(tmp_path, **changes)
    assert_refused(run("simulate", path, "-o", "hits.h5", "--minutes", 0.01), *messages)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.toml"]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["simulate", "contaner", "-o", "h.h5"], ["did you mean 'container'?"]),
        (["simulate", "blocks", "-o", "h.h5", "--minutes", "-1"], ["minutes"]),
        (["simulate", "blocks", "-o", "h.h5", "--flux", "guan"], ["guan"]),
        (["simulate", "blocks", "-o", "h.h5", "--scattering", "none"], ["none"]),
        (["simulate", "blocks", "-o", "h.h5", "--momentum-range", "9,1"], ["9"]),
        (["simulate", "blocks", "-o", "h.h5", "--momentum-range", "low"], ["LOW,HIGH"]),
        (["simulate", "blocks", "-o", "h.h5", "--momentum-resolution", "-1"], ["-1"]),
        (["simulate", "blocks", "-o", "h.h5", "--trigger", "all"], ["all"]),
        (["simulate", "blocks", "-o", "none/h.h5", "--muons", "10"], ["does not exist"]),
        (["simulate", "blocks"], ["output", "--help"]),
        (["simulate", "blocks", "-o", "h.h5", "--minuts", "1"], ["--minuts"]),
        (["scan", "none.h5", "--out", "d"], ["none.h5", "no such file"]),
        (["track", "none.h5", "-o", "t.h5"], ["none.h5", "no such file"]),
        (["import", "none.csv", "-o", "h.h5"], ["none.csv"]),
        (["import", "none.csv", "--driver", "cvs", "-o", "h.h5"], ["did you mean 'csv'?"]),
        (["materials", "show", "uraniun"], ["did you mean 'uranium'?"]),
        (["detectors", "show", "portal"], ["portal"]),
        (["info", "none.h5"], ["no such file"]),
        (["no-such-command"], ["no-such-command"]),
        (["scan", "--out"], ["muscan scan: ", "requires an argument", "muscan scan --help"]),
        (["scan", "blocks", "--out", "d", "--detector", "portl"], ["portl", "no such layout"]),
        (["scan", "blocks", "--out", "d", "--flux", "guan"], ["did you mean 'guan2015'?"]),
        (["watch", "none.h5", "--out", "d", "--timeout", "0.1"], ["none.h5: no such file"]),
        (["report", "none"], ["is no folder", "'muscan scan'"]),
    ],
)
def test_wrong_options(run, tmp_path, words, messages):
    assert_refused(run(*words), *messages)
    assert list(tmp_path.iterdir()) == []


KINDS = {
    "scene": SCENE.format(material="iron", z=0, size=200, more=""),
    "layout": "[inspection]\nmin_mm = [0, 0, 0]\nmax_mm = [1, 1, 1]\n",
    "table": "event_id,panel,x_mm,y_mm,z_mm\n0,0,1.5,2.5,1900\n",
    "alerts": '{"format": "muscan-alerts", "format_version": 1}',
    "list": "[1, 2]",
    "newer": '{"format": "muscan-manifest", "format_version": 2}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize(
    ("words", "kind", "messages"),
    [
        (["scan", "f.toml", "--out", "d"], "layout", ["makes it a layout", "--detector"]),
        (["scenes", "check", "f.toml"], "layout", ["makes it a layout", "--detector"]),
        (["scan", "f.csv", "--out", "d"], "table", ["not valid TOML", "muscan import"]),
        (["scan", "d.d", "--out", "d"], "folder", ["d.d: is a folder"]),
        (["detectors", "check", "f.toml"], "scene", ["makes it a scene", "muscan scenes"]),
        (["materials", "check", "f.toml"], "scene", ["makes it a scene", "muscan scenes"]),
        (["info", "f.toml"], "scene", ["is text", "muscan scenes"]),
        (["manifest", "check", "f.json", "--scan", "."], "alerts", ["a muscan-manifest file"]),
        (["manifest", "check", "f.json", "--scan", "."], "scene", ["line 2, column 1: not valid"]),
        (["manifest", "check", "f.json", "--scan", "."], "list", ["not a JSON object"]),
        (["manifest", "check", "f.json", "--scan", "."], "newer", ["version 2", "update muscan"]),
        (["manifest", "check", "f.json", "--scan", "."], "deep", ["nested too deeply"]),
        (["info", "f.json"], "newer", ["format is 'muscan-manifest'", "a muscan-alerts file"]),
    ],
)
def test_files_of_another_kind(run, tmp_path, words, kind, messages):
    if kind == "folder":
        (tmp_path / "d.d").mkdir()
    else:
        name = next(word for word in words if word.startswith("f."))
        (tmp_path / name).write_text(KINDS[kind])
    before = set(tmp_path.iterdir())
    assert_refused(run(*words), *messages)
    assert set(tmp_path.iterdir()) == before


def test_what_is_read_is_not_written_over(run, tmp_path, hits, tracks):
    io.write_hits(tmp_path / "h.h5", hits)
    io.write_tracks(tmp_path / "t.h5", tracks)
    grid = VoxelGrid.from_bounds([[-100, -100, -100], [100, 100, 100]], 20.0)
    ones = np.ones(grid.shape, "f4")
    volume = Volume(ones, grid, "poca", ones, ones.astype("u4"))
    io.write_volume(tmp_path / "v.h5", volume)
    io.write_volume(tmp_path / "materials.h5", volume)
    scene = scene_file(tmp_path)
    (tmp_path / "data.csv").write_text("event_id,panel,x_mm,y_mm,z_mm\n0,0,1,2,1900\n")
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for words in (
        ["simulate", scene, "-o", scene],
        ["simulate", scene, "-o", "new.h5", "--raw", scene],
        ["import", "data.csv", "-o", "data.csv"],
        ["track", "h.h5", "-o", "h.h5"],
        ["reconstruct", "t.h5", "-o", "t.h5"],
        ["identify", "v.h5", "-o", "v.h5"],
        ["identify", "materials.h5", "-o", "alerts.json"],
        ["export", "v.h5", "--to", "vti", "-o", "v.h5"],
        ["align", "h.h5", "-o", "h.h5"],
        ["calibrate", "h.h5", "-o", "h.h5"],
        ["recover", "h.h5", "-o", tmp_path / "h.h5"],
        ["scenes", "draw", scene, "-o", scene],
    ):
        assert_refused(run(*words), "would be lost", "write to another file")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_a_volume_and_tracks_of_two_runs(run, tmp_path, tracks):
    tracks = replace(tracks, run=replace(tracks.run, run_id="run-7"))
    io.write_tracks(tmp_path / "t.h5", tracks)
    other = replace(tracks, run=replace(tracks.run, run_id="run-8"))
    io.write_tracks(tmp_path / "other.h5", other)
    assert run("reconstruct", "t.h5", "-o", "v.h5", "--voxel", 100)[0] == 0
    found = run("identify", "v.h5", "--tracks", "other.h5", "-o", "a.json")
    assert_refused(found, "other.h5: are of the run 'run-8', the volume of 'run-7'")
    assert not (tmp_path / "a.json").exists()


def test_damaged_files_of_every_kind(run, tmp_path, hits, tracks):
    io.write_hits(tmp_path / "hits.h5", hits)
    io.write_tracks(tmp_path / "tracks.h5", tracks)
    grid = VoxelGrid.from_bounds([[-100, -100, -100], [100, 100, 100]], 20.0)
    values = np.ones(grid.shape, "f4")
    io.write_volume(
        tmp_path / "volume.h5", Volume(values, grid, "poca", values, values.astype("u4"))
    )
    commands = {"hits.h5": "track", "tracks.h5": "reconstruct", "volume.h5": "identify"}
    for name, command in commands.items():
        path = tmp_path / name
        whole = path.read_bytes()
        for content in (b"", b"not HDF5 at all", whole[: len(whole) // 2]):
            path.write_bytes(content)
            assert_refused(run(command, path, "-o", tmp_path / "out.json"), name)
        path.write_bytes(whole)
    assert_refused(run("track", tmp_path / "tracks.h5", "-o", "x.h5"), "muscan-hits")
    assert {p.name for p in tmp_path.iterdir()} == set(commands)


def test_nothing_left_to_reconstruct(run, tmp_path, hits, tracks):
    io.write_tracks(tmp_path / "in.h5", tracks.take(tracks.side == 0))
    assert_refused(run("reconstruct", "in.h5", "-o", "v.h5"), "in.h5", "both")
    io.write_hits(tmp_path / "few.h5", hits.take(hits.panel == 0))
    assert_refused(run("track", "few.h5", "-o", "t.h5"), "few.h5", "no event has a track")
    nan = np.full_like(hits.u, np.nan)
    io.write_hits(tmp_path / "nan.h5", replace(hits, u=nan, v=nan))
    assert_refused(run("track", "nan.h5", "-o", "t.h5"), "nan.h5")
    io.write_tracks(tmp_path / "t.h5", tracks)
    away = "9000,9100,9000,9100,9000,9100"
    assert_refused(run("reconstruct", "t.h5", "-o", "v.h5", "--bounds", away), "--bounds")
    assert_refused(run("reconstruct", "t.h5", "-o", "v.h5", "--bounds", "1,2"), "--bounds")
    assert_refused(run("reconstruct", "t.h5", "-o", "v.h5", "--bounds", "a,b"), "--bounds")
    assert_refused(run("reconstruct", "t.h5", "-o", "v.h5", "--voxel", 0), "--voxel")
    assert_refused(run("reconstruct", "t.h5", "-o", "v.h5", "--method", "pocca"), "'poca'")


def test_a_volume_without_anything_known(run, tmp_path):
    grid = VoxelGrid.from_bounds([[-100, -100, -100], [100, 100, 100]], 20.0)
    nan = np.full(grid.shape, np.nan, "f4")
    io.write_volume(tmp_path / "v.h5", Volume(nan, grid, "poca", nan, np.zeros(grid.shape, "u4")))
    assert_refused(run("identify", "v.h5", "-o", "a.json"), "v.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["v.h5"]


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        (b"", ["empty"]),
        (b"event_id,panel,x_mm,y_mm\n0,0,1,2\n", ["z_mm"]),
        (b"event_id,panel,x_mm,y_mm,z_mm\n0,0,1,2,abc\n", ["line 2"]),
        (b"event_id,panel,x_mm,y_mm,z_mm\n0,9,1,2,1900\n", ["9"]),
        (b"event_id,panel,x_mm,y_mm,z_mm\n", ["no hits"]),
        (b"event_id,panel,x_mm,y_mm,z_mm\n0,0,nan,nan,1900\n", ["no hits", "not_finite 1"]),
        (b"event_id,panel,x_mm,y_mm,z_mm\n0,0,.1,.2,1.9\n", ["no hits", "off_plane 1", "units"]),
        (b"event_id,panel,x,y_mm,z_mm\n0,0,1,2,1900\n", ["no column 'x_mm'; known: x;"]),
    ],
)
def test_wrong_csv(run, tmp_path, content, messages):
    (tmp_path / "data.csv").write_bytes(content)
    words = ["import", "data.csv", "--detector", "blocks-lab", "-o", "h.h5"]
    assert_refused(run(*words), "data.csv", *messages)
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


def test_truncated_gzip(run, tmp_path):
    rows = "".join(f"{i},0,1.5,2.5,1900\n" for i in range(5000))
    packed = gzip.compress(b"event_id,panel,x_mm,y_mm,z_mm\n" + rows.encode())
    (tmp_path / "data.csv.gz").write_bytes(packed[: len(packed) // 2])
    words = ["import", "data.csv.gz", "--detector", "blocks-lab", "-o", "h.h5"]
    assert_refused(run(*words), "data.csv.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv.gz"]


def test_debug_shows_the_traceback(run):
    status, _, err = run("--debug", "info", "none.h5")
    assert status == 2
    assert "Traceback" in err
