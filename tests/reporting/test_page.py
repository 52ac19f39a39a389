"""The page: what it says, in which language, with which pictures; opened in a real browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from muscan import plot
from muscan.errors import InputError
from muscan.model.alerts import (
    Alert,
    AlertReport,
    Alternative,
    Interval,
    MaterialGuess,
    ScanInfo,
)
from muscan.model.events import Run
from muscan.model.volume import Volume, VoxelGrid
from muscan.reporting import catalogue, interactive, render, solid

FACTS = {"Data": "simulated", "in and out": 300}


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Water with a lead block of 4 × 4 × 4 voxels, an unseen corner."""
    grid = VoxelGrid(np.array([-380.0, -280.0, -190.0]), np.array([40.0, 40.0, 20.0]), (20, 15, 20))
    values = np.full(grid.shape, 0.7, "f4")
    values[12:16, 4:8, 8:12] = 44.6
    values[0, 0, 0] = np.nan
    muons = np.full(grid.shape, 50, "u4")
    muons[0, 0, 0] = 0
    return Volume(values, grid, "poca", values / 5, muons, run=Run(300.0, source="simulated"))


@pytest.fixture(scope="module")
def report(volume) -> AlertReport:
    low = volume.grid.position([12, 4, 8]) - volume.grid.spacing / 2
    high = volume.grid.position([15, 7, 11]) + volume.grid.spacing / 2
    alert = Alert(
        id="run-1-a",
        severity="high",
        position_mm=tuple((low + high) / 2),
        extent_mm=(tuple(low), tuple(high)),
        volume_l=2.05,
        scattering_density=Interval(value=44.6, low=40.0, high=49.0),
        material=MaterialGuess(
            name="lead",
            category="radioactive-shielding",
            probability=0.8,
            alternatives=[Alternative(name="unknown", probability=0.15)],
        ),
        mass_kg=Interval(value=23.2, low=20.0, high=26.5),
        significance=12.5,
        false_alarm_rate=3e-9,
        n_muons=500,
        reason="Heavier than <structural> metal.",
    )
    return AlertReport(
        scan=ScanInfo(
            run_id="run-1", live_time_s=300.0, n_muons=300, method="poca", materials_version="abc"
        ),
        alerts=[alert],
        total_mass_kg=Interval(value=1234.5, low=1200.0, high=None),
        warnings=["Alignment is not known."],
    )


@pytest.fixture(scope="module")
def page(report, volume) -> str:
    return render(report, volume, FACTS)


