"""What is whole of a hit file is read back: after a kill, a cut, a flipped bit."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from muscan import io
from muscan.cli import main
from muscan.errors import InputError
from muscan.io import journal, superblock
from muscan.model.events import Hits

HERE = Path(__file__).parent
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_same_hits(found, expected):
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def written(path, hits, block_rows=128):
    with io.LiveHitsWriter(path, hits.detector, block_rows=block_rows) as writer:
        writer.append(hits)
        writer.run = hits.run
    return path


def interrupted(path, hits):
    with (
        contextlib.suppress(RuntimeError),
        io.LiveHitsWriter(path, hits.detector, block_rows=128) as writer,
    ):
        writer.append(hits)
        raise RuntimeError("the detector's computer stops")
    return path


@posix
def test_a_writer_killed_at_any_of_50_moments_loses_no_whole_block(tmp_path, bench):
    (tmp_path / "bench.toml").write_text(bench.text)
    command = [sys.executable, HERE / "killed_writers.py", tmp_path, tmp_path / "bench.toml", "50"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = [json.loads(line) for line in said.splitlines()]
    assert len(made) == 50
    writers = load("killed_writers")
    everything = writers.hits_of(bench, 0, 1 + max(one["rows"] for one in made) // 2)
    kept_something, torn, reasons = 0, 0, []
    for one in made:
        path = Path(one["path"])
        if one["rows"] == 0 and not path.exists():
            continue
        try:
            found = io.recover(path, tmp_path / "out.h5")
        except InputError as error:
            # Killed before the first block was whole.
            reasons.append((one["rows"], error.problem))
            continue
        assert found.hits >= one["rows"]
        assert found.hits % writers.BLOCK_ROWS == 0
        assert found.damaged_hits == 0
        back = io.read_hits(tmp_path / "out.h5")
        assert_same_hits(back, everything.take(slice(0, found.hits)))
        kept_something += 1
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                direct = io.read_hits(path)
            except InputError:
                # Killed while HDF5 rewrote its index in place: the journal has the blocks.
                torn += 1
                continue
        assert any("its writer was killed" in str(one.message) for one in told)
        # The journal is ahead of the checksum in the file by a block at most.
        assert len(direct) in (found.hits, found.hits - writers.BLOCK_ROWS)
    assert set(reasons) <= {(0, "no block of hits is whole")}
    assert kept_something > 25
    assert torn < 10


def test_a_torn_index_is_made_good_by_the_journal(tmp_path, hits):
    path = interrupted(tmp_path / "a.h5", hits)
    blocks = journal.read_journal(path).blocks
    content = bytearray(path.read_bytes())
    chunks = np.zeros(len(content), bool)
    for block in blocks:
        for place in block.places:
            chunks[place.offset : place.offset + place.size] = True
    # All that is not a chunk of hits: superblock, headers, indices.
    for at in np.flatnonzero(~chunks):
        content[at] = 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError):
        io.read_hits(path)
    found = io.recover(path)
    assert (found.hits, found.damaged_hits) == (2000 - 2000 % 128, 0)
    assert_same_hits(io.read_hits(found.output), hits.take(slice(0, found.hits)))
    content[blocks[3].places[2].offset + 5] ^= 1
    path.write_bytes(content)
    found = io.recover(path)
    assert (found.damaged_blocks, found.damaged_hits) == (1, 128)


def test_a_torn_journal_counts_up_to_its_last_whole_line(tmp_path, hits):
    path = interrupted(tmp_path / "a.h5", hits)
    beside = journal.journal_of(path)
    whole = journal.read_journal(path)
    beside.write_bytes(beside.read_bytes()[:-20])
    assert journal.read_journal(path).blocks == whole.blocks[:-1]
    assert io.recover(path).blocks == len(whole.blocks) - 1
    beside.write_bytes(b"rubbish")
    assert journal.read_journal(path) is None
    assert io.recover(path).blocks == len(whole.blocks)


def test_a_journal_counts_up_to_a_line_that_is_not_in_its_place(tmp_path, hits):
    path = interrupted(tmp_path / "a.h5", hits)
    beside = journal.journal_of(path)
    head, first, second, third, *rest = beside.read_bytes().splitlines(keepends=True)
    whole = journal.read_journal(path).blocks
    for lines in ([first, third, second, *rest], [first, third, head, *rest]):
        beside.write_bytes(b"".join([head, *lines]))
        assert journal.read_journal(path).blocks == [whole[0], whole[2]]
    beside.write_bytes(b"".join([first, head, *rest]))
    assert journal.read_journal(path) is None


def test_a_finished_file_has_no_journal(tmp_path, hits):
    assert not journal.journal_of(written(tmp_path / "a.h5", hits)).exists()


def test_a_finished_file_is_recovered_whole(tmp_path, hits):
    path = written(tmp_path / "a.h5", hits)
    found = io.recover(path)
    assert found.output == tmp_path / "a-recovered.h5"
    assert (found.hits, found.damaged_hits, found.incomplete_hits) == (2000, 0, 0)
    back = io.read_hits(found.output)
    assert_same_hits(back, hits)
    assert back.run == hits.run
    assert "nothing is lost" in found.text()


def test_truth_and_momenta_are_kept(tmp_path, hits, truth):
    with io.HitsWriter(tmp_path / "a.h5", hits.detector, scene='name = "x"') as writer:
        writer.append(hits, truth)
        writer.run = hits.run
    io.recover(tmp_path / "a.h5", tmp_path / "b.h5")
    muons, scene = io.read_truth(tmp_path / "b.h5")
    assert_same_hits(muons, truth)
    assert scene == 'name = "x"'


def flip(path, dataset, row):
    """Flip a bit of the stored bytes of the chunk that holds a row."""
    with h5py.File(path) as file:
        found = file[dataset]
        info = found.id.get_chunk_info(row // found.chunks[0])
    with path.open("r+b") as file:
        file.seek(info.byte_offset + info.size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 8]))


@pytest.mark.parametrize("column", ["event_id", "u", "amplitude"])
def test_a_flipped_bit_costs_its_block_and_no_other(tmp_path, hits, column):
    path = written(tmp_path / "a.h5", hits)
    flip(path, f"hits/{column}", 300)
    with pytest.raises(InputError, match=r"do not match their checksum|damaged"):
        io.read_hits(path)
    found = io.recover(path, tmp_path / "b.h5")
    assert (found.damaged_blocks, found.damaged_hits, found.hits) == (1, 128, 2000 - 128)
    keep = np.r_[0:256, 384:2000]
    assert_same_hits(io.read_hits(tmp_path / "b.h5"), hits.take(keep))
    assert io.read_hits(tmp_path / "b.h5").run.counts["hits_in_damaged_blocks"] == 128


def test_a_changed_number_is_found_by_its_checksum(tmp_path, hits):
    path = tmp_path / "a.h5"
    io.write_hits(path, hits)
    with h5py.File(path, "r+") as file:
        file["hits/u"][7] += 1e-3
    with pytest.raises(InputError, match=r"hits 0 to 1999 do not match their checksum"):
        io.read_hits(path)
    assert "do NOT match" in io.describe(path)["blocks"]
    with pytest.raises(InputError, match="no block of hits is whole"):
        io.recover(path, tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_a_file_without_checksums_is_read_and_recovered_as_it_is(tmp_path, hits):
    path = tmp_path / "old.h5"
    io.write_hits(path, hits)
    with h5py.File(path, "r+") as file:
        del file["blocks"]
    assert_same_hits(io.read_hits(path), hits)
    found = io.recover(path, tmp_path / "b.h5")
    assert (found.hits, found.checked) == (2000, False)
    assert_same_hits(io.read_hits(tmp_path / "b.h5"), hits)


def test_a_file_cut_short_gives_what_its_index_still_reaches(tmp_path, hits):
    many = Hits.join([hits] * 20)
    many = replace(many, event_id=np.repeat(np.arange(10_000, dtype="u8"), 4))
    path = written(tmp_path / "a.h5", many, block_rows=256)
    content = path.read_bytes()
    path.write_bytes(content[:-2000])
    with pytest.raises(InputError):
        io.read_hits(path)
    found = io.recover(path, tmp_path / "b.h5")
    assert 0 < found.hits <= 40_000
    assert found.hits + found.damaged_hits + found.incomplete_hits <= 40_000


def test_the_mark_of_a_writer_that_lets_nobody_read_is_no_obstacle(tmp_path, hits):
    path = tmp_path / "a.h5"
    io.write_hits(path, hits)
    head = bytearray(path.read_bytes()[: superblock.SIZE])
    head[11] = 1
    head[44:48] = superblock.lookup3(bytes(head[:44])).to_bytes(4, "little")
    with path.open("r+b") as file:
        file.write(head)
    with pytest.raises(InputError, match="was not closed by its writer"):
        io.read_hits(path)
    before = path.read_bytes()
    assert io.recover(path, tmp_path / "b.h5").hits == 2000
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "value"),
    [  # from the description of the hash: hashlittle with seed 0
        (b"", 0xDEADBEEF),
        (b"Four score and seven years ago", 0x17770551),
    ],
)
def test_lookup3_gives_its_published_values(text, value):
    assert superblock.lookup3(text) == value


def test_lookup3_is_the_hash_that_hdf5_writes(tmp_path, hits):
    io.write_hits(tmp_path / "a.h5", hits)
    head = (tmp_path / "a.h5").read_bytes()[: superblock.SIZE]
    assert superblock.lookup3(head[:44]) == int.from_bytes(head[44:], "little")


def test_what_is_no_hit_file_is_refused(tmp_path, tracks):
    (tmp_path / "text.h5").write_text("event_id,panel")
    with pytest.raises(InputError, match="nothing can be recovered"):
        io.recover(tmp_path / "text.h5")
    io.write_tracks(tmp_path / "t.h5", tracks)
    with pytest.raises(InputError, match="muscan-tracks file where a muscan-hits"):
        io.recover(tmp_path / "t.h5")
    with pytest.raises(InputError, match="no such file"):
        io.recover(tmp_path / "none.h5")
    assert {path.name for path in tmp_path.iterdir()} == {"text.h5", "t.h5"}


def test_the_command_says_what_was_kept(tmp_path, hits, capsys):
    path = written(tmp_path / "a.h5", hits)
    flip(path, "hits/v", 0)
    with pytest.raises(SystemExit) as stopped:
        main(["recover", str(path), "-o", str(tmp_path / "b.h5"), "--json"])
    assert stopped.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["hits"], said["damaged_blocks"]) == (1872, 1)
    with pytest.raises(SystemExit):
        main(["recover", str(path), "-o", str(tmp_path / "c.h5")])
    text = capsys.readouterr().out
    assert "1872 hits in 15 whole blocks are kept" in text
    assert "128 hits in 1 damaged blocks are left out" in text
