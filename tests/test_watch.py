"""A scan that is still running: followed, decided, restarted, told of."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import muscan
from muscan import io
from muscan.cli import main
from muscan.errors import InputError
from muscan.io import audit
from muscan.model.alerts import (
    Alert,
    AlertReport,
    Interval,
    MaterialGuess,
    ScanInfo,
)
from muscan.model.events import pair_tracks
from muscan.pipeline import sequential
from muscan.pipeline.gathering import Gathering
from muscan.pipeline.sightings import Sightings

REPLAY = Path(__file__).parents[1] / "examples" / "live_scan.py"
#: PoCA alone: quick.
QUICK = {"method": "poca", "voxel": 50.0, "every": 0.3}
CUBE = """
name = "{name}"
detector = "{layout}"
"""
URANIUM = """
[[body]]
name = "cube"
shape = "box"
material = "uranium"
centre_mm = [100, 100, 0]
size_mm = [200, 200, 200]
"""


@pytest.fixture(scope="session")
def simulated(tmp_path_factory, bench):
    """A metre of air, and the same with a cube of uranium: 30 s of ten times the cosmic rate."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "bench.toml").write_text(bench.text)
    for name, content in (("empty", ""), ("cube", URANIUM)):
        scene = CUBE.format(name=name, layout=folder / "bench.toml") + content
        (folder / f"{name}.toml").write_text(scene)
        muscan.simulate(
            folder / f"{name}.toml",
            minutes=0.5,
            rate_scale=10,
            seed=4,
            output=folder / f"{name}.h5",
        )
    return folder


@pytest.fixture(scope="session")
def cube(simulated):
    return simulated / "cube.h5"


@pytest.fixture(scope="session")
def empty(simulated):
    return simulated / "empty.h5"


def replayed(source, target, speed):
    """Start a process that writes a live file as a detector would."""
    words = [sys.executable, REPLAY, source, target, "--speed", str(speed), "--block-rows", "512"]
    return subprocess.Popen([str(word) for word in words])


def events_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_finished_file_is_watched_to_its_end_and_leaves_a_trail(cube, tmp_path, capsys):
    looks = []
    sent = tmp_path / "sent.jsonl"
    last = muscan.watch(
        cube,
        output=tmp_path / "out",
        notify=[f"file:{sent}"],
        early=False,
        on_look=looks.append,
        **QUICK,
    )
    out = tmp_path / "out"
    assert looks[-1] is last
    assert (last.verdict, last.reason) == ("alert", "the scan has ended")
    assert last.live_time_s == pytest.approx(30, rel=1e-3)
    tracks = muscan.track(cube)
    assert len(io.read_tracks(out / "tracks.h5")) == len(tracks)
    assert last.muons == tracks.run.counts["in_and_out"]
    report = io.read_alerts(out / "alerts.json")
    assert [alert.id for alert in report.alerts] == list(last.certain)
    places = [alert.position_mm for alert in report.alerts]
    assert any(math.dist(place, (100, 100, 0)) < 30 for place in places)
    assert report.scan.model_dump()["verdict"] == "alert"
    assert report.scan.n_muons == last.muons
    volume = io.read_volume(out / "volume.h5")
    whole = muscan.reconstruct(tracks, method="poca", voxel=50.0)
    # Summed piece by piece, so to rounding only.
    assert volume.n_muons.sum() == whole.n_muons.sum()
    events = events_of(sent)
    assert [event["type"] for event in events[:-1]] == ["muscan.alert.raised"] * (len(events) - 1)
    assert {event["id"] for event in events[:-1]} == {alert.id for alert in report.alerts}
    assert events[-1]["type"] == "muscan.scan.ended"
    assert events[-1]["data"]["verdict"] == "alert"
    assert events[0]["data"]["alert"]["id"] == events[0]["id"]
    log = out / audit.FILE_NAME
    entries = audit.verify(log)
    assert entries[-1]["action"] == "scanned"
    assert entries[-1]["reason"].startswith("alert: the scan has ended")
    assert entries[-1]["evidence"].keys() == {"alerts.json"}
    raised = {entry["subject"] for entry in entries if entry["action"] == "alert"}
    assert raised == {alert.id for alert in report.alerts}
    log.write_bytes(log.read_bytes().replace(b"critical", b"harmless", 1))
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "verify", str(out)])
    assert stopped.value.code == 2
    assert "line 1 was changed" in capsys.readouterr().err


def unfinished(source, path):
    """Write all hits to a live file, but not its end."""
    hits = io.read_hits(source)
    run = replace(hits.run, live_time_s=math.nan)

    def write():
        with io.LiveHitsWriter(path, hits.detector, run) as writer:
            writer.append(hits)
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError):
        write()
    return path


def test_a_clear_load_ends_a_scan_before_its_end(empty, tmp_path):
    live = unfinished(empty, tmp_path / "live.h5")
    last = muscan.watch(live, output=tmp_path / "out", clear_size=200.0, **QUICK)
    assert (last.verdict, last.reason) == ("clear", "the load is clear")
    assert last.clearance.clear
    assert last.report.alerts == []
    assert last.live_time_s == pytest.approx(30, rel=0.1)
    (entry,) = audit.verify(tmp_path / "out" / audit.FILE_NAME)
    assert entry["reason"] == "clear: the load is clear"


