"""What was put into a simulation comes out of the calibration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import muscan
from muscan.calibration.probes import find_probes, probing_panels
from muscan.calibration.response import PanelResponse, binomial_error, measure_responses
from muscan.errors import InputError
from muscan.model.detector import Detector, parse_detector
from muscan.model.events import Hits
from muscan.pipeline.calibration import Calibration

from .conftest import FAULTY, GAUSSIAN


@pytest.fixture(scope="module")
def plain(straight: Hits) -> tuple[PanelResponse, ...]:
    """Measured by a layout that thinks the panels worse, and silent."""
    wrong = GAUSSIAN.replace("[0.3, 0.3]", "[0.5, 0.2]").replace("= 20000", "= 100")
    return measure_responses(straight, detector=parse_detector(wrong, "wrong"))


@pytest.fixture(scope="module")
def calibration(faulty_hits: Hits, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """Measured by a layout that knows of no fault."""
    ideal = FAULTY.replace("dead_channels = [[70, 71], [120]]", "").replace(
        "efficiency_map = [[1, 1], [1, 0.8]]", ""
    )
    output = tmp_path_factory.mktemp("calibrated") / "layout.toml"
    found = muscan.calibrate(faulty_hits, detector=parse_detector(ideal, "ideal"), output=output)
    assert output.read_text(encoding="utf-8") == found.detector.text
    return found


def test_efficiencies_close(plain: tuple[PanelResponse, ...]) -> None:
    for panel in plain:
        assert panel.probes > 5000
        # 0.001 for muons that never were, by hits of noise.
        assert panel.efficiency == pytest.approx(0.97, abs=4 * panel.efficiency_error + 0.001)
        assert panel.efficiency_error < 0.003
        assert panel.is_flat


def test_noise_closes(plain: tuple[PanelResponse, ...]) -> None:
    pulls = [(panel.noise_hz_per_m2 - 20_000) / panel.noise_error for panel in plain]
    assert np.abs(pulls).max() < 3.5
    assert all(panel.noise_error < 5000 for panel in plain)


def test_resolutions_close_whatever_the_layout_says(plain: tuple[PanelResponse, ...]) -> None:
    for panel in plain:
        found = panel.resolution
        error = np.hypot(found.statistical_mm, found.systematic_mm)
        np.testing.assert_array_less(np.abs(found.sigma_mm - 0.3), 4 * error)
        assert error.max() < 0.02


@pytest.mark.slow
def test_resolutions_of_channels_close(calibration: Calibration) -> None:
    true = np.hypot(1.0, np.array([5, 4]) / np.sqrt(12))
    for panel in calibration.panels[:5]:
        # A uniform error has no tails: by a Gaussian mixture it looks up to 4 % smaller.
        np.testing.assert_allclose(panel.resolution.sigma_mm, true, rtol=0.06)
    for panel in calibration.detector.panels[:5]:
        np.testing.assert_allclose(panel.technology.sigma_mm, true, rtol=0.06)


@pytest.mark.slow
def test_dead_channels_are_found(calibration: Calibration) -> None:
    dead = [panel.channels.dead for panel in calibration.panels]
    assert dead == [((), ())] * 5 + [((70, 71), (120,))]
    assert [panel.dead_channels for panel in calibration.detector.panels] == dead
    assert not any(any(panel.channels.hot) for panel in calibration.panels)


@pytest.mark.slow
def test_a_weak_quarter_is_mapped(calibration: Calibration) -> None:
    weak = calibration.panels[-1]
    assert not weak.is_flat
    a, b = np.array(weak.cells.shape) // 2
    strong = np.average(weak.cells[:a], weights=weak.cell_errors[:a] ** -2)
    feeble = weak.cells[-a:, -b:]
    assert strong == pytest.approx(0.95, abs=0.01)
    assert np.average(feeble, weights=weak.cell_errors[-a:, -b:] ** -2) == pytest.approx(
        0.76, abs=0.025
    )
    technology = calibration.detector.panels[-1].technology
    written = technology.efficiency * np.array(technology.efficiency_map)
    np.testing.assert_allclose(written, weak.cells, atol=2e-4)


@pytest.mark.slow
def test_the_calibrated_layout_simulates_as_the_true_one(
    calibration: Calibration, faulty_hits: Hits
) -> None:
    again = muscan.simulate("empty", detector=calibration.detector, muons=50_000, seed=9)
    rates = [
        np.bincount(hits.panel, minlength=6) / hits.run.live_time_s for hits in (again, faulty_hits)
    ]
    errors = np.sqrt(np.bincount(again.panel)) / again.run.live_time_s
    np.testing.assert_array_less(np.abs(rates[0] - rates[1]), 4 * errors)


def test_a_hot_channel_is_told(faulty: Detector, rng: np.random.Generator) -> None:
    n = 200_000
    u = rng.uniform(-500, 500, n)
    u[:5000] = 2.5 + 5 * 33 - 500
    hits = Hits(
        event_id=np.arange(n, dtype="u8"),
        panel=np.zeros(n, "u2"),
        u=(np.floor(u / 5) * 5 + 2.5).astype("f4"),
        v=np.zeros(n, "f4"),
        sigma_u=np.ones(n, "f4"),
        sigma_v=np.ones(n, "f4"),
        time=np.zeros(n),
        amplitude=np.ones(n, "f4"),
        detector=faulty,
    )
    from muscan.calibration.channels import count_channels

    found = count_channels(hits, faulty, 0)
    assert found.hot[0] == (33,)
    assert found.dead[0] == ()
    # Along v one channel has all the light and the others none at all: nothing can be said.
    assert found.counts[1].sum() == n


def test_probes_are_muons_that_the_other_planes_saw(straight: Hits, planes: Detector) -> None:
    assert probing_panels(planes, 0).tolist() == [1, 2]
    probes = find_probes(straight, planes, 1)
    assert np.abs(probes.place).max() < 500
    # 0.3 mm each: √(1 + 1/2) of it in the middle of two others, and a little scattering.
    np.testing.assert_allclose(probes.spread, 0.3 * np.sqrt(1.5), rtol=0.15)
    assert np.isfinite(probes.residual[probes.seen]).all()
    assert np.isnan(probes.residual[~probes.seen]).all()


def test_two_planes_above_cannot_be_tried_without_bias(bench: Detector, hits: Hits) -> None:
    """Of two planes each, an event is recorded only if both upper ones are hit."""
    assert len(find_probes(hits, bench, 0)) == 0


def test_hits_that_are_no_tracks_are_refused(hits: Hits) -> None:
    apart = hits.take(hits.panel == 0)
    with pytest.raises(InputError, match="no muon is seen"):
        muscan.calibrate(apart)


@pytest.mark.parametrize(("seen", "n"), [(0, 10), (98, 100), (970, 1000)])
def test_errors_of_a_fraction_are_those_of_its_posterior(seen: int, n: int) -> None:
    expected = stats.beta(seen + 0.5, n - seen + 0.5).std()
    assert binomial_error(np.array(seen), np.array(n)) == pytest.approx(expected)
