"""Hit and track files: what is written comes back; what is unsound is refused or counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from muscan import io
from muscan.errors import InputError
from muscan.io import schema
from muscan.model.events import MomentumMeasurements


def assert_same(found, expected):
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def test_hits_come_back_with_run_detector_and_truth(tmp_path, hits, truth):
    path = tmp_path / "hits.h5"
    with io.HitsWriter(path, hits.detector, scene='name = "x"') as writer:
        writer.append(hits.take(slice(0, 1000)), truth.take(slice(0, 250)))
        writer.append(hits.take(slice(1000, None)), truth.take(slice(250, None)))
        writer.run = hits.run
    found = io.read_hits(path)
    assert_same(found, hits)
    assert found.run == hits.run
    assert found.detector.text == hits.detector.text
    np.testing.assert_array_equal(found.detector.centres, hits.detector.centres)
    muons, scene = io.read_truth(path)
    assert_same(muons, truth)
    assert scene == 'name = "x"'


def test_paths_may_be_texts(tmp_path, monkeypatch, hits, tracks, truth):
    monkeypatch.chdir(tmp_path)  # the texts are relative paths
    with io.HitsWriter("hits.h5", hits.detector, scene="") as writer:
        writer.append(hits, truth)
    io.write_hits("again.h5", hits)
    io.write_tracks("tracks.h5", tracks)
    assert_same(io.read_hits("hits.h5"), hits)
    assert_same(io.read_truth("hits.h5")[0], truth)
    assert_same(io.read_tracks("tracks.h5"), tracks)
    assert [len(piece) for piece in io.iter_hits("again.h5")] == [len(hits)]
    assert io.describe("tracks.h5")["tracks"] == len(tracks)
    found = io.recover("again.h5")
    assert (found.output, found.hits) == (Path("again-recovered.h5"), len(hits))


def test_a_file_of_another_kind_is_told_how_to_come_by_the_right_one(tmp_path, hits):
    io.write_hits(tmp_path / "hits.h5", hits)
    with pytest.raises(InputError, match="a muscan-tracks file is needed; make one by 'muscan tr"):
        io.read_tracks(tmp_path / "hits.h5")


def test_hit_file_is_laid_out_as_the_contract_says(tmp_path, hits):
    path = tmp_path / "hits.h5"
    io.write_hits(path, hits)
    types = {"event_id": "u8", "panel": "u2", "time": "f8"}
    with h5py.File(path) as file:
        assert file.attrs["format"] == "muscan-hits"
        assert file.attrs["format_version"] == 1
        assert set(file["hits"]) == {
            "event_id", "panel", "u", "v", "sigma_u", "sigma_v", "time", "amplitude",
        }  # fmt: skip
        for name, dataset in file["hits"].items():
            assert dataset.dtype == types.get(name, "f4")
        assert {"live_time_s", "start_time", "run_id", "source"} <= set(file["run"].attrs)
        assert "truth" not in file
        missing = []
        file.visititems(
            lambda name, item: (
                missing.append(name)
                if isinstance(item, h5py.Dataset) and "units" not in item.attrs
                else None
            )
        )
        assert missing == []


def test_measured_momenta_come_back(tmp_path, hits):
    momenta = MomentumMeasurements(
        np.array([0, 3], "u8"), np.array([1.5, 4.0], "f4"), np.array([0.1, 0.3], "f4")
    )
    path = tmp_path / "hits.h5"
    io.write_hits(path, replace(hits, momenta=momenta))
    assert_same(io.read_hits(path).momenta, momenta)


@pytest.mark.parametrize("rows", [1, 7, 400, 1999, 5000])
def test_streamed_pieces_never_part_an_event_and_add_up(tmp_path, hits, rows):
    path = tmp_path / "hits.h5"
    io.write_hits(path, hits)
    pieces = list(io.iter_hits(path, rows))
    ends = [piece.event_id[-1] for piece in pieces[:-1]]
    starts = [piece.event_id[0] for piece in pieces[1:]]
    assert all(end != start for end, start in zip(ends, starts, strict=True))
    np.testing.assert_array_equal(np.concatenate([p.u for p in pieces]), hits.u)


def test_hits_that_are_not_numbers_are_dropped_and_counted(tmp_path, hits):
    u = hits.u.copy()
    u[[3, 700]] = np.nan
    v, sigma_v = hits.v.copy(), hits.sigma_v.copy()
    v[10], sigma_v[10] = np.nan, np.inf  # not measured: kept
    path = tmp_path / "hits.h5"
    io.write_hits(path, replace(hits, u=u, v=v, sigma_v=sigma_v))
    found = io.read_hits(path)
    assert len(found) == len(hits) - 2
    assert found.run.counts == {"muons": 900, "hits_not_finite": 2}


def test_tracks_come_back(tmp_path, tracks):
    path = tmp_path / "tracks.h5"
    io.write_tracks(path, tracks)
    found = io.read_tracks(path)
    assert_same(found, tracks)
    assert found.run == tracks.run
    with h5py.File(path) as file:
        assert file["tracks/cov"].shape == (600, 4, 4)
        assert file["tracks/side"].dtype == "i1"


def test_tracks_that_are_not_numbers_are_dropped_and_counted(tmp_path, tracks):
    direction = tracks.direction.copy()
    direction[5] = np.nan
    direction[8] *= 2
    path = tmp_path / "tracks.h5"
    io.write_tracks(path, replace(tracks, direction=direction))
    found = io.read_tracks(path)
    assert len(found) == len(tracks) - 2
    assert found.run.counts["tracks_not_finite"] == 2


def _truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _edit(change):
    def spoil(path):
        with h5py.File(path, "r+") as file:
            del file["blocks"]  # so that it is not the checksums that refuse the file
            change(file)

    return spoil


def _set(name, value):
    return _edit(lambda file: file.attrs.__setitem__(name, value))


def _without(name):
    return _edit(lambda file: file.__delitem__(name))


def _retyped(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return _edit(change)


SPOILT = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("event_id,panel"), "not an HDF5 file"),
    "truncated": (_truncate, "damaged or truncated"),
    "foreign": (_set("format", "something-else"), "not a muscan file"),
    "tracks": (_set("format", "muscan-tracks"), "muscan-tracks file where a muscan-hits"),
    "newer": (_set("format_version", 99), "version 99"),
    "no version": (_set("format_version", "one"), "no valid format_version"),
    "no column": (_without("hits/u"), "no dataset /hits/u"),
    "no layout": (_without("detector"), "no /detector"),
    "short column": (_retyped("hits/u", np.zeros(3, "f4")), "/hits/u has 3 rows"),
    "text column": (_retyped("hits/u", np.array([b"a"] * 2000)), "/hits/u has type"),
    "flat column": (_retyped("hits/u", np.zeros((2000, 2), "f4")), "/hits/u has shape"),
    "unknown panel": (_retyped("hits/panel", np.full(2000, 9, "u2")), "panel 9 is not one"),
    "scattered": (
        _retyped("hits/event_id", np.tile(np.arange(500, dtype="u8"), 4)),
        "not adjacent",
    ),
    "bad layout": (_retyped("detector", "name = 1"), "detector"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_unsound_hit_files_are_refused_in_one_line(tmp_path, hits, how):
    path = tmp_path / "hits.h5"
    io.write_hits(path, hits)
    spoil, message = SPOILT[how]
    spoil(path)
    with pytest.raises(InputError, match=message) as caught:
        io.read_hits(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path, hits):
    with pytest.raises(InputError, match="no such file"):
        io.read_hits(tmp_path / "none.h5")
    with pytest.raises(InputError, match="does not exist"):
        io.write_hits(tmp_path / "none" / "hits.h5", hits)


def test_a_failed_write_leaves_the_old_file_and_nothing_half_written(tmp_path, hits):
    path = tmp_path / "hits.h5"
    io.write_hits(path, hits)
    before = path.read_bytes()
    misshapen = replace(hits, u=hits.u[:-1])
    with pytest.raises(TypeError), io.HitsWriter(path, hits.detector) as writer:
        writer.append(misshapen)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["hits.h5"]


def test_same_content_gives_the_same_bytes(tmp_path, hits, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for name in ("a.h5", "b.h5"):
        io.write_hits(tmp_path / name, hits)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_every_table_column_is_a_field_of_its_class():
    for table in (schema.HIT_TABLE, schema.TRUTH_TABLE, schema.MOMENTUM_TABLE, schema.TRACK_TABLE):
        assert {c.field for c in table.columns} == set(table.holder.column_names())
