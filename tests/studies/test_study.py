"""Studies as a user runs them: planned, resumed, written and drawn."""

from __future__ import annotations

import csv
import json

import pytest

from muscan.cli import main
from muscan.errors import InputError
from muscan.studies import plan, study


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


def test_studies_of_one_folder_share_their_scans_but_calibration_does_not():
    options = {"scenes": ["uniform-0.3"], "scans": 3, "seed": 5, "exposures": [60.0]}
    jobs = {kind: plan(kind, **options) for kind in ("roc", "time", "weight", "calibrate")}
    assert jobs["roc"] == jobs["time"]
    assert [{**job, "weigh": True} for job in jobs["roc"]] == jobs["weight"]
    assert len(jobs["roc"]) == 6
    seeds = {kind: {job["seed"] for job in found} for kind, found in jobs.items()}
    assert len(seeds["roc"]) == 3
    assert not seeds["roc"] & seeds["calibrate"]
    assert not any(job["threat"] for job in jobs["calibrate"])


def test_more_scans_begin_with_the_fewer():
    fewer, more = (plan("roc", scenes=["uniform-0.3"], scans=n, seed=1) for n in (2, 5))
    assert more[: len(fewer)] == fewer


def test_a_threat_does_not_change_the_load():
    benign, threat = plan("roc", scenes=["uniform-0.3"], scans=1)
    assert benign["seed"] == threat["seed"]
    assert (benign["threat"], threat["threat"]) == (False, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scans": 0}, "not a number of scans"),
        ({"exposures": [0.0]}, "are not times"),
        ({"method": "emm"}, "did you mean 'em'"),
        ({"scenes": ["fruits"]}, "no such scene"),
        ({"detector": "container-portl"}, "did you mean 'container-portal'"),
        ({"voxel": -1}, "not a size"),
        ({"seed": -1}, "negative"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(options, message):
    with pytest.raises(InputError, match=message):
        plan("roc", **{"scenes": ["uniform-0.3"], "scans": 1, **options})


def test_an_unknown_study_is_refused(tmp_path):
    with pytest.raises(InputError, match="did you mean 'time'"):
        study("tim", output=tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A confusion study of two scans, a few seconds each."""
    found = tmp_path_factory.mktemp("study")
    words = ["--exposures", "3", "--method", "poca", "--voxel", 200, "--workers", 1, "--quiet"]
    assert run("study", "confusion", "--out", found, "--scans", 2, *words) == 0
    return found


def test_a_study_leaves_tables_figure_and_records(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"confusion.csv", "confusions.csv", "confusion.png", "confusion.json", "scans"} <= names
    with (folder / "confusions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    assert {row["true"] for row in rows} >= {"water", "lead", "uranium"}
    summary = json.loads((folder / "confusion.json").read_text())
    assert (summary["n_scans"], summary["n_failed"]) == (2, 0)
    assert summary["seconds_per_scan"] > 0
    assert (folder / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_makes_what_is_missing_and_the_same_tables(folder, capsys):
    before = (folder / "confusions.csv").read_text()
    gone = next((folder / "scans").glob("*.json"))
    gone.unlink()
    words = ["--exposures", "3", "--method", "poca", "--voxel", 200, "--workers", 1]
    assert run("study", "confusion", "--out", folder, "--scans", 2, *words) == 0
    assert "2 scans (1 made now, 0 failed)" in capsys.readouterr().out
    assert (folder / "confusions.csv").read_text() == before


def test_json_has_no_nan(folder, capsys):
    words = ["--exposures", "3", "--method", "poca", "--voxel", 200, "--workers", 1, "--json"]
    assert run("study", "confusion", "--out", folder, "--scans", 2, *words) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert len(tables["confusions"]) == 14
