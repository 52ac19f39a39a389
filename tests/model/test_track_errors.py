import numpy as np
import pytest

from muscan.model.detector import load_detector
from muscan.model.track_errors import PanelScattering, highland_factor, momentum_loss


def test_loss_follows_the_tables():
    """PDG at 3 GeV: water 2.30, iron 13.9 and lead 16.5 MeV/cm."""
    loss = momentum_loss(np.array([0.69, 14.2, 44.5, 0.069]) / 10) * 1e4
    assert loss == pytest.approx([2.30, 13.9, 16.5, 0.23], rel=1e-6)


def test_highland_at_one_radiation_length():
    assert highland_factor(np.array([1.0])) == pytest.approx((13.6 / 15) ** 2)


def test_panels_scatter_as_a_least_squares_fit_of_kinked_tracks_says():
    """Against tracks with random kinks in the panels, fitted with the same weights."""
    detector = load_detector("blocks-lab")
    upper = [panel for panel in detector.panels if panel.group == "upper"]
    heights = np.array(sorted(panel.centre[2] for panel in upper))
    position = np.array([[0.0, 0.0, heights[0]]])
    direction = np.array([[0.0, 0.0, -1.0]])
    angle, mixed, offset = PanelScattering(detector).errors(position, direction, outgoing=False)[0]
    kink = 15 / 3000 * np.sqrt(10 / 413.1)  # 10 mm of plastic scintillator, X0 = 413.1 mm
    sigma = 0.3
    way = heights - heights[0]
    rng = np.random.default_rng(1)
    kinks = rng.normal(0, kink, (200_000, len(way)))
    lever = np.maximum(way[:, None] - way, 0.0)
    hits = kinks @ lever.T  # behind the innermost panel the track is straight: y = α = 0
    weight = np.linalg.inv(np.diag(np.full(3, sigma**2)) + kink**2 * lever @ lever.T)
    design = np.stack([np.ones(3), -way], axis=1)
    fitted = hits @ np.linalg.solve(design.T @ weight @ design, design.T @ weight).T
    assert angle == pytest.approx(fitted[:, 1].var(), rel=0.05)
    assert offset == pytest.approx(fitted[:, 0].var(), rel=0.05)
    assert mixed == pytest.approx(np.cov(fitted.T)[0, 1], rel=0.05)
    leaving = PanelScattering(detector).errors(position, direction, outgoing=True)[0]
    assert leaving == pytest.approx(np.array([angle, -mixed, offset]))
