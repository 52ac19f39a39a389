"""Spoilt copies of every kind of file: a correct read or one clear line, whatever is in them.

A fixed number of copies of each kind is tried; ``MUSCAN_FUZZ_COPIES=1000`` tries more of them.
They are read in processes of their own, because a crash, a hang or a gigabyte must be told too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="limits memory as POSIX does")
_spec = importlib.util.spec_from_file_location(
    "fuzz_samples", Path(__file__).with_name("fuzz_samples.py")
)
assert _spec is not None
assert _spec.loader is not None
fuzz_samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz_samples)

COPIES = int(os.environ.get("MUSCAN_FUZZ_COPIES", "25"))
PATIENCE_S = 30.0
KINDS = ("hits", "tracks", "volume", "materials", "alerts", "csv", "csv inferred", "csv gzip",
         "csv wide", "csv mapping", "root", "root mapping", "root flat", "v1190", "v1190 mapping",
         "strips", "strips mapping", "hits unfinished", "journal", "audit", "outbox", "watch state",
         "layout", "scene", "material")  # fmt: skip


class Reader:
    """A process that reads files; a new one where the last one died."""

    def __init__(self, samples: dict[str, Path]) -> None:
        self._samples = samples
        self._process: subprocess.Popen[str] | None = None

    def ask(self, kind: str, path: Path | str) -> str:
        if self._process is None:
            self._start()
        return self._exchange(kind, path)

    def _start(self) -> None:
        worker = Path(__file__).with_name("fuzz_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        # Compiles and imports everything before memory is counted; sound files must be read.
        for kind, path in self._samples.items():
            assert self._exchange(kind, path, 300.0) == "read", kind
        assert self._exchange("limit", "") == "limited"

    def _exchange(self, kind: str, path: Path | str, patience: float = PATIENCE_S) -> str:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        process.stdin.flush()
        began = _at_work(process.pid)[1]
        ready, _, _ = select.select([process.stdout], [], [], patience)
        while not ready:
            # On a busy machine it may just not have had its turn.
            runs, seconds = _at_work(process.pid)
            if not runs or seconds - began > patience:
                break
            ready, _, _ = select.select([process.stdout], [], [], patience)
        line = process.stdout.readline() if ready else ""
        if line:
            return str(json.loads(line))
        self.close()
        return f"died: exit status {process.returncode}" if ready else f"hangs for {patience} s"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _at_work(pid: int) -> tuple[bool, float]:
    """Tell whether a process wants to run, and how long it has run [s]."""
    found = Path(f"/proc/{pid}/stat")
    if not found.exists():
        return False, 0.0
    fields = found.read_text().rpartition(")")[2].split()
    return fields[0] in "RD", (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    return fuzz_samples.make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def reader(samples):
    reader = Reader(samples)
    yield reader
    reader.close()


def test_every_kind_is_tried(samples):
    assert tuple(samples) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_copies_are_read_or_refused_in_one_line(kind, samples, reader, tmp_path):
    sample = samples[kind]
    for other in sample.parent.iterdir():
        if other != sample:
            (tmp_path / other.name).write_bytes(other.read_bytes())
    path = tmp_path / sample.name
    wrong, answers = {}, []
    for seed in range(COPIES):
        fuzz_samples.spoil(sample, path, seed)
        answer = reader.ask(kind, path)
        answers.append(answer)
        if not answer.startswith(("read", "refused: ")):
            wrong[seed] = answer[:600]
    assert not wrong, f"{len(wrong)} of {COPIES}: " + "\n".join(
        f"{s}: {a}" for s, a in wrong.items()
    )
    assert any(answer.startswith("refused: ") for answer in answers)
    # The line names the file that is at fault.
    places = (str(path), str(tmp_path))
    assert not [a for a in answers if a != "read" and not any(p in a for p in places)]
