"""The benchmarks run, agree with their twins, and write what can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from muscan.model.volume import VoxelGrid

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


def run(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_list_names_every_benchmark() -> None:
    listed = {line.split()[0] for line in run("--list").splitlines()}
    assert {"scaling", "peers", "physics", "simulation", "import", "scale"} <= listed


def test_unknown_names_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "speed"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no benchmark 'speed'" in done.stderr


@pytest.mark.slow
def test_tables_and_json(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    printed = run(
        "--only", "scaling,physics", "--quick", "--most", "600", "--json", str(file)
    )  # fmt: skip
    document = json.loads(file.read_text(encoding="utf-8"))
    assert [b["name"] for b in document["benchmarks"]] == ["scaling", "physics"]
    assert document["machine"]["cores"] == os.cpu_count()
    assert document["machine"]["versions"]["numpy"] == np.__version__
    tables = document["benchmarks"][0]["tables"]
    for table in tables:
        assert table["rows"]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert table["title"] in printed
    steps = {row[0] for row in tables[2]["rows"]}
    assert steps == {"simulate", "import csv", "track", "poca", "asr", "em"}
    sizes = {row[1] for row in tables[2]["rows"]}
    assert sizes == {200, 600}


@pytest.mark.usefixtures("benchmarks")
def test_poca_kernel_and_numpy_twin_agree() -> None:
    from benchmarks import scaling

    scatters, grid = scaling.muons(3000), scaling.cube(8000)
    counts, sums = scaling.vertices(scatters, grid)
    twin_counts, twin_sums = scaling.numpy_poca(scatters, grid)
    assert counts.sum() > 1000
    np.testing.assert_array_equal(counts, twin_counts)
    np.testing.assert_allclose(sums, twin_sums, rtol=1e-6, atol=1e-12)


@pytest.mark.usefixtures("benchmarks")
def test_slope_is_that_of_a_power_law() -> None:
    from benchmarks.machine import slope

    sizes = [10, 100, 1000]
    assert slope(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)


@pytest.mark.usefixtures("benchmarks")
def test_auc_counts_pairs() -> None:
    from benchmarks.iron_barrel import auc

    rng = np.random.default_rng(1)
    values = rng.integers(0, 6, (5, 4, 3)).astype(float)
    inside = rng.random(values.shape) < 0.3
    high, low = values[inside][:, None], values[~inside][None]
    assert auc(values, inside) == pytest.approx(((high > low) + 0.5 * (high == low)).mean())
    values[inside] = np.nan  # never seen: the least of all
    assert auc(values, inside) < 0.5


@pytest.mark.usefixtures("benchmarks")
def test_truth_of_the_barrel_holds_the_bodies_volume() -> None:
    from benchmarks import iron_barrel

    grid = VoxelGrid.from_bounds(iron_barrel.BOUNDS_MM, 5)
    for material in ("iron", "lead", "uranium", None):
        chosen = [b for b in iron_barrel.BODIES if material in (None, b.material)]
        volume = sum(np.prod(body.size) for body in chosen)
        voxels = iron_barrel.truth(grid, material).sum()
        assert voxels * grid.voxel_volume_mm3 == pytest.approx(volume, rel=0.01)
    grown = iron_barrel.truth(grid, "iron", grow=10).sum() * grid.voxel_volume_mm3
    assert grown == pytest.approx(100**3, rel=0.01)


@pytest.mark.usefixtures("benchmarks")
def test_a_box_is_found_from_lines_and_angles() -> None:
    """Muons of known momenta that a box scatters: its edges come out."""
    from benchmarks import iron_barrel
    from benchmarks.toy import straight
    from muscan.model.events import Scatters

    rng = np.random.default_rng(3)
    n = 30_000
    muons = straight(n, 500, 1200, 0.25, rng)
    start = np.add(muons.in_position, [0.0, 0.0, -1200.0])
    body = iron_barrel.Body("toy", "lead", (0, 0, -1200), (80, 120, 100))
    lines = iron_barrel._Lines(
        start, 2400 * muons.in_direction / -muons.in_direction[:, 2:], np.zeros((n, 2)), np.ones(n)
    )
    low = np.array([-30.0, -60.0, -1255.0])
    high = np.array([50.0, 50.0, -1155.0])
    width = 1e-3 * np.sqrt(9.0 / 100 * 40 * lines.chords_cm(low, high))  # at 10 GeV [rad]
    axis = np.cross(muons.in_direction, [0, 1, 0])
    axis /= np.linalg.norm(axis, axis=1)[:, None]
    kicks = rng.normal(0, 1, (2, n)) * width
    u = muons.in_direction.astype(float)
    out = u + kicks[0][:, None] * axis + kicks[1][:, None] * np.cross(u, axis)
    out /= np.linalg.norm(out, axis=1)[:, None]
    middle = start - u * ((start[:, 2] + 1205) / u[:, 2])[:, None]
    found = iron_barrel.fit(
        Scatters(
            muons.event_id, start.astype("f4"), u.astype("f4"), muons.in_cov,
            (middle + 900 * out).astype("f4"), out.astype("f4"), muons.out_cov,
            np.full(n, 10.0, "f4"), np.full(n, 0.01, "f4"),
        ),
        body,
    )  # fmt: skip
    np.testing.assert_allclose(found, [low, high], atol=6)


@pytest.mark.usefixtures("benchmarks")
def test_wide_file_with_energies_in_mev_is_read(tmp_path: Path) -> None:
    """The layout and mapping fit a file as muograph ships one: first column without a name."""
    from benchmarks import iron_barrel

    names = ["", "E", *(f"{axis}{k}" for axis in "XYZ" for k in range(6))]
    rows = []
    for number, energy in enumerate((777171.0, 5544.84)):
        x = [10.0 * number + k for k in range(6)]
        y = [5.0 - k for k in range(6)]
        rows.append([number, energy, *x, *y, *iron_barrel.PLANES_MM])
    path = tmp_path / "barrel.csv"
    path.write_text(
        "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n",
        encoding="utf-8",
    )
    hits = iron_barrel.read(path, 1.0, momentum=True)
    assert hits.event_id.tolist() == [0] * 6 + [1] * 6
    assert hits.u.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]
    assert hits.momenta is not None
    np.testing.assert_allclose(hits.momenta.momentum, [777.171, 5.54484], rtol=1e-6)
    assert iron_barrel.read(path, 1.0).momenta is None
