"""Whole chunks compressed on all cores: HDF5 itself compresses one after the other.

What is stored is what HDF5's own filters ``shuffle`` and ``gzip`` would store, but for chunks that
gzip hardly makes smaller (noise, such as positions): they are stored as they are, marked by the
chunk's filter mask, at a tenth of the time. Any reader of HDF5 reads both.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

#: Level of compression: higher ones take several times as long for a few percent.
LEVEL: Final = 1
#: Chunks are compressed if that makes a sample of them this many times smaller.
WORTH: Final = 1.3
#: How datasets are made that `write_rows` writes to.
FILTERS: Final = {"compression": "gzip", "compression_opts": LEVEL, "shuffle": True}
#: Less than this is compressed sooner than handed to other threads.
_WORTH_BYTES: Final = 1 << 19
#: Filter mask of a chunk without shuffle and without gzip.
_BOTH: Final = 0b11


class ChunkPlace(NamedTuple):
    """Where a chunk lies in its file.

    Attributes
    ----------
    offset, size : int
        Of its bytes.
    mask : int
        Filters that were left out.
    """

    offset: int
    size: int
    mask: int


def place_of(dataset: h5py.Dataset, row: int) -> ChunkPlace:
    """Return the place of the chunk that begins with a row of a one-dimensional dataset."""
    found = dataset.id.get_chunk_info_by_coord((row,))
    return ChunkPlace(int(found.byte_offset), int(found.size), int(found.filter_mask))


def unpack(content: bytes, dtype: np.dtype[Any], mask: int) -> NDArray[Any]:
    """Return the values of a chunk as it is stored.

    Raises
    ------
    ValueError, zlib.error
        If it is damaged.
    """
    if mask == _BOTH:
        return np.frombuffer(content, dtype)
    planes = np.frombuffer(zlib.decompress(content), np.uint8)
    return np.ascontiguousarray(planes.reshape(dtype.itemsize, -1).T).view(dtype).ravel()


def write_rows(parts: list[tuple[h5py.Dataset, NDArray[Any]]], start: int) -> None:
    """Write rows to datasets from a row on; they are made longer where needed.

    Parameters
    ----------
    parts : list of (dataset, values)
        Chunked along the first axis only, made with `FILTERS`.
    start : int
        First row.
    """
    jobs: list[tuple[h5py.Dataset, int, NDArray[Any]]] = []
    for dataset, values in parts:
        if values.shape[1:] != dataset.shape[1:]:
            raise TypeError(f"{dataset.name} takes rows of {dataset.shape[1:]}")
        stop, size = start + len(values), dataset.chunks[0]
        if len(dataset) < stop:
            dataset.resize(stop, axis=0)
        first, last = -(-start // size) * size, stop // size * size
        if first >= last:
            dataset[start:stop] = values
            continue
        stored = np.ascontiguousarray(values, dtype=dataset.dtype)
        if start < first:
            dataset[start:first] = stored[: first - start]
        if last < stop:
            dataset[last:stop] = stored[last - start :]
        jobs += [
            (dataset, row, stored[row - start : row - start + size])
            for row in range(first, last, size)
        ]
    worth = sum(values.nbytes for _, _, values in jobs) > _WORTH_BYTES
    packed = _pool().map(_pack, jobs) if worth else map(_pack, jobs)
    for (dataset, row, _), (skipped, content) in zip(jobs, packed, strict=True):
        place = (row, *(0,) * (dataset.ndim - 1))
        dataset.id.write_direct_chunk(place, content, skipped)


def _pack(job: tuple[h5py.Dataset, int, NDArray[Any]]) -> tuple[int, bytes]:
    """Return the mask of the filters that are left out, and a chunk as it is stored."""
    values = job[2]
    sample = values[: max(len(values) // 16, 1)]
    if WORTH * len(_shuffled_and_compressed(sample)) > sample.nbytes:
        return _BOTH, values.tobytes()
    return 0, _shuffled_and_compressed(values)


def _shuffled_and_compressed(values: NDArray[Any]) -> bytes:
    """Return the first bytes of all numbers, the second ones, and so on, compressed."""
    planes = values.view(np.uint8).reshape(-1, values.itemsize).T
    return zlib.compress(np.ascontiguousarray(planes).data, LEVEL)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="muscan-pack")
