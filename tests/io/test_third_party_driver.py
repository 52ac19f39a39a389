"""A driver of somebody else's package is installed, found by name and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from muscan import io
from muscan.errors import InputError
from muscan.io.drivers import HitSource, open_source
from muscan.model.detector import load_detector
from muscan.model.events import Hits

PACKAGE = Path(__file__).parents[1] / "plugins" / "muscan_acme"
RECORD = np.dtype([("event", "<u4"), ("panel", "<u2"), ("quality", "<u2"), ("u", "<f4"),
                   ("v", "<f4")])  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the package, installed by pip without the network."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "muscan_acme"
    source.mkdir()
    for file in PACKAGE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
               "--no-build-isolation", "--target", str(target), str(source)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def muscan(target: Path | None, *arguments) -> subprocess.CompletedProcess:
    env = {**os.environ, **({"PYTHONPATH": str(target)} if target else {})}
    command = [sys.executable, "-c", "from muscan.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def recorded(path: Path, events: int = 1000) -> np.ndarray:
    rng = np.random.default_rng(1)
    rows = np.zeros(6 * events, RECORD)
    rows["event"] = np.repeat(np.arange(events), 6)
    rows["panel"] = np.tile(np.arange(6), events)
    rows["u"], rows["v"] = rng.uniform(-1900, 1900, (2, len(rows)))
    rows["quality"][::50] = 1
    rows.tofile(path)
    return rows


def test_installed_driver_imports_its_data(installed, tmp_path):
    rows = recorded(tmp_path / "run7.acme")
    out = tmp_path / "hits.h5"
    done = muscan(installed, "import", tmp_path / "run7.acme", "--driver", "acme",
                  "--detector", "blocks-lab", "-o", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    hits, kept = io.read_hits(out), rows[rows["quality"] == 0]
    np.testing.assert_array_equal(hits.event_id, kept["event"])
    np.testing.assert_array_equal(hits.panel, kept["panel"])
    np.testing.assert_array_equal(hits.u, kept["u"])
    assert (hits.run.source, hits.run.run_id) == ("acme", "run7")
    assert hits.run.counts == {"records": 6000, "hits_bad_quality": 120}


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda data: data[:-3], ["--detector", "blocks-lab"], "ends within a record"),
        (lambda data: data, [], "give a --detector"),
    ],
)
def test_its_errors_are_one_line(installed, tmp_path, spoil, options, message):
    path, out = tmp_path / "run.acme", tmp_path / "hits.h5"
    recorded(path, 20)
    path.write_bytes(spoil(path.read_bytes()))
    done = muscan(installed, "import", path, "--driver", "acme", "-o", out, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_the_driver_on_the_documentation_page_works(tmp_path):
    """The code of docs/drivers.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "drivers.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code.splitlines()) <= 30
    found: dict = {}
    exec(code, found)
    rows = np.zeros(600, found["RECORD"])
    rows["event"], rows["panel"] = np.arange(600) // 6, np.arange(600) % 6
    rows["u"] = np.arange(600)
    rows.tofile(tmp_path / "run.acme")
    source = found["read_acme"]([tmp_path / "run.acme"], detector=load_detector("blocks-lab"))
    assert isinstance(source, HitSource)
    hits = Hits.join(list(source.chunks()))
    np.testing.assert_array_equal(hits.event_id, rows["event"])
    np.testing.assert_array_equal(hits.u, rows["u"])


def test_without_the_package_the_name_is_unknown(tmp_path):
    (tmp_path / "run.acme").write_bytes(b"")
    with pytest.raises(InputError, match="no such driver; known: csv, root"):
        open_source("acme", [tmp_path / "run.acme"])
