"""The source against numeric integration of the flux, for surfaces of every tilt."""

import itertools

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.model.flux import CHARGE_RATIO, FluxModel, load_flux
from muscan.simulation.source import make_source

BOX = np.array([[-2000.0, -1500.0, -1000.0], [2000.0, 1500.0, 1200.0]])


def crossing_rate(source, muons, centre, u, v, half):
    """Muons through a rectangle [1/(m² s)], both sides, with its statistical error."""
    normal = np.cross(u, v)
    position, direction = muons.position.astype(float), muons.direction.astype(float)
    t = (centre - position) @ normal / (direction @ normal)
    offset = position + t[:, None] * direction - centre
    hit = (t > 0) & (np.abs(offset @ u) < half) & (np.abs(offset @ v) < half)
    live_time = len(muons) / source.rate_hz
    area = 4 * half**2 * 1e-6
    return hit.sum() / live_time / area, np.sqrt(hit.sum()) / live_time / area


def integrated_rate(model, normal, p_min, p_max):
    """The same by brute force: I |d·n| over momentum and a grid of the upper hemisphere."""
    p = np.geomspace(p_min, p_max, 401)
    c = (np.arange(200) + 0.5) / 200
    phi = (np.arange(360) + 0.5) * (2 * np.pi / 360)
    per_angle = np.trapezoid(model.intensity(p[:, None], c[None, :]), p, axis=0)
    s = np.sqrt(1 - c**2)[:, None]
    d = np.stack(
        [s * np.cos(phi), s * np.sin(phi), np.broadcast_to(-c[:, None], (200, 360))], axis=-1
    )
    return float((per_angle[:, None] * np.abs(d @ normal)).sum() * (1 / 200) * (2 * np.pi / 360))


@pytest.fixture(scope="module")
def drawn():
    source = make_source(BOX, momentum_range=(0.2, 1000.0))
    return source, source.draw(2_000_000, seed=7)


@pytest.mark.parametrize(
    "tilt_deg, turn_deg",
    [(0, 0), (90, 0), (90, 90), (90, 37), (45, 0), (30, 200), (120, 15)],
)
def test_a_panel_of_any_tilt_sees_the_integrated_rate(drawn, tilt_deg, turn_deg):
    source, muons = drawn
    a, b = np.radians([tilt_deg, turn_deg])
    normal = np.array([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)])
    u = np.array([-np.sin(b), np.cos(b), 0.0])
    rate, error = crossing_rate(source, muons, np.zeros(3), u, np.cross(normal, u), 700.0)
    expected = integrated_rate(load_flux("guan2015"), normal, 0.2, 1000.0)
    assert error < 0.01 * expected
    assert rate == pytest.approx(expected, abs=0.02 * expected)


def test_rate_is_that_of_the_faces():
    model = load_flux("ecomug")
    plane, wall = model.plane_rate(0.1), model.wall_rate(0.1)
    area_top, area_sides = 4 * 3, 2 * (4 + 3) * 2.2
    source = make_source(BOX, "ecomug", (0.1, 1e4))
    assert source.rate_hz == pytest.approx(area_top * plane + area_sides * wall, rel=2e-3)
    scaled = make_source(BOX, "ecomug", (0.1, 1e4), rate_scale=0.5)
    assert scaled.rate_hz == pytest.approx(source.rate_hz / 2)
    top = make_source(BOX, "ecomug", (0.1, 1e4), sides=False)
    assert top.rate_hz == pytest.approx(area_top * plane, rel=2e-3)


def test_spectrum_and_angles_through_the_top_follow_the_model():
    model = load_flux("guan2015")
    source = make_source(BOX, sides=False)
    muons = source.draw(400_000, seed=3)
    live_time = len(muons) / source.rate_hz
    edges = np.array([0.1, 0.3, 1, 3, 10, 30, 100])
    counted = np.histogram(muons.momentum, edges)[0] / live_time / 12
    expected = [model.plane_rate(a, b) for a, b in itertools.pairwise(edges)]
    assert counted == pytest.approx(np.array(expected), rel=0.02)
    # For I ∝ cosⁿθ the mean of cosθ through a plane is (n + 2)/(n + 3).
    cosine = FluxModel("cos2", lambda p, c: c**2 / p**2.7)
    drawn = make_source(BOX, cosine, sides=False).draw(400_000, seed=4)
    assert -drawn.direction[:, 2].mean() == pytest.approx(4 / 5, abs=1e-3)


def test_starts_lie_on_the_faces_and_move_inwards(drawn):
    _, muons = drawn
    position, direction = muons.position, muons.direction
    low, high = BOX
    assert np.linalg.norm(direction, axis=1) == pytest.approx(np.ones(len(muons)), abs=1e-6)
    assert (direction[:, 2] <= 0).all()
    on_face = np.zeros(len(muons), bool)
    faces = [(2, high[2], -1)]
    faces += [(axis, high[axis], -1) for axis in (0, 1)] + [(axis, low[axis], 1) for axis in (0, 1)]
    for axis, face, sign in faces:
        here = position[:, axis] == np.float32(face)
        assert (sign * direction[here, axis] >= 0).all()
        on_face |= here
    assert on_face.all()
    assert ((position >= low.astype(np.float32)) & (position <= high.astype(np.float32))).all()


def test_charge_ratio(drawn):
    _, muons = drawn
    positive = (muons.charge > 0).mean()
    assert positive / (1 - positive) == pytest.approx(CHARGE_RATIO, rel=0.01)


def test_same_seed_same_muons():
    source = make_source(BOX)
    first, second = source.draw(1000, seed=5), source.draw(1000, seed=5)
    assert (first.position == second.position).all()
    assert (first.momentum != source.draw(1000, seed=6).momentum).any()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_wrong_rate_scale_is_refused(scale):
    with pytest.raises(InputError, match="rate scale"):
        make_source(BOX, rate_scale=scale)


def test_reversed_momentum_range_is_refused():
    with pytest.raises(InputError, match="10 to 1 GeV is not a range"):
        make_source(BOX, momentum_range=(10.0, 1.0))


def test_a_flux_without_muons_is_refused():
    with pytest.raises(InputError, match="zero in the momentum range"):
        make_source(BOX, FluxModel("none", lambda p, c: 0 * p))