@pytest.mark.slow
def test_a_certain_alert_ends_a_scan_before_its_end(cube, tmp_path):
    live = unfinished(cube, tmp_path / "live.h5")
    last = muscan.watch(live, output=tmp_path / "out", **QUICK)
    assert last.verdict == "alert"
    assert "is certain" in last.reason
    assert last.report.alerts[0].severity in ("high", "critical")


@pytest.mark.slow
def test_no_alert_comes_twice_when_watch_is_killed_and_started_again(cube, tmp_path):
    live, sent = tmp_path / "live.h5", tmp_path / "sent.jsonl"
    words = [
        sys.executable, "-c", "from muscan.cli import main; main()", "watch", live,
        "--out", tmp_path / "out", "--method", "poca", "--every", "0.3", "--no-early",
        "--notify", f"file:{sent}", "--json",
    ]  # fmt: skip
    words = [str(word) for word in words]
    writer = replayed(cube, live, 6)
    first = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not sent.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    announced = events_of(sent)
    assert announced
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert writer.wait(timeout=60) == 0
    ids = [event["id"] for event in events_of(sent)]
    assert len(ids) == len(set(ids))
    assert ids[0] == announced[0]["id"]
    assert ids[-1].endswith("-ended")
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines[-1]["reason"] == "the scan has ended"
    assert announced[0]["id"] in lines[-1]["alerts"]
    entries = audit.verify(tmp_path / "out" / audit.FILE_NAME)
    raised = [entry["subject"] for entry in entries if entry["action"] == "alert"]
    assert len(raised) == len(set(raised))
    assert not list((tmp_path / "out").glob(".*.part"))


def test_a_scan_whose_writer_died_ends_by_itself(empty, tmp_path):
    live = unfinished(empty, tmp_path / "live.h5")
    quick = {**QUICK, "every": 60.0}
    last = muscan.watch(live, output=tmp_path / "out", timeout=1.0, early=False, **quick)
    assert last.reason == "no hits came for 1 s"
    total = len(io.read_hits(empty))
    assert total - 4096 - 10 < last.rows <= total
    over = muscan.watch(live, output=tmp_path / "out", until=5.0, early=False, **quick)
    assert over.reason == "the live time of 5 s is over"


def test_a_folder_belongs_to_one_scan_and_options_are_checked(cube, tmp_path, hits):
    Sightings(tmp_path, cube).write()
    with pytest.raises(InputError, match="belongs to a scan of"):
        muscan.watch(tmp_path / "other.h5", output=tmp_path)
    (tmp_path / "watch.json").write_text('{"hits": 3')
    with pytest.raises(InputError, match="is damaged"):
        muscan.watch(cube, output=tmp_path)
    for option, value, source in (
        ("every", 0.0, "--every"),
        ("timeout", -1.0, "--timeout"),
        ("until", 0.0, "--until"),
        ("false_alarm", 0.0, "--false-alarm"),
        ("miss", 1.0, "--miss"),
        ("clear_size", 0.0, "--clear-size"),
        ("stop_at", "grave", "--stop-at"),
        ("voxel", 0.0, "--voxel"),
        ("method", "emm", "emm"),
        ("flux", "guan", "guan"),
        ("watch", ["uranum"], "--watch"),
        ("notify", ["mail:x"], "--notify"),
    ):
        # At once: of what is not there yet it would say that no hits came.
        options = {"output": tmp_path / "new", "timeout": 0.1, option: value}
        with pytest.raises(InputError) as refused:
            muscan.watch(tmp_path / "none.h5", **options)
        assert refused.value.source == source
        assert not (tmp_path / "new").exists()
    io.write_hits(tmp_path / "few.h5", hits.take(hits.panel < 2))
    with pytest.raises(InputError, match="no muon has both tracks"):
        muscan.watch(tmp_path / "few.h5", output=tmp_path / "few")
    assert not (tmp_path / "few" / "alerts.json").exists()


@given(st.integers(1, 400), st.floats(1e-6, 0.5))
def test_all_looks_together_spend_no_more_than_is_allowed(looks, false_alarm):
    spent = sum(sequential.share_of_look(number, false_alarm) for number in range(looks))
    assert spent + sequential.share_of_end(false_alarm) <= false_alarm


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_decisions_come_at_growing_numbers_of_muons(one, other):
    low, high = sorted((one, other))
    assert sequential.look_number(low) <= sequential.look_number(high)
    number = sequential.look_number(high)
    if number >= 0:
        due = sequential.FIRST_MUONS * sequential.GROWTH**number
        assert due <= high * (1 + 1e-9) < due * sequential.GROWTH * (1 + 1e-9)


def alert_at(x, name, size=100.0):
    middle = (x, 0.0, 0.0)
    low, high = (tuple(c + sign * size / 2 for c in middle) for sign in (-1, 1))
    unknown = Interval(value=None, low=None, high=None)
    return Alert(
        id=name,
        severity="high",
        position_mm=middle,
        extent_mm=(low, high),
        volume_l=1.0,
        scattering_density=unknown,
        material=MaterialGuess(name="lead", category="metal", probability=0.9),
        mass_kg=unknown,
        significance=9.0,
        false_alarm_rate=1e-9,
        n_muons=10,
        reason="",
    )


