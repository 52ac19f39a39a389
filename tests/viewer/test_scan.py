"""What the viewer finds in a folder or files, and in a running scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from muscan import io
from muscan.errors import InputError
from muscan.io import audit
from muscan.viewer.scan import follow, load


def test_a_folder(folder, volume, bench):
    scan = load([folder])
    assert scan.name == "bench-1"
    np.testing.assert_array_equal(scan.volume.values, volume.values)
    assert scan.detector.name == bench.name
    assert len(scan.read_scatters()) == 300
    assert scan.audit_file == folder / "audit.jsonl"
    assert scan.decisions == {}


def test_decisions_are_read(folder):
    audit.decide(folder / "audit.jsonl", "bench-1-a", "confirmed", "seen")
    assert load([folder]).decisions["bench-1-a"]["action"] == "confirmed"


def test_files_with_suffixes_of_their_own(folder, tmp_path, hits):
    (folder / "volume.h5").rename(tmp_path / "a.muvol")
    (folder / "tracks.h5").rename(tmp_path / "a.mutracks")
    io.write_hits(tmp_path / "a.muhits", hits)
    scan = load([tmp_path / "a.muvol", tmp_path / "a.mutracks", tmp_path / "a.muhits"])
    assert scan.volume is not None
    assert scan.tracks_file == tmp_path / "a.mutracks"
    assert len(scan.hits) == len(hits)


def test_a_folder_with_nothing(tmp_path):
    with pytest.raises(InputError, match="volume"):
        load([tmp_path])


def test_a_scan_without_tracks_says_so(folder):
    (folder / "tracks.h5").unlink()
    with pytest.raises(InputError, match="no tracks"):
        load([folder]).read_tracks()


def test_following_tells_of_a_change_once(folder, volume):
    looks = follow(folder, interval_s=0.0)
    assert next(looks).volume.method == "poca"
    assert next(looks) is None
    io.write_volume(folder / "volume.h5", replace(volume, method="later"))
    scan = next(looks)
    assert scan is not None
    assert scan.volume.method == "later"
    assert next(looks) is None


def test_following_survives_a_half_written_file(folder, volume):
    looks = follow(folder, interval_s=0.0)
    assert next(looks) is not None
    (folder / "volume.h5").write_bytes(b"")
    assert next(looks) is None
    io.write_volume(folder / "volume.h5", replace(volume, method="whole again"))
    assert next(looks).volume.method == "whole again"
