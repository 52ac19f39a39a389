"""The plugin's manifest and its reader, without a window."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import muscan.viewer
from muscan.viewer import plugin

# npe2 makes its own models so when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
MANIFEST = Path(muscan.viewer.__file__).with_name("napari.yaml")


@pytest.fixture
def npe2(needs_napari):
    return importlib.import_module("npe2")


def test_the_manifest_is_valid(npe2):
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert {reader.command for reader in manifest.contributions.readers} == {"muscan.get_reader"}


def test_the_installed_package_names_its_manifest(npe2):
    from importlib.metadata import entry_points

    (point,) = entry_points(group="napari.manifest", name="muscan")
    assert point.value == "muscan.viewer:napari.yaml"


def test_discovery_imports_nothing_heavy(npe2):
    code = (
        "import sys, json, npe2; npe2.PluginManifest.from_file(sys.argv[1]);"
        "import muscan.viewer;"
        "print(json.dumps([m for m in ('numpy', 'h5py', 'numba', 'scipy', 'napari', 'qtpy')"
        " if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(MANIFEST)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_the_reader_takes_ours_and_leaves_others(folder, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(b"not ours")
    report = tmp_path / "alerts.json"
    report.write_text("{}")
    for path in ("volume.h5", "tracks.h5", "materials.h5", "alerts.json"):
        assert plugin.get_reader(str(folder / path)) is plugin.read
    assert plugin.get_reader(str(folder)) is plugin.read
    assert plugin.get_reader([str(folder / "volume.h5"), str(folder / "alerts.json")]) is not None
    for path in (other, report, tmp_path, tmp_path / "none.h5"):
        assert plugin.get_reader(str(path)) is None
    assert plugin.get_reader([str(folder / "volume.h5"), str(other)]) is None


def test_tracks_alone_are_drawn(folder):
    names = [options["name"] for _, options, _ in plugin.read(str(folder / "tracks.h5"))]
    assert names == ["panels", "incoming tracks", "outgoing tracks"]


def test_the_sample_is_a_scan_with_an_alert():
    made = {options["name"]: data for data, options, _ in plugin.sample()}
    assert {"scattering density", "materials", "alerts", "alert labels"} <= set(made)
    assert len(made["alert labels"]) >= 1
    assert made["scattering density"].max() > 14
    assert sum(path.stat().st_size for path in plugin.SAMPLE.iterdir()) < 300_000