def report_of(*alerts):
    unknown = Interval(value=None, low=None, high=None)
    scan = ScanInfo(run_id="r", live_time_s=1.0, n_muons=1, method="poca", materials_version="")
    return AlertReport(scan=scan, alerts=list(alerts), total_mass_kg=unknown)


def names(report):
    return [alert.id for alert in report.alerts]


def test_an_object_keeps_its_first_id_while_its_place_is_refined(tmp_path):
    seen = Sightings(tmp_path, tmp_path / "hits.h5")
    assert names(seen.named(report_of(alert_at(0, "a"), alert_at(900, "b")))) == ["a", "b"]
    # Moved, in another order, and with a third one whose fresh id is one that is taken.
    moved = report_of(alert_at(940, "x"), alert_at(-60, "y"), alert_at(5000, "a"))
    assert names(seen.named(moved)) == ["b", "a", "a-2"]
    seen.look = 7
    seen.write()
    again = Sightings(tmp_path, tmp_path / "hits.h5")
    assert again.look == 7
    assert names(again.named(report_of(alert_at(950, "z")))) == ["b"]
    # Two objects close to one known place are two.
    assert names(again.named(report_of(alert_at(0, "p"), alert_at(40, "q")))) == ["a", "q"]


def test_times_are_those_of_the_file(cube):
    hits = io.read_hits(cube)
    assert replace(hits.run).live_time_s == pytest.approx(30, rel=1e-3)
    assert hits.time[-1] * 1e-9 == pytest.approx(30, rel=1e-2)


def test_the_sky_is_the_usual_one_of_such_muons(empty, tmp_path):
    hits = io.read_hits(empty)
    values = {}
    for source, flux in (("simulated", ""), ("csv", ""), ("csv", "guan2015"), ("csv", "ecomug")):
        with Gathering(tmp_path / "tracks.h5", 400.0, flux, None) as gathering:
            gathering.add(replace(hits, run=replace(hits.run, source=source)))
        values[source, flux] = gathering.snapshot().volume.values
    np.testing.assert_array_equal(values["simulated", ""], values["csv", "guan2015"])
    np.testing.assert_array_equal(values["csv", ""], values["csv", "ecomug"])
    assert np.nansum(values["csv", ""]) < 0.99 * np.nansum(values["simulated", ""])


@pytest.mark.parametrize("most_muons", [1_000_000, 300])
def test_what_is_gathered_does_not_depend_on_how_the_hits_were_cut(
    empty, tmp_path, monkeypatch, most_muons
):
    monkeypatch.setattr("muscan.pipeline.gathering.MOST_MUONS", most_muons)
    monkeypatch.setattr("muscan.pipeline.gathering.PORTION", 256)
    hits = io.read_hits(empty)
    hits = replace(hits, run=replace(hits.run, counts={}))  # as a follower gives them
    ids, first = np.unique(hits.event_id, return_index=True)
    assert len(ids) > 3000
    found = []
    for number, events in enumerate((len(ids), 1000, 37)):
        gathering = Gathering(tmp_path / f"{number}.h5", 100.0, "guan2015", number or None)
        with gathering:
            cuts = [*first[:3000:events], first[3000]]
            for start, stop in pairwise(cuts):
                gathering.add(hits.take(slice(start, stop)))
                if stop == cuts[len(cuts) // 2]:
                    early = gathering.snapshot()
                    before = early.volume.values.copy(), len(early.tracks)
        found.append(gathering.snapshot())
        # What a look holds does not change while hits are gathered.
        np.testing.assert_array_equal(early.volume.values, before[0])
        assert len(early.tracks) == before[1]
    whole, *others = found
    assert (whole.stride > 1) == (most_muons == 300)
    assert len(whole.tracks) == 2 * math.ceil(whole.muons / whole.stride) <= 2 * most_muons
    pairs = pair_tracks(io.read_tracks(tmp_path / "0.h5")).event_id
    np.testing.assert_array_equal(whole.tracks.event_id[::2], pairs[:: whole.stride])
    for other in others:
        assert (other.muons, other.rows, other.stride) == (whole.muons, whole.rows, whole.stride)
        assert other.run == whole.run
        for name in ("values", "uncertainty", "n_muons"):
            one, same = (getattr(each.volume, name) for each in (other, whole))
            np.testing.assert_array_equal(one, same, err_msg=name)
        for name, column in whole.tracks.columns().items():
            np.testing.assert_array_equal(getattr(other.tracks, name), column, err_msg=name)


def test_looks_say_how_old_they_are_and_what_is_still_to_be_read(cube, tmp_path):
    looks = []
    muscan.watch(cube, output=tmp_path / "o", early=False, on_look=looks.append, **QUICK)
    for look in looks:
        said = look.summary()
        assert said["lag_s"] > 0
        assert said["behind_hits"] >= 0
    assert looks[-1].behind_hits == 0
