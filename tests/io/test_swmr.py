"""A hit file that grows: another process sees whole events, each once, in order."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from muscan import io
from muscan.errors import InputError
from muscan.io import superblock
from muscan.model.events import Hits, Run

FOLLOWER = """
import json, sys, time
from pathlib import Path
from muscan import io
follower = io.HitsFollower(Path(sys.argv[1]))
pieces, last, events = 0, -1, 0
deadline = time.monotonic() + 30
while not follower.finished and time.monotonic() < deadline:
    for hits in follower.poll():
        pieces += 1
        print("a piece", flush=True)
        ids = [int(i) for i in hits.event_id[::4]]
        assert len(hits) % 4 == 0, "an event was parted"
        assert ids[0] > last and ids == sorted(set(ids)), "an event came twice, or too early"
        last, events = ids[-1], events + len(ids)
    time.sleep(0.01)
print(json.dumps({"pieces": pieces, "events": events, "rows": follower.rows,
                  "live": follower.run.live_time_s, "counts": dict(follower.run.counts)}))
"""


def assert_same_hits(found, expected):
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def collected(follower):
    return list(follower.poll())


def test_a_reader_in_another_process_follows_to_the_end(tmp_path, hits):
    path = tmp_path / "live.h5"
    reader = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, str(path)], stdout=subprocess.PIPE, text=True
    )
    # 130 rows: blocks end inside of events.
    with io.LiveHitsWriter(path, hits.detector, Run(run_id="r"), block_rows=130) as writer:
        for start in range(0, 2000, 40):
            writer.append(hits.take(slice(start, start + 40)))
            if start == 400:
                assert reader.stdout.readline() == "a piece\n"
        writer.run = hits.run
    found = json.loads(reader.communicate(timeout=60)[0].splitlines()[-1])
    assert reader.returncode == 0
    assert (found["events"], found["rows"]) == (500, 2000)
    assert found["pieces"] > 1
    assert found["live"] == 60.0
    assert found["counts"] == {"muons": 900}


LOOKER = """
import json, sys
from pathlib import Path
from muscan import io
follower = io.HitsFollower(Path(sys.argv[1]))
for line in sys.stdin:
    ids, live = [], None
    for hits in follower.poll():
        ids += hits.event_id.tolist()
        live = hits.run.live_time_s
    print(json.dumps([ids, live, follower.finished]), flush=True)
