"""Campaigns of jobs: what is kept, what is run again, and what becomes of errors and kills."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.pipeline.campaign import job_name, run_campaign

FOLDER = str(Path(__file__).parent)
sys.path.insert(0, FOLDER)
import jobs  # noqa: E402  (found there)


@pytest.fixture(autouse=True)
def _jobs_are_found_by_processes(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", FOLDER)


def seeds(n, folder):
    folder.mkdir(exist_ok=True)
    return [{"seed": seed, "marks": str(folder)} for seed in range(n)]


def test_results_are_those_of_the_function_in_the_order_of_the_jobs(tmp_path):
    listed = seeds(5, tmp_path / "marks")[::-1]
    made = run_campaign(jobs.draw, listed, tmp_path / "c", workers=1)
    expected = [np.random.default_rng(p["seed"]).normal(size=100).mean() for p in listed]
    assert [record["mean"] for record in made.good] == expected
    assert made.n_run == 5
    assert made.errors == {}


def test_only_what_is_missing_is_run(tmp_path):
    marks = tmp_path / "marks"
    run_campaign(jobs.draw, seeds(3, marks), tmp_path / "c", workers=1)
    again = run_campaign(jobs.draw, seeds(5, marks), tmp_path / "c", workers=1)
    assert again.n_run == 2
    assert sorted(path.name.split("-")[0] for path in marks.iterdir()) == list("01234")
    gone = tmp_path / "c" / f"{job_name(jobs.draw, seeds(5, marks)[1])}.json"
    gone.unlink()
    assert run_campaign(jobs.draw, seeds(5, marks), tmp_path / "c", workers=1).n_run == 1


def test_the_same_job_twice_is_run_once(tmp_path):
    marks = tmp_path / "marks"
    made = run_campaign(jobs.draw, seeds(1, marks) * 3, tmp_path / "c", workers=1)
    assert made.n_run == 1
    assert len(made.good) == 3


def test_processes_give_the_same_files_as_one(tmp_path):
    listed = seeds(4, tmp_path / "marks")
    run_campaign(jobs.draw, listed, tmp_path / "one", workers=1)
    run_campaign(jobs.draw, listed, tmp_path / "two", workers=2)
    for path in (tmp_path / "one").iterdir():
        one, two = (json.loads((tmp_path / n / path.name).read_text()) for n in ("one", "two"))
        one.pop("seconds"), two.pop("seconds")
        assert one == two
    pids = {path.name.split("-")[1] for path in (tmp_path / "marks").iterdir()}
    assert len(pids) >= 2


def test_an_error_of_one_job_is_kept_and_does_not_end_the_others(tmp_path):
    listed = [{"seed": seed} for seed in range(4)]
    made = run_campaign(jobs.refuse_odd, listed, tmp_path, workers=1)
    assert [record and record["seed"] for record in made.records] == [0, None, 2, None]
    assert made.errors == {n: f"ValueError: seed {n} is odd" for n in (1, 3)}
    kept = json.loads((tmp_path / f"{job_name(jobs.refuse_odd, listed[1])}.error.json").read_text())
    assert kept["parameters"] == {"seed": 1}
    assert "refuse_odd" in kept["traceback"]
    assert run_campaign(jobs.refuse_odd, listed, tmp_path, workers=1).n_run == 2


def test_an_error_goes_once_the_job_succeeds(tmp_path, monkeypatch):
    listed = [{"seed": 0}, {"seed": 1}]
    run_campaign(jobs.refuse_odd, listed, tmp_path, workers=1)
    assert len(list(tmp_path.glob("*.error.json"))) == 1

    def mended(parameters):
        return {"seed": parameters["seed"]}

    mended.__module__, mended.__qualname__ = "jobs", "refuse_odd"
    monkeypatch.setattr(jobs, "refuse_odd", mended)
    assert run_campaign(jobs.refuse_odd, listed, tmp_path, workers=1).errors == {}
    assert not list(tmp_path.glob("*.error.json"))


def test_nan_is_an_error_of_its_job(tmp_path):
    made = run_campaign(jobs.not_data, [{"seed": 0}, {"seed": 1}], tmp_path, workers=1)
    assert list(made.errors) == [1]
    assert "not plain data" in made.errors[1]


def test_every_job_failing_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"every job failed.*seed 1 is odd"):
        run_campaign(jobs.refuse_odd, [{"seed": 1}, {"seed": 3}], tmp_path, workers=1)


def test_a_killed_process_costs_no_results(tmp_path):
    listed = seeds(6, tmp_path / "marks")
    made = run_campaign(jobs.die_once, listed, tmp_path / "c", workers=2)
    assert [record["seed"] for record in made.good] == list(range(6))
    assert (tmp_path / "marks" / "dead").exists()


def test_a_job_that_always_kills_its_process_is_given_up(tmp_path):
    made = run_campaign(jobs.always_die, seeds(3, tmp_path / "marks"), tmp_path / "c", workers=2)
    assert "killed" in made.errors[1]
    assert [record["seed"] for record in made.good] == [0, 2]


def test_a_foreign_file_is_named(tmp_path):
    listed = [{"seed": 0}]
    (tmp_path / f"{job_name(jobs.refuse_odd, listed[0])}.json").write_text("{}")
    with pytest.raises(InputError, match="is not the result of a job"):
        run_campaign(jobs.refuse_odd, listed, tmp_path, workers=1)


def test_names_depend_on_every_parameter_and_on_the_function():
    names = {
        job_name(function, {"seed": seed, "method": method})
        for function in (jobs.draw, jobs.not_data)
        for seed in (0, 1)
        for method in ("poca", "em")
    }
    assert len(names) == 8
    assert job_name(jobs.draw, {"a": 1, "b": 2}) == job_name(jobs.draw, {"b": 2, "a": 1})
    with pytest.raises(InputError, match="not plain data"):
        job_name(jobs.draw, {"seed": np.array(1)})


def test_progress_counts_what_was_there(tmp_path):
    told = []
    listed = seeds(4, tmp_path / "marks")
    run_campaign(jobs.draw, listed[:2], tmp_path / "c", workers=1)
    run_campaign(
        jobs.draw, listed, tmp_path / "c", workers=1, progress=lambda step, part: told.append(part)
    )
    assert told == [0.5, 0.75, 1.0]
