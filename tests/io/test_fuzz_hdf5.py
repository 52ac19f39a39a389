"""Damages of HDF5 files that its library never returns from, or fills the memory with."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from muscan import io
from muscan.errors import InputError
from muscan.io.heaps import damaged_heap
from muscan.io.sink import Sink


def test_a_heap_of_texts_without_end_is_refused(tmp_path, hits):
    path = tmp_path / "hits.h5"
    io.write_hits(path, hits)
    assert damaged_heap(path) is None
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL\x01\0\0\0")
    at = heap + 16
    while number := int.from_bytes(data[at : at + 2], "little"):
        assert number < 100
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(data)
    assert damaged_heap(path) == heap
    with pytest.raises(InputError, match=f"is damaged \\(texts at byte {heap}"):
        io.read_hits(path)


def test_a_dataset_that_claims_more_than_it_holds_is_refused_before_it_is_read(tmp_path, hits):
    path = tmp_path / "hits.h5"
    io.write_hits(path, hits)
    with h5py.File(path, "r+") as file:
        for name in file["hits"]:
            dtype = file["hits"][name].dtype
            del file["hits"][name]
            file["hits"].create_dataset(name, (1 << 40,), dtype, chunks=(4096,))
    with pytest.raises(InputError, match=r"claims .* bytes and holds 0"):
        io.read_hits(path)


def test_a_sink_keeps_its_first_failure_and_swallows_the_rest(tmp_path):
    resource = pytest.importorskip("resource", reason="limits a file's size as POSIX does")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with Sink(tmp_path / "a.h5", "w+b") as sink:
            with h5py.File(sink, "w") as file:
                for number in range(20):
                    file[f"x{number}"] = np.arange(1000.0)
            with pytest.raises(OSError, match=os.strerror(27)):
                sink.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with Sink(tmp_path / "b.h5", "w+b") as sink:
        with h5py.File(sink, "w") as file:
            file["x"] = np.arange(1000.0)
        sink.check()
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["x"], np.arange(1000.0))