def words_of(text: str) -> str:
    """What a reader sees: no scripts, no style, no tags."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_the_page_says_what_was_found(page):
    seen = words_of(page)
    for text in (
        "1 alert (high).",
        "300 muons in 5 min",
        "1230 (1200 to unknown) kg",
        "lead (80 %)",
        "44.6 (40 to 49)",
        "23.2 (20 to 26.5)",
        "3·10⁻⁹",
        "Heavier than <structural> metal.",
        "unknown (15 %)",
        "Alignment is not known.",
        "voxels of 40 × 40 × 20 mm",
        "λ = (15 MeV / 3 GeV)² / X₀",
        "Events with both tracks 300",
    ):
        assert text in seen, text
    assert "<structural>" not in page


def test_a_rate_far_out_in_the_tail_is_a_limit(report, volume):
    alerts = [report.alerts[0].model_copy(update={"false_alarm_rate": 2.8e-187})]
    seen = words_of(render(report.model_copy(update={"alerts": alerts}), volume, FACTS))
    assert "< 1·10⁻⁹" in seen
    assert "10⁻¹⁸⁷" not in seen


def test_the_page_needs_nothing_from_outside(page):
    own = re.sub(r'<script id="viewer-code".*?</script>', "", page, flags=re.DOTALL)
    assert "http" not in own
    assert not re.findall(r'(?:src|href)="(?!data:)', own)
    assert len(page) < 6_000_000


def test_each_alert_has_slices_and_a_3d_view(page):
    pictures = re.findall(r'<img[^>]* src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 3
    sizes = []
    for picture in pictures:
        data = base64.b64decode(picture)
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        sizes.append((int.from_bytes(data[16:20]), int.from_bytes(data[20:24])))
    assert sizes == [(1170, 324), (1170, 324), (280, 280)]


def test_french(report, volume):
    seen = words_of(render(report, volume, FACTS, language="fr", with_viewer=False))
    for text in ("1 alerte (élevée).", "300 muons en 5 min", "Masse totale", "44,6 (40 à 49)",
                 "inconnu (15 %)", "Données simulées"):  # fmt: skip
        assert text in seen, text
    assert "alert " not in seen
    assert not re.search(r"\d\.\d", seen.replace("muscan 0.", "").split("Qualité")[0])


def test_every_language_has_the_words_of_the_reference():
    assert catalogue.languages() == ["en", "fr"]
    reference = catalogue._read(catalogue._FOLDER / "en.toml")
    for code in catalogue.languages():
        found = catalogue._read(catalogue._FOLDER / f"{code}.toml")
        assert set(found) == set(reference)
        for table, words in reference.items():
            if not isinstance(words, dict) or table == "given":
                continue
            assert set(found[table]) == set(words), table
            for key, text in words.items():
                places = set(re.findall(r"{\w+[^}]*}", text))
                assert set(re.findall(r"{\w+[^}]*}", found[table][key])) == places, key


def test_a_language_of_ones_own(report, volume, tmp_path):
    path = tmp_path / "de.toml"
    path.write_text('[page]\nalerts = "Alarme"\n', encoding="utf-8")
    page = render(report, volume, {}, language=path, with_viewer=False)
    assert '<html lang="de">' in page
    assert "Alarme" in words_of(page)
    with pytest.raises(InputError, match="no such language"):
        render(report, volume, {}, language="xx")
    path.write_text("page = 3\n")
    with pytest.raises(InputError, match="not a table"):
        render(report, volume, {}, language=path)


def test_decisions_are_shown(report, volume):
    made = {"run-1-a": {"decision": "dismissed", "who": "Ana", "time": "noon", "reason": "fruit"}}
    page = render(report, volume, {}, decisions=made, with_viewer=False)
    assert "dismissed by Ana, noon: fruit" in words_of(page)


def test_no_alerts(report, volume):
    empty = report.model_copy(update={"alerts": [], "warnings": []})
    page = render(empty, volume, {}, with_viewer=False)
    assert "Nothing in the load stands out." in words_of(page)
    assert '<table id="alerts"' not in page


def test_many_alerts_keep_the_page_small(report, volume, monkeypatch):
    monkeypatch.setattr("muscan.reporting.page.MAX_PICTURED", 3)
    many = report.model_copy(update={"alerts": report.alerts * 60})
    page = render(many, volume, {})
    assert page.count('class="alert"') == 3
    assert "Only the first 3 alerts" in words_of(page)


def test_unknown_everything(report, volume):
    nothing = replace(
        volume,
        values=np.full_like(volume.values, np.nan),
        uncertainty=np.full_like(volume.values, np.inf),
        n_muons=np.zeros_like(volume.n_muons),
        run=None,
    )
    blind = report.model_copy(update={"scan": report.scan.model_copy(update={"live_time_s": None})})
    seen = words_of(render(blind, nothing, {}))
    assert "exposure unknown" in seen
    assert "Muons a seen voxel, median unknown" in seen


def test_the_inlined_volume_is_the_volume(volume, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    data = interactive.viewer_data(volume)
    (tmp_path / "v.nrrd").write_bytes(base64.b64decode(data["image"]))
    image = sitk.ReadImage(str(tmp_path / "v.nrrd"))
    found = sitk.GetArrayFromImage(image).T
    density = data["linear"] * np.sinh(found / 255 * np.arcsinh(data["top"] / data["linear"]))
    # 255 levels on the scale: half a level is 1 % of the density.
    np.testing.assert_allclose(density, np.nan_to_num(volume.values), rtol=0.012, atol=0.006)
    np.testing.assert_allclose(image.GetSpacing(), volume.grid.spacing)


def test_a_large_volume_is_averaged_in_place(monkeypatch, volume):
    monkeypatch.setattr(interactive, "MAX_VOXELS", 1000)
    values, origin, spacing = interactive._reduced(volume)
    assert values.shape == (10, 8, 10)
    np.testing.assert_allclose(spacing, volume.grid.spacing * 2)
    np.testing.assert_allclose(origin - spacing / 2, volume.grid.lower)
    assert values[6, 2, 4] == pytest.approx(44.6)
    assert values[0, 0, 0] == pytest.approx(0.7)


def test_the_viewer_is_the_one_that_its_licence_file_names():
    folder = files("muscan.reporting").joinpath("vendor")
    code = gzip.decompress(folder.joinpath("niivue.umd.js.gz").read_bytes())
    licence = folder.joinpath("LICENSE-niivue.txt").read_text(encoding="utf-8")
    assert hashlib.sha256(code).hexdigest() in licence
    assert "Redistributions" in licence


def test_the_3d_view_shows_the_block_where_it_is(volume):
    low, high = volume.grid.position([12, 4, 8]), volume.grid.position([15, 7, 11])
    image = solid.picture(volume, [low - 200, high + 200], [low, high], pixels=121, samples=60)
    reddest = (image[..., 0].astype(int) - image[..., 2]) > 60
    rows, columns = np.nonzero(reddest)
    assert len(rows) > 30
    assert abs(rows.mean() - 60) < 6
    assert abs(columns.mean() - 60) < 6
    right, up, along = solid.axes_of_view()
    np.testing.assert_allclose(np.array([right, up, along]) @ np.array([right, up, along]).T,
                               np.eye(3), atol=1e-12)  # fmt: skip
    assert up[2] > 0
    assert along[2] < 0


LOOK = """<script>addEventListener("load", () => {
  const found = [...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.complete]);
  document.body.dataset.images = JSON.stringify(found);
});</script></body>"""


@pytest.fixture(scope="module")
def browser():
    """Run headless Chromium on a page; skipped where there is none, but never in CI."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium; under CI=true that is a failure")
        pytest.skip("no chromium")

    def run(path, *options: str) -> str:
        command = [
            program, "--headless", "--no-sandbox", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            "--hide-scrollbars", "--window-size=1300,1400", "--virtual-time-budget=20000",
            f"--user-data-dir={path.parent / 'profile'}", *options, path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        return done.stdout.decode("utf-8")

    return run


def test_in_chromium_pictures_table_and_volume_are_there(browser, page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", LOOK), encoding="utf-8")
    seen = browser(path, "--dump-dom")
    images = json.loads(html.unescape(re.search(r'data-images="([^"]*)"', seen)[1]))
    assert images == [[1170, 324, True], [1170, 324, True], [280, 280, True]]
    table = re.search(r'<table id="alerts">.*?</table>', seen, flags=re.DOTALL)[0]
    assert "lead (80 %)" in words_of(table)
    assert 'data-viewer="ready"' in seen
    reading = re.search(r'<output id="reading">([^<]*)', seen)[1]
    assert "(160, -60, 0) mm" in reading
    assert re.search(r"λ ≈ 4[3-6] mrad²/cm", reading)
    assert "1 lead</button>" in seen


def test_in_chromium_the_volume_is_drawn(browser, page, tmp_path):
    from matplotlib.image import imread

    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    browser(path, f"--screenshot={tmp_path / 'page.png'}")
    picture = imread(io.BytesIO((tmp_path / "page.png").read_bytes()))[..., :3]
    red = np.abs(picture - plot.colours(44.6)).max(axis=-1) < 0.12
    dark = picture.max(axis=-1) < 0.12
    # The canvas of the viewer is the only large dark part; the block shows in it.
    assert dark.mean() > 0.1
    rows = np.nonzero(dark.mean(axis=1) > 0.3)[0]
    assert red[rows.min() : rows.max()].sum() > 200


def test_in_chromium_the_page_prints(browser, page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    browser(path, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes()[:5] == b"%PDF-"
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
