"""An import that is killed, a full disk, a folder that cannot be written to: for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import muscan
from muscan import io
from muscan.errors import InputError
from muscan.io.drivers import blocks
from muscan.pipeline import importing

COMMAND = [sys.executable, "-c", "from muscan.cli import main; main()", "import"]
ROWS = 160_000


def write_csv(path: Path, rows: int = ROWS, seed: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    table = np.empty((rows, 5))
    table[:, 0] = np.arange(rows) // 2
    table[:, 1] = np.arange(rows) % 2 * 3
    table[:, 2:4] = rng.uniform(-1900, 1900, (rows, 2))
    table[:, 4] = np.where(table[:, 1] == 0, 1900, -1300)
    np.savetxt(path, table, fmt=["%d", "%d", "%.2f", "%.2f", "%d"], delimiter=",",
               header="event_id,panel,x_mm,y_mm,z_mm", comments="")  # fmt: skip
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "run.csv")


def command(*arguments, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments), "--detector", "blocks-lab"],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def assert_complete(path: Path, data: Path) -> None:
    """The file has what an import that nothing interrupts has."""
    found, expected = io.read_hits(path), muscan.import_hits(data, detector="blocks-lab")
    assert len(found) == ROWS
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)
    assert found.run.counts == expected.run.counts
    assert found.run.source == "csv"


def test_killed_import_is_resumed_where_it_was(data, tmp_path):
    out, part = tmp_path / "hits.h5", tmp_path / "hits.h5.unfinished"
    script = (
        "from muscan.pipeline import importing; importing.RESUME_ROWS = 2048\n"
        "from muscan.io.drivers import blocks; blocks.BLOCK = 1 << 17\n"
        "from muscan.cli import main; main()"
    )
    arguments = ["import", data, "--detector", "blocks-lab", "-o", out, "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    give_up = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 300_000) and time.monotonic() < give_up:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    with pytest.warns(UserWarning, match="hits of it are whole"):
        saved = len(io.read_hits(part))
    assert 0 < saved < ROWS
    done = command(data, "-o", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert_complete(out, data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hits.h5"]


def test_resumed_import_refuses_other_data(data, tmp_path, monkeypatch):
    # Smaller pieces, so that a small file has several: what resumes is the real thing.
    monkeypatch.setattr(importing, "RESUME_ROWS", 1024)
    monkeypatch.setattr(blocks, "BLOCK", 1 << 17)
    path, out = tmp_path / "run.csv", tmp_path / "hits.h5"
    lines = data.read_text().splitlines()[:150_001]
    path.write_text("\n".join([*lines, "broken"]) + "\n")
    with pytest.raises(InputError, match="line 150002"):
        muscan.import_hits(path, detector="blocks-lab", output=out, resume=True)
    part = tmp_path / "hits.h5.unfinished"
    assert part.exists()
    write_csv(path, 150_000, seed=2)
    with pytest.raises(InputError, match="interrupted import of other data"):
        muscan.import_hits(path, detector="blocks-lab", output=out, resume=True)
    path.write_text("\n".join(lines) + "\n")
    muscan.import_hits(path, detector="blocks-lab", output=out, resume=True)
    assert len(io.read_hits(out)) == 150_000
    assert not part.exists()


@pytest.mark.slow
def test_killed_import_without_resume_leaves_no_file_of_that_name(data, tmp_path):
    out = tmp_path / "hits.h5"
    process = subprocess.Popen(
        [*COMMAND, str(data), "--detector", "blocks-lab", "-o", str(out)],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    give_up = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < give_up:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not out.exists() or len(io.read_hits(out)) == ROWS


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_full_disk_is_one_line_and_leaves_no_half_written_hits(data, tmp_path, options):
    resource = pytest.importorskip("resource", reason="limits a file's size as POSIX does")
    out = tmp_path / "hits.h5"
    limit = 600_000
    done = command(
        data, "-o", out, *options,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr
    assert str(out) in done.stderr
    assert not out.exists()
    if not options:
        assert list(tmp_path.iterdir()) == []
        return
    # With space again it goes on; what was lost is the last block at most.
    done = command(data, "-o", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert_complete(out, data)


@pytest.mark.slow
def test_full_tracks_disk_is_one_line_too(data, tmp_path):
    resource = pytest.importorskip("resource", reason="limits a file's size as POSIX does")
    hits, out = tmp_path / "hits.h5", tmp_path / "tracks.h5"
    muscan.import_hits(data, detector="blocks-lab", output=hits)
    done = subprocess.run(
        [*COMMAND[:-1], "track", str(hits), "-o", str(out)],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["hits.h5"]


def unwritable(folder: Path) -> Path:
    """A folder that this user, root too, cannot write to."""
    if os.geteuid() == 0:
        return Path("/sys")
    folder.chmod(0o555)
    return folder


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="rights as POSIX has them")
@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_folder_that_cannot_be_written_to(data, tmp_path, options):
    (tmp_path / "shut").mkdir()
    folder = unwritable(tmp_path / "shut")
    if not folder.is_dir():
        pytest.skip("no folder to try on")
    with pytest.raises(InputError, match="cannot be written") as caught:
        muscan.import_hits(
            data, detector="blocks-lab", output=folder / "hits.h5", resume=bool(options)
        )
    assert "\n" not in str(caught.value)


def test_missing_folder_is_told_before_anything_is_read(data, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        muscan.import_hits(
            data, detector="blocks-lab", output=tmp_path / "none" / "hits.h5", resume=True
        )