"""


class Looker:
    """A follower in a process of its own: HDF5 does not let a process read what it writes."""

    def __init__(self, path):
        command = [sys.executable, "-c", LOOKER, str(path)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self):
        return self

    def __call__(self):
        print("look", file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def __exit__(self, *_):
        self.process.communicate(timeout=30)


def test_whole_events_come_when_their_block_is_full(tmp_path, hits):
    path = tmp_path / "live.h5"
    with Looker(path) as look:
        assert look() == [[], None, False]  # the file is not there yet
        with io.LiveHitsWriter(path, hits.detector, Run(run_id="r"), block_rows=102) as writer:
            writer.append(hits.take(slice(0, 100)))
            assert look() == [[], None, False]  # no block is full
            writer.append(hits.take(slice(100, 200)))
            ids, live, _ = look()
            # 102 rows are there: 25 events and half of another.
            assert ids == hits.event_id[:100].tolist()
            assert live == pytest.approx(hits.time[101] * 1e-9)
            assert look() == [[], None, False]
            writer.append(hits.take(slice(200, 2000)))
            ids, _, finished = look()
            assert ids == hits.event_id[100 : 100 + len(ids)].tolist()
            assert len(ids) > 1700
            assert not finished
            done = 100 + len(ids)
            writer.run = hits.run
        ids, _, finished = look()
        assert ids == hits.event_id[done:].tolist()
        assert finished
    assert io.read_hits(path).run == hits.run


def test_the_finished_file_is_a_hit_file_like_any_other(tmp_path, hits):
    with io.LiveHitsWriter(tmp_path / "a.h5", hits.detector, block_rows=64) as writer:
        writer.append(hits)
        writer.run = hits.run
    found = io.read_hits(tmp_path / "a.h5")
    assert_same_hits(found, hits)
    assert superblock.read_flags(tmp_path / "a.h5") == 0
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["format_version"] == 1
        assert file["hits/u"].chunks == (64,)
        assert file["hits/u"].compression == "gzip"
        assert file["hits/u"].shuffle
        stops = file["blocks/stop"][:]
        assert stops.tolist() == [*range(64, 2000, 64), 2000]


def test_checksums_can_be_checked_with_nothing_but_zlib(tmp_path, hits):
    import zlib

    io.write_hits(tmp_path / "a.h5", hits)
    with h5py.File(tmp_path / "a.h5") as file:
        value = 0
        names = ("event_id", "panel", "u", "v", "sigma_u", "sigma_v", "time", "amplitude")
        for name in names:
            value = zlib.crc32(file["hits"][name][:].tobytes(), value)
        assert file["blocks/crc32"][:].tolist() == [value]
        assert file["blocks/stop"][:].tolist() == [2000]


def test_after_an_exception_the_file_is_not_called_finished(tmp_path, hits):
    path = tmp_path / "a.h5"

    def write():
        with io.LiveHitsWriter(path, hits.detector, block_rows=100) as writer:
            writer.append(hits.take(slice(0, 450)))
            raise RuntimeError("the crate burns")

    with pytest.raises(RuntimeError, match="the crate burns"):
        write()
    with pytest.warns(UserWarning, match="400 hits of it are whole"):
        assert len(io.read_hits(path)) == 400
    assert io.describe(path)["state"].startswith("being written, or")


def abandoned(path, hits, rows):
    """Write as a process does that is killed: the mark of the writer stays."""
    code = (
        "import os, sys, pickle; from pathlib import Path; from muscan import io\n"
        "hits = pickle.load(sys.stdin.buffer)\n"
        "w = io.LiveHitsWriter(Path(sys.argv[1]), hits.detector, block_rows=100).__enter__()\n"
        "w.append(hits); os._exit(9)"
    )
    import pickle

    subprocess.run(
        [sys.executable, "-c", code, str(path)], input=pickle.dumps(hits.take(slice(0, rows)))
    )
    assert superblock.is_followable(superblock.read_flags(path))


def test_a_writer_goes_on_where_a_killed_one_stopped(tmp_path, hits):
    path = tmp_path / "a.h5"
    abandoned(path, hits, 450)
    follower = io.HitsFollower(path)
    before = collected(follower)
    assert sum(map(len, before)) == 396  # the last event of a block may go on
    with io.LiveHitsWriter(path, hits.detector, resume=True) as writer:
        assert writer.rows == 400
        writer.append(hits.take(slice(400, None)))
        writer.run = hits.run
    after = collected(follower)
    assert follower.finished
    assert_same_hits(Hits.join(before + after), hits)
    assert_same_hits(io.read_hits(path), hits)
    with pytest.raises(InputError, match="is finished"):
        io.LiveHitsWriter(path, hits.detector, resume=True).__enter__()


def test_the_rate_the_gaps_and_the_panels_are_told_at_a_glance(tmp_path, hits):
    # 500 events in 50 s, then nothing for 20 s, then 50 s again.
    ids = np.repeat(np.arange(500, dtype="u8"), 4)
    times = np.linspace(0, 100e9, 500).repeat(4)
    times[1000:] += 20e9
    quiet = replace(hits, event_id=ids, time=times)
    path = tmp_path / "a.h5"
    io.write_hits(path, quiet)
    facts = io.describe(path)
    assert facts["state"] == "finished"
    assert facts["blocks"] == "1, all match their checksums"
    assert (facts["events"], facts["hits"]) == (500, 2000)
    assert facts["hits per panel"] == {"a": 500, "b": 500, "c": 500, "d": 500}
    assert facts["rate [events/s]"] == pytest.approx(499 / 120, rel=1e-4)
    assert facts["longest gap [s]"] == pytest.approx(20.2, rel=1e-3)
    assert facts["after [s]"] == pytest.approx(49.9, rel=1e-2)
    rates = facts["in 10 stretches of 12 s"]
    assert sum(rates) * 12 == pytest.approx(500, rel=1e-3)
    assert min(rates) < 3 < 4 < max(rates)


def test_a_file_that_shrinks_is_told_of(tmp_path, hits, monkeypatch):
    monkeypatch.setattr("muscan.io.live.PATIENCE_S", 0.0)
    path = tmp_path / "a.h5"
    io.write_hits(path, hits)
    follower = io.HitsFollower(path)
    assert sum(map(len, follower.poll())) == 2000
    io.write_hits(path, hits.take(slice(0, 400)))
    with pytest.raises(InputError, match="fewer hits than before"):
        collected(follower)


def test_a_wrong_block_size_is_refused(tmp_path, hits):
    with pytest.raises(InputError, match="block_rows"):
        io.LiveHitsWriter(tmp_path / "a.h5", hits.detector, block_rows=0)


def test_a_damaged_file_that_was_written_just_now_is_refused_and_not_waited_for(tmp_path, hits):
    path = tmp_path / "a.h5"
    abandoned(path, hits, 1000)
    data = bytearray(path.read_bytes())
    at = data.index(b"EAHD")  # the index of a dataset's chunks
    data[at + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="is damaged or truncated"):
        io.read_hits(path)
    # Who follows takes it for a file that is just being written, for a while.
    follower = io.HitsFollower(path)
    assert collected(follower) == []
    assert (follower.rows, follower.finished) == (0, False)


FULL = """
import resource, sys
from pathlib import Path
from muscan import io
from muscan.errors import InputError
hits = io.read_hits(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
try:
    with io.LiveHitsWriter(sys.argv[2], hits.detector, block_rows=100) as writer:
        for start in range(0, 2000, 100):
            writer.append(hits.take(slice(start, start + 100)))
except InputError as error:
    print(error)
"""


def test_a_full_disk_ends_the_writer_in_one_line_and_whole_blocks_stay(tmp_path, hits):
    pytest.importorskip("resource", reason="limits a file's size as POSIX does")
    io.write_hits(tmp_path / "a.h5", hits)
    words = [sys.executable, "-c", FULL, tmp_path / "a.h5", tmp_path / "live.h5"]
    # What measures coverage would find its own file full, too.
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    told = subprocess.run(
        map(str, words), capture_output=True, text=True, check=True, env=environment
    )
    assert told.stderr == ""
    assert f"live.h5: cannot be written ({os.strerror(errno.EFBIG)})" in told.stdout
    assert told.stdout.count("\n") == 1
    kept = io.recover(tmp_path / "live.h5").hits
    assert kept >= 100
    assert_same_hits(io.read_hits(tmp_path / "live-recovered.h5"), hits.take(slice(0, kept)))
